//! Appends what a child sends to the outgoing bytes of its client. If the client is gone, it is
//! dropped.

use super::child::Report;
use super::client::{Busy, Client};
use super::file_stream;
use super::ids::ClientId;
use crate::base::sink::ByteSink;
use crate::commands::{HAS_FILES, Outcome};
use crate::wire::request;
use crate::wire::texts::{Name, Phrase};

/// Delivers a report of a job to its client, unless the client is gone.
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
            // A reply that outgrows the buffer is an error at its end.
            let _ = client.out.append(bytes);
        }
        Report::Over(outcome) => finish(client, outcome),
    }
}

/// Lets the reply of a job leave. The reply of a program that was started is written here, as is
/// the error of a job whose child was lost or whose reply is not whole.
fn finish(client: &mut Client, outcome: Outcome) {
    client.has_events = true;
    // A full buffer has dropped bytes.
    let whole = outcome != Outcome::Lost && client.out.whole().is_ok();
    if HAS_FILES && client.busy == Busy::Fetch && client.reading.is_some() {
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
        let mut reply = request::reply_to(client.framer.message(client.message.bytes()), out);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::client::{Memory, Transport, admit};
    use crate::agent::ids::ChannelId;
    use crate::sys::poll::Poll;
    use crate::sys::testing::connection;
    use std::os::unix::net::UnixStream;

    /// A client whose command runs, and the host at its other end.
    fn waiting() -> ([Client; 1], UnixStream) {
        let memory = Box::leak(Box::new(Memory::EMPTY));
        let mut clients = [Client::new(0, memory)];
        let (ours, theirs) = connection();
        let poll = Poll::new().unwrap();
        let channel = ChannelId(0);
        admit(&mut clients, ours, channel, Transport::Connection, &poll).unwrap();
        let client = &mut clients[0];
        client.out.append(b"the reply before\n").unwrap();
        let request = br#"{"execute":"guest-get-fsinfo","id":5}"#;
        client.framer.feed(request, &mut client.message);
        client.wait(Busy::Job);
        (clients, theirs)
    }

    #[test]
    fn reply_is_appended_and_may_leave_when_the_job_is_over() {
        let (mut clients, _host) = waiting();
        let id = clients[0].id();
        deliver(id, Report::Bytes(b"half "), &mut clients);
        deliver(id, Report::Bytes(b"a reply\n"), &mut clients);
        assert_eq!(clients[0].sendable(), 17);
        assert_eq!(clients[0].busy, Busy::Job);
        deliver(id, Report::Over(Outcome::Replied(0)), &mut clients);
        assert_eq!(clients[0].out.bytes(), b"the reply before\nhalf a reply\n");
        assert_eq!((clients[0].sendable(), clients[0].busy), (30, Busy::No));
    }

    #[test]
    fn reply_that_is_not_whole_becomes_an_error() {
        for (bytes, outcome) in [
            (&b"half a rep"[..], Outcome::Lost),
            (b"a whole reply\n", Outcome::Lost),
            (b"half a rep", Outcome::Replied(0)),
        ] {
            let (mut clients, _host) = waiting();
            let id = clients[0].id();
            deliver(id, Report::Bytes(bytes), &mut clients);
            deliver(id, Report::Over(outcome), &mut clients);
            let sent = String::from_utf8(clients[0].out.bytes().to_vec()).unwrap();
            let reply = sent.strip_prefix("the reply before\n").unwrap();
            assert!(reply.starts_with(r#"{"error": "#), "{reply}");
            assert!(reply.ends_with("\"id\": 5}\n"), "{reply}");
        }
    }

    #[test]
    fn started_program_replies_with_its_number() {
        let (mut clients, _host) = waiting();
        let id = clients[0].id();
        deliver(id, Report::Over(Outcome::Started(4711)), &mut clients);
        let sent = String::from_utf8(clients[0].out.bytes().to_vec()).unwrap();
        let reply = r#"{"return": {"pid": 4711}, "id": 5}"#;
        assert_eq!(sent, format!("the reply before\n{reply}\n"));
    }

    #[test]
    fn report_for_a_client_that_is_gone_is_dropped() {
        let (mut clients, _host) = waiting();
        let id = clients[0].id();
        let before = clients[0].out.len();
        for gone in [
            ClientId {
                generation: id.generation.wrapping_sub(1),
                ..id
            },
            ClientId { index: 1, ..id },
            ClientId::AGENT,
        ] {
            deliver(gone, Report::Bytes(b"x"), &mut clients);
            deliver(gone, Report::Over(Outcome::Lost), &mut clients);
            assert_eq!((clients[0].out.len(), clients[0].busy), (before, Busy::Job));
        }
    }
}
