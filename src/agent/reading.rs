//! guest-file-read: a reply that leaves while it is made, because it may be larger than the guest's
//! memory has room for.
//!
//! Each piece is read into the client's outgoing bytes, right behind where its text will stand, and
//! is turned into text there. The next one follows when the client has taken that. Nothing leaves
//! before the first read has succeeded, so that it can still be an error; after that, an error ends
//! the reply early, with the number of bytes that it has.

use super::client::{Busy, Slot};
use super::dispatch::Context;
use super::jobs::Owner;
use crate::base::base64::{encode_within, encoded_len};
use crate::base::limits::{FETCH_BYTES, READ_PIECE_BYTES};
use crate::base::store::Store;
use crate::commands::file::FETCHED;
use crate::state::State;
use crate::sys::handles::{self, Stop};
use crate::sys::{Errno, number};
use crate::wire::{json, request};

/// How the reply begins.
const START: &[u8] = br#"{"return": {"buf-b64": ""#;

/// Reads the next piece for the client at `place`.
pub(super) fn go_on(place: usize, slot: &mut Slot, context: &mut Context<'_>) {
    let owner = Owner {
        place,
        generation: slot.generation(),
    };
    let Some(mut reading) = slot.reading.take() else {
        return;
    };
    let (message, out) = slot.message_and_out();
    let start = out.len();
    let piece = reading.left().min(READ_PIECE_BYTES);
    let file = context.state.files.handles.get(reading.handle);
    out.keep_mapping(true);
    if reading.done == 0 {
        let _ = out.append(START);
    }
    let text = out.len();
    let (mut len, mut stop, mut text_len) = (0, Stop::Failed(Errno::NOMEM), 0);
    if let Ok(room) = out.extend(encoded_len(piece)) {
        let from = room.len() / 4;
        (len, stop) = match file {
            Ok(file) => handles::read(file, &mut room[from..from + piece], reading.fetched),
            Err(errno) => (0, Stop::Failed(errno)),
        };
        text_len = encode_within(room, from, len);
    }
    out.truncate(text + text_len);
    let first = reading.done == 0 && len == 0;
    reading.done += len;
    // Without a child to fetch it, what is on disk is waited for.
    reading.fetched = stop == Stop::OnDisk;
    match stop {
        Stop::Full if reading.left() != 0 => return slot.reading = Some(reading),
        Stop::OnDisk => {
            if first {
                out.truncate(start);
            }
            let mut work = |state: &mut State, _: &mut dyn Store| {
                if let Ok(file) = state.files.handles.get(reading.handle) {
                    handles::fetch(file, reading.left().min(FETCH_BYTES));
                }
                0
            };
            let started = context.start((FETCHED, false, false), owner, out, &mut work);
            slot.reading = Some(reading);
            if started.is_ok() {
                slot.wait(Busy::Fetch);
            }
            return;
        }
        _ => {}
    }
    out.keep_mapping(false);
    let error = match stop {
        Stop::Failed(errno) if first => Some(errno),
        _ => None,
    };
    // Cuts off the beginning, or gives back memory.
    out.truncate(if error.is_some() { start } else { out.len() });
    let _ = json::check(message).map(|message| {
        let (mut reply, _) = request::open(message, out);
        let outcome = match error {
            Some(errno) => {
                let error = reply.fail().text("failed to read file");
                Err(error.errno(number(errno)).end())
            }
            None => {
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
