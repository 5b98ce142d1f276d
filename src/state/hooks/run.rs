//! Running one hook until it ends or its time is over.
//!
//! A hook has a session and a process group of its own, the directory `/`, /dev/null as its input,
//! and one pipe to this process for both outputs. It inherits no other descriptor. At the end of
//! its time the hook and its group are killed. If this process is killed, the kernel kills the
//! hook, and the next run kills the rest of its group.
//!
//! Processes that a hook leaves in the background, or that have left its group, live on. Their pipe
//! is closed soon after the end of the hook: they must write elsewhere.
//!
//! Meanwhile this process reads SIGCHLD and the signals that end a program. SIGTERM means that the
//! agent is gone; a person sends the others.

use super::call::{Call, HookFailure, OWNER, Settings};
use super::ledger::Ledger;
use super::log::HookLog;
use crate::base::limits::{
    HOOK_DRAIN_MS, HOOK_FAILURE_BYTES, HOOK_KILL_MS, HOOK_LINE_BYTES, HOOK_OUTPUT_BYTES,
    HOOK_TAIL_BYTES, PATH_BYTES,
};
use crate::base::packed;
use crate::base::path::Path;
use crate::base::sink::{ByteSink, append_all};
use crate::base::text::{Digits, cut, push_truncated};
use crate::parse::proc;
use crate::state::environment::Environment;
use crate::state::texts::LogPhrase;
use crate::state::trust::{self, Why};
use crate::sys::exec::ExecArgs;
use crate::sys::process::{self, Ended, Forked};
use crate::sys::root::{Root, relative};
use crate::sys::signal::Signals;
use crate::sys::status::{FileType, Status};
use crate::sys::stream::{self, Read};
use crate::sys::{Errno, OwnedFd, clock, number, stdio, words};

/// The words for a failure.
pub(super) type FailureText = heapless::Vec<u8, HOOK_FAILURE_BYTES>;

/// How a hook ended: a phrase, and the number in it.
type End = (LogPhrase, Option<i64>);

/// The variable with the path of the hook, for the hook and its children.
pub const OWN_PATH: &[u8] = b"FSFREEZE_HOOK";

/// Reads of the output in a row, before time and signals are checked.
const READS: u32 = 16;

/// The exit status of a process that could not execute its hook.
const NOT_EXECUTED: i32 = 127;

/// Why a hook is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    why: LogPhrase,
    errno: Option<Errno>,
}

impl Refusal {
    /// The directory of hooks cannot be read.
    pub const fn unreadable(errno: Errno) -> Self {
        Self {
            why: LogPhrase::CannotReadHooks,
            errno: Some(errno),
        }
    }

    /// Passes its words to `put`. `about` is what [`check`] has left there.
    pub fn put(&self, about: &Path, put: &mut dyn FnMut(&[u8])) {
        let errno = self.errno.map(words).unwrap_or_default();
        let colon: &[u8] = if errno.is_empty() { b"" } else { b": " };
        packed::Text::from(self.why).put(&[about.as_bytes(), colon, &errno], put);
    }
}

/// Checks that only root can change a hook, or the directory of the list of hooks. After an error
/// `about` is the path that the error is about.
pub fn check(root: &Root, path: &[u8], about: &mut Path) -> Result<(), Refusal> {
    let checked = trust::check(root, path, OWNER, about);
    if about.is_empty() {
        about.push(b"/");
    }
    checked.map_err(|why| {
        let (why, errno) = match why {
            Why::Owner => (LogPhrase::HookNotRoots, None),
            Why::Writable => (LogPhrase::HookWritable, None),
            Why::Errno(errno) => (LogPhrase::HookRefused, Some(errno)),
        };
        Refusal { why, errno }
    })
}

/// As [`check`], and whether the hook could be executed. Changes nothing. The interpreter of a script is
/// not looked for.
pub fn would_run(root: &Root, hook: &[u8], about: &mut Path) -> Result<(), Refusal> {
    check(root, hook, about)?;
    about.truncate(0);
    let name = relative(hook);
    let may_execute = match Status::at(root, &[name]).map(|status| status.kind) {
        Ok(FileType::RegularFile) => root.may_execute(&[name]),
        Ok(_) => Err(Errno::ACCESS),
        Err(errno) => Err(errno),
    };
    may_execute.map_err(|errno| Refusal {
        why: LogPhrase::CannotRunHook,
        errno: Some(errno),
    })
}

/// Runs hooks.
pub(super) struct Runner<'a> {
    settings: Settings,
    root: &'a Root,
    environment: Environment,
    log: HookLog<'a>,
    /// The first failure: the hook, how it ended, and the end of its output.
    pub(super) failure: FailureText,
    /// Whether a signal has told this process to end.
    pub(super) told_to_end: bool,
}

impl<'a> Runner<'a> {
    /// A runner whose log is also written to standard output with `echo`.
    pub(super) fn new(
        settings: Settings,
        root: &'a Root,
        environment: Environment,
        echo: bool,
    ) -> Self {
        Self {
            settings,
            root,
            environment,
            log: HookLog::new(root, echo),
            failure: FailureText::new(),
            told_to_end: false,
        }
    }

    /// Turns a failure into success if failures are only logged and other hooks may still run.
    pub(super) fn unless_ignored(
        &mut self,
        ran: Result<(), HookFailure>,
    ) -> Result<(), HookFailure> {
        match ran {
            Err(failure) if self.settings.ignore_failures && !failure.is_final => {
                self.failure.clear();
                Ok(())
            }
            ran => ran,
        }
    }

    /// Checks that only root can change a hook.
    pub(super) fn check(&mut self, call: &Call<'_>) -> Result<(), HookFailure> {
        let mut about = Path::new();
        check(self.root, call.hook, &mut about).map_err(|refusal| {
            let (why, about) = (refusal.why, about.as_bytes());
            match refusal.errno {
                Some(errno) => self.fail(call, why, about, errno),
                None => self.refuse(call, why, &[about]),
            }
        })
    }

    /// Kills the process group of a hook whose parent was killed.
    ///
    /// The kernel does not reuse the process id of a group that has members. So a process with this
    /// id and another start time means that the group is gone.
    pub(super) fn end_left(&self, pid: u32, started: u64) {
        let now = start_time(self.root, pid);
        if now == UNKNOWN || now == started {
            process::end_group(pid.cast_signed(), HOOK_KILL_MS);
        }
    }

    /// Runs a hook, which is on the list of `ledger`, until `deadline_ms` at the latest.
    pub(super) fn run(
        &mut self,
        call: &Call<'_>,
        ledger: &Ledger,
        deadline_ms: u64,
    ) -> Result<(), HookFailure> {
        self.check(call)?;
        let begun_ms = clock::boottime_ms();
        if begun_ms >= deadline_ms {
            return Err(self.refuse(call, LogPhrase::HookLate, &[]));
        }
        self.log.line(call, LogPhrase::HookBegins, &[]);
        let mut output = Output::new(call);
        let running = self.start(call, ledger);
        let ended = running.and_then(|running| self.watch(running, &mut output, deadline_ms));
        let (what, number) = match ended {
            Ok(end) => end,
            Err(errno) => return Err(self.fail(call, LogPhrase::CannotRunHook, b"", errno)),
        };
        let number = number.map(Digits::signed);
        let number = number.as_ref().map_or(&b""[..], Digits::as_bytes);
        let took = Digits::unsigned(clock::boottime_ms().saturating_sub(begun_ms));
        let about = [number, b" after ", took.as_bytes(), b" ms"];
        self.log.line(call, what, &about);
        if what == LogPhrase::HookDone {
            return Ok(());
        }
        self.note(call, what, &about[..1], output.last_lines());
        Err(HookFailure {
            started: true,
            is_final: matches!(what, LogPhrase::HookNoTime | LogPhrase::HookToldToEnd),
        })
    }

    /// Logs an error that keeps a hook from being started.
    pub(super) fn fail(
        &mut self,
        call: &Call<'_>,
        what: LogPhrase,
        about: &[u8],
        errno: Errno,
    ) -> HookFailure {
        self.refuse(call, what, &[about, b": ", &words(errno)])
    }

    /// Logs why a hook is not started.
    fn refuse(&mut self, call: &Call<'_>, why: LogPhrase, about: &[&[u8]]) -> HookFailure {
        self.log.line(call, why, about);
        self.note(call, why, about, b"");
        HookFailure {
            started: false,
            is_final: why == LogPhrase::HookLate,
        }
    }

    /// Stores the words of the first failure.
    fn note(&mut self, call: &Call<'_>, how: LogPhrase, about: &[&[u8]], last: &[u8]) {
        if self.failure.is_empty() {
            describe(&mut self.failure, call.hook, how, about, last);
        }
    }

    fn start(&self, call: &Call<'_>, ledger: &Ledger) -> Result<Running, Errno> {
        let signals = Signals::new()?;
        let (pipe, writer) = stream::pipe()?;
        let (executed, failed) = stream::pipe()?;
        let parent = process::own_pid();
        if let Forked::Parent(pid) = process::fork(false)? {
            return Ok(Running {
                pid,
                signals,
                pipe: Some(pipe),
                executed,
                ended: None,
            });
        }
        process::new_session();
        if process::tie_to(parent, process::KILL) {
            process::set_umask(0o022);
            process::enter_root();
            let pid = process::own_pid().unsigned_abs();
            let remembered = ledger.put_process(pid, start_time(self.root, pid));
            let errno = match remembered.and_then(|()| stream::null()) {
                Ok(null) => {
                    stdio::replace(&[Some(null), Some(writer), None]);
                    self.execute(call)
                }
                Err(errno) => errno,
            };
            let _ = stream::write_all(&failed, &[number(errno) as u8]);
        }
        process::exit(NOT_EXECUTED)
    }

    /// Executes the hook. Returns only if that failed, with the reason.
    fn execute(&self, call: &Call<'_>) -> Errno {
        // Its path twice, its word, HOME.
        let mut name: &[u8] = b"";
        let mut vectors = ExecArgs::with_arguments(4 * PATH_BYTES, |arguments| {
            let _ = arguments.text().append(call.hook);
            name = arguments.push();
            let _ = arguments.text().append(call.word);
            arguments.push();
        });
        self.environment.put(self.root, &mut vectors);
        let _ = append_all(vectors.text(), &[OWN_PATH, b"=", call.hook]);
        vectors.push();
        vectors.run(name, self.environment.path())
    }

    /// Waits until a hook has ended, or its time is over.
    ///
    /// # Errors
    /// The errno of a hook that could not be executed.
    fn watch(
        &mut self,
        mut running: Running,
        output: &mut Output<'_>,
        deadline_ms: u64,
    ) -> Result<End, Errno> {
        let limit_ms = clock::in_ms(u64::from(self.settings.timeout_s) * 1000);
        let until_ms = limit_ms.min(deadline_ms);
        while running.ended.is_none()
            && !self.told_to_end
            && self.turn(&mut running, output, until_ms)
        {}
        let end = match running.ended {
            Some(Ended::Exited(0)) => (LogPhrase::HookDone, None),
            Some(Ended::Exited(status)) => (LogPhrase::HookExited, Some(status.into())),
            Some(Ended::Killed(signal)) => (LogPhrase::HookKilled, Some(signal.into())),
            None if self.told_to_end => (LogPhrase::HookToldToEnd, None),
            None if deadline_ms <= limit_ms => (LogPhrase::HookNoTime, None),
            None => (LogPhrase::HookTooLong, Some(self.settings.timeout_s.into())),
        };
        if running.ended.is_some() {
            // The hook's own output is in the pipe by now.
            let drained_ms = clock::in_ms(HOOK_DRAIN_MS);
            while running.pipe.is_some() && self.turn(&mut running, output, drained_ms) {}
        } else {
            let _ = process::kill_group(running.pid);
            // A hook that hangs in the kernel is left behind.
            let given_up_ms = clock::in_ms(HOOK_KILL_MS);
            while running.ended.is_none() && self.turn(&mut running, output, given_up_ms) {}
        }
        output.end(&mut self.log);
        let mut error = [0];
        match stream::read(&running.executed, &mut error) {
            Ok(Read::Bytes(_)) => Err(Errno::from_raw_os_error(error[0].into())),
            _ => Ok(end),
        }
    }

    /// Waits for output, a signal or the end of a hook, and handles it. Returns false if `until_ms`
    /// is over.
    fn turn(&mut self, running: &mut Running, output: &mut Output<'_>, until_ms: u64) -> bool {
        let left_ms = until_ms.saturating_sub(clock::boottime_ms());
        if left_ms == 0 {
            return false;
        }
        running.signals.wait_beside(running.pipe.as_ref(), left_ms);
        while let Some(signal) = running.signals.read() {
            self.told_to_end |= signal != process::CHLD;
        }
        if running.ended.is_none() {
            running.ended = process::reap_child(running.pid).map(|(ended, _)| ended);
        }
        // Bounded, so that endless output does not delay the check of the time.
        for _ in 0..READS {
            let Some(pipe) = &running.pipe else { break };
            let mut bytes = [0; 4096];
            match stream::read(pipe, &mut bytes) {
                Ok(Read::Bytes(count)) => output.take(&bytes[..count], &mut self.log),
                Ok(Read::NotYet) => break,
                Ok(Read::End) | Err(_) => running.pipe = None,
            }
        }
        true
    }
}

/// The start time of a process that does not exist, or without /proc.
const UNKNOWN: u64 = 0;

/// The start time of a process in the kernel's clock ticks, or [`UNKNOWN`].
fn start_time(root: &Root, pid: u32) -> u64 {
    let mut stat = [0; 1024];
    let pid = Digits::unsigned(pid.into());
    let stat = root.read_at(&[b"proc/", pid.as_bytes(), b"/stat"], &mut stat);
    stat.ok().and_then(proc::start_time).unwrap_or(UNKNOWN)
}

/// A hook that was started.
struct Running {
    pid: i32,
    signals: Signals,
    /// The pipe of its output, until the end of file.
    pipe: Option<OwnedFd>,
    /// The pipe with the errno if it could not be executed.
    executed: OwnedFd,
    ended: Option<Ended>,
}

/// Bytes of a line in the log besides the hook's path and its output: time, argument, separators.
const LINE_START: usize = 33;
/// Logged in place of output beyond the cap.
const LEFT_OUT: &[u8] = b"(the rest is left out)";

/// The output of a hook: lines for the log, and its end for the reply.
struct Output<'a> {
    call: &'a Call<'a>,
    /// The last line, until its line feed.
    line: heapless::Vec<u8, HOOK_LINE_BYTES>,
    /// The last bytes, at least [`HOOK_TAIL_BYTES`] if there were so many.
    tail: heapless::Vec<u8, { 2 * HOOK_TAIL_BYTES }>,
    /// Bytes that its lines take in the log.
    logged: usize,
}

impl<'a> Output<'a> {
    fn new(call: &'a Call<'a>) -> Self {
        Self {
            call,
            line: heapless::Vec::new(),
            tail: heapless::Vec::new(),
            logged: 0,
        }
    }

    /// Adds bytes, and logs each line that they end.
    fn take(&mut self, bytes: &[u8], log: &mut HookLog<'_>) {
        for byte in bytes {
            if self.tail.is_full() {
                self.tail.copy_within(HOOK_TAIL_BYTES.., 0);
                self.tail.truncate(HOOK_TAIL_BYTES);
            }
            let _ = self.tail.push(*byte);
            if *byte == b'\n' {
                self.end_line(log);
            } else {
                if self.line.is_full() {
                    self.end_line(log);
                }
                let _ = self.line.push(*byte);
            }
        }
    }

    /// Logs the last line if it has no line feed.
    fn end(&mut self, log: &mut HookLog<'_>) {
        if !self.line.is_empty() {
            self.end_line(log);
        }
    }

    fn end_line(&mut self, log: &mut HookLog<'_>) {
        if self.logged <= HOOK_OUTPUT_BYTES {
            let mut written = &self.line[..];
            self.logged += written.len() + self.call.hook.len() + LINE_START;
            if self.logged > HOOK_OUTPUT_BYTES {
                written = LEFT_OUT;
            }
            log.line(self.call, LogPhrase::HookSays, &[written]);
        }
        self.line.clear();
    }

    /// The last bytes without blanks around them. They begin with a line if a line begins among
    /// them.
    fn last_lines(&self) -> &[u8] {
        let start = self.tail.len().saturating_sub(HOOK_TAIL_BYTES);
        let mut last = &self.tail[start..];
        let mut whole = last;
        cut(&mut whole, b'\n');
        if start != 0 && !whole.is_empty() {
            last = whole;
        }
        last.trim_ascii()
    }
}

/// Appends the words of a failure: the hook, how it ended, its last lines.
fn describe(text: &mut FailureText, hook: &[u8], how: LogPhrase, about: &[&[u8]], last: &[u8]) {
    push_truncated(text, &[hook, b": "]);
    packed::Text::from(how).put(about, &mut |piece| push_truncated(text, &[piece]));
    if !last.is_empty() {
        push_truncated(text, &[b": ", last]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs;

    const HOOK: &[u8] = b"/etc/qemu-ga/fsfreeze-hook.d/50-db";
    const FREEZE: Call<'static> = Call::freeze(HOOK);

    /// The output in the log of this machine.
    fn lines(tree: &Tree) -> Vec<String> {
        let log = tree.path.join("var/log/qemu-ga/fsfreeze-hook.log");
        let text = fs::read_to_string(log).unwrap();
        let said = |line: &str| line.split_once("| ").unwrap().1.to_owned();
        text.lines().map(said).collect()
    }

    fn failure(output: &Output<'_>) -> String {
        let mut text = FailureText::new();
        describe(
            &mut text,
            output.call.hook,
            LogPhrase::HookExited,
            &[b"3"],
            output.last_lines(),
        );
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn logs_output_line_by_line() {
        let tree = Tree::new();
        let mut log = HookLog::new(&tree.root, false);
        let mut output = Output::new(&FREEZE);
        let hook = str::from_utf8(HOOK).unwrap();
        assert_eq!(failure(&output), format!("{hook}: exit status 3"));
        for piece in ["one\ntw", "o\n\nthree"] {
            output.take(piece.as_bytes(), &mut log);
        }
        output.end(&mut log);
        output.end(&mut log);
        assert_eq!(lines(&tree), ["one", "two", "", "three"]);
        let expected = format!("{hook}: exit status 3: one\ntwo\n\nthree");
        assert_eq!(failure(&output), expected);
        output.take(&[b'x'; 2 * HOOK_LINE_BYTES + 1], &mut log);
        output.end(&mut log);
        let lengths: Vec<_> = lines(&tree)[4..].iter().map(String::len).collect();
        assert_eq!(lengths, [HOOK_LINE_BYTES, HOOK_LINE_BYTES, 1]);
    }

    #[test]
    fn failure_ends_with_the_last_whole_lines() {
        let tree = Tree::new();
        let mut log = HookLog::new(&tree.root, false);
        for size in [1, 7, 4096] {
            let mut output = Output::new(&FREEZE);
            let text: String = (0..500).map(|number| format!("line {number}\n")).collect();
            for piece in text.as_bytes().chunks(size) {
                output.take(piece, &mut log);
            }
            let failure = failure(&output);
            let last = failure.split_once("status 3: ").unwrap().1;
            assert!(
                last.starts_with("line 4") && last.ends_with("\nline 499"),
                "{last}"
            );
            assert!(last.len() > HOOK_TAIL_BYTES - 10 && text.contains(last));
        }
        // A line that is longer than the tail, and a path that fills the whole failure.
        let mut output = Output::new(&FREEZE);
        output.take(&[b'x'; 5000], &mut log);
        assert!(failure(&output).ends_with(&"x".repeat(HOOK_TAIL_BYTES)));
        let call = Call::freeze(&[b'/'; 4000]);
        let output = Output::new(&call);
        assert_eq!(failure(&output).len(), HOOK_FAILURE_BYTES);
    }

    #[test]
    fn endless_output_is_cut_in_the_log() {
        let tree = Tree::new();
        let mut log = HookLog::new(&tree.root, false);
        let mut output = Output::new(&FREEZE);
        for _ in 0..3 * HOOK_OUTPUT_BYTES / 100 {
            output.take(&[b'x'; 99], &mut log);
            output.take(b"\n", &mut log);
        }
        output.end(&mut log);
        assert_eq!(lines(&tree).last().unwrap(), "(the rest is left out)");
        let log = fs::metadata(tree.path.join("var/log/qemu-ga/fsfreeze-hook.log"));
        let bytes = log.unwrap().len() as usize;
        assert!(
            bytes.abs_diff(HOOK_OUTPUT_BYTES) < HOOK_OUTPUT_BYTES / 20,
            "{bytes}"
        );
    }
}
