//! Pieces of a file as base64: read by the agent itself, or by a worker, which appends a trailer.

use crate::base::base64::{encode_in_place, encoded_len};
use crate::base::limits::FETCH_BYTES;
use crate::base::sink::ByteSink;
use crate::commands::Ticket;
use crate::sys::handles::{self, ReadEnd};
use crate::sys::mem::Buffer;
use crate::sys::{AsFd, BorrowedFd, Errno, number};

/// Room for the end of the reply. It is reserved with each piece, because a reply that has begun to
/// leave must end, even without memory.
const END_BYTES: usize = 64;

/// A function that reads a file until the buffer is full; returns the number of bytes, and why it
/// stopped.
pub(super) type ReadFile = fn(BorrowedFd<'_>, &mut [u8]) -> (usize, ReadEnd);

/// Appends the base64 text of the next bytes of a file, `most` at most. Returns the number of
/// bytes, and why reading stopped.
pub(super) fn add_text(
    file: Result<BorrowedFd<'_>, Errno>,
    most: usize,
    read: ReadFile,
    out: &mut Buffer,
) -> (usize, ReadEnd) {
    let start = out.len();
    let most_text = encoded_len(most);
    let Ok(room) = out.extend(most_text + END_BYTES) else {
        return (0, ReadEnd::Failed(Errno::NOMEM));
    };
    // The bytes are read to the last three quarters of the room, and encoded from its start: the
    // text never overtakes bytes that are not encoded yet.
    let room = &mut room[..most_text];
    let from = most_text / 4;
    let (len, stop) = match file {
        Ok(file) => read(file, &mut room[from..from + most]),
        Err(errno) => (0, ReadEnd::Failed(errno)),
    };
    let text_len = encode_in_place(room, from, len);
    out.truncate(start + text_len);
    (len, stop)
}

/// The trailer of a worker's text: the number of bytes read (4 bytes), and why reading stopped (1).
const TRAILER_BYTES: usize = 5;

/// In a worker: appends the text of the next bytes of the ticket's file, and the trailer. The
/// ticket's number is the limit of bytes.
pub(super) fn fetch(ticket: Ticket, out: &mut Buffer) {
    let most = usize::try_from(ticket.number).unwrap_or(0).min(FETCH_BYTES);
    let file = ticket.file.as_ref().ok_or(Errno::BADF).map(AsFd::as_fd);
    let (len, stop) = add_text(file, most, handles::read, out);
    let [a, b, c, d] = (len as u32).to_ne_bytes();
    // Fits: there is room reserved for the end of the reply.
    let _ = out.append(&[a, b, c, d, code_of(stop)]);
}

/// The byte of the trailer: 0 if the buffer is full, 255 at the end of the file, otherwise errno.
fn code_of(stop: ReadEnd) -> u8 {
    match stop {
        ReadEnd::Full => 0,
        ReadEnd::Failed(errno) => number(errno) as u8,
        // A worker never stops because it must wait.
        ReadEnd::End | ReadEnd::MustWait => u8::MAX,
    }
}

/// Reads the byte that [`code_of`] makes.
fn stop_of(code: u8) -> ReadEnd {
    match code {
        0 => ReadEnd::Full,
        u8::MAX => ReadEnd::End,
        number => ReadEnd::Failed(Errno::from_raw_os_error(number.into())),
    }
}

/// Takes the trailer off a worker's text; returns the length of the text, the number of bytes read,
/// and why reading stopped.
pub(super) fn take_trailer(text: &[u8]) -> Option<(usize, usize, ReadEnd)> {
    let (text, trailer) = text.split_last_chunk::<TRAILER_BYTES>()?;
    let [len @ .., code] = trailer;
    let len = u32::from_ne_bytes(*len) as usize;
    Some((text.len(), len, stop_of(*code)))
}
