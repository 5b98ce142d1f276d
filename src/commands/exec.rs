//! guest-exec, guest-exec-status.
//!
//! The child of the agent that is to become the program is a slow command up to that moment: if the
//! program cannot be run, the child says why and ends; if it can, the child's pipe closes by itself
//! and the agent replies with the number of the process, which from then on is an entry in
//! `state::programs`. So a program on a file system that hangs holds up nobody but its client.
//!
//! As with qemu-ga: a path with a slash is taken as it is, a name is looked for in the PATH of `env`,
//! else in the agent's; `env` is the whole environment; a script without `#!` is run by /bin/sh; the
//! program gets the agent's session, directory and umask, no descriptor above 2, and no signal
//! blocked or ignored.
//!
//! Differences from qemu-ga: without `env`, variables that the agent itself has none of are added
//! ([`DEFAULTS`]); a program that has ended is reported as such within half a second, with what it
//! wrote, even if something it left in the background still holds its output (qemu-ga waits for
//! that); the capture modes `stdout` and `stderr` work every time (Q26); a number nobody knows is
//! named (Q27); there is an end to how many results are kept; arguments are never logged.

use super::Slow;
use crate::base::base64::{self, Fault};
use crate::base::path::Path;
use crate::base::store::Store;
use crate::state::State;
use crate::state::programs::Capture;
use crate::sys::log::Level;
use crate::sys::mem::Buffer;
use crate::sys::process::{self, Ended};
use crate::sys::{Errno, clock, number, words};
use crate::wire::args::{Alternate, Args, Other, Param, Type, may, must};
use crate::wire::json::{Json, Str};
use crate::wire::reply::{Failed, Reply};

/// The parameters of guest-exec.
pub(super) const EXEC_PARAMS: &[Param] = &[
    must("path", Type::Str),
    may("arg", Type::Strings),
    may("env", Type::Strings),
    may("input-data", Type::Str),
    may("capture-output", Type::Either(&CAPTURE)),
];

static CAPTURE: Alternate = Alternate {
    name: "GuestExecCaptureOutput",
    words: "none stdout stderr separated merged",
    other: Other::Bool,
};

/// What the words mean, in their order.
const CAPTURES: [Capture; 5] = [
    Capture::NONE,
    Capture::STDOUT,
    Capture::STDERR,
    Capture::SEPARATED,
    Capture::MERGED,
];

/// Starts a program.
pub(super) const EXEC: Slow = Slow {
    begin,
    work,
    end: |state, _| state.programs.settle(0, false),
};

/// What programs find set if the agent itself has no such variable: an agent started by the kernel
/// or by a bare init has few. The last two are true of root only. Without LANG all is as with `C`.
const DEFAULTS: [&[u8]; 4] = [
    b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    b"SHELL=/bin/sh",
    b"HOME=/root",
    b"USER=root",
];

fn begin(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let path = args.string("path").map_or(&b""[..], Str::raw);
    state.log.line(Level::Detail, &[b"exec: ", path]);
    let prepared = prepare(state, args);
    prepared.map_err(|(what, errno)| {
        state.programs.settle(0, false);
        let error = reply.fail().text(what);
        match errno {
            Some(errno) => error.errno(number(errno)).end(),
            None => error.end(),
        }
    })
}

fn prepare(state: &mut State, args: &Args<'_>) -> Result<(), (&'static str, Option<Errno>)> {
    const FAILED: &str = "failed to create child process";
    let Some(buffer) = state.programs.add() else {
        return Err((
            "too many child processes whose status was not asked for",
            None,
        ));
    };
    let input = args.string("input-data");
    if let Some(input) = input {
        base64::decode(input.bytes(), buffer).map_err(|fault| match fault {
            Fault::Invalid => ("Base64 data contains invalid characters", None),
            Fault::Full => (FAILED, Some(Errno::NOMEM)),
        })?;
    }
    let capture = args.value("capture-output").map_or(Capture::NONE, capture);
    let prepared = state.programs.prepare(input.is_some(), capture);
    prepared.map_err(|errno| (FAILED, Some(errno)))
}

fn capture(value: Json<'_>) -> Capture {
    let word = value.string();
    let known = CAPTURE.words.split(' ').zip(CAPTURES);
    for (known, meaning) in known {
        if word.is_some_and(|word| word.is(known)) {
            return meaning;
        }
    }
    if value.text() == b"true" {
        Capture::SEPARATED
    } else {
        Capture::NONE
    }
}

/// Becomes the program; returns only if that failed.
fn work(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let environment = state.programs.environment;
    let (mut name, mut errno) = (&b""[..], Errno::NOMEM);
    if let Some([argv, own, given]) = state.programs.scratch() {
        put(args.value("path"), argv);
        let end = argv.len();
        put_all(args.value("arg"), argv);
        for entry in environment {
            put_bytes(entry, own);
        }
        add_missing(own);
        let env = args.value("env");
        put_all(env, given);
        // A store that was full once says so from then on.
        let mut whole = true;
        for strings in [&mut *argv, &mut *own, &mut *given] {
            whole &= strings.append(b"").is_ok();
        }
        let search = value(given, b"PATH=").or_else(|| value(own, b"PATH="));
        let (first, rest) = argv.bytes().split_at_checked(end).unwrap_or_default();
        name = first.strip_suffix(b"\0").unwrap_or_default();
        let envp = if env.is_some() { &*given } else { &*own };
        if whole {
            let strings = [argv.bytes(), rest, envp.bytes()];
            errno = search_and_run(name, search.unwrap_or_default(), strings);
        }
    }
    let error = reply
        .fail()
        .text("Failed to execute child process \u{201c}");
    let error = error.bytes(name).text("\u{201d} (").bytes(&words(errno));
    Err(error.text(")").end())
}

fn add_missing(environment: &mut Buffer) {
    let count = if process::is_root() { 4 } else { 2 };
    for entry in DEFAULTS.iter().take(count) {
        let end = entry.iter().position(|byte| *byte == b'=').unwrap_or(0);
        let name = entry.get(..=end).unwrap_or_default();
        if value(environment, name).is_none() {
            put_bytes(entry, environment);
        }
    }
}

/// Appends a string of the request, ended by a NUL. It holds none: JSON as it is taken here has
/// other bytes for U+0000.
fn put(string: Option<Json<'_>>, out: &mut Buffer) {
    if let Some(string) = string.and_then(Json::string) {
        let _ = string.decode(out);
        put_bytes(b"", out);
    }
}

fn put_all(list: Option<Json<'_>>, out: &mut Buffer) {
    if let Some(list) = list {
        for string in list.items() {
            put(Some(string), out);
        }
    }
}

#[inline(never)]
fn put_bytes(string: &[u8], out: &mut Buffer) {
    let _ = out.append(string);
    let _ = out.append(b"\0");
}

/// What follows `name` in the first of these strings that begins with it.
#[inline(never)]
fn value<'a>(strings: &'a Buffer, name: &[u8]) -> Option<&'a [u8]> {
    let mut strings = strings.bytes().split(|byte| *byte == 0);
    strings.find_map(|string| string.strip_prefix(name))
}

/// Runs the first program of that name that can be run, or gives why none can. The strings are its
/// arguments, those without the name, and the environment.
fn search_and_run(name: &[u8], mut search: &[u8], [argv, rest, envp]: [&[u8]; 3]) -> Errno {
    if name.is_empty() || name.contains(&b'/') {
        search = b"";
    }
    let (mut denied, mut last) = (false, Errno::NOENT);
    for directory in search.split(|byte| *byte == b':') {
        let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        let file = Path::of(&[directory, slash, name]);
        let Some(file) = file.as_c_str() else {
            return Errno::NAMETOOLONG;
        };
        last = process::execute(file, None, argv, envp);
        if last == Errno::NOEXEC {
            last = process::execute(file, Some(c"/bin/sh"), rest, envp);
        }
        match last {
            Errno::ACCESS => denied = true,
            Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
            _ => return last,
        }
    }
    if denied { Errno::ACCESS } else { last }
}

const OUTPUT_MEMBERS: [(&str, &str); 2] =
    [("out-data", "out-truncated"), ("err-data", "err-truncated")];

/// Tells how a program is doing; how it ended is told once.
pub(super) fn status(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let pid = args.int("pid").unwrap_or_default();
    let Some((place, program)) = state.programs.find(pid) else {
        let error = reply.fail().text("PID ").number(pid);
        return Err(error.text(" does not exist").end());
    };
    let ended = program.ended(clock::boottime_ms());
    let mut object = reply.value().object();
    object.member("exited").bool(ended.is_some());
    if let Some(ended) = ended {
        let (name, value) = match ended {
            Ended::Exited(status) => ("exitcode", status),
            Ended::Killed(signal) => ("signal", signal),
        };
        object.member(name).int(value.into());
        for (name, stream) in OUTPUT_MEMBERS.iter().zip(program.outputs()) {
            if !stream.bytes().is_empty() {
                object.member(name.0).base64(stream.bytes());
                object.member(name.1).bool(stream.is_cut());
            }
        }
    }
    object.end();
    if ended.is_some() {
        state.programs.forget(place);
    }
    Ok(())
}
