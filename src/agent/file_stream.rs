//! guest-file-read: a reply that leaves while it is made, because it may be larger than the guest's
//! memory has room for.
//!
//! Each piece is read into the client's outgoing bytes, right behind where its text will stand, and
//! is turned into text there. The next one follows when the client has taken that. What the agent
//! would have to wait for, because it is on disk or the file system does not say, a worker reads and
//! hands over as text. Nothing leaves before the first read has succeeded, so that it can still be an
//! error; after that, an error ends the reply early, with the number of bytes that it has.

use super::client::{Busy, Client};
use super::context::Context;
use super::fetch::{add_text, take_trailer};
use super::ids::ClientId;
use crate::base::limits::{FETCH_BYTES, READ_PIECE_BYTES};
use crate::base::store::Store;
use crate::commands::{FETCH, Task, Ticket};
use crate::state::State;
use crate::state::files::Reading;
use crate::sys::handles::{self, Stop};
use crate::sys::mem::Buffer;
use crate::sys::{Errno, number};
use crate::wire::request;
use crate::wire::texts::{Name, Phrase};

/// Bytes that four digits of base64 stand for: only the last piece may have a rest.
const BASE64_UNIT: usize = 3;

/// How the reply begins.
const START: &[u8] = br#"{"return": {"buf-b64": ""#;

/// Reads on for a client.
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
    if stop == Stop::MustWait {
        match have_fetched(reading, id, context) {
            Ok(()) => {
                let reading = *reading;
                client.wait(Busy::Fetch);
                // Like the text that the worker sends, it may leave only when all of that is there.
                return begin(&reading, &mut client.out);
            }
            Err(errno) => stop = Stop::Failed(errno),
        }
    }
    if stop == Stop::Full && reading.left() != 0 {
        return;
    }
    let done = reading.done;
    client.reading = None;
    let mut reply = request::reopen(client.message.bytes(), out);
    let outcome = match stop {
        Stop::Failed(errno) if done == 0 => {
            Err(reply.fail_with(Phrase::CannotReadFile, &[], number(errno)))
        }
        _ => {
            let mut object = reply.resume();
            object.member(Name::Count).uint(done as u64);
            object.member(Name::Eof).bool(stop == Stop::End);
            Ok(())
        }
    };
    reply.finish(outcome);
    out.keep_mapping(false);
    // Gives back memory.
    out.truncate(out.len());
    client.message_done();
}

/// Adds the text of the next piece to `out`, behind the beginning of the reply if it is the first.
fn add_piece(reading: &mut Reading, out: &mut Buffer, state: &State) -> Stop {
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
    if len == 0 && matches!(stop, Stop::MustWait | Stop::Failed(_)) {
        out.truncate(start);
    }
    reading.done += len;
    stop
}

/// Puts down the beginning of the reply, unless some of it is there.
fn begin(reading: &Reading, out: &mut Buffer) {
    if reading.done == 0 {
        let _ = out.append(START);
    }
}

/// Has a worker read the next piece. The handle is busy meanwhile: another command that used it could
/// have to wait, too.
fn have_fetched(reading: &Reading, id: ClientId, context: &mut Context) -> Result<(), Errno> {
    let task = Task::of(FETCH).ok_or(Errno::NOSYS)?;
    let ticket = Ticket {
        number: reading.left().min(FETCH_BYTES) as i64,
        file: Some(context.state.files.handles.seize(reading.handle)?),
    };
    context.start(&task, ticket, id, b"")
}

/// Takes over what a worker has read, or an error if it was lost.
pub(super) fn take_over(client: &mut Client, whole: bool) {
    let start = client.sendable();
    client.wait(Busy::Reading);
    let (Some(reading), out) = (&mut client.reading, &mut client.out) else {
        return;
    };
    let fetched = take_trailer(&out.bytes()[start..]).filter(|_| whole);
    let (len, bytes, stop) = fetched.unwrap_or((0, 0, Stop::Failed(Errno::IO)));
    out.truncate(start + len);
    if bytes == 0 && matches!(stop, Stop::Failed(_)) {
        // Also the beginning of a reply that has now an error in its place.
        out.truncate(start);
    }
    reading.done += bytes;
    reading.stop = Some(stop);
}

#[cfg(test)]
mod tests {
    use crate::agent::testing::{Agent, Host};
    use crate::base::base64::decode_in_place;
    use crate::sys::testing::Directory;

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
        let directory = Directory::new("stream");
        let path = directory.path.join("file");
        let content: Vec<u8> = (0..3 << 20).map(|at: u32| ((at * 31) >> 7) as u8).collect();
        std::fs::write(&path, &content).unwrap();
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
