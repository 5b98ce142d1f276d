//! Programs that guest-exec started: what goes into them, what came out, how they ended.
//!
//! Everything here belongs to the agent, not to the client that asked. An entry is made before the
//! fork, so that nothing is started that could not be kept; it counts only once the child has become
//! its program, and stays until its end has been told. Whoever asks by number means the oldest.
//!
//! Pipes never block the loop. What a program says past its share is read and dropped, so that it
//! never waits for anybody to ask. Children of the agent let go of all pipes ([`Programs::in_child`]):
//! a slow one must not keep the input of a program from ending.

use static_assertions::const_assert;

use crate::base::limits::{EXEC_HELD_BYTES, EXEC_STREAM_BYTES, PROGRAMS, REQUEST_BYTES};
use crate::base::store::Store;
use crate::sys::args::Strings;
use crate::sys::mem::Buffer;
use crate::sys::poll::{Interest, Poll};
use crate::sys::process::{self, Ended};
use crate::sys::stream::{self, Read};
use crate::sys::{Errno, OwnedFd, clock, stdio};

/// The first token of programs in the set the loop waits for; all above are theirs too.
pub const TOKENS: u64 = 1 << 32;

/// Programs in the order of their start.
pub type Table = heapless::Vec<Program, PROGRAMS>;

/// An empty table.
pub const EMPTY: Table = heapless::Vec::new();

/// How long after its end what a program left behind may keep its output open before that no longer
/// counts. What it wrote itself is there by then.
const DRAIN_MS: u64 = 500;

/// Reads of one pipe before others are looked at: together as much as a pipe holds, so that one turn
/// brings all that a program wrote before it ended.
const READS: usize = 16;
const READ_BYTES: usize = 4096;

const_assert!(READS * READ_BYTES == 64 << 10);

/// What of a program is kept: its output and its error output, each for itself or as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture(u8);

/// The program's input comes from the agent.
const INPUT: u8 = 1;
/// The program's output goes to the agent.
const OUT: u8 = 2;
/// The program's error output goes to the agent.
const ERR: u8 = 4;
/// The program's error output goes another way than its output.
const APART: u8 = 8;

impl Capture {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Its output alone.
    pub const STDOUT: Self = Self(OUT | APART);
    /// Its error output alone.
    pub const STDERR: Self = Self(ERR | APART);
    /// Both, each for itself.
    pub const SEPARATED: Self = Self(OUT | ERR | APART);
    /// Both as one.
    pub const MERGED: Self = Self(OUT);
}

/// One of a program's three pipes.
pub struct Stream {
    pipe: Option<OwnedFd>,
    buffer: Buffer,
    /// Bytes of input that have been sent, or of output that were dropped.
    gone: usize,
}

/// A program.
pub struct Program {
    pid: i32,
    serial: u64,
    /// Whether it is the program yet, and not still a child of the agent.
    started: bool,
    ended: Option<(Ended, u64)>,
    /// Its input, output and error output.
    streams: [Stream; 3],
}

/// All programs that are not forgotten yet.
pub struct Programs {
    table: &'static mut Table,
    /// The environment of programs that get none of their own.
    pub environment: Strings,
    serial: u64,
    /// From making an entry to the fork: what the program's descriptors 0 to 2 will be; one that is
    /// not there is the same as that before it.
    ends: [Option<OwnedFd>; 3],
}

impl Stream {
    const fn new() -> Self {
        Self {
            pipe: None,
            buffer: Buffer::new(&mut [], REQUEST_BYTES),
            gone: 0,
        }
    }

    /// What was kept of an output.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// Whether some of an output was dropped, or may yet come from whoever still holds the pipe.
    pub fn is_cut(&self) -> bool {
        self.gone != 0 || self.pipe.is_some()
    }

    /// Sends what the program takes now. One that takes no more, or has ended, has had enough.
    fn feed(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let rest = &self.buffer.bytes()[self.gone..];
        match stream::write(pipe, rest) {
            Ok(count) if count < rest.len() => self.gone += count,
            Ok(_) | Err(_) => {
                self.pipe = None;
                self.buffer.truncate(0);
            }
        }
    }

    /// Takes what the program has said; past `room` bytes it is dropped.
    #[inline(never)]
    fn drain(&mut self, room: usize) {
        let room = EXEC_STREAM_BYTES.min(self.buffer.len() + room);
        let mut bytes = [0; READ_BYTES];
        for _ in 0..READS {
            let Some(pipe) = &self.pipe else { return };
            match stream::read(pipe, &mut bytes) {
                Ok(Read::Bytes(count)) => {
                    let kept = count.min(room.saturating_sub(self.buffer.len()));
                    let stored = self.buffer.append(&bytes[..kept]);
                    self.gone |= (count - kept) | usize::from(stored.is_err());
                }
                Ok(Read::NotYet) => return,
                Ok(Read::End) | Err(_) => self.pipe = None,
            }
        }
    }
}

impl Program {
    /// How it ended, if that can be told: with all its output.
    pub fn ended(&self, now_ms: u64) -> Option<Ended> {
        let (ended, at_ms) = self.ended?;
        let mut outputs = self.outputs().iter();
        let drained = outputs.all(|stream| stream.pipe.is_none());
        (drained || now_ms.saturating_sub(at_ms) >= DRAIN_MS).then_some(ended)
    }

    /// Its output and its error output.
    pub fn outputs(&self) -> &[Stream] {
        self.streams.get(1..).unwrap_or_default()
    }
}

impl Programs {
    /// None yet.
    pub fn new(environment: Strings, table: &'static mut Table) -> Self {
        Self {
            table,
            environment,
            serial: 0,
            ends: [None, None, None],
        }
    }

    /// Bytes that may still be kept, of all programs together.
    #[inline(never)]
    fn room(&self) -> usize {
        let mut room = EXEC_HELD_BYTES;
        for program in self.table.iter() {
            for stream in &program.streams {
                room = room.saturating_sub(stream.buffer.len());
            }
        }
        room
    }

    /// Makes an entry for a program that is to be forked next; gives where its input belongs, or
    /// nothing if no more can be kept. What comes of it is for [`Programs::settle`].
    pub fn add(&mut self) -> Option<&mut Buffer> {
        if self.room() == 0 {
            return None;
        }
        self.serial = self.serial.wrapping_add(1);
        let program = Program {
            pid: 0,
            serial: self.serial,
            started: false,
            ended: None,
            streams: [const { Stream::new() }; 3],
        };
        self.table.push(program).ok()?;
        let program = self.table.last_mut()?;
        program.streams.first_mut().map(|input| &mut input.buffer)
    }

    /// Makes all that the program needs that is to be forked next.
    pub fn prepare(&mut self, has_input: bool, Capture(mut flags): Capture) -> Result<(), Errno> {
        flags |= if has_input { INPUT } else { 0 };
        let program = self.table.last_mut().ok_or(Errno::NOMEM)?;
        let mut bit = INPUT;
        for (stream, end) in program.streams.iter_mut().zip(&mut self.ends) {
            let theirs = if flags & bit != 0 {
                let (ours, theirs) = if bit == INPUT {
                    stream::pipe_to_write()?
                } else {
                    stream::pipe()?
                };
                stream.pipe = Some(process::make_lasting(ours)?);
                theirs
            } else {
                stream::null()?
            };
            // Error output that goes nowhere else goes where the output does.
            if bit != ERR || flags & (ERR | APART) != 0 {
                *end = Some(theirs);
            }
            bit <<= 1;
        }
        Ok(())
    }

    /// The program that is to be forked next.
    #[inline(never)]
    fn next(&mut self) -> Option<&mut Program> {
        self.table.last_mut().filter(|program| program.pid == 0)
    }

    /// Has the loop wait for the program that is to be forked next, if there is one.
    pub fn watch(&mut self, poll: &Poll) -> Result<(), Errno> {
        let Some(program) = self.next() else {
            return Ok(());
        };
        let mut token = TOKENS.wrapping_add(program.serial << 2);
        let mut interest = Interest::Write;
        for stream in &program.streams {
            if let Some(pipe) = &stream.pipe {
                poll.add(pipe, token, interest)?;
            }
            token = token.wrapping_add(1);
            interest = Interest::Read;
        }
        Ok(())
    }

    /// In a child of the agent, before it does anything: lets go of what is the agent's, and takes
    /// what is the program's if it is to become one.
    pub fn in_child(&mut self) {
        for program in self.table.iter_mut() {
            for stream in &mut program.streams {
                stream.pipe = None;
            }
        }
        stdio::replace(&self.ends);
    }

    #[inline(never)]
    fn close_ends(&mut self) {
        self.ends = [None, None, None];
    }

    /// In the agent, after a fork: takes note of the child if it is to become a program, and gives
    /// whether it is.
    pub fn forked(&mut self, pid: i32) -> bool {
        self.close_ends();
        let next = self.next();
        next.map(|program| program.pid = pid).is_some()
    }

    /// Takes note that the child has become its program, or else forgets it. 0 is a child that was
    /// never forked.
    pub fn settle(&mut self, pid: i32, started: bool) {
        self.close_ends();
        let mut all = self.table.iter_mut();
        let Some(place) = all.position(|one| one.pid == pid && !one.started) else {
            return;
        };
        if let Some(program) = self.table.get_mut(place) {
            program.started = started;
        }
        if !started {
            self.forget(place);
        }
    }

    /// Takes note that a child has ended.
    pub fn note(&mut self, pid: i32, ended: Ended) {
        let mut all = self.table.iter_mut();
        if let Some(program) = all.find(|one| one.pid == pid && one.ended.is_none()) {
            program.ended = Some((ended, clock::boottime_ms()));
        }
    }

    /// Does what can be done now for the pipe of this token.
    pub fn pump(&mut self, token: u64) {
        let number = token.wrapping_sub(TOKENS);
        let room = self.room();
        let mut all = self.table.iter_mut();
        if let Some(program) = all.find(|one| one.serial == number >> 2) {
            let [input, out, err] = &mut program.streams;
            match number & 3 {
                0 => input.feed(),
                1 => out.drain(room),
                _ => err.drain(room),
            }
        }
    }

    /// The oldest program of this number, with all it has said by now; and its place.
    pub fn find(&mut self, pid: i64) -> Option<(usize, &Program)> {
        let room = self.room();
        let mut all = self.table.iter_mut().enumerate();
        let (place, program) = all.find(|(_, one)| one.started && i64::from(one.pid) == pid)?;
        let [_, out, err] = &mut program.streams;
        out.drain(room);
        err.drain(room);
        Some((place, program))
    }

    /// Forgets the program at this place: its end has been told.
    #[inline(never)]
    pub fn forget(&mut self, place: usize) {
        if place < self.table.len() {
            self.table.remove(place);
        }
    }
}

#[cfg(test)]
impl Default for Programs {
    fn default() -> Self {
        Self::new(Strings::none(), Box::leak(Box::new(EMPTY)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: i32 = 4_000_000;

    fn started(programs: &mut Programs, input: &[u8], capture: Capture) -> [Option<OwnedFd>; 3] {
        let buffer = programs.add().expect("room");
        buffer.append(input).expect("room");
        programs.prepare(!input.is_empty(), capture).expect("pipes");
        let ends = core::mem::take(&mut programs.ends);
        assert!(programs.forked(PID));
        assert!(programs.table.last().is_some_and(|one| !one.started));
        programs.settle(PID, true);
        ends
    }

    fn token(programs: &Programs, stream: u64) -> u64 {
        let serial = programs.table.last().map_or(0, |program| program.serial);
        TOKENS + (serial << 2) + stream
    }

    #[test]
    fn of_one_number_the_oldest_answers_first() {
        let mut programs = Programs::default();
        for status in 1..4 {
            started(&mut programs, b"", Capture::NONE);
            programs.note(PID, Ended::Exited(status));
        }
        for status in 1..4 {
            let (place, program) = programs.find(PID.into()).expect("a program");
            assert_eq!(
                program.ended(clock::boottime_ms()),
                Some(Ended::Exited(status))
            );
            programs.forget(place);
        }
        assert!(programs.find(PID.into()).is_none());
    }

    #[test]
    fn output_is_whole_with_the_last_end_of_its_pipe_or_after_a_while() {
        let mut programs = Programs::default();
        let [_, out, _] = started(&mut programs, b"", Capture::MERGED);
        stream::write_all(out.as_ref().expect("a pipe"), b"said").expect("written");
        programs.pump(token(&programs, 1));
        programs.note(PID, Ended::Killed(9));
        let now_ms = clock::boottime_ms();
        let (_, program) = programs.find(PID.into()).expect("a program");
        assert_eq!(program.outputs()[0].bytes(), b"said");
        assert_eq!(program.ended(now_ms), None);
        assert_eq!(program.ended(now_ms + DRAIN_MS), Some(Ended::Killed(9)));
        drop(out);
        let (_, program) = programs.find(PID.into()).expect("a program");
        assert_eq!(program.ended(now_ms), Some(Ended::Killed(9)));
        assert!(!program.outputs()[0].is_cut());
    }

    #[test]
    fn input_goes_as_it_is_taken_and_then_ends() {
        let mut programs = Programs::default();
        let input = [b'x'; 200_000];
        let [reader, ..] = started(&mut programs, &input, Capture::NONE);
        let reader = reader.expect("a pipe");
        let mut taken = 0;
        loop {
            programs.pump(token(&programs, 0));
            let mut bytes = [0; 50_000];
            match stream::read(&reader, &mut bytes).expect("read") {
                Read::Bytes(count) => taken += count,
                Read::End => break,
                Read::NotYet => panic!("the program would wait for ever"),
            }
        }
        assert_eq!((taken, programs.room()), (input.len(), EXEC_HELD_BYTES));
    }

    #[test]
    fn what_was_never_forked_or_did_not_become_a_program_is_forgotten() {
        let mut programs = Programs::default();
        assert!(!programs.forked(PID) && programs.table.is_empty());
        programs.add().expect("room");
        programs.prepare(false, Capture::SEPARATED).expect("pipes");
        programs.settle(0, false);
        assert!(programs.table.is_empty() && programs.ends.iter().all(Option::is_none));
        programs.add().expect("room");
        assert!(programs.forked(PID));
        assert!(programs.find(PID.into()).is_none(), "not a program yet");
        programs.note(PID, Ended::Exited(16));
        programs.settle(PID, false);
        assert!(programs.table.is_empty());
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut programs = Programs::default();
        for _ in 0..PROGRAMS {
            started(&mut programs, b"", Capture::NONE);
        }
        assert!(programs.add().is_none());
        programs.forget(7);
        assert!(programs.add().is_some());
    }
}
