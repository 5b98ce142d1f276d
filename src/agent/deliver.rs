//! From a slow command to the client that waits for it.

use super::client::{Busy, Slot};
use super::file_stream;
use super::ids::ClientId;
use super::jobs::Event;
use crate::base::store::Store;
use crate::base::texts::{Name, Phrase};
use crate::wire::request;

/// Hands on what a job has to say, if its client is still there.
#[inline(never)]
pub(super) fn deliver(client: ClientId, event: Event<'_>, slots: &mut [Slot]) {
    let Some(slot) = slots.get_mut(client.place as usize) else {
        return;
    };
    if slot.is_free() || slot.id() != client {
        return;
    }
    match event {
        Event::Bytes(bytes) => {
            // A reply past its cap is found out by the missing end.
            let _ = slot.out.append(bytes);
        }
        Event::Over { whole, started } => finish(slot, whole, started),
    }
}

/// Lets the reply of a slow command leave, or, unless it is whole, an error in its place. One that
/// `started` a program has none yet.
fn finish(slot: &mut Slot, whole: bool, started: Option<i32>) {
    slot.news = true;
    // Past its cap the buffer drops bytes.
    let whole = whole && slot.out.whole().is_ok();
    if slot.busy == Busy::Fetch && slot.reading.is_some() {
        return file_stream::take_over(slot, whole);
    }
    let start = slot.sendable();
    let out = &mut slot.out;
    // An empty reply counts as complete.
    let ends = out.bytes().last().is_none_or(|last| *last == b'\n');
    if !(whole && ends && started.is_none()) {
        out.truncate(start);
        let mut reply = request::reopen(slot.message.bytes(), out);
        let outcome = if let Some(pid) = started {
            let mut object = reply.value().object();
            object.member(Name::Pid).int(pid.into());
            object.end();
            Ok(())
        } else {
            Err(reply.say_only(Phrase::EndedAbnormally))
        };
        reply.finish(outcome);
    }
    slot.message_done();
}
