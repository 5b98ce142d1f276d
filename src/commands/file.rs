//! guest-file-open, -close, -read, -write, -seek, -flush.
//!
//! Opening, closing, writing and seeking are tasks for a worker that shares the agent's
//! descriptors, because a file system that is frozen, or whose server is gone, can keep them
//! waiting for ever. The agent reads itself, as long as it need not wait (`agent::file_stream`); a
//! worker reads the rest.
//!
//! While a worker uses a handle, other requests for it fail, but it can be closed: the worker's next
//! system call then meets a directory in place of the file, and fails.
//!
//! Differences from qemu-ga: data is written at once, so that errors are those of the write itself,
//! not of a later flush, seek or close. A read of a pipe or terminal that brought less than it
//! asked for succeeds, as does a write to a full one. A handle is gone after a close that failed;
//! in qemu-ga it dangles, and its next use crashes. Handles come from the time since boot, not from
//! a counter in a state file (`state::files`). A read that fails after some bytes returns those;
//! the next read returns the error. New files have permissions 0666 less the umask: with 0666,
//! which qemu-ga gives them, any user of the guest can write to a script that the host makes for
//! root. The memory of a process (/proc/PID/mem) or of the machine (/dev/mem, /dev/kmem, /dev/port)
//! is not opened. That keeps nobody from running programs: whoever may write files as root can make
//! one that root runs.

use super::command::{Outcome, Slow, Ticket};
use super::common::{cannot, decode, outcome};
use crate::base::limits::{READ_FILE_BYTES, REQUEST_BYTES};
use crate::base::path::Path;
use crate::base::sink::ByteSink;
use crate::state::State;
use crate::state::files::Reading;
use crate::state::guest::Guest;
use crate::sys::handles::{self, SeekFrom, Seized};
use crate::sys::mem::Buffer;
use crate::sys::root::OpenOptions;
use crate::sys::{AsFd, BorrowedFd, Errno, number, process};
use crate::wire::args::{Alternate, Args, Other, Param, Type, index_of, may, must};
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

pub(super) const HANDLE: &[Param] = &[must("handle", Type::Int)];

pub(super) const FILE_OPEN: &[Param] = &[must("path", Type::Str), may("mode", Type::Str)];

pub(super) const FILE_READ: &[Param] = &[must("handle", Type::Int), may("count", Type::Int)];

pub(super) const FILE_WRITE: &[Param] = &[
    must("handle", Type::Int),
    must("buf-b64", Type::Str),
    may("count", Type::Int),
];

pub(super) const FILE_SEEK: &[Param] = &[
    must("handle", Type::Int),
    must("offset", Type::Int),
    must("whence", Type::Either(&WHENCE)),
];

/// Opens a file.
pub(super) const OPEN: Slow = Slow {
    prepare: |state, _, _| {
        // If the table is full the ticket has no file: `open` then fails with EMFILE.
        let reserved = state.files.reserve(&state.guest.root);
        Ok(reserved.map_or(Ticket::default(), |(handle, file)| Ticket {
            number: handle,
            file: Some(file),
        }))
    },
    run: open,
    finish: |state, ticket, outcome| {
        if let Some(file) = ticket.file {
            match outcome {
                Outcome::Replied(_) => state.files.handles.publish(file),
                _ => state.files.handles.discard(file),
            }
        }
    },
};

fn open(_: &Guest, ticket: Ticket, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let mode = args.string(const { index_of(FILE_OPEN, "mode") });
    let given = args.string(const { index_of(FILE_OPEN, "path") });
    // Room for any request: error texts quote path and mode in full.
    let mut room = Buffer::growing(REQUEST_BYTES);
    let _ = given.unwrap_or_default().decode(&mut room);
    let path_len = room.len();
    let _ = match mode {
        Some(mode) => mode.decode(&mut room),
        None => room.append(b"r"),
    };
    let (given, text) = room.bytes().split_at(path_len);
    let Some(options) = open_options(text) else {
        return Err(reply.fail_with(Phrase::InvalidOpenMode, &[text], 0));
    };
    let mut path = Path::of(&[given]);
    // In /proc/self, self is the agent, not this child.
    if let Some(rest) = given.strip_prefix(b"/proc/self") {
        path = Path::of(&[b"/proc/"]);
        path.push_number(process::parent_pid().into());
        path.push(rest);
    }
    let path = path.as_c_str().filter(|_| room.whole().is_ok());
    let opened = path.ok_or(Errno::NAMETOOLONG).and_then(|path| {
        let file = handles::open(path, options)?;
        ticket.file.ok_or(Errno::MFILE)?.fill(&file)
    });
    match opened {
        Err(errno) => Err(reply.fail_with(Phrase::CannotOpenFile, &[given, text], number(errno))),
        Ok(()) => {
            reply.value().int(ticket.number);
            Ok(0)
        }
    }
}

/// The meaning of a mode of fopen(3), without the extensions of C libraries.
fn open_options(mode: &[u8]) -> Option<OpenOptions> {
    let (first, rest) = mode.split_first()?;
    let (mut plus, mut binary) = (false, false);
    for byte in rest {
        let seen = match byte {
            b'+' => &mut plus,
            // On Linux this changes nothing.
            b'b' => &mut binary,
            _ => return None,
        };
        if core::mem::replace(seen, true) {
            return None;
        }
    }
    let write = match plus {
        true => OpenOptions::READ_WRITE,
        false => OpenOptions::WRITE,
    };
    Some(match first {
        b'r' if plus => write,
        b'r' => OpenOptions::READ,
        b'w' => write.create().truncate(),
        b'a' => write.create().append(),
        _ => return None,
    })
}

/// Closes a file.
pub(super) const CLOSE: Slow = Slow {
    prepare: |state, args, reply| {
        let taken = state.files.handles.take_away(handle(args));
        let is_busy = matches!(taken, Ok((_, true)));
        let taken = taken.map(|(file, _)| file);
        let ticket = about_file(taken, args, Phrase::CannotCloseFile, reply)?;
        Ok(Ticket {
            number: is_busy.into(),
            ..ticket
        })
    },
    run: |guest, ticket, _, reply| {
        let number = ticket.number;
        let closed = file_of(ticket).and_then(|file| match number {
            0 => file.close(),
            // Another task uses this descriptor: it must not find another file under its number.
            _ => file.fill(&guest.root),
        });
        outcome(reply, Phrase::CannotCloseFile, closed)
    },
    finish: |state, ticket, outcome| {
        if ticket.number != 0 {
            give_back(state, ticket, outcome);
        }
    },
};

/// Begins to read a file.
pub(super) fn read(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Reading, Failed> {
    find(state, args, Phrase::CannotReadFile, reply)?;
    let given = args.int(const { index_of(FILE_READ, "count") });
    let count = count(given, 4096, READ_FILE_BYTES, reply)?;
    Ok(Reading::new(handle(args), count))
}

/// Writes to a file.
pub(super) const WRITE: Slow = Slow {
    prepare: |state, args, reply| seize(state, args, Phrase::CannotWriteFile, reply),
    run: write,
    finish: give_back,
};

fn seize(
    state: &mut State,
    args: &Args<'_>,
    what: Phrase,
    reply: &mut Reply<'_>,
) -> Result<Ticket, Failed> {
    let seized = state.files.handles.seize(handle(args));
    about_file(seized, args, what, reply)
}

/// Ends what [`seize`] began.
fn give_back(state: &mut State, ticket: Ticket, _: Outcome) {
    if let Some(file) = ticket.file {
        state.files.handles.give_back(file);
    }
}

/// A ticket with the file, or the error of the handle.
fn about_file(
    found: Result<Seized, Errno>,
    args: &Args<'_>,
    what: Phrase,
    reply: &mut Reply<'_>,
) -> Result<Ticket, Failed> {
    match found {
        Ok(file) => Ok(Ticket {
            number: 0,
            file: Some(file),
        }),
        Err(errno) => Err(failed(args, what, errno, reply)),
    }
}

/// The file of a ticket that has one.
fn file_of(ticket: Ticket) -> Result<Seized, Errno> {
    ticket.file.ok_or(Errno::BADF)
}

/// Bytes of base64 that are decoded on the stack: the text of one page. A longer text borrows
/// memory.
const SMALL_WRITE_BYTES: usize = 5632;

fn write(_: &Guest, ticket: Ticket, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let text = args.string(const { index_of(FILE_WRITE, "buf-b64") });
    let text = text.unwrap_or_default();
    let mut small = heapless::Vec::<u8, SMALL_WRITE_BYTES>::new();
    let mut large = Buffer::growing(REQUEST_BYTES);
    let data: &mut dyn ByteSink = match text.raw().len() <= SMALL_WRITE_BYTES {
        true => &mut small,
        false => &mut large,
    };
    decode(text, data, Phrase::CannotWriteFile, reply)?;
    let len = data.bytes().len();
    let given = args.int(const { index_of(FILE_WRITE, "count") });
    let count = count(given, len, len, reply)?;
    let bytes = data.bytes().get(..count).unwrap_or_default();
    let written = file_of(ticket).and_then(|file| handles::write(file.as_fd(), bytes));
    let written = written.map_err(|errno| cannot(reply, Phrase::CannotWriteFile, errno))?;
    tell(Name::Count, written as u64, reply);
    Ok(0)
}

/// Reads a file for a client, in a worker; `agent::file_stream` makes the reply.
pub(super) const FETCH: Slow = Slow {
    finish: give_back,
    ..Slow::alone(|_, _, _, _| Ok(0))
};

/// Moves a file's position, in a worker: for the end of a file a network file system asks its
/// server.
pub(super) const SEEK: Slow = Slow {
    prepare: |state, args, reply| seize(state, args, Phrase::CannotSeekFile, reply),
    run: seek,
    finish: give_back,
};

fn seek(_: &Guest, ticket: Ticket, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let code = match args.string(const { index_of(FILE_SEEK, "whence") }) {
        Some(word) => WHENCE.index(word) as i64,
        None => args
            .int(const { index_of(FILE_SEEK, "whence") })
            .unwrap_or(0),
    };
    let offset = args
        .int(const { index_of(FILE_SEEK, "offset") })
        .unwrap_or(0);
    let to = match code {
        0 => SeekFrom::Start(offset.cast_unsigned()),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        _ => return Err(reply.fail_number(Phrase::InvalidWhence, code)),
    };
    let position = file_of(ticket).and_then(|file| handles::seek(file.as_fd(), to));
    let position = position.map_err(|errno| cannot(reply, Phrase::CannotSeekFile, errno))?;
    tell(Name::Position, position, reply);
    Ok(0)
}

#[inline(never)]
fn tell(name: Name, value: u64, reply: &mut Reply<'_>) {
    let mut object = reply.object();
    object.uint(name, value);
    object.bool(Name::Eof, false);
}

/// The words of `whence`, at their numbers.
pub(super) static WHENCE: Alternate = Alternate {
    name: "GuestFileWhence",
    words: "set cur end",
    count: 3,
    other: Other::Int,
};

/// Does nothing: writes are not buffered.
pub(super) fn flush(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    find(state, args, Phrase::CannotFlushFile, reply).map(|_| ())
}

#[inline(never)]
fn handle(args: &Args<'_>) -> i64 {
    args.int(const { index_of(HANDLE, "handle") }).unwrap_or(0)
}

/// The open file of the request's handle.
fn find<'s>(
    state: &'s State,
    args: &Args<'_>,
    what: Phrase,
    reply: &mut Reply<'_>,
) -> Result<BorrowedFd<'s>, Failed> {
    let found = state.files.handles.get(handle(args));
    found.map_err(|errno| failed(args, what, errno, reply))
}

/// Returns `count`, or the default without one; an error if it is negative or larger than `most`.
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
    count.ok_or_else(|| reply.fail_number(Phrase::InvalidCount, value))
}

/// Writes the error of a handle. EBADF: no such handle.
fn failed(args: &Args<'_>, what: Phrase, errno: Errno, reply: &mut Reply<'_>) -> Failed {
    if errno != Errno::BADF {
        return cannot(reply, what, errno);
    }
    reply.fail_number(Phrase::NoSuchHandle, handle(args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_fopen_without_extensions() {
        let (read, write) = (OpenOptions::READ, OpenOptions::WRITE);
        let both = OpenOptions::READ_WRITE;
        for (text, options) in [
            ("r", read),
            ("rb", read),
            ("r+b", both),
            ("rb+", both),
            ("w", write.create().truncate()),
            ("w+", both.create().truncate()),
            ("ab", write.create().append()),
            ("a+b", both.create().append()),
        ] {
            assert_eq!(open_options(text.as_bytes()), Some(options), "{text}");
        }
        for wrong in ["", "R", "rw", "b", "+", "r++", "rbb", "rt", "we", "r "] {
            assert_eq!(open_options(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
