//! Programs that guest-exec started: what goes into them, what came out, how they ended.
//!
//! Everything here belongs to the agent, not to the client that asked. An entry is made before the
//! fork, so that nothing is started that could not be kept; it counts only once the child has become
//! its program, and stays until a client was told how the program ended, or until a new program gets
//! the same process number: a client that names it means the new one.
//!
//! Many clients start programs and never ask how they ended. When the table or the memory for output
//! is full, the result that has waited longest is dropped. A program that runs is never dropped.
//!
//! Pipes never block the loop. Output past the program's share is read and dropped, so that the
//! program never waits for a client. A child of the agent closes all pipes, unless it
//! shares the agent's descriptors: a slow child must not keep the input of a program from ending.

use static_assertions::const_assert;

use crate::base::limits::{EXEC_HELD_BYTES, EXEC_STREAM_BYTES, PROGRAMS, REQUEST_BYTES};
use crate::base::store::Store;
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

    /// Bytes of output that one [`Stream::drain`] could add.
    fn wanted(&self) -> usize {
        match self.pipe {
            Some(_) => (READS * READ_BYTES).min(EXEC_STREAM_BYTES - self.buffer.len()),
            None => 0,
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

    /// Bytes that are kept of its input and output.
    fn held(&self) -> usize {
        self.streams.iter().map(|stream| stream.buffer.len()).sum()
    }
}

impl Programs {
    /// None yet.
    pub fn new(table: &'static mut Table) -> Self {
        Self {
            table,
            serial: 0,
            ends: [None, None, None],
        }
    }

    /// Bytes that may still be kept, of all programs together.
    #[inline(never)]
    fn room(&self) -> usize {
        let held = self.table.iter().map(Program::held).sum();
        EXEC_HELD_BYTES.saturating_sub(held)
    }

    /// Drops results of others than the program `serial` until this many bytes may be kept, or none
    /// is left to be dropped. Returns how many may be kept.
    #[inline(never)]
    fn make_room(&mut self, bytes: usize, serial: u64) -> usize {
        loop {
            let room = self.room();
            let helps = |program: &Program| program.serial != serial && program.held() != 0;
            if room >= bytes || !self.drop_result(&helps) {
                return room;
            }
        }
    }

    /// Drops the result that has waited longest of those that `may_go`; false if there is none.
    fn drop_result(&mut self, may_go: &dyn Fn(&Program) -> bool) -> bool {
        let (mut oldest, mut oldest_ms) = (None, u64::MAX);
        for (place, program) in self.table.iter().enumerate() {
            if let Some((_, ended_ms)) = program.ended
                && ended_ms < oldest_ms
                && program.started
                && may_go(program)
            {
                (oldest, oldest_ms) = (Some(place), ended_ms);
            }
        }
        oldest.map(|place| self.forget(place)).is_some()
    }

    /// Makes an entry for a program that is to be forked next. Returns its number, for
    /// [`Programs::settle`], and the buffer for its input, which takes `input_bytes` unless programs
    /// that run hold too much; `None` if too many programs run.
    pub fn add(&mut self, input_bytes: usize) -> Option<(i64, &mut Buffer)> {
        if self.table.is_full() {
            self.drop_result(&|_| true);
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
        let number = self.serial.cast_signed();
        let room = self.make_room(input_bytes, self.serial);
        let [input, ..] = &mut self.next()?.streams;
        input.buffer = Buffer::growing(room.min(REQUEST_BYTES));
        Some((number, &mut input.buffer))
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
    pub fn in_child(&self) {
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

    /// Takes note that the program of this number has started as the process `started`, or else
    /// forgets it.
    pub fn settle(&mut self, number: i64, started: Option<i32>) {
        self.close_ends();
        if let Some(pid) = started {
            // The kernel gives a number anew only once its process has ended and was reaped.
            while self.drop_result(&|program| program.pid == pid) {}
        }
        let mut all = self.table.iter_mut().enumerate();
        match all.find(|(_, one)| one.serial.cast_signed() == number) {
            Some((_, program)) if started.is_some() => program.started = true,
            Some((place, _)) => self.forget(place),
            None => {}
        }
    }

    /// Takes note that a child has ended.
    pub fn note(&mut self, pid: i32, ended: Ended) {
        let mut all = self.table.iter_mut();
        if let Some(program) = all.find(|one| one.pid == pid && one.ended.is_none()) {
            program.ended = Some((ended, clock::boottime_ms()));
        }
    }

    /// The programs whose end is not known yet.
    pub fn running(&self) -> impl Iterator<Item = i32> {
        let running = self.table.iter().filter(|one| one.ended.is_none());
        running.map(|one| one.pid)
    }

    /// Does what can be done now for the pipe of this token.
    pub fn pump(&mut self, token: u64) {
        let number = token.wrapping_sub(TOKENS);
        let serial = number >> 2;
        match number & 3 {
            0 => {
                if let Some(input) = self.stream(serial, 0) {
                    input.feed();
                }
            }
            which => self.drain(serial, which as usize),
        }
    }

    /// One of the three streams of the program `serial`.
    #[inline(never)]
    fn stream(&mut self, serial: u64, which: usize) -> Option<&mut Stream> {
        let mut all = self.table.iter_mut();
        let program = all.find(|one| one.serial == serial)?;
        program.streams.get_mut(which)
    }

    /// Takes what the program `serial` has said; older results make room for it.
    #[inline(never)]
    fn drain(&mut self, serial: u64, which: usize) {
        let wanted = self
            .stream(serial, which)
            .map_or(0, |stream| stream.wanted());
        let room = self.make_room(wanted, serial);
        if let Some(stream) = self.stream(serial, which) {
            stream.drain(room);
        }
    }

    /// The program of this number, with all it has said by now; and its place.
    pub fn find(&mut self, pid: i64) -> Option<(usize, &Program)> {
        let mut all = self.table.iter();
        let program = all.find(|one| one.started && i64::from(one.pid) == pid)?;
        let serial = program.serial;
        self.drain(serial, 1);
        self.drain(serial, 2);
        let mut all = self.table.iter().enumerate();
        all.find(|(_, one)| one.serial == serial)
    }

    /// Forgets the program at this place.
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
        Self::new(Box::leak(Box::new(EMPTY)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: i32 = 4_000_000;

    fn started(programs: &mut Programs, input: &[u8], capture: Capture) -> [Option<OwnedFd>; 3] {
        let (number, buffer) = programs.add(input.len()).expect("room");
        buffer.append(input).expect("room");
        programs.prepare(!input.is_empty(), capture).expect("pipes");
        let ends = core::mem::take(&mut programs.ends);
        assert!(programs.forked(PID));
        assert!(programs.table.last().is_some_and(|one| !one.started));
        programs.settle(number, Some(PID));
        ends
    }

    fn token(programs: &Programs, stream: u64) -> u64 {
        let serial = programs.table.last().map_or(0, |program| program.serial);
        TOKENS + (serial << 2) + stream
    }

    #[test]
    fn a_number_given_anew_means_the_new_program() {
        let mut programs = Programs::default();
        for status in 1..4 {
            started(&mut programs, b"", Capture::NONE);
            programs.note(PID, Ended::Exited(status));
            let (place, program) = programs.find(PID.into()).expect("a program");
            let ended = program.ended(clock::boottime_ms());
            assert_eq!((place, ended), (0, Some(Ended::Exited(status))));
        }
        programs.forget(0);
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
        let (number, _) = programs.add(0).expect("room");
        programs.prepare(false, Capture::SEPARATED).expect("pipes");
        programs.settle(number, None);
        assert!(programs.table.is_empty() && programs.ends.iter().all(Option::is_none));
        let (number, _) = programs.add(0).expect("room");
        assert!(programs.forked(PID));
        assert!(programs.find(PID.into()).is_none(), "not a program yet");
        programs.note(PID, Ended::Exited(16));
        programs.settle(number, None);
        assert!(programs.table.is_empty());
    }

    /// Starts a program of this number.
    fn start(programs: &mut Programs, pid: i32) -> [Option<OwnedFd>; 3] {
        let ends = started(programs, b"", Capture::MERGED);
        programs.table.last_mut().expect("a program").pid = pid;
        ends
    }

    /// Has the program of this number end, at a moment of its own.
    fn end(programs: &mut Programs, pid: i32, at_ms: u64) {
        programs.note(pid, Ended::Exited(0));
        let mut all = programs.table.iter_mut();
        let program = all.find(|one| one.pid == pid).expect("a program");
        program.ended = Some((Ended::Exited(0), at_ms));
    }

    /// Numbers of the programs that are kept.
    fn kept(programs: &Programs) -> Vec<i32> {
        programs.table.iter().map(|program| program.pid).collect()
    }

    #[test]
    fn a_full_table_drops_the_result_that_has_waited_longest() {
        let mut programs = Programs::default();
        let count = i32::try_from(PROGRAMS).unwrap();
        for pid in 1..=count {
            start(&mut programs, pid);
        }
        assert!(programs.add(0).is_none(), "all run");
        assert_eq!(kept(&programs), (1..=count).collect::<Vec<_>>());
        for (pid, at_ms) in [(5, 300), (90, 100), (70, 200)] {
            end(&mut programs, pid, at_ms);
        }
        for (new, dropped) in [(1000, 90), (1001, 70), (1002, 5)] {
            start(&mut programs, new);
            assert!(programs.find(dropped.into()).is_none(), "{dropped}");
            assert!(programs.find(new.into()).is_some(), "{new}");
            assert_eq!(programs.table.len(), PROGRAMS);
        }
        assert!(programs.add(0).is_none(), "all run again");
    }

    /// Has the program of this number say so many bytes; gives how many of them are kept.
    fn say(programs: &mut Programs, pid: i32, out: &OwnedFd, bytes: usize) -> usize {
        const PIPE: usize = 65536;
        for start in (0..bytes).step_by(PIPE) {
            let piece = vec![b'x'; PIPE.min(bytes - start)];
            stream::write_all(out, &piece).expect("written");
            programs.find(pid.into());
        }
        let (_, program) = programs.find(pid.into()).expect("a program");
        program.held()
    }

    #[test]
    fn old_results_make_room_for_output_and_input() {
        let mut programs = Programs::default();
        let many = i32::try_from(EXEC_HELD_BYTES / EXEC_STREAM_BYTES).unwrap();
        let mut outs = Vec::new();
        for pid in 1..=many {
            let [_, out, _] = start(&mut programs, pid);
            outs.push(out.expect("a pipe"));
        }
        for (pid, out) in (1..).zip(&outs) {
            assert_eq!(
                say(&mut programs, pid, out, EXEC_STREAM_BYTES),
                EXEC_STREAM_BYTES
            );
        }
        assert_eq!(programs.room(), 0);
        // All of them run: the next program starts, but nothing it says is kept, nor its input.
        let [_, last, _] = start(&mut programs, 100);
        let last = last.expect("a pipe");
        assert_eq!(say(&mut programs, 100, &last, 10), 0);
        let (_, program) = programs.find(100).expect("a program");
        assert!(program.outputs().first().is_some_and(Stream::is_cut));
        let (number, input) = programs.add(5).expect("an entry");
        assert!(input.append(b"input").is_err());
        programs.settle(number, None);
        // What has ended, oldest first, makes room; a program past its share takes none from others.
        for pid in [3, 2] {
            end(&mut programs, pid, u64::try_from(pid).unwrap());
        }
        let [_, new, _] = start(&mut programs, 101);
        let new = new.expect("a pipe");
        assert_eq!(
            say(&mut programs, 101, &new, EXEC_STREAM_BYTES),
            EXEC_STREAM_BYTES
        );
        assert_eq!(kept(&programs), [1, 3, 4, 5, 6, 7, 8, 100, 101]);
        assert_eq!(say(&mut programs, 101, &new, 1 << 20), EXEC_STREAM_BYTES);
        assert_eq!(kept(&programs), [1, 3, 4, 5, 6, 7, 8, 100, 101]);
        let (_, input) = programs.add(EXEC_STREAM_BYTES).expect("an entry");
        input.append(&vec![b'x'; EXEC_STREAM_BYTES]).expect("room");
        assert_eq!(kept(&programs), [1, 4, 5, 6, 7, 8, 100, 101, 0]);
        assert_eq!(programs.room(), 0);
    }
}
