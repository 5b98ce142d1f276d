//! Commands in a guest with the busybox image, over its second serial port.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::wait;

/// What the guest says when it begins to listen; before that it takes nothing in.
const READY: &str = "shell: ready ";

/// A shell in the guest. It takes one command at a time.
pub struct GuestShell {
    stream: UnixStream,
    received: Vec<u8>,
    count: u32,
    boot: String,
}

/// How a command in the guest went.
#[derive(Debug)]
pub struct Ran {
    /// Everything it wrote, standard error included, without the last line end.
    pub output: String,
    /// Its status.
    pub status: i32,
}

impl GuestShell {
    /// Connects to the host's end of the port. To be done while the guest still boots: what it says
    /// with nobody connected is lost.
    pub fn connect(path: &Path) -> GuestShell {
        let stream = wait::until(wait::ANSWER, || UnixStream::connect(path).ok())
            .unwrap_or_else(|| panic!("no serial port at {}", path.display()));
        GuestShell {
            stream,
            received: Vec::new(),
            count: 0,
            boot: String::new(),
        }
    }

    /// Waits until the guest serves the shell in another boot than the last one this was said of.
    pub fn wait_boot(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.receive_to(READY, left).is_none() {
                return false;
            }
            // A guest on its way down starts a new shell, too.
            let boot = self.receive_to("\n", wait::ANSWER).unwrap_or_default();
            if self.boot != boot {
                self.boot = boot;
                return true;
            }
        }
        false
    }

    /// Runs a command, with a limit.
    pub fn try_run(&mut self, command: &str, limit: Duration) -> Ran {
        self.count += 1;
        let marker = format!("\n@@{}@ ", self.count);
        let quoted = command.replace('\'', r"'\''");
        // A shell of its own: whatever the command does, the one that reads us stays.
        let line = format!(
            "sh -c '{quoted}' </dev/null 2>&1; printf '\\n@@%d@ %d @\\n' {} $?\n",
            self.count
        );
        assert!(line.len() < 4000, "too long for a terminal: {command}");
        self.stream
            .write_all(line.as_bytes())
            .expect("the serial port takes our bytes");
        let output = self.receive_to(&marker, limit);
        let status = output
            .as_ref()
            .and_then(|_| self.receive_to(" @\n", wait::ANSWER));
        let (Some(mut output), Some(status)) = (output, status) else {
            let said = String::from_utf8_lossy(&self.received);
            panic!(
                "in the guest, after {} s: {command}\n{said}",
                limit.as_secs()
            );
        };
        if output.ends_with('\n') {
            output.pop();
        }
        Ran {
            output,
            status: status
                .parse()
                .unwrap_or_else(|_| panic!("status {status:?}")),
        }
    }

    /// Runs a command that must succeed; gives what it wrote.
    pub fn run(&mut self, command: &str) -> String {
        let ran = self.try_run(command, wait::ANSWER);
        assert!(
            ran.status == 0,
            "in the guest: {command}: {}\n{}",
            ran.status,
            ran.output
        );
        ran.output
    }

    /// Runs a command; tells whether it succeeded.
    pub fn test(&mut self, command: &str) -> bool {
        self.try_run(command, wait::ANSWER).status == 0
    }

    /// Kills the image's agent and starts it with these arguments. A port has one reader at a time, so
    /// the next run has to wait until the last one is gone.
    pub fn restart_agent(&mut self, arguments: &str) {
        self.restart_agent_in("", arguments);
    }

    /// The same, with variables, as `A=1 B=2`.
    pub fn restart_agent_in(&mut self, variables: &str, arguments: &str) {
        self.run(&format!(
            "p=$(cat /run/agent.pid 2>/dev/null || echo none); kill -KILL $p 2>/dev/null; \
             while [ -e /proc/$p/exe ]; do sleep 0.1; done; \
             {variables} /usr/bin/gaunt {arguments} </dev/null >>/run/agent.log 2>&1 & echo $! >/run/agent.pid"
        ));
    }

    /// Takes what comes before `marker`, and the marker; `None` when the limit passes first.
    fn receive_to(&mut self, marker: &str, limit: Duration) -> Option<String> {
        let end = Instant::now() + limit;
        loop {
            let found = self
                .received
                .windows(marker.len())
                .position(|w| w == marker.as_bytes());
            if let Some(at) = found {
                let before: Vec<u8> = self.received.drain(..at + marker.len()).take(at).collect();
                return Some(String::from_utf8_lossy(&before).into_owned());
            }
            let left = end.checked_duration_since(Instant::now())?;
            self.stream
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .expect("a time limit");
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}
