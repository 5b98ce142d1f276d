//! guest-file-read: a reply that leaves while it is made, because it may be larger than the guest's
//! memory has room for.
//!
//! Each piece is read into the client's outgoing bytes, right behind where its text will stand, and
//! is turned into text there. The next one follows when the client has taken that. What the agent
//! would have to wait for, because it is on disk or the file system does not say, a child reads and
//! hands over as text. Nothing leaves before the first read has succeeded, so that it can still be an
//! error; after that, an error ends the reply early, with the number of bytes that it has.

use super::client::{Busy, Slot};
use super::context::Context;
use super::ids::ClientId;
use crate::base::base64::{encode_within, encoded_len};
use crate::base::limits::{FETCH_BYTES, READ_PIECE_BYTES};
use crate::base::store::Store;
use crate::base::texts::{Name, Phrase};
use crate::commands::file::FETCH;
use crate::state::State;
use crate::state::files::Reading;
use crate::sys::handles::{self, Stop};
use crate::sys::mem::Buffer;
use crate::sys::{Errno, number};
use crate::wire::request;

/// How the reply begins.
const START: &[u8] = br#"{"return": {"buf-b64": ""#;

/// Reads on for a client.
#[inline(never)]
pub(super) fn go_on(slot: &mut Slot, context: &mut Context) {
    let client = slot.id();
    let Some(reading) = &mut slot.reading else {
        return;
    };
    let out = &mut slot.out;
    let mut stop = match reading.stop.take() {
        Some(stop) => stop,
        None => add_piece(reading, out, &context.state, READ_PIECE_BYTES, false),
    };
    if stop == Stop::MustWait {
        match have_fetched(reading, client, context) {
            Ok(()) => return slot.wait(Busy::Fetch),
            Err(errno) => stop = Stop::Failed(errno),
        }
    }
    if stop == Stop::Full && reading.left() != 0 {
        return;
    }
    let done = reading.done;
    slot.reading = None;
    let mut reply = request::reopen(slot.message.bytes(), out);
    let outcome = match stop {
        Stop::Failed(errno) if done == 0 => {
            Err(reply.say(Phrase::CannotReadFile, &[], number(errno)))
        }
        _ => {
            let mut object = reply.resume();
            object.member(Name::Count).uint(done as u64);
            object.member(Name::Eof).bool(stop == Stop::End);
            object.end();
            Ok(())
        }
    };
    reply.finish(outcome);
    out.keep_mapping(false);
    // Gives back memory.
    out.truncate(out.len());
    slot.message_done();
}

/// Room for what follows the text of a reply: it is taken with each piece, because a reply that has
/// begun to leave has to have an end.
const END_BYTES: usize = 64;

/// Adds the text of the next `most` bytes to `out`, behind the beginning of the reply if it is the
/// first.
fn add_piece(
    reading: &mut Reading,
    out: &mut Buffer,
    state: &State,
    most: usize,
    wait: bool,
) -> Stop {
    let (start, piece) = (out.len(), reading.left().min(most));
    out.keep_mapping(true);
    if reading.done == 0 {
        let _ = out.append(START);
    }
    let text = out.len();
    let (mut len, mut stop, mut text_len) = (0, Stop::Failed(Errno::NOMEM), 0);
    let most_text = encoded_len(piece);
    if let Ok(room) = out.extend(most_text + END_BYTES) {
        let room = &mut room[..most_text];
        let from = most_text / 4;
        match state.files.handles.get(reading.handle) {
            Ok(file) => {
                let room = &mut room[from..from + piece];
                (len, stop) = handles::read(file, room, wait);
            }
            Err(errno) => stop = Stop::Failed(errno),
        }
        text_len = encode_within(room, from, len);
    }
    let nothing = len == 0 && matches!(stop, Stop::MustWait | Stop::Failed(_));
    out.truncate(if nothing { start } else { text + text_len });
    reading.done += len;
    stop
}

/// What a child appends to the text: how many bytes it is of, and how its reading stopped.
const TRAILER: usize = 5;

/// Starts a child that reads the next piece. The handle is its own for that time: whoever touched it
/// meanwhile could have to wait, too.
fn have_fetched(
    reading: &mut Reading,
    client: ClientId,
    context: &mut Context,
) -> Result<(), Errno> {
    let handle = reading.handle;
    context.state.files.handles.seize(handle)?;
    context.state.files.at_hand = handle;
    let started = context.start(&FETCH, client);
    if started.is_ok() && !context.jobs.in_child() {
        return Ok(());
    }
    context.state.files.handles.give_back(handle);
    context.state.files.at_hand = 0;
    if started.is_ok() {
        let before = reading.done;
        let mut text = Buffer::lasting(2 * FETCH_BYTES);
        let stop = add_piece(reading, &mut text, &context.state, FETCH_BYTES, true);
        let [a, b, c, d, ..] = (reading.done - before).to_le_bytes();
        let _ = text.append(&[a, b, c, d, stop.code()]);
        context.jobs.hand_over(text.bytes(), 0)
    }
    started
}

/// Takes over what a child has read, if it came to an end of its own.
pub(super) fn take_over(slot: &mut Slot, whole: bool) {
    let start = slot.sendable();
    slot.wait(Busy::Reading);
    let (Some(reading), out) = (&mut slot.reading, &mut slot.out) else {
        return;
    };
    let (mut end, mut stop) = (start, Stop::Failed(Errno::IO));
    let text = &out.bytes()[start..];
    if let Some([a, b, c, d, code]) = text.last_chunk::<TRAILER>()
        && whole
    {
        end = out.len() - TRAILER;
        stop = Stop::of(*code);
        reading.done += u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    }
    out.truncate(end);
    reading.stop = Some(stop);
}
