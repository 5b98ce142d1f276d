//! Agents on this machine, on a unix socket, without a guest.
//!
//! When the tests run as root the agent does not: an agent that could freeze, trim, reboot or set
//! the clock would do it to this machine. Nothing here ever sends `guest-shutdown` with a mode that
//! is valid, or `guest-fsfreeze-freeze`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::agent_binary;
use crate::client::Client;
use crate::process::{Process, program};
use crate::scratch::{NOBODY, Scratch, is_root};
use crate::wait;

/// A running agent.
pub struct Agent {
    process: Process,
    scratch: Scratch,
}

impl Agent {
    /// Starts gaunt with further arguments.
    pub fn gaunt(arguments: &[&str]) -> Agent {
        Agent::start(&agent_binary(), arguments)
    }

    /// Starts the reference with further arguments.
    pub fn reference(arguments: &[&str]) -> Agent {
        Agent::start(&program("qemu-ga", "qemu-guest-agent"), arguments)
    }

    /// Starts gaunt under callgrind, which counts its instructions.
    pub fn counted() -> Agent {
        let valgrind = program("valgrind", "valgrind");
        let words = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
        Agent::start_by(Some((&valgrind, &words)), &agent_binary(), &[])
    }

    fn start(binary: &Path, arguments: &[&str]) -> Agent {
        Agent::start_by(None, binary, arguments)
    }

    fn start_by(by: Option<(&Path, &[&str])>, binary: &Path, arguments: &[&str]) -> Agent {
        let scratch = Scratch::new();
        // A copy, because the account it will run as need not reach the source tree.
        let copy = scratch.join("agent");
        std::fs::copy(binary, &copy).unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
        let state = scratch.join("state");
        std::fs::create_dir(&state).expect("a directory");
        let log = std::fs::File::create(scratch.join("log")).expect("a log file");
        scratch.give_away();
        let mut command = match by {
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(&copy);
                command
            }
            None => Command::new(&copy),
        };
        command
            .args(["-m", "unix-listen", "-p"])
            .arg(scratch.join("socket"));
        command.arg("-t").arg(&state).args(arguments);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let agent = Agent {
            process: Process::spawn(&mut command),
            scratch,
        };
        let socket = agent.socket();
        wait::expect("the agent's socket", wait::ANSWER, || socket.exists());
        agent
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("socket")
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.scratch.join("state")
    }

    /// Connects to it.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// Ends one that is counted; gives its instructions, all of them.
    pub fn instructions(mut self) -> u64 {
        self.process.signal(libc::SIGTERM);
        assert!(self.process.wait(wait::ANSWER).is_some());
        let log = self.log();
        let line = log.split("Collected : ").nth(1);
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no count in:\n{log}"))
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Attaches strace to it with these arguments.
    pub fn trace(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new(program("strace", "strace"));
        command
            .args(["-f", "-qq"])
            .args(arguments)
            .args(["-p", &self.process.id().to_string()]);
        let tracer = Process::spawn(&mut command);
        wait::expect("the tracer", wait::ANSWER, || self.status("TracerPid") != 0);
        tracer
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }

    /// A line of its `/proc/PID/status` that holds a number.
    pub fn status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let line = text
            .lines()
            .find(|line| line.split(':').next() == Some(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {path}"))
    }

    /// How much memory it has to itself or shares, in kB.
    pub fn resident_kb(&self) -> u64 {
        self.status("VmRSS")
    }

    /// The most memory it ever had, in kB.
    pub fn peak_kb(&self) -> u64 {
        self.status("VmHWM")
    }
}
