//! The child's side of slow commands: receives a task, runs it, and sends its reply.
//!
//! A worker receives one task after the other over a socket, and sleeps in between. A child of its
//! own runs one task and ends: a task that changes its process for good or leaves a secret in its
//! memory ([`OWN_CHILD`]), or one whose request is larger than [`TASK_BYTES`]. Neither returns to
//! the loop.
//!
//! A task is sent as a header of numbers and the bytes of its request; a reply as a frame with its
//! length and its status, and its bytes. The only number that is valid in one process alone is that
//! of an open file: the child of such a task shares the agent's descriptors.

use super::fetch::fetch;
use crate::base::limits::{REPLY_BYTES, REST_MS, TASK_AT_REST, TASK_BYTES};
use crate::base::sink::ByteSink;
use crate::commands::{FETCH, HAS_FILES, OWN_CHILD, SILENT, Task, Ticket, WITHOUT_FILES};
use crate::state::guest::Guest;
use crate::sys::clock::NEVER_MS;
use crate::sys::handles::Seized;
use crate::sys::mem::{self, Buffer};
use crate::sys::poll::{self, Interest};
use crate::sys::stream::{self, Read};
use crate::sys::{
    AsFd, OwnedFd,
    process::{self, InChild},
};
use crate::wire::args::Args;
use crate::wire::message::{Members, Message};
use crate::wire::reply::{Failed, Reply};
use crate::wire::request;

/// The header of a task, in the machine's byte order: the number of its ticket (8 bytes), its file
/// (4, or -1), the length of the request (4), the index of the row (1).
const HEADER_BYTES: usize = 17;

/// See [`HEADER_BYTES`].
pub(super) type Header = [u8; HEADER_BYTES];

/// The header of a task whose request has this length.
pub(super) fn header(task: &Task, ticket: &Ticket, message_len: usize) -> Header {
    let file = ticket.file.as_ref().map_or(-1, Seized::number);
    let mut header = [task.index; HEADER_BYTES];
    let (number, rest) = header.split_at_mut(8);
    number.copy_from_slice(&ticket.number.to_ne_bytes());
    let (first, rest) = rest.split_at_mut(4);
    first.copy_from_slice(&file.to_ne_bytes());
    rest[..4].copy_from_slice(&(message_len as u32).to_ne_bytes());
    header
}

/// Reads a header: the index of the task's row, the ticket, and the length of the request. `None`: not all of
/// it has come.
fn read_header(child: &InChild, bytes: &[u8]) -> Option<(u8, Ticket, usize)> {
    let (number, bytes) = bytes.split_first_chunk()?;
    let (file, bytes) = bytes.split_first_chunk()?;
    let (len, bytes) = bytes.split_first_chunk()?;
    let ticket = Ticket {
        number: i64::from_ne_bytes(*number),
        file: Seized::handed_over(child, i32::from_ne_bytes(*file)),
    };
    Some((*bytes.first()?, ticket, u32::from_ne_bytes(*len) as usize))
}

/// The frame before a reply: its length (4 bytes) and its status (1).
pub(super) const FRAME_BYTES: usize = 5;

/// The status of a reply that is an error. On success the status is the number that `run` returned.
pub(super) const REFUSED: u8 = u8::MAX;

/// Runs tasks until the agent closes the socket.
///
/// Memory that a task has used stays for the next one, which saves it page faults. A worker without
/// a task for [`REST_MS`] gives all of it back, and then sleeps until the next task.
pub(super) fn serve(child: &InChild, socket: &OwnedFd, guest: &mut Guest) -> ! {
    let mut input = Buffer::growing(HEADER_BYTES + TASK_BYTES);
    let mut out = Buffer::growing(REPLY_BYTES);
    mem::keep_spare();
    // If this fails the worker keeps its memory.
    let _ = stream::limit_wait(socket, REST_MS);
    loop {
        let (task, ticket) = match receive(child, socket, &mut input) {
            Received::Task(task, ticket) => (task, ticket),
            Received::Nothing => {
                rest(socket, [&mut input, &mut out]);
                continue;
            }
            Received::End => process::exit(0),
        };
        if !task.is(WITHOUT_FILES) {
            guest.find_root();
        }
        let message = &input.bytes()[HEADER_BYTES..];
        run(&task, ticket, message, guest, &mut out);
        if stream::write_all(socket, out.bytes()).is_err() {
            // The agent is gone.
            process::exit(0);
        }
        for buffer in [&mut input, &mut out] {
            buffer.keep_mapping(buffer.len() <= TASK_AT_REST);
            buffer.truncate(0);
        }
    }
}

/// Gives memory back, and sleeps until something can be received.
#[inline(never)]
fn rest(socket: &OwnedFd, buffers: [&mut Buffer; 2]) {
    for buffer in buffers {
        buffer.keep_mapping(false);
        buffer.truncate(0);
    }
    mem::release_spare();
    mem::release_stack();
    mem::release_code();
    poll::is_ready(socket.as_fd(), Interest::Read, NEVER_MS);
}

/// Runs one task and exits.
pub(super) fn run_once(
    child: &InChild,
    socket: &OwnedFd,
    header: &Header,
    message: &[u8],
    guest: &Guest,
) -> ! {
    if let Some((index, ticket, _)) = read_header(child, header)
        && let Some(task) = Task::of(index)
    {
        let mut out = Buffer::growing(REPLY_BYTES);
        run(&task, ticket, message, guest, &mut out);
        let _ = stream::write_all(socket, out.bytes());
    }
    process::exit(0)
}

/// What a worker has received.
enum Received {
    /// A task.
    Task(Task, Ticket),
    /// Nothing for a while.
    Nothing,
    /// The agent has closed the socket.
    End,
}

/// Waits for the next task, or until nothing has come for a while.
fn receive(child: &InChild, socket: &OwnedFd, input: &mut Buffer) -> Received {
    loop {
        let header = read_header(child, input.bytes());
        let whole = header.as_ref().map_or(0, |(.., len)| HEADER_BYTES + len);
        let have = input.len();
        if let Some((index, ticket, _)) = header
            && have >= whole
        {
            return Task::of(index).map_or(Received::End, |task| Received::Task(task, ticket));
        }
        // One read is enough for most tasks.
        let more = whole.max(TASK_AT_REST).saturating_sub(have);
        let Ok(room) = input.extend(more) else {
            return Received::End;
        };
        let read = stream::read(socket, room);
        let count = match read {
            Ok(Read::Bytes(count)) => count,
            Ok(Read::NotYet) => 0,
            Ok(Read::End) | Err(_) => return Received::End,
        };
        input.truncate(have + count);
        if have + count == 0 {
            return Received::Nothing;
        }
    }
}

/// Runs a task and writes the framed reply to `out`.
fn run(task: &Task, ticket: Ticket, message: &[u8], guest: &Guest, out: &mut Buffer) {
    let _ = out.append(&[0; FRAME_BYTES]);
    let status = reply(task, ticket, message, guest, out);
    let len = (out.len() - FRAME_BYTES) as u32;
    if let Some((frame, _)) = out.bytes_mut().split_first_chunk_mut() {
        let [a, b, c, d] = len.to_ne_bytes();
        *frame = [a, b, c, d, status];
    }
}

/// Writes the reply to a task; returns its status.
fn reply(task: &Task, ticket: Ticket, text: &[u8], guest: &Guest, out: &mut Buffer) -> u8 {
    if HAS_FILES && task.index == FETCH {
        fetch(ticket, out);
        return 0;
    }
    let members = &Members::of(text);
    let message = Message { text, members };
    let mut reply = request::reply_to(message, out);
    match answer(task, ticket, message, guest, &mut reply) {
        Ok(status) => {
            match task.is(SILENT) {
                true => reply.silence(),
                false => reply.finish(Ok(())),
            }
            status
        }
        Err(failed) => {
            reply.finish(Err(failed));
            REFUSED
        }
    }
}

fn answer(
    task: &Task,
    ticket: Ticket,
    message: Message<'_>,
    guest: &Guest,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    let mut args = Args::none();
    // The agent has checked them: this does not fail. Its own tasks have no request, and no parameters.
    args.check(message.arguments(), task.params(), reply)?;
    (task.slow().run)(guest, ticket, &args, reply)
}

/// Whether a worker runs this task, rather than a child of its own.
pub(super) fn is_for_worker(task: &Task, message_len: usize) -> bool {
    !task.is(OWN_CHILD) && message_len <= TASK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::find;
    use crate::state::testing::guest;
    use crate::sys::root::Root;
    use crate::wire::receive::receive as message;

    #[test]
    fn a_task_is_read_as_it_was_written() {
        let task = Task::of(FETCH).unwrap();
        let child = InChild::in_test(true);
        for (number, file) in [(0, -1), (-1, 64), (i64::MAX, 1000)] {
            let ticket = Ticket {
                number,
                file: Seized::handed_over(&child, file),
            };
            let bytes = header(&task, &ticket, 70_000);
            assert_eq!(read_header(&child, &bytes), Some((FETCH, ticket, 70_000)));
            for len in 0..HEADER_BYTES {
                assert_eq!(read_header(&child, &bytes[..len]), None);
            }
        }
    }

    #[test]
    fn a_worker_runs_one_task_after_the_other_until_the_socket_is_closed() {
        let (ours, theirs) = stream::socket_pair().unwrap();
        let agent = std::thread::spawn(move || {
            let text = br#"{"execute": "guest-get-users", "id": [7]}"#;
            let text = message(text).unwrap();
            let (index, _) = find(text.members().next().unwrap().1.string().unwrap()).unwrap();
            let task = Task::of(index as u8).unwrap();
            let mut replies = Vec::new();
            for _ in 0..3 {
                let text = text.text();
                let header = header(&task, &Ticket::default(), text.len());
                // In pieces, however the kernel may cut them.
                for piece in [&header[..5], &header[5..], &text[..9], &text[9..]] {
                    stream::write_all(&ours, piece).unwrap();
                }
                let mut reply = Vec::new();
                while !reply.ends_with(b"\n") {
                    let mut byte = [0];
                    if let Ok(Read::Bytes(1)) = stream::read(&ours, &mut byte) {
                        reply.push(byte[0]);
                    }
                }
                replies.push(reply);
            }
            replies
        });
        let guest =
            guest(Root::open(c"/nonexistent-or-not/..").unwrap_or(Root::open(c"/tmp").unwrap()));
        let mut input = Buffer::growing(HEADER_BYTES + TASK_BYTES);
        let mut count = 0;
        while let Received::Task(task, ticket) =
            receive(&InChild::in_test(true), &theirs, &mut input)
        {
            let mut out = Buffer::growing(REPLY_BYTES);
            let message = &input.bytes()[HEADER_BYTES..];
            run(&task, ticket, message, &guest, &mut out);
            stream::write_all(&theirs, out.bytes()).unwrap();
            input.truncate(0);
            count += 1;
        }
        assert_eq!(count, 3);
        for reply in agent.join().unwrap() {
            let text = br#"{"return": [], "id": [7]}"#;
            let (frame, rest) = reply.split_at(FRAME_BYTES);
            assert_eq!(frame[..4], (text.len() as u32 + 1).to_ne_bytes());
            assert_eq!(rest.trim_ascii_end(), text);
        }
    }
}
