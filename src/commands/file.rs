//! guest-file-open, -close, -read, -write, -seek, -flush.
//!
//! Opening, closing and writing are done by children of the agent, because a file system that is
//! frozen, or whose server is gone, can keep them waiting for ever: one opens and closes in the
//! agent's own table of descriptors, which it shares; one writes through a copy, which has the same
//! position. Reading is done by the agent, which sends what it reads as it reads it (`agent::reading`);
//! what is on disk is fetched by a child first. File systems that do not say what is on disk (tmpfs,
//! /proc, and those of the network) are read as they are, which can take what it takes.
//!
//! A handle that a child works with is busy for all others, but can be closed.
//!
//! Differences from qemu-ga: data is written at once, so that errors are those of the write itself,
//! not of a later flush, seek or close (Q35). A read of a pipe or terminal that brought less than it
//! asked for succeeds (Q17), as does a write to a full one. A handle is gone after a close that failed
//! (Q16). Handles are microseconds, not a counter in a state file. A read that fails in its middle is
//! shorter; the error is the next one's.

use super::{Outcome, Slow};
use crate::base::base64;
use crate::base::limits::{READ_FILE_BYTES, REQUEST_BYTES};
use crate::base::path::Path;
use crate::base::store::Store;
use crate::state::State;
use crate::state::files::Reading;
use crate::sys::handles::{self, NotOpen, OpenMode};
use crate::sys::mem::Buffer;
use crate::sys::{BorrowedFd, Errno, number, process};
use crate::wire::args::{Alternate, Args, Other};
use crate::wire::json::Str;
use crate::wire::reply::{Failed, Reply};

/// Opens a file.
pub(super) const OPEN: Slow = Slow {
    begin: |state, args, reply| {
        match state.files.handles.reserve(&state.root) {
            Ok(handle) => state.files.at_hand = handle,
            Err(errno) => return Err(not_opened(args, "open file", errno, reply)),
        }
        Ok(())
    },
    work: open,
    end: |state, outcome| {
        let handle = state.files.at_hand;
        if matches!(outcome, Outcome::Replied(_)) {
            state.files.handles.publish(handle);
        } else {
            let _ = state.files.handles.close(handle);
        }
    },
};

fn open(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let mode = match args.string("mode") {
        Some(text) => OpenMode::parse(text.bytes()).ok_or_else(|| {
            let error = reply.fail().text("invalid file open mode '").string(text);
            error.text("'").end()
        })?,
        None => OpenMode::default(),
    };
    let mut path = Path::new();
    let text = args.string("path").map(Str::bytes);
    for byte in text.into_iter().flatten() {
        path.push(&[byte]);
        // The agent, not this child, which will be gone when the file is read.
        if path.as_bytes() == b"/proc/self" {
            path.truncate(b"/proc/".len());
            path.push_number(process::parent_pid().into());
        }
    }
    let handle = state.files.at_hand;
    let opened = handles::open(&path, mode).and_then(|file| {
        let filled = state.files.handles.fill(handle, &file);
        filled.map_err(NotOpen::Open)
    });
    match opened {
        Ok(()) => {
            reply.value().int(handle);
            Ok(0)
        }
        Err(NotOpen::Open(errno)) => Err(not_opened(args, "open file", errno, reply)),
        Err(NotOpen::Permission(errno)) => {
            let what = "set permission 0666 on new file";
            Err(not_opened(args, what, errno, reply))
        }
    }
}

fn not_opened(args: &Args<'_>, what: &str, errno: Errno, reply: &mut Reply<'_>) -> Failed {
    let mut error = reply.fail().text("failed to ").text(what).text(" '");
    if let Some(path) = args.string("path") {
        error = error.string(path);
    }
    error = error.text("' (mode: '");
    error = match args.string("mode") {
        Some(mode) => error.string(mode),
        None => error.text("r"),
    };
    error.text("')").errno(number(errno)).end()
}

/// Closes a file.
pub(super) const CLOSE: Slow = Slow {
    begin: |state, args, reply| {
        let handle = handle(args);
        let taken = state.files.handles.take_away(handle);
        taken.map_err(|errno| failed(args, "close handle", errno, reply))
    },
    work: |state, args, reply| {
        let closed = state.files.handles.close(handle(args));
        closed.map_err(|errno| fail("close handle", errno, reply))?;
        Ok(0)
    },
    end: |_, _| {},
};

/// Begins to read a file.
pub(super) fn read(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    find(state, args, "read file", reply)?;
    let count = count(args, 4096, READ_FILE_BYTES, reply)?;
    state.files.reading = Some(Reading::new(handle(args), count));
    Ok(())
}

/// Writes to a file.
pub(super) const WRITE: Slow = Slow {
    begin: |state, args, reply| {
        let seized = state.files.handles.seize(handle(args));
        state.files.at_hand = handle(args);
        seized.map_err(|errno| failed(args, "write to file", errno, reply))
    },
    work: write,
    end: |state, _| {
        let handle = state.files.at_hand;
        state.files.handles.give_back(handle);
    },
};

fn write(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    // The child has the handle for itself, and nobody to keep off.
    state.files.handles.give_back(handle(args));
    let mut data = Buffer::new(&mut [], REQUEST_BYTES);
    if let Some(text) = args.string("buf-b64") {
        base64::decode(text.bytes(), &mut data).map_err(|fault| match fault {
            base64::Fault::Invalid => {
                let error = reply.fail().text("Base64 data contains invalid characters");
                error.end()
            }
            base64::Fault::Full => fail("write to file", Errno::NOMEM, reply),
        })?;
    }
    let count = count(args, data.len(), data.len(), reply)?;
    let bytes = data.bytes().get(..count).unwrap_or_default();
    let file = state.files.handles.get(handle(args));
    let written = file.and_then(|file| handles::write(file, bytes));
    let written = written.map_err(|errno| fail("write to file", errno, reply))?;
    tell("count", written as u64, reply);
    Ok(0)
}

/// What becomes of a child that fetched what is to be read: the agent reads on.
pub const FETCHED: Slow = Slow::alone(|_, _, _| Ok(0));

/// Moves a file's position.
pub(super) fn seek(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let file = find(state, args, "seek file", reply)?;
    let whence = args.value("whence");
    let word = whence.and_then(|whence| whence.string());
    let code = match word {
        Some(word) => WHENCE
            .words
            .split(' ')
            .take_while(|known| !word.is(known))
            .count() as i64,
        None => whence.and_then(|whence| whence.int()).unwrap_or(0),
    };
    let Some(whence) = i32::try_from(code)
        .ok()
        .filter(|code| (0..3).contains(code))
    else {
        return Err(reply.fail().text("invalid whence code ").number(code).end());
    };
    let position = handles::seek(file, args.int("offset").unwrap_or(0), whence);
    let position = position.map_err(|errno| fail("seek file", errno, reply))?;
    tell("position", position.cast_unsigned(), reply);
    Ok(())
}

#[inline(never)]
fn tell(name: &str, value: u64, reply: &mut Reply<'_>) {
    let mut object = reply.value().object();
    object.member(name).uint(value);
    object.member("eof").bool(false);
    object.end();
}

/// The words of `whence`, at their numbers.
pub(super) static WHENCE: Alternate = Alternate {
    name: "GuestFileWhence",
    words: "set cur end",
    other: Other::Int,
};

/// Does nothing: whatever was written is out.
pub(super) fn flush(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    find(state, args, "flush file", reply).map(|_| ())
}

fn handle(args: &Args<'_>) -> i64 {
    args.int("handle").unwrap_or(0)
}

/// The file of the handle that is asked for.
fn find<'s>(
    state: &'s State,
    args: &Args<'_>,
    what: &str,
    reply: &mut Reply<'_>,
) -> Result<BorrowedFd<'s>, Failed> {
    let found = state.files.handles.get(handle(args));
    found.map_err(|errno| failed(args, what, errno, reply))
}

/// The `count` that is asked for.
fn count(
    args: &Args<'_>,
    default: usize,
    most: usize,
    reply: &mut Reply<'_>,
) -> Result<usize, Failed> {
    let Some(value) = args.int("count") else {
        return Ok(default);
    };
    let count = usize::try_from(value).ok().filter(|count| *count <= most);
    count.ok_or_else(|| {
        let error = reply.fail().text("value '").number(value);
        error.text("' is invalid for argument count").end()
    })
}

/// What was wrong with a handle, of which `BADF` is that there is none.
fn failed(args: &Args<'_>, what: &str, errno: Errno, reply: &mut Reply<'_>) -> Failed {
    if errno != Errno::BADF {
        return fail(what, errno, reply);
    }
    let error = reply.fail().text("handle '").number(handle(args));
    error.text("' has not been found").end()
}

fn fail(what: &str, errno: Errno, reply: &mut Reply<'_>) -> Failed {
    let error = reply.fail().text("failed to ").text(what);
    error.errno(number(errno)).end()
}
