//! guest-file-open, -close, -read, -write, -seek, -flush.
//!
//! Opening, closing, writing and seeking are done by children of the agent, because a file system
//! that is frozen, or whose server is gone, can keep them waiting for ever: one opens and closes in
//! the agent's own table of descriptors, which it shares; one writes or seeks through a copy, which
//! has the same position. Reading is done by the agent, which sends what it reads as it reads it
//! (`agent::file_stream`), as long as it need not wait; what is on disk, and file systems and devices that
//! do not say whether they have to be waited for, a child reads.
//!
//! A handle that a child works with is busy for all others, but can be closed.
//!
//! Differences from qemu-ga: data is written at once, so that errors are those of the write itself,
//! not of a later flush, seek or close (Q35). A read of a pipe or terminal that brought less than it
//! asked for succeeds (Q17), as does a write to a full one. A handle is gone after a close that failed
//! (Q16). Handles are microseconds, not a counter in a state file. A read that fails in its middle is
//! shorter; the error is the next one's. New files have permissions 0666 less the umask: with 0666,
//! which qemu-ga gives them, any user of the guest can write to a script that the host makes for root.
//! The memory of a process (/proc/PID/mem) or of the machine (/dev/mem, /dev/kmem, /dev/port) is not
//! opened. That keeps nobody from running programs: whoever may write files as root can make one that
//! root runs.

use super::{
    FILE_OPEN, FILE_READ, FILE_SEEK, FILE_WRITE, HANDLE, Outcome, Own, Slow, cannot, decode,
    outcome,
};
use crate::base::limits::{READ_FILE_BYTES, REQUEST_BYTES};
use crate::base::path::Path;
use crate::base::store::Store;
use crate::base::texts::{Name, Phrase};
use crate::state::State;
use crate::state::files::Reading;
use crate::sys::handles::{self, OpenMode};
use crate::sys::mem::Buffer;
use crate::sys::{BorrowedFd, Errno, number, process};
use crate::wire::args::{Alternate, Args, Other, place};
use crate::wire::json::Str;
use crate::wire::reply::{Failed, Reply};

/// Opens a file.
pub(super) const OPEN: Slow = Slow {
    begin: |state, _, _| {
        // Without room for a handle there is none, which is found out when it is to be filled.
        state.files.at_hand = state.files.handles.reserve(&state.root).unwrap_or(0);
        Ok(())
    },
    work: open,
    end: |state, outcome| {
        let handle = core::mem::take(&mut state.files.at_hand);
        if matches!(outcome, Outcome::Replied(_)) {
            state.files.handles.publish(handle);
        } else {
            let _ = state.files.handles.close(handle);
        }
    },
};

fn open(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let mode = args.string(const { place(FILE_OPEN, "mode") });
    let given = args.string(const { place(FILE_OPEN, "path") });
    let given = given.unwrap_or_default();
    // All of both, though no mode or path is that long, because errors have them; decoded they are
    // not longer.
    let len = mode.unwrap_or_default().raw().len() + given.raw().len();
    let mut room = Buffer::lasting(len);
    let mut decoded = |string: Str<'_>| {
        let _ = string.decode(&mut *room);
        room.take()
    };
    let text = mode.map_or(&b"r"[..], &mut decoded);
    let Some(mode) = OpenMode::parse(text) else {
        return Err(reply.say(Phrase::InvalidOpenMode, &[text], 0));
    };
    let given = decoded(given);
    let mut path = Path::of(&[given]);
    // The agent's, not that of this child, which will be gone when the file is read.
    if let Some(rest) = given.strip_prefix(b"/proc/self") {
        path = Path::of(&[b"/proc/"]);
        path.push_number(process::parent_pid().into());
        path.push(rest);
    }
    let path = path.as_c_str().filter(|_| room.whole().is_ok());
    let opened = path.ok_or(Errno::NAMETOOLONG).and_then(|path| {
        let file = handles::open(path, mode)?;
        state.files.handles.fill(state.files.at_hand, &file)
    });
    match opened {
        Err(errno) => Err(reply.say(Phrase::CannotOpenFile, &[given, text], number(errno))),
        Ok(()) => {
            reply.value().int(state.files.at_hand);
            Ok(0)
        }
    }
}

/// Closes a file.
pub(super) const CLOSE: Slow = Slow {
    begin: |state, args, reply| {
        let handle = handle(args);
        let taken = state.files.handles.take_away(handle);
        taken.map_err(|errno| failed(args, Phrase::CannotCloseFile, errno, reply))
    },
    work: |state, args, reply| {
        let closed = state.files.handles.close(handle(args));
        outcome(reply, Phrase::CannotCloseFile, closed)
    },
    end: |_, _| {},
};

/// Begins to read a file.
pub(super) fn read(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    find(state, args, Phrase::CannotReadFile, reply)?;
    let given = args.int(const { place(FILE_READ, "count") });
    let count = count(given, 4096, READ_FILE_BYTES, reply)?;
    state.files.reading = Some(Reading::new(handle(args), count));
    Ok(())
}

/// Writes to a file.
pub(super) const WRITE: Slow = Slow {
    begin: |state, args, reply| seize(state, args, Phrase::CannotWriteFile, reply),
    work: write,
    end: give_back,
};

fn seize(
    state: &mut State,
    args: &Args<'_>,
    what: Phrase,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let handle = handle(args);
    let seized = state.files.handles.seize(handle);
    seized.map_err(|errno| failed(args, what, errno, reply))?;
    state.files.at_hand = handle;
    Ok(())
}

/// Ends what [`seize`] began; in the child right away, which has the handle for itself and nobody to
/// keep off.
fn give_back(state: &mut State, _: Outcome) {
    let handle = core::mem::take(&mut state.files.at_hand);
    state.files.handles.give_back(handle);
}

fn write(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    give_back(state, Outcome::Lost);
    let mut data = Buffer::growing(REQUEST_BYTES);
    if let Some(text) = args.string(const { place(FILE_WRITE, "buf-b64") }) {
        decode(text, &mut data, Phrase::CannotWriteFile, reply)?;
    }
    let given = args.int(const { place(FILE_WRITE, "count") });
    let count = count(given, data.len(), data.len(), reply)?;
    let bytes = data.bytes().get(..count).unwrap_or_default();
    let file = state.files.handles.get(handle(args));
    let written = file.and_then(|file| handles::write(file, bytes));
    let written = written.map_err(|errno| cannot(reply, Phrase::CannotWriteFile, errno))?;
    tell(Name::Count, written as u64, reply);
    Ok(0)
}

/// A child that reads; its work is the agent's (`agent::file_stream`).
pub const FETCH: Own = Own {
    slow: Slow {
        end: give_back,
        ..Slow::alone(|_, _, _| Ok(0))
    },
    exclusive: false,
    shares_files: false,
};

/// Moves a file's position. A child does it, because a file system of the network is asked for where
/// the end is.
pub(super) const SEEK: Slow = Slow {
    begin: |state, args, reply| seize(state, args, Phrase::CannotSeekFile, reply),
    work: seek,
    end: give_back,
};

fn seek(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    give_back(state, Outcome::Lost);
    let file = find(state, args, Phrase::CannotSeekFile, reply)?;
    let code = match args.string(const { place(FILE_SEEK, "whence") }) {
        Some(word) => WHENCE.place(word) as i64,
        None => args.int(const { place(FILE_SEEK, "whence") }).unwrap_or(0),
    };
    if !(0..3).contains(&code) {
        return Err(reply.say_number(Phrase::InvalidWhence, code));
    }
    let position = handles::seek(
        file,
        args.int(const { place(FILE_SEEK, "offset") }).unwrap_or(0),
        code as i32,
    );
    let position = position.map_err(|errno| cannot(reply, Phrase::CannotSeekFile, errno))?;
    tell(Name::Position, position.cast_unsigned(), reply);
    Ok(0)
}

#[inline(never)]
fn tell(name: Name, value: u64, reply: &mut Reply<'_>) {
    let mut object = reply.object();
    object.uint(name, value);
    object.bool(Name::Eof, false);
    object.end();
}

/// The words of `whence`, at their numbers.
pub(super) static WHENCE: Alternate = Alternate {
    name: "GuestFileWhence",
    words: "set cur end",
    count: 3,
    other: Other::Int,
};

/// Does nothing: whatever was written is out.
pub(super) fn flush(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    find(state, args, Phrase::CannotFlushFile, reply).map(|_| ())
}

#[inline(never)]
fn handle(args: &Args<'_>) -> i64 {
    args.int(const { place(HANDLE, "handle") }).unwrap_or(0)
}

/// The file of the handle that is asked for.
fn find<'s>(
    state: &'s State,
    args: &Args<'_>,
    what: Phrase,
    reply: &mut Reply<'_>,
) -> Result<BorrowedFd<'s>, Failed> {
    let found = state.files.handles.get(handle(args));
    found.map_err(|errno| failed(args, what, errno, reply))
}

/// How much that is, of what was given for `count`.
fn count(
    count: Option<i64>,
    default: usize,
    most: usize,
    reply: &mut Reply<'_>,
) -> Result<usize, Failed> {
    let Some(value) = count else {
        return Ok(default);
    };
    let count = usize::try_from(value).ok().filter(|count| *count <= most);
    count.ok_or_else(|| reply.say_number(Phrase::InvalidCount, value))
}

/// What was wrong with a handle, of which `BADF` is that there is none.
fn failed(args: &Args<'_>, what: Phrase, errno: Errno, reply: &mut Reply<'_>) -> Failed {
    if errno != Errno::BADF {
        return cannot(reply, what, errno);
    }
    reply.say_number(Phrase::NoSuchHandle, handle(args))
}
