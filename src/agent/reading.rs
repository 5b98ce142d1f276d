//! guest-file-read: a reply that leaves while it is made, because it may be larger than the guest's
//! memory has room for.
//!
//! Each piece is read into the client's outgoing bytes, right behind where its text will stand, and
//! is turned into text there. The next one follows when the client has taken that. What the agent
//! would have to wait for, because it is on disk or the file system does not say, a child reads and
//! hands over as text. Nothing leaves before the first read has succeeded, so that it can still be an
//! error; after that, an error ends the reply early, with the number of bytes that it has.

use super::client::{Busy, Slot};
use super::dispatch::Context;
use super::jobs::Owner;
use crate::base::base64::{encode_within, encoded_len};
use crate::base::limits::{FETCH_BYTES, READ_PIECE_BYTES};
use crate::base::store::Store;
use crate::commands::file::FETCH;
use crate::state::State;
use crate::state::files::Reading;
use crate::sys::handles::{self, Stop};
use crate::sys::mem::Buffer;
use crate::sys::{Errno, number};
use crate::wire::{json, request};

/// How the reply begins.
const START: &[u8] = br#"{"return": {"buf-b64": ""#;

/// Reads on for the client at `place`.
pub(super) fn go_on(place: usize, slot: &mut Slot, context: &mut Context<'_>) {
    let owner = Owner {
        place,
        generation: slot.generation(),
    };
    let Some(mut reading) = slot.reading.take() else {
        return;
    };
    let (message, out) = slot.message_and_out();
    let mut stop = match reading.stop.take() {
        Some(stop) => stop,
        None => add_piece(&mut reading, out, context.state, READ_PIECE_BYTES, false),
    };
    if stop == Stop::MustWait {
        match have_fetched(reading, owner, out, context) {
            Ok(()) => {
                slot.reading = Some(reading);
                return slot.wait(Busy::Fetch);
            }
            Err(errno) => stop = Stop::Failed(errno),
        }
    }
    if stop == Stop::Full && reading.left() != 0 {
        return slot.reading = Some(reading);
    }
    out.keep_mapping(false);
    // Gives back memory.
    out.truncate(out.len());
    let _ = json::check(message).map(|message| {
        let (mut reply, _) = request::open(message, out);
        let outcome = match stop {
            Stop::Failed(errno) if reading.done == 0 => {
                let error = reply.fail().text("failed to read file");
                Err(error.errno(number(errno)).end())
            }
            _ => {
                let mut object = reply.resume();
                object.member("count").uint(reading.done as u64);
                object.member("eof").bool(stop == Stop::End);
                object.end();
                Ok(())
            }
        };
        reply.finish(outcome);
    });
    slot.message_done();
}

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
    if let Ok(room) = out.extend(encoded_len(piece)) {
        let from = room.len() / 4;
        (len, stop) = match state.files.handles.get(reading.handle) {
            Ok(file) => handles::read(file, &mut room[from..from + piece], wait),
            Err(errno) => (0, Stop::Failed(errno)),
        };
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
    mut reading: Reading,
    owner: Owner,
    out: &mut Buffer,
    context: &mut Context<'_>,
) -> Result<(), Errno> {
    let handle = reading.handle;
    context.state.files.handles.seize(handle)?;
    context.state.files.at_hand = handle;
    let mut work = |state: &mut State, out: &mut dyn Store| {
        state.files.handles.give_back(handle);
        let before = reading.done;
        let mut text = Buffer::lasting(2 * FETCH_BYTES);
        let stop = add_piece(&mut reading, &mut text, state, FETCH_BYTES, true);
        let [a, b, c, d, ..] = (reading.done - before).to_le_bytes();
        let _ = out.append(text.bytes());
        let _ = out.append(&[a, b, c, d, stop.code()]);
        0
    };
    let started = context.start((FETCH, false, false), owner, out, &mut work);
    if started.is_err() {
        context.state.files.handles.give_back(handle);
    }
    started
}

/// Takes over what a child has read, if it came to an end of its own.
pub(super) fn take_over(slot: &mut Slot, whole: bool) {
    let start = slot.reply_start();
    let Some(mut reading) = slot.reading.take() else {
        return slot.message_done();
    };
    let (_, out) = slot.message_and_out();
    let trailer = out.bytes().get(start..).and_then(<[u8]>::last_chunk);
    let (mut end, mut stop) = (start, Stop::Failed(Errno::IO));
    if let Some([a, b, c, d, code]) = trailer
        && whole
    {
        end = out.len() - TRAILER;
        stop = Stop::of(*code);
        reading.done += u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    }
    out.truncate(end);
    reading.stop = Some(stop);
    slot.reading = Some(reading);
    slot.wait(Busy::Reading);
}
