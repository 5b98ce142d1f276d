//! Programs that guest-exec started: their input, their output, how they ended.
//!
//! All of it belongs to the agent, not to the client that asked. An entry is made before the fork,
//! so that no program starts without a place for its result. It counts as a program once the child
//! has executed it. It stays until a client has read how the program ended, or until a new program
//! gets the same process id: then the id means the new program.
//!
//! Many clients start programs and never read the result. When the table or the memory for output
//! is full, the oldest result is dropped. A program that runs is never dropped.
//!
//! Pipes never block the loop. Output beyond the cap is read and dropped, so that the program never
//! waits for a client. A child of the agent closes all pipes, unless it shares the agent's
//! descriptors: a slow child must not keep a program's input open.

use static_assertions::const_assert;

use crate::base::limits::{EXEC_HELD_BYTES, EXEC_STREAM_BYTES, PROGRAMS, REQUEST_BYTES};
use crate::base::sink::ByteSink;
use crate::sys::mem::{self, Buffer};
use crate::sys::poll::{Interest, Poll};
use crate::sys::process::{self, Ended};
use crate::sys::stream::{self, Read};
use crate::sys::{Errno, OwnedFd, clock, stdio};

/// The first epoll token of programs. All higher tokens are theirs, too.
pub const TOKENS: u64 = 1 << 32;

/// Programs in the order of their start.
pub type ProgramTable = heapless::Vec<Program, PROGRAMS>;

/// An empty table.
pub const EMPTY: ProgramTable = heapless::Vec::new();

/// Milliseconds after the end of a program before its output counts as complete although other
/// processes keep it open. The program's own output has arrived by then.
const DRAIN_MS: u64 = 500;

/// Reads of one pipe in a row. Together they take as much as a pipe holds, so that one turn takes
/// everything that a program wrote before it ended.
const READS: usize = 16;
const READ_BYTES: usize = 4096;

const_assert!(READS * READ_BYTES == 64 << 10);

/// Which outputs of a program are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture(u8);

/// Its standard input comes from the agent.
const INPUT: u8 = 1;
/// Its standard output goes to the agent.
const OUT: u8 = 2;
/// Its standard error goes to the agent.
const ERR: u8 = 4;
/// Its standard error is separate from its standard output.
const APART: u8 = 8;

impl Capture {
    /// Neither.
    pub const NONE: Self = Self(0);
    /// Standard output.
    pub const STDOUT: Self = Self(OUT | APART);
    /// Standard error.
    pub const STDERR: Self = Self(ERR | APART);
    /// Both, separately.
    pub const SEPARATED: Self = Self(OUT | ERR | APART);
    /// Both, in one stream.
    pub const MERGED: Self = Self(OUT);
}

/// One of the three standard streams of a program.
pub struct Stream {
    pipe: Option<OwnedFd>,
    buffer: Buffer,
    /// Bytes of input that were sent, or whether bytes of output were dropped (not 0).
    gone: usize,
}

/// A program.
pub struct Program {
    pid: i32,
    serial: u64,
    /// Whether the child has executed the program.
    started: bool,
    /// How it ended, and when.
    ended: Option<(Ended, u64)>,
    /// Standard input, output and error.
    streams: [Stream; 3],
}

/// All programs whose result no client has read.
pub struct Programs {
    table: &'static mut ProgramTable,
    serial: u64,
    /// Descriptors 0 to 2 of the program, from its entry to the fork. `None` is the same as the one
    /// before.
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

    /// The captured bytes of an output.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// Whether output was dropped, or another process still has the pipe open.
    pub fn is_cut(&self) -> bool {
        self.gone != 0 || self.pipe.is_some()
    }

    /// Sends as much input as the pipe takes. Closes it at the end of the input, or if the program
    /// has closed its end.
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

    /// The most bytes that one [`Stream::drain`] adds.
    fn wanted(&self) -> usize {
        match self.pipe {
            Some(_) => (READS * READ_BYTES).min(EXEC_STREAM_BYTES - self.buffer.len()),
            None => 0,
        }
    }

    /// Reads output and keeps at most `room` bytes of it.
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
    /// How it ended, once its output is complete.
    pub fn ended(&self, now_ms: u64) -> Option<Ended> {
        let (ended, at_ms) = self.ended?;
        let mut outputs = self.outputs().iter();
        let drained = outputs.all(|stream| stream.pipe.is_none());
        (drained || now_ms.saturating_sub(at_ms) >= DRAIN_MS).then_some(ended)
    }

    /// Standard output and standard error.
    pub fn outputs(&self) -> &[Stream] {
        self.streams.get(1..).unwrap_or_default()
    }

    /// Bytes of memory that its input and output take.
    fn held(&self) -> usize {
        self.streams.iter().map(|stream| stream.buffer.len()).sum()
    }
}

impl Programs {
    /// No programs.
    pub fn new(table: &'static mut ProgramTable) -> Self {
        Self {
            table,
            serial: 0,
            ends: [None, None, None],
        }
    }

    /// Gives back memory that holds nothing.
    pub fn release(&mut self) {
        mem::release_free(self.table.spare_capacity_mut());
    }

    /// Bytes that all programs together may still keep.
    #[inline(never)]
    fn room(&self) -> usize {
        let held = self.table.iter().map(Program::held).sum();
        EXEC_HELD_BYTES.saturating_sub(held)
    }

    /// Drops results of programs other than `serial` until there is room for `bytes`, or no result
    /// is left. Returns the room.
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

    /// Drops the oldest result that `may_go`. Returns false if there is none.
    fn drop_result(&mut self, may_go: &dyn Fn(&Program) -> bool) -> bool {
        let (mut oldest, mut oldest_ms) = (None, u64::MAX);
        for (index, program) in self.table.iter().enumerate() {
            if let Some((_, ended_ms)) = program.ended
                && ended_ms < oldest_ms
                && program.started
                && may_go(program)
            {
                (oldest, oldest_ms) = (Some(index), ended_ms);
            }
        }
        oldest.map(|index| self.forget(index)).is_some()
    }

    /// Makes an entry for the program that is forked next. Returns its serial number for
    /// [`Programs::settle`], and the buffer for its input. The buffer takes `input_bytes`, or less
    /// if programs that run hold too much memory. `None` if too many programs run.
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

    /// Makes the pipes of the program that is forked next.
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
            // Both outputs share a descriptor unless they are separate.
            if bit != ERR || flags & (ERR | APART) != 0 {
                *end = Some(theirs);
            }
            bit <<= 1;
        }
        Ok(())
    }

    /// The program that is forked next.
    #[inline(never)]
    fn next(&mut self) -> Option<&mut Program> {
        self.table.last_mut().filter(|program| program.pid == 0)
    }

    /// Adds the pipes of the program that is forked next, if any, to those that the loop waits for.
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

    /// In a child of the agent: replaces descriptors 0 to 2 by those of the program that it is to
    /// execute, if any.
    pub fn in_child(&self) {
        stdio::replace(&self.ends);
    }

    #[inline(never)]
    fn close_ends(&mut self) {
        self.ends = [None, None, None];
    }

    /// In the agent, after a fork: enters the child if it is to execute a program. Returns whether
    /// it is.
    pub fn forked(&mut self, pid: i32) -> bool {
        self.close_ends();
        let next = self.next();
        next.map(|program| program.pid = pid).is_some()
    }

    /// Enters that the program with this serial number runs as the process `started`, or forgets
    /// it.
    pub fn settle(&mut self, number: i64, started: Option<i32>) {
        self.close_ends();
        if let Some(pid) = started {
            // The kernel reuses a process id only after its process was reaped.
            while self.drop_result(&|program| program.pid == pid) {}
        }
        let mut all = self.table.iter_mut().enumerate();
        match all.find(|(_, one)| one.serial.cast_signed() == number) {
            Some((_, program)) if started.is_some() => program.started = true,
            Some((index, _)) => self.forget(index),
            None => {}
        }
    }

    /// Enters that a child has ended.
    pub fn note(&mut self, pid: i32, ended: Ended) {
        let mut all = self.table.iter_mut();
        if let Some(program) = all.find(|one| one.pid == pid && one.ended.is_none()) {
            program.ended = Some((ended, clock::boottime_ms()));
        }
    }

    /// The process ids of programs that run.
    pub fn running(&self) -> impl Iterator<Item = i32> {
        let running = self.table.iter().filter(|one| one.ended.is_none());
        running.map(|one| one.pid)
    }

    /// Reads from or writes to the pipe with this token.
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

    /// A stream of the program `serial`.
    #[inline(never)]
    fn stream(&mut self, serial: u64, which: usize) -> Option<&mut Stream> {
        let mut all = self.table.iter_mut();
        let program = all.find(|one| one.serial == serial)?;
        program.streams.get_mut(which)
    }

    /// Reads output of the program `serial`. Older results make room for it.
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

    /// Returns the index and the entry of a program, after reading all its output.
    pub fn find(&mut self, pid: i64) -> Option<(usize, &Program)> {
        let mut all = self.table.iter();
        let program = all.find(|one| one.started && i64::from(one.pid) == pid)?;
        let serial = program.serial;
        self.drain(serial, 1);
        self.drain(serial, 2);
        let mut all = self.table.iter().enumerate();
        all.find(|(_, one)| one.serial == serial)
    }

    /// Forgets the program at this index.
    #[inline(never)]
    pub fn forget(&mut self, index: usize) {
        if index < self.table.len() {
            self.table.remove(index);
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
    fn reused_process_id_means_the_new_program() {
        let mut programs = Programs::default();
        for status in 1..4 {
            started(&mut programs, b"", Capture::NONE);
            programs.note(PID, Ended::Exited(status));
            let (index, program) = programs.find(PID.into()).expect("a program");
            let ended = program.ended(clock::boottime_ms());
            assert_eq!((index, ended), (0, Some(Ended::Exited(status))));
        }
        programs.forget(0);
        assert!(programs.find(PID.into()).is_none());
    }

    #[test]
    fn output_is_complete_when_its_pipe_is_closed_or_after_a_while() {
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
    fn sends_input_in_pieces_and_then_closes_the_pipe() {
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
    fn forgets_program_that_was_never_executed() {
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

    /// Starts a program with this process id.
    fn start(programs: &mut Programs, pid: i32) -> [Option<OwnedFd>; 3] {
        let ends = started(programs, b"", Capture::MERGED);
        programs.table.last_mut().expect("a program").pid = pid;
        ends
    }

    /// Ends a program at this time.
    fn end(programs: &mut Programs, pid: i32, at_ms: u64) {
        programs.note(pid, Ended::Exited(0));
        let mut all = programs.table.iter_mut();
        let program = all.find(|one| one.pid == pid).expect("a program");
        program.ended = Some((Ended::Exited(0), at_ms));
    }

    /// The process ids of all entries.
    fn kept(programs: &Programs) -> Vec<i32> {
        programs.table.iter().map(|program| program.pid).collect()
    }

    #[test]
    fn full_table_drops_the_oldest_result() {
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

    /// Writes output of a program. Returns how many bytes are kept.
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
        // All of them run: the next program starts, but neither its output nor its input is kept.
        let [_, last, _] = start(&mut programs, 100);
        let last = last.expect("a pipe");
        assert_eq!(say(&mut programs, 100, &last, 10), 0);
        let (_, program) = programs.find(100).expect("a program");
        assert!(program.outputs().first().is_some_and(Stream::is_cut));
        let (number, input) = programs.add(5).expect("an entry");
        assert!(input.append(b"input").is_err());
        programs.settle(number, None);
        // Results make room, the oldest first. A program at its own cap takes no room from others.
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
