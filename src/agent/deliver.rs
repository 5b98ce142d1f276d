//! From a slow command to the client that waits for it.

use super::client::{Busy, Client};
use super::file_stream;
use super::ids::ClientId;
use super::jobs::Report;
use crate::base::store::Store;
use crate::commands::Outcome;
use crate::wire::request;
use crate::wire::texts::{Name, Phrase};

/// Hands on what a job has to say, if its client is still there.
#[inline(never)]
pub(super) fn deliver(id: ClientId, report: Report<'_>, clients: &mut [Client]) {
    let Some(client) = clients.get_mut(id.index as usize) else {
        return;
    };
    if client.is_free() || client.id() != id {
        return;
    }
    match report {
        Report::Bytes(bytes) => {
            // A reply past its cap is found out by the missing end.
            let _ = client.out.append(bytes);
        }
        Report::Over(outcome) => finish(client, outcome),
    }
}

/// Lets the reply of a slow command leave. One that started a program gets its reply here; one whose
/// child was lost gets an error.
fn finish(client: &mut Client, outcome: Outcome) {
    client.has_events = true;
    // Past its cap the buffer drops bytes.
    let whole = outcome != Outcome::Lost && client.out.whole().is_ok();
    if client.busy == Busy::Fetch && client.reading.is_some() {
        return file_stream::take_over(client, whole);
    }
    let start = client.sendable();
    let out = &mut client.out;
    // An empty reply counts as complete.
    let ends = out.bytes().last().is_none_or(|last| *last == b'\n');
    let started = match outcome {
        Outcome::Started(pid) => Some(pid),
        _ => None,
    };
    if !(whole && ends && started.is_none()) {
        out.truncate(start);
        let mut reply = request::reopen(client.message.bytes(), out);
        let outcome = if let Some(pid) = started {
            let mut object = reply.value().object();
            object.member(Name::Pid).int(pid.into());
            Ok(())
        } else {
            Err(reply.fail(Phrase::EndedAbnormally))
        };
        reply.finish(outcome);
    }
    client.message_done();
}
