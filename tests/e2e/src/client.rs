//! A client of the protocol that sees every byte.
//!
//! It starts as libvirt does: `guest-sync` with a number, and whatever comes before the answer with
//! that number is skipped.

use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::wait;

/// A connection to an agent.
pub struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    /// How long an answer may take.
    pub limit: Duration,
}

/// What an agent says when it will not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `GenericError` or `CommandNotFound`.
    pub class: String,
    /// The text.
    pub desc: String,
}

impl Client {
    /// Connects, waiting for the socket to be there.
    pub fn connect(path: &Path) -> Client {
        let stream = wait::until(wait::ANSWER, || UnixStream::connect(path).ok())
            .unwrap_or_else(|| panic!("nobody listens at {}", path.display()));
        Client {
            stream,
            received: Vec::new(),
            limit: wait::ANSWER,
        }
    }

    /// The connection itself, for a test that misbehaves.
    pub fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the agent takes our bytes");
    }

    fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.set_write_timeout(Some(self.limit))?;
        self.stream.write_all(bytes.as_ref())
    }

    /// Receives a line, without its end; `None` when the limit passes or the agent is gone.
    pub fn line(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + limit;
        let mut searched = 0;
        loop {
            if let Some(at) = self.received[searched..]
                .iter()
                .position(|&byte| byte == b'\n')
            {
                let mut line: Vec<u8> = self.received.drain(..=searched + at).collect();
                line.pop();
                return Some(line);
            }
            searched = self.received.len();
            let left = end.checked_duration_since(Instant::now())?;
            self.stream
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .expect("a time limit");
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// Receives a reply; panics if there is none in time, or if it is not JSON.
    pub fn reply(&mut self) -> Value {
        let line = self
            .line(self.limit)
            .unwrap_or_else(|| panic!("no reply within {} s", self.limit.as_secs()));
        parse(&line)
    }

    /// Sends a request as it stands and receives its reply.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Value {
        self.send(request);
        self.reply()
    }

    /// Runs a command.
    pub fn try_call(&mut self, command: &str, arguments: Value) -> Result<Value, Refusal> {
        let mut reply = self.ask(request(command, &arguments));
        if let Some(value) = reply.get_mut("return") {
            return Ok(value.take());
        }
        let error = reply
            .get("error")
            .unwrap_or_else(|| panic!("neither: {reply}"));
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

    /// Gets in step with the agent; tells after how many other lines.
    pub fn sync(&mut self, limit: Duration) -> Option<usize> {
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

/// A request as libvirt writes it: no blanks, `execute` first, `arguments` left out when empty.
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

/// A reply line as JSON.
pub fn parse(line: &[u8]) -> Value {
    serde_json::from_slice(line)
        .unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(line)))
}
