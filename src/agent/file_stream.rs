//! guest-file-read: streams a file to a client, piece by piece, because the whole reply may not fit
//! into the guest's memory.
//!
//! Each piece is read into the client's outgoing buffer and encoded there. The next piece follows
//! when the client has taken most of the one before.
//!
//! The agent reads only what it need not wait for. A worker reads the rest, that is, what is on
//! disk and not in the page cache, and all of file systems that do not tell; it sends the encoded
//! text.
//!
//! Nothing leaves before the first read has succeeded, so that the reply can still be an error. A
//! later error ends the reply early, with the true count of bytes.

use super::client::{Busy, Client};
use super::context::Context;
use super::fetch::{add_text, take_trailer};
use super::ids::ClientId;
use crate::base::limits::{FETCH_BYTES, READ_PIECE_BYTES};
use crate::base::sink::ByteSink;
use crate::commands::{FETCH, Task, Ticket};
use crate::state::State;
use crate::state::files::Reading;
use crate::sys::handles::{self, ReadEnd};
use crate::sys::mem::Buffer;
use crate::sys::{Errno, number};
use crate::wire::request;
use crate::wire::texts::{Name, Phrase};

/// Bytes in four digits of base64: every piece but the last is a multiple of it.
const BASE64_UNIT: usize = 3;

/// The beginning of the reply.
const START: &[u8] = br#"{"return": {"buf-b64": ""#;

/// Adds the next piece to the reply of a client, or ends it.
#[inline(never)]
pub(super) fn go_on(client: &mut Client, context: &mut Context) {
    let id = client.id();
    let Some(reading) = &mut client.reading else {
        return;
    };
    let out = &mut client.out;
    let mut stop = match reading.stop.take() {
        Some(stop) => stop,
        None => add_piece(reading, out, &context.state),
    };
    if stop == ReadEnd::MustWait {
        match have_fetched(reading, id, context) {
            Ok(()) => {
                let reading = *reading;
                client.wait(Busy::Fetch);
                // Behind the end of what may leave: it leaves together with the worker's text.
                return begin(&reading, &mut client.out);
            }
            Err(errno) => stop = ReadEnd::Failed(errno),
        }
    }
    if stop == ReadEnd::Full && reading.left() != 0 {
        return;
    }
    let done = reading.done;
    client.reading = None;
    let mut reply = request::reply_to(client.framer.message(client.message.bytes()), out);
    let outcome = match stop {
        ReadEnd::Failed(errno) if done == 0 => {
            Err(reply.fail_with(Phrase::CannotReadFile, &[], number(errno)))
        }
        _ => {
            let mut object = reply.resume();
            object.member(Name::Count).uint(done as u64);
            object.member(Name::Eof).bool(stop == ReadEnd::End);
            Ok(())
        }
    };
    reply.finish(outcome);
    out.keep_mapping(false);
    // Returns borrowed memory.
    out.truncate(out.len());
    client.message_done();
}

/// Appends the text of the next piece; before the first piece, the beginning of the reply.
fn add_piece(reading: &mut Reading, out: &mut Buffer, state: &State) -> ReadEnd {
    let start = out.len();
    out.keep_mapping(true);
    begin(reading, out);
    let most = reading.left().min(READ_PIECE_BYTES);
    let file = state.files.handles.get(reading.handle);
    let (len, stop) = add_text(
        file,
        most,
        |file, buffer| handles::read_without_waiting(file, buffer, BASE64_UNIT),
        out,
    );
    if len == 0 && matches!(stop, ReadEnd::MustWait | ReadEnd::Failed(_)) {
        out.truncate(start);
    }
    reading.done += len;
    stop
}

/// Appends the beginning of the reply, if nothing was read yet.
fn begin(reading: &Reading, out: &mut Buffer) {
    if reading.done == 0 {
        let _ = out.append(START);
    }
}

/// Has a worker read the next piece. The handle is busy meanwhile, because another command on it
/// might have to wait, too.
fn have_fetched(reading: &Reading, id: ClientId, context: &mut Context) -> Result<(), Errno> {
    let task = Task::of(FETCH).ok_or(Errno::NOSYS)?;
    let ticket = Ticket {
        number: reading.left().min(FETCH_BYTES) as i64,
        file: Some(context.state.files.handles.seize(reading.handle)?),
    };
    context.start(&task, ticket, id, b"")
}

/// Takes the text and the trailer of a worker; an error if the worker was lost.
pub(super) fn take_over(client: &mut Client, whole: bool) {
    let start = client.sendable();
    client.wait(Busy::Reading);
    let (Some(reading), out) = (&mut client.reading, &mut client.out) else {
        return;
    };
    let fetched = take_trailer(&out.bytes()[start..]).filter(|_| whole);
    let (len, bytes, stop) = fetched.unwrap_or((0, 0, ReadEnd::Failed(Errno::IO)));
    out.truncate(start + len);
    if bytes == 0 && matches!(stop, ReadEnd::Failed(_)) {
        // Drops the beginning of the reply too: an error takes its place.
        out.truncate(start);
    }
    reading.done += bytes;
    reading.stop = Some(stop);
}

#[cfg(test)]
mod tests {
    use crate::agent::testing::{Agent, Host};
    use crate::base::base64::decode_in_place;
    use crate::sys::testing::Tree;

    /// Opens a file over the loop; returns its handle.
    fn open(agent: &mut Agent, host: &mut Host, path: &str) -> String {
        let request =
            format!(r#"{{"execute": "guest-file-open", "arguments": {{"path": "{path}"}}}}"#);
        let reply = agent.ask(host, &request);
        let handle = reply
            .strip_prefix("{\"return\": ")
            .unwrap_or_else(|| panic!("{reply}"));
        handle.strip_suffix('}').unwrap().into()
    }

    fn read_request(handle: &str, count: usize) -> String {
        let arguments = format!(r#"{{"handle": {handle}, "count": {count}}}"#);
        format!(r#"{{"execute": "guest-file-read", "arguments": {arguments}}}"#)
    }

    /// The bytes of a reply to guest-file-read, and what follows them.
    fn taken_apart(reply: &str) -> (Vec<u8>, &str) {
        let text = reply.strip_prefix(r#"{"return": {"buf-b64": ""#);
        let (text, rest) = text
            .unwrap_or_else(|| panic!("{reply}"))
            .split_once('"')
            .unwrap();
        let mut bytes = text.as_bytes().to_vec();
        let len = decode_in_place(&mut bytes).unwrap();
        bytes.truncate(len);
        (bytes, rest)
    }

    #[test]
    fn file_is_streamed_while_the_host_reads_and_other_clients_are_served() {
        let tree = Tree::new();
        let content: Vec<u8> = (0..3 << 20).map(|at: u32| ((at * 31) >> 7) as u8).collect();
        let path = tree.file("file", &content);
        let mut agent = Agent::new();
        let (mut host, mut other) = (agent.connect(), agent.connect());
        let handle = open(&mut agent, &mut host, path.to_str().unwrap());
        let ping = r#"{"execute": "guest-ping"}"#;
        host.send(read_request(&handle, 4 << 20).as_bytes());
        host.send(ping.as_bytes());
        agent.settle();
        // It waits for its host, who reads nothing yet.
        assert_eq!(agent.ask(&mut other, ping), r#"{"return": {}}"#);
        let reply = agent.reply(&mut host);
        let (bytes, rest) = taken_apart(&reply);
        assert!(bytes == content);
        assert_eq!(
            rest,
            format!(", \"count\": {}, \"eof\": true}}}}", content.len())
        );
        assert_eq!(agent.reply(&mut host), r#"{"return": {}}"#);
    }

    #[test]
    fn worker_reads_what_the_agent_would_have_to_wait_for() {
        let mut agent = Agent::new();
        let mut host = agent.connect();
        // Files of proc do not tell whether a read would wait.
        let handle = open(&mut agent, &mut host, "/proc/version");
        let content = std::fs::read("/proc/version").unwrap();
        let reply = agent.ask(&mut host, &read_request(&handle, 5));
        assert_eq!(
            taken_apart(&reply),
            (content[..5].to_vec(), r#", "count": 5, "eof": false}}"#)
        );
        let reply = agent.ask(&mut host, &read_request(&handle, 4096));
        let rest = format!(r#", "count": {}, "eof": true}}}}"#, content.len() - 5);
        assert_eq!(taken_apart(&reply), (content[5..].to_vec(), &rest[..]));
    }

    #[test]
    fn read_that_fails_at_once_is_an_error() {
        let mut agent = Agent::new();
        let mut host = agent.connect();
        let handle = open(&mut agent, &mut host, "/proc");
        let reply = agent.ask(&mut host, &read_request(&handle, 100));
        assert!(reply.contains(r#""desc": "failed to read file"#), "{reply}");
    }
}
