//! One hook, run until it ends or its time is over.
//!
//! The hook has a session and a process group of its own, `/` as its directory, nothing as its input,
//! one pipe to here for output and errors, and no other descriptor of ours. When its time is over it
//! is killed with all of its group. Should this process be killed, the kernel kills the hook, and the
//! next run the rest of its group. Processes that it leaves in the background when it ends by itself are
//! left alone, and so are those that have left its group. The pipe is closed soon after, so they have to
//! write elsewhere.
//!
//! This process reads SIGCHLD and the signals that end a program meanwhile. SIGTERM says that the agent
//! is gone, the others are a person's.

use super::call::{Call, Failure, OWNER, Settings};
use super::ledger::Ledger;
use super::log::HookLog;
use super::trust::{self, Why};
use crate::base::limits::{
    HOOK_DRAIN_MS, HOOK_FAILURE_BYTES, HOOK_KILL_MS, HOOK_LINE_BYTES, HOOK_OUTPUT_BYTES,
    HOOK_TAIL_BYTES, PATH_BYTES,
};
use crate::base::packed;
use crate::base::path::Path;
use crate::base::store::Store;
use crate::base::text::{Digits, cut, push_truncated};
use crate::parse::proc;
use crate::state::environment::Environment;
use crate::state::texts::LogPhrase;
use crate::sys::exec::Vectors;
use crate::sys::process::{self, Ended, IN_CHILD};
use crate::sys::root::Root;
use crate::sys::signal::Signals;
use crate::sys::stream::{self, Read};
use crate::sys::{Errno, OwnedFd, clock, number, stdio, words};

/// What is said of a hook.
pub(super) type Text = heapless::Vec<u8, HOOK_FAILURE_BYTES>;

/// How a hook that was started ended, and the number in that.
type End = (LogPhrase, Option<i64>);

/// The variable that tells a hook, and whatever it runs, the hook's path.
pub const OWN_PATH: &[u8] = b"FSFREEZE_HOOK";

/// Reads of what a hook says before time and signals are looked at again.
const READS: u32 = 16;

/// The exit status of a process that could not become its hook.
const NOT_EXECUTED: i32 = 127;

/// Runs hooks.
pub(super) struct Runner<'a> {
    settings: Settings,
    root: &'a Root,
    environment: Environment,
    log: HookLog<'a>,
    /// The first hook that failed, what became of it, and the end of what it said.
    pub(super) failure: Text,
    /// Whether this process is to end.
    pub(super) told_to_end: bool,
}

impl<'a> Runner<'a> {
    /// A runner whose log is shown on standard output too if `echo` says so.
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
            failure: Text::new(),
            told_to_end: false,
        }
    }

    /// A failure that is only logged is none, unless it is the end of all.
    pub(super) fn unless_ignored(&mut self, ran: Result<(), Failure>) -> Result<(), Failure> {
        match ran {
            Err(failure) if self.settings.ignore_failures && !failure.is_final => {
                self.failure.clear();
                Ok(())
            }
            ran => ran,
        }
    }

    /// Looks whether a hook may be run: whether root alone can change it.
    pub(super) fn check(&mut self, call: &Call<'_>) -> Result<(), Failure> {
        let mut about = Path::new();
        let checked = trust::check(self.root, call.hook, OWNER, &mut about);
        let about = match about.as_bytes() {
            b"" => b"/",
            about => about,
        };
        checked.map_err(|why| match why {
            Why::Owner => self.refuse(call, LogPhrase::HookNotRoots, &[about]),
            Why::Writable => self.refuse(call, LogPhrase::HookWritable, &[about]),
            Why::Errno(errno) => self.fail(call, LogPhrase::HookRefused, about, errno),
        })
    }

    /// Kills what is left of a hook that was started by a process which has been killed itself.
    ///
    /// The kernel gives nobody the number of a group that has members. So if the number is another
    /// process's by now, which its start time tells, none of them is left.
    pub(super) fn end_left(&self, pid: u32, started: u64) {
        let now = start_time(self.root, pid);
        if now == UNKNOWN || now == started {
            process::end_group(pid.cast_signed(), HOOK_KILL_MS);
        }
    }

    /// Runs a hook, which `ledger` has on its list, until `deadline_ms` at the latest.
    pub(super) fn run(
        &mut self,
        call: &Call<'_>,
        ledger: &Ledger,
        deadline_ms: u64,
    ) -> Result<(), Failure> {
        self.check(call)?;
        let begun_ms = clock::boottime_ms();
        if begun_ms >= deadline_ms {
            return Err(self.refuse(call, LogPhrase::HookLate, &[]));
        }
        self.log.line(call, LogPhrase::HookBegins, &[]);
        let mut said = Said::new(call);
        let running = self.start(call, ledger);
        let ended = running.and_then(|running| self.watch(running, &mut said, deadline_ms));
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
        self.note(call, what, &about[..1], said.last());
        Err(Failure {
            started: true,
            is_final: matches!(what, LogPhrase::HookNoTime | LogPhrase::HookToldToEnd),
        })
    }

    /// Takes note of an error for which a hook is not started.
    pub(super) fn fail(
        &mut self,
        call: &Call<'_>,
        what: LogPhrase,
        about: &[u8],
        errno: Errno,
    ) -> Failure {
        self.refuse(call, what, &[about, b": ", &words(errno)])
    }

    /// Takes note of why a hook is not started.
    fn refuse(&mut self, call: &Call<'_>, why: LogPhrase, about: &[&[u8]]) -> Failure {
        self.log.line(call, why, about);
        self.note(call, why, about, b"");
        Failure {
            started: false,
            is_final: why == LogPhrase::HookLate,
        }
    }

    /// Keeps what an error says, if this hook is the first that failed.
    fn note(&mut self, call: &Call<'_>, became: LogPhrase, about: &[&[u8]], last: &[u8]) {
        if self.failure.is_empty() {
            describe(&mut self.failure, call.hook, became, about, last);
        }
    }

    fn start(&self, call: &Call<'_>, ledger: &Ledger) -> Result<Running, Errno> {
        let signals = Signals::new()?;
        let (output, writer) = stream::pipe()?;
        let (executed, failed) = stream::pipe()?;
        let parent = process::own_pid();
        let pid = process::fork(false)?;
        if pid != IN_CHILD {
            return Ok(Running {
                pid,
                signals,
                output: Some(output),
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

    /// Becomes the hook. Returns only if that failed, with the reason.
    fn execute(&self, call: &Call<'_>) -> Errno {
        // Its path twice, its word, HOME.
        let mut name: &[u8] = b"";
        let mut vectors = Vectors::with_arguments(4 * PATH_BYTES, |arguments| {
            let _ = arguments.text().append(call.hook);
            name = arguments.push();
            let _ = arguments.text().append(call.word);
            arguments.push();
        });
        self.environment.put(self.root, &mut vectors);
        for piece in [OWN_PATH, b"=", call.hook] {
            let _ = vectors.text().append(piece);
        }
        vectors.push();
        vectors.run(name, self.environment.path())
    }

    /// Waits until a hook has ended, or its time is over.
    ///
    /// # Errors
    /// Why it could not be executed.
    fn watch(
        &mut self,
        mut running: Running,
        said: &mut Said<'_>,
        deadline_ms: u64,
    ) -> Result<End, Errno> {
        let limit_ms = clock::in_ms(u64::from(self.settings.timeout_s) * 1000);
        let until_ms = limit_ms.min(deadline_ms);
        while running.ended.is_none()
            && !self.told_to_end
            && self.turn(&mut running, said, until_ms)
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
            // What the hook itself has said is in the pipe by now.
            let drained_ms = clock::in_ms(HOOK_DRAIN_MS);
            while running.output.is_some() && self.turn(&mut running, said, drained_ms) {}
        } else {
            let _ = process::kill_group(running.pid);
            // One that is stuck in the kernel dies when it comes out of that, and is not waited for.
            let given_up_ms = clock::in_ms(HOOK_KILL_MS);
            while running.ended.is_none() && self.turn(&mut running, said, given_up_ms) {}
        }
        said.end(&mut self.log);
        let mut error = [0];
        match stream::read(&running.executed, &mut error) {
            Ok(Read::Bytes(_)) => Err(Errno::from_raw_os_error(error[0].into())),
            _ => Ok(end),
        }
    }

    /// Waits for news of a hook and takes them. Gives whether there was time for that before
    /// `until_ms`.
    fn turn(&mut self, running: &mut Running, said: &mut Said<'_>, until_ms: u64) -> bool {
        let left_ms = until_ms.saturating_sub(clock::boottime_ms());
        if left_ms == 0 {
            return false;
        }
        running
            .signals
            .wait_beside(running.output.as_ref(), left_ms);
        while let Some(signal) = running.signals.read() {
            self.told_to_end |= signal != process::CHLD;
        }
        if running.ended.is_none() {
            running.ended = process::reap_child(running.pid).map(|(ended, _)| ended);
        }
        // A hook that writes faster than this process reads gets no further time by that.
        for _ in 0..READS {
            let Some(output) = &running.output else { break };
            let mut bytes = [0; 4096];
            match stream::read(output, &mut bytes) {
                Ok(Read::Bytes(count)) => said.take(&bytes[..count], &mut self.log),
                Ok(Read::NotYet) => break,
                Ok(Read::End) | Err(_) => running.output = None,
            }
        }
        true
    }
}

/// The start time of a process that is not there, or where there is no /proc.
const UNKNOWN: u64 = 0;

/// When a process was started, as the kernel counts it, or [`UNKNOWN`].
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
    /// What it says, until the end of that.
    output: Option<OwnedFd>,
    /// Brings the number of an error if it could not be executed.
    executed: OwnedFd,
    ended: Option<Ended>,
}

/// Bytes of a line of the log besides the hook's path and what it said: time, word, separators.
const LINE_START: usize = 33;
/// What is logged instead of what would be too much.
const LEFT_OUT: &[u8] = b"(the rest is left out)";

/// What a hook says: lines of the log, and the end of it for the reply.
struct Said<'a> {
    call: &'a Call<'a>,
    /// The line that has not ended yet.
    line: heapless::Vec<u8, HOOK_LINE_BYTES>,
    /// The last bytes, more of them than are needed if there were more.
    tail: heapless::Vec<u8, { 2 * HOOK_TAIL_BYTES }>,
    /// How many bytes of the log the lines took.
    logged: usize,
}

impl<'a> Said<'a> {
    fn new(call: &'a Call<'a>) -> Self {
        Self {
            call,
            line: heapless::Vec::new(),
            tail: heapless::Vec::new(),
            logged: 0,
        }
    }

    /// Takes bytes, and writes the lines that end among them.
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

    /// Writes the last line, should it have no end.
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

    /// The last lines, without blanks around them: whole ones, if one ends among the last bytes.
    fn last(&self) -> &[u8] {
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

/// Puts down what an error says: the hook, what became of it, and its last lines.
fn describe(text: &mut Text, hook: &[u8], became: LogPhrase, about: &[&[u8]], last: &[u8]) {
    push_truncated(text, &[hook, b": "]);
    packed::Text::from(became).put(about, &mut |piece| push_truncated(text, &[piece]));
    if !last.is_empty() {
        push_truncated(text, &[b": ", last]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Directory;
    use std::fs;

    const HOOK: &[u8] = b"/etc/qemu-ga/fsfreeze-hook.d/50-db";
    const FREEZE: Call<'static> = Call::freeze(HOOK);

    /// What was said, in the log of this machine.
    fn lines(machine: &Directory) -> Vec<String> {
        let log = machine.path.join("var/log/qemu-ga/fsfreeze-hook.log");
        let text = fs::read_to_string(log).unwrap();
        let said = |line: &str| line.split_once("| ").unwrap().1.to_owned();
        text.lines().map(said).collect()
    }

    fn failure(said: &Said<'_>) -> String {
        let mut text = Text::new();
        describe(
            &mut text,
            said.call.hook,
            LogPhrase::HookExited,
            &[b"3"],
            said.last(),
        );
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn what_a_hook_says_is_logged_line_by_line() {
        let tree = Directory::new("said-lines");
        let mut log = HookLog::new(&tree.root, false);
        let mut said = Said::new(&FREEZE);
        let hook = str::from_utf8(HOOK).unwrap();
        assert_eq!(failure(&said), format!("{hook}: exit status 3"));
        for piece in ["one\ntw", "o\n\nthree"] {
            said.take(piece.as_bytes(), &mut log);
        }
        said.end(&mut log);
        said.end(&mut log);
        assert_eq!(lines(&tree), ["one", "two", "", "three"]);
        let expected = format!("{hook}: exit status 3: one\ntwo\n\nthree");
        assert_eq!(failure(&said), expected);
        said.take(&[b'x'; 2 * HOOK_LINE_BYTES + 1], &mut log);
        said.end(&mut log);
        let lengths: Vec<_> = lines(&tree)[4..].iter().map(String::len).collect();
        assert_eq!(lengths, [HOOK_LINE_BYTES, HOOK_LINE_BYTES, 1]);
    }

    #[test]
    fn an_error_has_the_last_whole_lines() {
        let tree = Directory::new("said-tail");
        let mut log = HookLog::new(&tree.root, false);
        for size in [1, 7, 4096] {
            let mut said = Said::new(&FREEZE);
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
        let mut said = Said::new(&FREEZE);
        said.take(&[b'x'; 5000], &mut log);
        assert!(failure(&said).ends_with(&"x".repeat(HOOK_TAIL_BYTES)));
        let call = Call::freeze(&[b'/'; 4000]);
        let said = Said::new(&call);
        assert_eq!(failure(&said).len(), HOOK_FAILURE_BYTES);
    }

    #[test]
    fn a_hook_that_talks_without_end_is_cut_in_the_log() {
        let tree = Directory::new("said-cut");
        let mut log = HookLog::new(&tree.root, false);
        let mut said = Said::new(&FREEZE);
        for _ in 0..3 * HOOK_OUTPUT_BYTES / 100 {
            said.take(&[b'x'; 99], &mut log);
            said.take(b"\n", &mut log);
        }
        said.end(&mut log);
        assert_eq!(lines(&tree).last().unwrap(), "(the rest is left out)");
        let log = fs::metadata(tree.path.join("var/log/qemu-ga/fsfreeze-hook.log"));
        let bytes = log.unwrap().len() as usize;
        assert!(
            bytes.abs_diff(HOOK_OUTPUT_BYTES) < HOOK_OUTPUT_BYTES / 20,
            "{bytes}"
        );
    }
}
