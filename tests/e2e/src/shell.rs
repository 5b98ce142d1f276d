//! Runs commands in a guest with the busybox image, over its second serial port.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::wait;

/// The guest prints this, followed by its boot identifier, when its shell begins to read.
const READY: &str = "shell: ready ";

/// A shell in the guest. It runs one command at a time.
pub struct GuestShell {
    connection: Connection,
    count: u32,
    boot: String,
}

/// The result of a command in the guest.
#[derive(Debug)]
pub struct Ran {
    /// Standard output and standard error, without the last line feed.
    pub output: String,
    /// Exit status.
    pub status: i32,
}

impl GuestShell {
    /// Connects to the host's end of the port. Connect before the guest has booted: the port drops
    /// output of the guest while no client is connected.
    pub fn connect(path: &Path) -> GuestShell {
        GuestShell {
            connection: Connection::open(path),
            count: 0,
            boot: String::new(),
        }
    }

    /// Waits until the shell is ready in a boot that no earlier call has seen. Returns false at the limit.
    pub fn wait_boot(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.receive_to(READY, left).is_none() {
                return false;
            }
            // A guest that shuts down starts the shell once more, with the same boot identifier.
            let boot = self.receive_to("\n", wait::ANSWER).unwrap_or_default();
            if self.boot != boot {
                self.boot = boot;
                return true;
            }
        }
        false
    }

    /// Runs a command. Panics if it does not end within the limit.
    pub fn try_run(&mut self, command: &str, limit: Duration) -> Ran {
        self.count += 1;
        let marker = format!("\n@@{}@ ", self.count);
        let quoted = command.replace('\'', r"'\''");
        // In a shell of its own, so that the command cannot end or change the shell that reads the port.
        let line = format!(
            "sh -c '{quoted}' </dev/null 2>&1; printf '\\n@@%d@ %d @\\n' {} $?\n",
            self.count
        );
        assert!(line.len() < 4000, "too long for a terminal: {command}");
        self.connection
            .stream
            .write_all(line.as_bytes())
            .expect("the serial port takes our bytes");
        let output = self.receive_to(&marker, limit);
        let status = output
            .as_ref()
            .and_then(|_| self.receive_to(" @\n", wait::ANSWER));
        let (Some(mut output), Some(status)) = (output, status) else {
            panic!(
                "in the guest: still running after {} s: {command}\n{}",
                limit.as_secs(),
                self.connection.rest()
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

    /// Runs a command that must succeed. Returns its output.
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

    /// Runs a command. Returns whether it succeeded.
    pub fn test(&mut self, command: &str) -> bool {
        self.try_run(command, wait::ANSWER).status == 0
    }

    /// Starts a write to a file in `directory`, in the background.
    pub fn begin_write(&mut self, directory: &str) -> BackgroundWrite {
        // No other write, not even one of a failed check, reports its end there.
        let done = format!("/run/written.{}", self.count);
        self.run(&format!(
            "(echo x >{directory}/written && sync {directory}/written && touch {done}) \
             >/dev/null 2>&1 &"
        ));
        BackgroundWrite { done }
    }

    /// Returns the number of the agent's processes that hang in the kernel.
    pub fn hanging_agents(&mut self) -> usize {
        let agents = "grep -l '^gaunt$' /proc/[0-9]*/comm | sed s/comm/status/";
        let hanging = self.run(&format!("grep -l '^State:.D' $({agents}) || true"));
        hanging.lines().count()
    }

    /// Waits until a freeze hangs in the kernel, in one process of the agent.
    pub fn wait_hanging_freeze(&mut self) {
        // Each ioctl waits for the disk for a moment: the one that hangs is there later, too.
        wait::expect("a freeze that hangs", wait::ANSWER, || {
            let hanging = self.hanging_agents();
            std::thread::sleep(Duration::from_millis(500));
            hanging == 1 && self.hanging_agents() == 1
        });
    }

    /// Kills the image's agent and starts it again with these arguments. The port can be opened only
    /// once, so the new agent starts after the old one is gone.
    pub fn restart_agent(&mut self, arguments: &str) {
        self.restart_agent_in("", arguments);
    }

    /// As [`GuestShell::restart_agent`], with environment variables: `A=1 B=2`.
    pub fn restart_agent_in(&mut self, variables: &str, arguments: &str) {
        // A process closes its descriptors before it becomes a zombie, but after it has lost its program.
        self.run(&format!(
            "p=$(cat /run/agent.pid 2>/dev/null || echo none); kill -KILL $p 2>/dev/null; \
             while grep -qs '^State:.[^Z]' /proc/$p/status; do sleep 0.1; done; \
             {variables} /usr/bin/gaunt {arguments} </dev/null >>/run/agent.log 2>&1 & echo $! >/run/agent.pid"
        ));
    }

    /// Takes the output before `marker`, and the marker. `None` at the limit.
    fn receive_to(&mut self, marker: &str, limit: Duration) -> Option<String> {
        let before = self.connection.take_to(marker.as_bytes(), limit)?;
        Some(String::from_utf8_lossy(&before).into_owned())
    }
}

/// A write in the guest that may be blocked.
pub struct BackgroundWrite {
    /// The file that exists once the write has completed.
    done: String,
}

impl BackgroundWrite {
    /// Returns whether the write has completed.
    pub fn is_done(&self, shell: &mut GuestShell) -> bool {
        shell.test(&format!("test -e {}", self.done))
    }

    /// Waits until the write has completed.
    pub fn wait(&self, shell: &mut GuestShell) {
        wait::expect("a write", wait::ANSWER, || self.is_done(shell));
    }

    /// Asserts that the write is blocked.
    pub fn assert_blocked(&self, shell: &mut GuestShell) {
        std::thread::sleep(wait::SETTLE);
        assert!(!self.is_done(shell), "a write completed that must not");
    }
}
