//! guest-exec, guest-exec-status.
//!
//! guest-exec is a slow command whose child calls execve. If that fails, the child replies with the
//! error and ends. If it succeeds, the child's socket closes without a reply, and the agent replies
//! with the process id. From then on the process belongs to `state::programs`. A file system that
//! hangs delays only the client that asked.
//!
//! As with qemu-ga: a path with a slash is taken as it is, a name is looked for in the PATH of
//! `env`, else in the agent's; `env` is the whole environment; a script without `#!` is run by
//! /bin/sh; the program gets the agent's session, directory and umask, no descriptor above 2, and
//! no signal blocked or ignored.
//!
//! Differences from qemu-ga: without `env`, variables that the agent itself has none of are added
//! (`state::environment`); a program that has ended is reported as such within half a second, with
//! what it wrote, even if something it left in the background still holds its output (qemu-ga waits
//! for that), which then counts as truncated and is read no further; the capture modes `stdout` and
//! `stderr` work (qemu-ga 10.0 to 10.2 also close their own descriptor 0); the error for an unknown
//! process id contains the id (qemu-ga 10 says `PID ld`); of results that nobody asks for the
//! newest are kept, [`PROGRAMS`](crate::base::limits::PROGRAMS) and
//! [`EXEC_HELD_BYTES`](crate::base::limits::EXEC_HELD_BYTES) at most, and only so many programs run
//! at once; arguments are never logged.

use super::command::{Outcome, Slow, Ticket};
use super::common::{cannot, decode};
use crate::base::limits::PATH_BYTES;
use crate::state::State;
use crate::state::guest::Guest;
use crate::state::log::Level;
use crate::state::programs::{Capture, Stream};
use crate::state::texts::LogPhrase;
use crate::sys::exec::ExecArgs;
use crate::sys::process::Ended;
use crate::sys::{clock, words};
use crate::wire::args::{Alternate, Args, Other, Param, Type, index_of, may, must};
use crate::wire::emit::Object;
use crate::wire::json::Json;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

pub(super) const PID: &[Param] = &[must("pid", Type::Int)];

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
    count: CAPTURES.len(),
    other: Other::Bool,
};

/// The capture modes, in the order of their names.
static CAPTURES: [Capture; 5] = [
    Capture::NONE,
    Capture::STDOUT,
    Capture::STDERR,
    Capture::SEPARATED,
    Capture::MERGED,
];

/// Starts a program.
pub(super) const EXEC: Slow = Slow {
    prepare,
    run,
    finish: |state, ticket, outcome| {
        let started = match outcome {
            Outcome::Started(pid) => Some(pid),
            _ => None,
        };
        state.programs.settle(ticket.number, started);
    },
};

fn prepare(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<Ticket, Failed> {
    let path = args.string(const { index_of(EXEC_PARAMS, "path") });
    let path = path.unwrap_or_default().raw();
    state
        .log
        .say(Level::Detail, LogPhrase::RunsProgram, &[path]);
    let input = args.string(const { index_of(EXEC_PARAMS, "input-data") });
    // Decoded in place.
    let bytes = input.map_or(0, |input| input.raw().len());
    let Some((number, buffer)) = state.programs.add(bytes) else {
        return Err(reply.fail(Phrase::TooManyPrograms));
    };
    let decoded = match input {
        Some(input) => decode(input, buffer, Phrase::NoChild, reply),
        None => Ok(()),
    };
    let index = match args.string(const { index_of(EXEC_PARAMS, "capture-output") }) {
        Some(word) => CAPTURE.index(word),
        None if args.bool(const { index_of(EXEC_PARAMS, "capture-output") }) == Some(true) => 3,
        None => 0,
    };
    let capture = CAPTURES.get(index).map_or(Capture::NONE, |known| *known);
    let prepared = decoded.and_then(|()| {
        let prepared = state.programs.prepare(input.is_some(), capture);
        prepared.map_err(|errno| cannot(reply, Phrase::NoChild, errno))
    });
    match prepared {
        Ok(()) => Ok(Ticket::of(number)),
        Err(failed) => {
            state.programs.settle(number, None);
            Err(failed)
        }
    }
}

/// Executes the program; returns only after an error.
fn run(guest: &Guest, _: Ticket, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let given = |index| args.value(index).unwrap_or_default();
    let path = given(const { index_of(EXEC_PARAMS, "path") });
    let arg = given(const { index_of(EXEC_PARAMS, "arg") });
    let env = given(const { index_of(EXEC_PARAMS, "env") });
    // No string is longer decoded, with its NUL, than in the request. HOME is added.
    let room = path.text().len() + arg.text().len() + env.text().len() + 2 * PATH_BYTES;
    let mut name: &[u8] = b"";
    let mut vectors = ExecArgs::with_arguments(room, |arguments| {
        name = put(path, arguments);
        put_all(arg, arguments);
    });
    put_all(env, &mut vectors);
    let own = guest.environment;
    if env.text().is_empty() {
        own.put(&guest.root, &mut vectors);
    }
    let errno = vectors.run(name, own.path());
    Err(reply.fail_with(
        Phrase::CannotExecute,
        &[b"\xE2\x80\x9C", name, b"\xE2\x80\x9D", &words(errno)],
        0,
    ))
}

/// Adds a string of the request.
#[inline(never)]
fn put(string: Json<'_>, vectors: &mut ExecArgs) -> &'static [u8] {
    // Missing room is reported at the end.
    let _ = string.string().unwrap_or_default().decode(vectors.text());
    vectors.push()
}

/// Adds all strings of a list.
#[inline(never)]
fn put_all(list: Json<'_>, vectors: &mut ExecArgs) {
    for string in list.items() {
        put(string, vectors);
    }
}

/// guest-exec-status. The result of a program is reported once.
pub(super) fn status(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let pid = args.int(const { index_of(PID, "pid") }).unwrap_or_default();
    let Some((index, program)) = state.programs.find(pid) else {
        return Err(reply.fail_number(Phrase::NoSuchPid, pid));
    };
    let ended = program.ended(clock::boottime_ms());
    // The streams have their own flags.
    reply.lift_limit();
    let mut object = reply.object();
    object.bool(Name::Exited, ended.is_some());
    if let Some(ended) = ended {
        let (name, value) = match ended {
            Ended::Exited(status) => (Name::Exitcode, status),
            Ended::Killed(signal) => (Name::Signal, signal),
        };
        object.int(name, value.into());
        if let [out, err] = program.outputs() {
            put_output(&mut object, out, Name::OutData, Name::OutTruncated);
            put_output(&mut object, err, Name::ErrData, Name::ErrTruncated);
        }
    }
    if ended.is_some() {
        state.programs.forget(index);
    }
    Ok(())
}

/// Writes what was kept of a stream, if anything was.
#[inline(never)]
fn put_output(object: &mut Object<'_, '_>, output: &Stream, data: Name, truncated: Name) {
    if !output.bytes().is_empty() {
        object.member(data).base64(output.bytes());
        object.bool(truncated, output.is_cut());
    }
}
