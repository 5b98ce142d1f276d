//! A client of the protocol that sees every byte.
//!
//! It synchronizes as libvirt does: it sends `guest-sync` with a number, and skips all lines before
//! the reply with that number.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::checks;
use crate::connection::Connection;
use crate::wait;

/// A connection to an agent.
pub struct Client {
    connection: Connection,
    /// Time limit of one reply.
    pub limit: Duration,
    /// Number of failed checks when it last synchronized.
    failures: usize,
}

/// An error reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `GenericError` or `CommandNotFound`.
    pub class: String,
    /// The text of the error.
    pub desc: String,
}

impl Client {
    /// Connects to the agent. Waits until its socket exists.
    pub fn connect(path: &Path) -> Client {
        Client {
            connection: Connection::open(path),
            limit: wait::ANSWER,
            failures: checks::failures(),
        }
    }

    /// Returns the socket, for a test that misuses it.
    pub fn stream(&mut self) -> &mut UnixStream {
        &mut self.connection.stream
    }

    /// Sends bytes. Synchronizes first if a check has failed since: it may have left half a request, or
    /// replies that nobody has read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if self.failures != checks::failures() {
            // 0xFF ends half a request.
            let _ = self.try_send([0xFF]);
            self.sync(self.limit);
        }
        self.try_send(bytes).expect("the agent takes our bytes");
    }

    fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        let stream = &mut self.connection.stream;
        stream.set_write_timeout(Some(self.limit))?;
        stream.write_all(bytes.as_ref())
    }

    /// Receives a line, without its line feed. `None` when the limit passes or the agent is gone.
    pub fn line(&mut self, limit: Duration) -> Option<Vec<u8>> {
        self.connection.take_to(b"\n", limit)
    }

    /// Receives a reply. Panics if none comes in time, or if it is not JSON.
    pub fn reply(&mut self) -> Value {
        let line = self
            .line(self.limit)
            .unwrap_or_else(|| panic!("no reply within {} s", self.limit.as_secs()));
        parse(&line)
    }

    /// Sends the bytes of a request and receives its reply.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Value {
        self.send(request);
        self.reply()
    }

    /// Runs a command. Returns its value or its error.
    pub fn try_call(&mut self, command: &str, arguments: Value) -> Result<Value, Refusal> {
        let mut reply = self.ask(request(command, &arguments));
        if let Some(value) = reply.get_mut("return") {
            return Ok(value.take());
        }
        let error = reply
            .get("error")
            .unwrap_or_else(|| panic!("neither value nor error: {reply}"));
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        Err(Refusal {
            class: text("class"),
            desc: text("desc"),
        })
    }

    /// Runs a command that must succeed.
    pub fn call(&mut self, command: &str, arguments: Value) -> Value {
        self.try_call(command, arguments)
            .unwrap_or_else(|refusal| panic!("{command}: {}", refusal.desc))
    }

    /// Runs a command without arguments that must succeed.
    pub fn get(&mut self, command: &str) -> Value {
        self.call(command, json!({}))
    }

    /// Returns the commands that guest-info lists as disabled.
    pub fn disabled(&mut self) -> BTreeSet<String> {
        let info = self.get("guest-info");
        let rows = info["supported_commands"].as_array().expect("a list");
        let disabled = rows.iter().filter(|row| row["enabled"] == false);
        let names = disabled.map(|row| row["name"].as_str().expect("a name").to_owned());
        names.collect()
    }

    /// Synchronises with the agent. Returns the number of lines skipped before its reply.
    pub fn sync(&mut self, limit: Duration) -> Option<usize> {
        self.failures = checks::failures();
        let id = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("a clock after 1970")
            .as_micros() as i64;
        self.try_send(request("guest-sync", &json!({ "id": id })))
            .ok()?;
        let end = Instant::now() + limit;
        let mut skipped = 0;
        loop {
            let line = self.line(end.checked_duration_since(Instant::now())?)?;
            if serde_json::from_slice::<Value>(&line).is_ok_and(|value| value["return"] == id) {
                return Some(skipped);
            }
            skipped += 1;
        }
    }
}

/// Returns a request as libvirt writes it: no blanks, `execute` first, no `arguments` when empty.
pub fn request(command: &str, arguments: &Value) -> String {
    let command = Value::from(command);
    if arguments
        .as_object()
        .is_some_and(|members| members.is_empty())
    {
        format!("{{\"execute\":{command}}}\n")
    } else {
        format!("{{\"execute\":{command},\"arguments\":{arguments}}}\n")
    }
}

/// Parses a reply line. Panics if it is not JSON.
pub fn parse(line: &[u8]) -> Value {
    serde_json::from_slice(line)
        .unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(line)))
}
