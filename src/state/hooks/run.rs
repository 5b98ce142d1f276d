//! One hook, run until it ends or its time is over.
//!
//! The hook has a session and a process group of its own, `/` as its directory, nothing as its input,
//! one pipe to here for output and errors, and no other descriptor of ours. When its time is over it
//! is killed with all of its group, and the kernel kills it should this process be killed. Processes
//! that it leaves in the background when it ends by itself are left alone. The pipe is closed soon
//! after, so they have to write elsewhere.
//!
//! This process reads SIGCHLD and SIGTERM meanwhile. SIGTERM says that the agent is gone.

use crate::base::limits::{
    HOOK_DRAIN_MS, HOOK_FAILURE_BYTES, HOOK_KILL_MS, HOOK_LINE_BYTES, HOOK_OUTPUT_BYTES,
    HOOK_TAIL_BYTES, PATH_BYTES,
};
use crate::base::path::Path;
use crate::base::store::Store;
use crate::base::text::Digits;
use crate::parse::split_once;
use crate::state::environment::Environment;
use crate::state::hooks::log::HookLog;
use crate::sys::clock;
use crate::sys::poll::{Interest, News, Poll};
use crate::sys::process::{self, Ended, Fork, Tie, Vectors};
use crate::sys::root::Root;
use crate::sys::signal::{Signals, Told};
use crate::sys::stream::{self, Read};
use crate::sys::trust;
use crate::sys::{Errno, OwnedFd, number, stdio, words};

/// What a hook is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// To bring its application to rest.
    Freeze,
    /// To let it go on.
    Thaw,
}

impl Word {
    /// The hook's argument.
    pub fn text(self) -> &'static [u8] {
        match self {
            Self::Freeze => b"freeze",
            Self::Thaw => b"thaw",
        }
    }
}

/// What is said of a hook.
pub(super) type Text = heapless::Vec<u8, HOOK_FAILURE_BYTES>;

/// A hook failed. What became of it is in [`Runner::failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether it was started.
    pub started: bool,
    /// Why no other hook is to be started either.
    pub stop: Option<Stop>,
}

/// Why hooks are not gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The time for all of them is over.
    NoTime,
    /// The agent is gone, or a person has pressed Ctrl-C.
    ToldToEnd,
}

/// How a hook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By itself or by a signal.
    Of(Ended),
    /// Killed, because it took longer than a hook may.
    TooLong,
    /// Killed, because hooks are not gone on with.
    Stopped(Stop),
    /// Not started, because this went wrong.
    Failed(Errno),
    /// Not started: refused.
    Refused,
    /// Not started, because the time for all hooks was over.
    TooLate,
}

impl End {
    fn was_started(self) -> bool {
        matches!(self, Self::Of(_) | Self::TooLong | Self::Stopped(_))
    }

    fn stop(self) -> Option<Stop> {
        match self {
            Self::Stopped(stop) => Some(stop),
            Self::TooLate => Some(Stop::NoTime),
            _ => None,
        }
    }
}

/// The exit status of a process that could not become its hook.
const NOT_EXECUTED: i32 = 127;

/// Runs hooks.
pub(super) struct Runner<'a> {
    /// What is written about them.
    pub(super) log: HookLog<'a>,
    /// The first that failed, what became of it, and the end of what it said; empty if all went well.
    pub(super) failure: Text,
    root: &'a Root,
    environment: Environment,
    timeout_s: u32,
    /// The user that hooks must belong to.
    owner: u32,
    /// Taken over when the first hook is started.
    signals: Option<Signals>,
}

impl<'a> Runner<'a> {
    /// For hooks that belong to `owner` and have `timeout_s` seconds each.
    pub(super) fn new(
        log: HookLog<'a>,
        root: &'a Root,
        environment: Environment,
        timeout_s: u32,
        owner: u32,
    ) -> Self {
        Self {
            log,
            failure: Text::new(),
            root,
            environment,
            timeout_s,
            owner,
            signals: None,
        }
    }

    /// Looks whether a hook may be run: whether root alone can change it.
    pub(super) fn check(&mut self, hook: &[u8], word: Word) -> Result<(), Failure> {
        let mut about = Path::new();
        let found = trust::find(self.root, hook, self.owner, &mut about);
        let judged = found.and_then(|target| target.judge(self.owner));
        judged.map_err(|why| {
            let mut became = Text::new();
            put(&mut became, &[b"refused: "]);
            trust::describe(why, about.as_bytes(), &mut became);
            self.log.line(hook, word.text(), &[&became]);
            self.failed(&Said::new(hook, word), End::Refused, &became)
        })
    }

    /// Runs a hook, until `deadline_ms` at the latest.
    pub(super) fn run(&mut self, hook: &[u8], word: Word, deadline_ms: u64) -> Result<(), Failure> {
        self.check(hook, word)?;
        let begun_ms = clock::boottime_ms();
        let mut said = Said::new(hook, word);
        let end = self.start_and_watch(&mut said, deadline_ms);
        let mut became = Text::new();
        self.describe(end, &mut became);
        let took = Digits::unsigned(clock::boottime_ms().saturating_sub(begun_ms));
        let line: &[&[u8]] = &[&became, b" after ", took.as_bytes(), b" ms"];
        self.log.line(hook, word.text(), line);
        if end == End::Of(Ended::Exited(0)) {
            return Ok(());
        }
        Err(self.failed(&said, end, &became))
    }

    /// Takes note of a hook that cannot be started.
    pub(super) fn refuse(&mut self, hook: &[u8], word: Word, what: &[u8], errno: Errno) -> Failure {
        let mut became = Text::new();
        put(&mut became, &[what, b": ", &words(errno)]);
        self.log.line(hook, word.text(), &[&became]);
        self.failed(&Said::new(hook, word), End::Refused, &became)
    }

    /// Takes note of what became of a hook that failed.
    fn failed(&mut self, said: &Said<'_>, end: End, became: &[u8]) -> Failure {
        if self.failure.is_empty() {
            self.failure = said.failure(became);
        }
        Failure {
            started: end.was_started(),
            stop: end.stop(),
        }
    }

    fn start_and_watch(&mut self, said: &mut Said<'_>, deadline_ms: u64) -> End {
        if clock::boottime_ms() >= deadline_ms {
            return End::TooLate;
        }
        self.log.line(said.hook, said.word.text(), &[b"begins"]);
        match self.fork(said.hook, said.word) {
            Ok(running) => self.watch(running, said, deadline_ms),
            Err(errno) => End::Failed(errno),
        }
    }

    fn fork(&mut self, hook: &[u8], word: Word) -> Result<Running, Errno> {
        let signals = match self.signals.take() {
            Some(signals) => signals,
            None => Signals::new()?,
        };
        let signals = self.signals.insert(signals);
        let (output, writer) = stream::pipe()?;
        let (executed, failed) = stream::pipe()?;
        let poll = Poll::new()?;
        poll.add(signals, 0, Interest::Read)?;
        poll.add(&output, 0, Interest::Read)?;
        let ends = [Some(stream::null()?), Some(writer), None];
        let parent = process::own_pid();
        if let Fork::Parent(pid) = process::fork(false)? {
            return Ok(Running {
                pid,
                poll,
                output: Some(output),
                executed,
                ended: None,
            });
        }
        process::new_session();
        if process::tie_to(parent, Tie::Kill) {
            process::set_umask(0o022);
            process::enter_root();
            stdio::replace(&ends);
            let errno = self.execute(hook, word);
            let _ = stream::write_all(&failed, &[number(errno) as u8]);
        }
        process::exit(NOT_EXECUTED)
    }

    /// Becomes the hook. Returns only if that failed, with the reason.
    fn execute(&self, hook: &[u8], word: Word) -> Errno {
        // HOME comes besides.
        let mut vectors = Vectors::new(3 * PATH_BYTES);
        vectors.begin();
        let _ = vectors.text().append(hook);
        let name = vectors.push();
        let _ = vectors.text().append(word.text());
        vectors.push();
        vectors.end();
        self.environment.put(self.root, &mut vectors);
        vectors.run(name, self.environment.path())
    }

    /// Waits until a hook has ended, or its time is over.
    fn watch(&mut self, mut running: Running, said: &mut Said<'_>, deadline_ms: u64) -> End {
        let limit_ms = clock::in_ms(u64::from(self.timeout_s) * 1000);
        let mut told_to_end = false;
        let ended = loop {
            if let Some(ended) = running.ended {
                break ended;
            }
            let now_ms = clock::boottime_ms();
            let end = if told_to_end {
                End::Stopped(Stop::ToldToEnd)
            } else if now_ms >= deadline_ms {
                End::Stopped(Stop::NoTime)
            } else if now_ms >= limit_ms {
                End::TooLong
            } else {
                told_to_end = self.turn(&mut running, said, limit_ms.min(deadline_ms));
                continue;
            };
            self.kill(&mut running, said);
            said.end(&mut self.log);
            return end;
        };
        // What the hook itself has said is in the pipe by now.
        let drained_ms = clock::in_ms(HOOK_DRAIN_MS);
        while running.output.is_some() && clock::boottime_ms() < drained_ms {
            self.turn(&mut running, said, drained_ms);
        }
        said.end(&mut self.log);
        let mut error = [0];
        match stream::read(&running.executed, &mut error) {
            Ok(Read::Bytes(_)) => End::Failed(Errno::from_raw_os_error(error[0].into())),
            _ => End::Of(ended),
        }
    }

    /// Kills a hook and all of its group. One that is stuck in the kernel dies when it comes out of
    /// that, and is not waited for.
    fn kill(&mut self, running: &mut Running, said: &mut Said<'_>) {
        process::kill_group(running.pid);
        let given_up_ms = clock::in_ms(HOOK_KILL_MS);
        while running.ended.is_none() && clock::boottime_ms() < given_up_ms {
            self.turn(running, said, given_up_ms);
        }
    }

    /// Waits for news of a hook, until `until_ms` at the latest, and takes them. Gives whether this
    /// process is to end.
    fn turn(&mut self, running: &mut Running, said: &mut Said<'_>, until_ms: u64) -> bool {
        let left_ms = until_ms.saturating_sub(clock::boottime_ms());
        let _ = running.poll.wait(&mut News::none(), left_ms);
        let mut told_to_end = false;
        while let Some(signals) = &self.signals {
            match signals.read() {
                Told::Nothing => break,
                Told::Child => running.bury(),
                Told::End | Told::CtrlAltDel => told_to_end = true,
            }
        }
        while let Some(output) = &running.output {
            let mut bytes = [0; 4096];
            match stream::read(output, &mut bytes) {
                Ok(Read::Bytes(count)) => said.take(&bytes[..count], &mut self.log),
                Ok(Read::NotYet) => break,
                Ok(Read::End) | Err(_) => {
                    running.poll.remove(output);
                    running.output = None;
                }
            }
        }
        told_to_end
    }

    /// Puts down how a hook ended.
    fn describe(&self, end: End, text: &mut Text) {
        let number = |number: i32| Digits::signed(number.into());
        match end {
            End::Of(Ended::Exited(0)) => put(text, &[b"done"]),
            End::Of(Ended::Exited(status)) => {
                put(text, &[b"exit status ", number(status).as_bytes()]);
            }
            End::Of(Ended::Killed(signal)) => {
                put(text, &[b"killed by signal ", number(signal).as_bytes()]);
            }
            End::TooLong => {
                let limit = Digits::unsigned(self.timeout_s.into());
                put(
                    text,
                    &[
                        b"killed, because it took longer than ",
                        limit.as_bytes(),
                        b" s",
                    ],
                );
            }
            End::Stopped(Stop::NoTime) => {
                put(text, &[b"killed, because the freeze took too long"]);
            }
            End::Stopped(Stop::ToldToEnd) => put(text, &[b"killed, because it was to end"]),
            End::Failed(errno) => put(text, &[b"cannot be run: ", &words(errno)]),
            End::TooLate => put(text, &[b"not run, because the freeze took too long"]),
            End::Refused => put(text, &[b"refused"]),
        }
    }
}

/// Appends these pieces, as far as there is room.
fn put(text: &mut Text, pieces: &[&[u8]]) {
    for byte in pieces.iter().copied().flatten() {
        let _ = text.push(*byte);
    }
}

/// A hook that was started.
struct Running {
    pid: i32,
    /// Waits for signals and for what the hook says.
    poll: Poll,
    /// What it says, until the end of that.
    output: Option<OwnedFd>,
    /// Brings the number of an error if it could not be executed.
    executed: OwnedFd,
    ended: Option<Ended>,
}

impl Running {
    /// Buries the children that have ended, which may be hooks that were not waited for.
    fn bury(&mut self) {
        while let Some((pid, ended, _)) = process::reap() {
            if pid == self.pid {
                self.ended = Some(ended);
            }
        }
    }
}

/// Bytes of a line of the log besides the hook's path and what it said: time, word, separators.
const LINE_START: usize = 33;
/// What is logged instead of what would be too much.
const LEFT_OUT: &[u8] = b"(the rest is left out)";

/// What a hook says: lines of the log, and the end of it for the reply.
struct Said<'a> {
    hook: &'a [u8],
    word: Word,
    /// The line that has not ended yet.
    line: heapless::Vec<u8, HOOK_LINE_BYTES>,
    /// The last bytes.
    tail: heapless::Vec<u8, HOOK_TAIL_BYTES>,
    /// How many bytes there were.
    count: usize,
    /// How many bytes of the log they took.
    logged: usize,
}

impl<'a> Said<'a> {
    fn new(hook: &'a [u8], word: Word) -> Self {
        Self {
            hook,
            word,
            line: heapless::Vec::new(),
            tail: heapless::Vec::new(),
            count: 0,
            logged: 0,
        }
    }

    /// Takes bytes, and writes the lines that end among them.
    fn take(&mut self, bytes: &[u8], log: &mut HookLog<'_>) {
        let kept = bytes.get(bytes.len().saturating_sub(HOOK_TAIL_BYTES)..);
        let kept = kept.unwrap_or_default();
        let dropped = (self.tail.len() + kept.len()).saturating_sub(HOOK_TAIL_BYTES);
        self.tail.copy_within(dropped.., 0);
        self.tail.truncate(self.tail.len() - dropped);
        let _ = self.tail.extend_from_slice(kept);
        self.count = self.count.saturating_add(bytes.len());
        for byte in bytes {
            if self.logged > HOOK_OUTPUT_BYTES {
                return;
            }
            if *byte == b'\n' {
                self.end_line(log);
            } else if self.line.push(*byte).is_err() {
                self.end_line(log);
                let _ = self.line.push(*byte);
            }
        }
    }

    /// Writes the last line, should it have no end.
    fn end(&mut self, log: &mut HookLog<'_>) {
        if !self.line.is_empty() {
            self.end_line(log);
        }
    }

    fn end_line(&mut self, log: &mut HookLog<'_>) {
        let mut written = &self.line[..];
        self.logged += written.len() + self.hook.len() + LINE_START;
        if self.logged > HOOK_OUTPUT_BYTES {
            written = LEFT_OUT;
        }
        log.line(self.hook, self.word.text(), &[b"| ", written]);
        self.line.clear();
    }

    /// What an error says: the hook, what became of it, and its last lines.
    fn failure(&self, became: &[u8]) -> Text {
        let mut last = &self.tail[..];
        if self.count > last.len()
            && let Some((_, whole)) = split_once(last, b'\n')
            && !whole.is_empty()
        {
            last = whole;
        }
        let last = last.trim_ascii();
        let mut text = Text::new();
        let colon: &[u8] = if last.is_empty() { b"" } else { b": " };
        put(&mut text, &[self.hook, b": ", became, colon, last]);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::root::Root;
    use std::ffi::CString;
    use std::fs;

    const HOOK: &[u8] = b"/etc/qemu-ga/fsfreeze-hook.d/50-db";

    struct Tree {
        path: std::path::PathBuf,
        root: Root,
    }

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir();
            let path = path.join(format!("gaunt-said-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
            Self { path, root }
        }

        /// What was said, in the log.
        fn lines(&self) -> Vec<String> {
            let log = self.path.join("var/log/qemu-ga/fsfreeze-hook.log");
            let text = fs::read_to_string(log).unwrap();
            let said = |line: &str| line.split_once("| ").unwrap().1.to_owned();
            text.lines().map(said).collect()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    fn failure(said: &Said<'_>) -> String {
        let text = said.failure(b"exit status 3");
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn what_a_hook_says_is_logged_line_by_line() {
        let tree = Tree::new("lines");
        let mut log = HookLog::new(&tree.root, false);
        let mut said = Said::new(HOOK, Word::Freeze);
        let hook = str::from_utf8(HOOK).unwrap();
        assert_eq!(failure(&said), format!("{hook}: exit status 3"));
        for piece in ["one\ntw", "o\n\nthree"] {
            said.take(piece.as_bytes(), &mut log);
        }
        said.end(&mut log);
        said.end(&mut log);
        assert_eq!(tree.lines(), ["one", "two", "", "three"]);
        let expected = format!("{hook}: exit status 3: one\ntwo\n\nthree");
        assert_eq!(failure(&said), expected);
        said.take(&[b'x'; 2 * HOOK_LINE_BYTES + 1], &mut log);
        said.end(&mut log);
        let lengths: Vec<_> = tree.lines()[4..].iter().map(String::len).collect();
        assert_eq!(lengths, [HOOK_LINE_BYTES, HOOK_LINE_BYTES, 1]);
    }

    #[test]
    fn an_error_has_the_last_whole_lines() {
        let tree = Tree::new("tail");
        let mut log = HookLog::new(&tree.root, false);
        for size in [1, 7, 4096] {
            let mut said = Said::new(HOOK, Word::Freeze);
            let text: String = (0..500).map(|number| format!("line {number}\n")).collect();
            for piece in text.as_bytes().chunks(size) {
                said.take(piece, &mut log);
            }
            let failure = failure(&said);
            let last = failure.split_once("status 3: ").unwrap().1;
            assert!(
                last.starts_with("line 4") && last.ends_with("\nline 499"),
                "{last}"
            );
            assert!(last.len() > HOOK_TAIL_BYTES - 10 && text.contains(last));
        }
        // One line that is longer, and one longer than all of the error.
        let mut said = Said::new(HOOK, Word::Freeze);
        said.take(&[b'x'; 5000], &mut log);
        assert!(failure(&said).ends_with(&"x".repeat(HOOK_TAIL_BYTES)));
        let said = Said::new(&[b'/'; 4000], Word::Freeze);
        assert_eq!(failure(&said).len(), HOOK_FAILURE_BYTES);
    }

    #[test]
    fn a_hook_that_talks_without_end_is_cut_in_the_log() {
        let tree = Tree::new("cut");
        let mut log = HookLog::new(&tree.root, false);
        let mut said = Said::new(HOOK, Word::Thaw);
        for _ in 0..3 * HOOK_OUTPUT_BYTES / 100 {
            said.take(&[b'x'; 99], &mut log);
            said.take(b"\n", &mut log);
        }
        said.end(&mut log);
        assert_eq!(tree.lines().last().unwrap(), "(the rest is left out)");
        let log = fs::metadata(tree.path.join("var/log/qemu-ga/fsfreeze-hook.log"));
        let bytes = log.unwrap().len() as usize;
        assert!(
            bytes.abs_diff(HOOK_OUTPUT_BYTES) < HOOK_OUTPUT_BYTES / 20,
            "{bytes}"
        );
    }
}
