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
//! ([`DEFAULTS`]), and HOME is root's home where the agent runs as root and has no HOME or only the
//! `/` that the kernel gives its init; a program that has ended is reported as such within half a second, with what it
//! wrote, even if something it left in the background still holds its output (qemu-ga waits for
//! that), which then counts as truncated and is read no further; the capture modes `stdout` and
//! `stderr` work every time (Q26); a number nobody knows is named (Q27); of results that nobody asks
//! for the newest are kept, [`PROGRAMS`](crate::base::limits::PROGRAMS) and
//! [`EXEC_HELD_BYTES`](crate::base::limits::EXEC_HELD_BYTES) at most, and only so many programs run
//! at once; arguments are never logged.

use core::ffi::CStr;

use super::{PID, Slow, cannot, decode};
use crate::base::limits::PATH_BYTES;
use crate::base::path::Path;
use crate::base::store::Store;
use crate::base::text::cut;
use crate::base::texts::{Name, Phrase};
use crate::parse::accounts;
use crate::state::State;
use crate::state::programs::{Capture, Stream};
use crate::sys::args::variable;
use crate::sys::log::Level;
use crate::sys::process::{self, Ended, Vectors};
use crate::sys::root::{Root, relative};
use crate::sys::{clock, words};
use crate::wire::args::{Alternate, Args, Other, Param, Type, may, must, place};
use crate::wire::emit::Object;
use crate::wire::json::Json;
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
    count: CAPTURES.len(),
    other: Other::Bool,
};

/// What the words mean, in their order.
static CAPTURES: [Capture; 5] = [
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
/// or by a bare init has few. The last is true of root only. Without LANG all is as with `C`.
static DEFAULTS: [&CStr; 3] = [
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    c"SHELL=/bin/sh",
    c"USER=root",
];

/// Root's home where /etc/passwd does not say.
const HOME: &[u8] = b"/root";

fn begin(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let path = args.string(const { place(EXEC_PARAMS, "path") });
    let path = path.unwrap_or_default().raw();
    state.log.line(Level::Detail, &[b"exec: ", path]);
    let prepared = prepare(state, args, reply);
    if prepared.is_err() {
        state.programs.settle(0, false);
    }
    prepared
}

fn prepare(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let input = args.string(const { place(EXEC_PARAMS, "input-data") });
    // The text is decoded where it is put.
    let bytes = input.map_or(0, |input| input.raw().len());
    let Some(buffer) = state.programs.add(bytes) else {
        return Err(reply.say_only(Phrase::TooManyPrograms));
    };
    if let Some(input) = input {
        decode(input, buffer, Phrase::NoChild, reply)?;
    }
    let place = match args.string(const { place(EXEC_PARAMS, "capture-output") }) {
        Some(word) => CAPTURE.place(word),
        None if args.bool(const { place(EXEC_PARAMS, "capture-output") }) == Some(true) => 3,
        None => 0,
    };
    let capture = CAPTURES.get(place).map_or(Capture::NONE, |known| *known);
    let prepared = state.programs.prepare(input.is_some(), capture);
    prepared.map_err(|errno| cannot(reply, Phrase::NoChild, errno))
}

/// Becomes the program; returns only if that failed.
fn work(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let given = |place| args.value(place).unwrap_or_default();
    let path = given(const { place(EXEC_PARAMS, "path") });
    let arg = given(const { place(EXEC_PARAMS, "arg") });
    let env = given(const { place(EXEC_PARAMS, "env") });
    // Decoded, none is longer than it was written, its NUL counted. HOME comes besides.
    let room = path.text().len() + arg.text().len() + env.text().len() + 2 * PATH_BYTES;
    let mut vectors = Vectors::new(room);
    vectors.begin();
    let name = put(path, &mut vectors);
    put_all(arg, &mut vectors);
    vectors.end();
    put_all(env, &mut vectors);
    let own = state.programs.environment;
    if env.text().is_empty() {
        put_own(state, &mut vectors);
    }
    let path = variable(own, b"PATH").unwrap_or(&DEFAULTS[0].to_bytes()[5..]);
    let errno = vectors.run(name, path);
    Err(reply.say(
        Phrase::CannotExecute,
        &[b"\xE2\x80\x9C", name, b"\xE2\x80\x9D", &words(errno)],
        0,
    ))
}

/// Adds the agent's own environment and what is missing in it.
fn put_own(state: &State, vectors: &mut Vectors) {
    let own = state.programs.environment;
    let count = if process::is_root() { 3 } else { 2 };
    let mut home = None;
    if process::is_root() && (state.programs.home_of_kernel || variable(own, b"HOME").is_none()) {
        home = home_of_root(&state.root, state.programs.home_of_kernel);
    }
    vectors.add_all(own, |entry| home.is_none() || !entry.starts_with(b"HOME="));
    if let Some(home) = home {
        let text = vectors.text();
        // What does not fit is found out at the end.
        let _ = text.append(b"HOME=");
        let _ = text.append(home.as_bytes());
        vectors.push();
    }
    for entry in &DEFAULTS[..count] {
        if variable(own, cut(&mut entry.to_bytes(), b'=')).is_none() {
            vectors.add(entry);
        }
    }
}

/// The home of root: what /etc/passwd says, else [`HOME`], which `must_exist` if there is another
/// choice.
fn home_of_root(root: &Root, must_exist: bool) -> Option<Path> {
    home_in_passwd(root).or_else(|| {
        let is_there = !must_exist || root.directory_at(&[relative(HOME)]).is_ok();
        is_there.then(|| Path::of(&[HOME]))
    })
}

/// The home of root that /etc/passwd says.
fn home_in_passwd(root: &Root) -> Option<Path> {
    let mut home = None;
    let _ = root.lines_at(&[b"etc/passwd"], &mut |line| {
        let user = accounts::user(line, b"root");
        home = user.map(|user| Path::of(&[user.home]));
        home.is_none()
    });
    home.filter(|home| !home.is_empty())
}

/// Adds a string of the request.
#[inline(never)]
fn put(string: Json<'_>, vectors: &mut Vectors) -> &'static [u8] {
    // What does not fit is found out at the end.
    let _ = string.string().unwrap_or_default().decode(vectors.text());
    vectors.push()
}

/// Adds all strings of a list.
#[inline(never)]
fn put_all(list: Json<'_>, vectors: &mut Vectors) {
    for string in list.items() {
        put(string, vectors);
    }
}

/// Tells how a program is doing; how it ended is told once.
pub(super) fn status(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let pid = args.int(const { place(PID, "pid") }).unwrap_or_default();
    let Some((place, program)) = state.programs.find(pid) else {
        return Err(reply.say_number(Phrase::NoSuchPid, pid));
    };
    let ended = program.ended(clock::boottime_ms());
    // Its streams have their own.
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
    object.end();
    if ended.is_some() {
        state.programs.forget(place);
    }
    Ok(())
}

/// Tells what was kept of an output, if anything was.
#[inline(never)]
fn put_output(object: &mut Object<'_, '_>, output: &Stream, data: Name, truncated: Name) {
    if !output.bytes().is_empty() {
        object.member(data).base64(output.bytes());
        object.bool(truncated, output.is_cut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn the_home_of_root_is_what_its_account_says() {
        let path = std::env::temp_dir().join(format!("gaunt-home-{}", std::process::id()));
        std::fs::create_dir_all(path.join("etc")).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        let home = |must_exist| {
            let home = home_of_root(&root, must_exist)?;
            Some(String::from_utf8(home.as_bytes().to_vec()).unwrap())
        };
        let passwd = path.join("etc/passwd");
        assert_eq!(home(false).as_deref(), Some("/root"));
        assert_eq!(home(true), None);
        std::fs::create_dir(path.join("root")).unwrap();
        assert_eq!(home(true).as_deref(), Some("/root"));
        std::fs::write(&passwd, "a:x:1:1::/a:\nroot:x:0:0::/var/home:/bin/sh\n").unwrap();
        assert_eq!(home(true).as_deref(), Some("/var/home"));
        std::fs::write(&passwd, "root:x:0:0:::\n").unwrap();
        assert_eq!(home(true).as_deref(), Some("/root"));
        std::fs::remove_dir_all(path).unwrap();
    }
}
