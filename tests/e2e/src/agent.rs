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
use crate::reference::reference;
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
        Agent::start(&[], &agent_binary(), arguments)
    }

    /// Starts the reference with further arguments.
    pub fn reference(arguments: &[&str]) -> Agent {
        let scratch = Scratch::new();
        // All its files, and those of gaunt below, are copies: the account that the agent runs as
        // need not reach the source tree.
        reference().copy_to(scratch.path());
        let words = reference().words(scratch.path());
        Agent::start_in(scratch, &words, arguments)
    }

    /// Starts gaunt under callgrind, which counts its instructions.
    pub fn counted() -> Agent {
        let valgrind = program("valgrind", "valgrind");
        let valgrind = valgrind.to_str().expect("a plain path");
        let words = [
            valgrind,
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
        ];
        Agent::start(&words, &agent_binary(), &[])
    }

    /// Starts a copy of a program, by another program if `by` names one.
    fn start(by: &[&str], binary: &Path, arguments: &[&str]) -> Agent {
        let scratch = Scratch::new();
        let copy = scratch.join("agent");
        std::fs::copy(binary, &copy).unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
        let mut words: Vec<String> = by.iter().map(|word| word.to_string()).collect();
        words.push(copy.display().to_string());
        Agent::start_in(scratch, &words, arguments)
    }

    fn start_in(scratch: Scratch, words: &[String], arguments: &[&str]) -> Agent {
        let state = scratch.join("state");
        std::fs::create_dir(&state).expect("a directory");
        let log = std::fs::File::create(scratch.join("log")).expect("a log file");
        scratch.give_away();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
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
