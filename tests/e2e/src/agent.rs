//! Agents on this machine, on a unix socket, without a guest.
//!
//! When the tests run as root the agent does not: an agent that could freeze, trim, reboot or set
//! the clock would do it to this machine. Nothing here ever sends `guest-shutdown` with a mode that
//! is valid, or `guest-fsfreeze-freeze`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::client::Client;
use crate::process::{Process, program, run};
use crate::reference::reference;
use crate::scratch::{NOBODY, Scratch, is_root};
use crate::tree::Tree;
use crate::wait;
use crate::{agent_binary, plain_binary};

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

    /// Starts the plain build of gaunt.
    pub fn plain() -> Agent {
        Agent::start(&[], &plain_binary(), &[])
    }

    /// Starts the reference with further arguments.
    pub fn reference(arguments: &[&str]) -> Agent {
        let scratch = Scratch::new();
        // All its files are copies: the account that the agent runs as need not reach the source tree.
        reference().copy_to(scratch.path());
        let words = reference().words(scratch.path());
        Agent::start_in(scratch, &words, arguments)
    }

    /// Starts gaunt with an umask of its own, in octal.
    pub fn with_umask(mask: &str) -> Agent {
        let script = format!("umask {mask}; exec \"$@\"");
        let by = ["/bin/sh", "-c", &script, "sh"].map(str::to_owned);
        Agent::start(&by, &agent_binary(), &[])
    }

    /// Starts gaunt by another program, which it does not outlive.
    pub fn started_by(words: &[&str]) -> Agent {
        let tie = ["setpriv", "--pdeathsig", "KILL"];
        let words = words.iter().chain(&tie).map(|word| word.to_string());
        let words: Vec<String> = words.collect();
        Agent::start(&words, &agent_binary(), &[])
    }

    /// Starts gaunt under callgrind, which counts its instructions.
    pub fn counted() -> Agent {
        Agent::start(&counter(), &agent_binary(), &[])
    }

    /// Starts gaunt where the directories of `tree` are those of the machine, and the interfaces those
    /// that these lines for `ip -batch` make; as root only.
    ///
    /// It has a mount namespace and a network of its own. The directories are put in place once it
    /// runs, because callgrind needs the real /proc to start.
    pub fn in_tree(tree: &Tree, interfaces: &str) -> Agent {
        Agent::start_in_tree(&[], tree, interfaces)
    }

    /// As [`Agent::in_tree`], under callgrind.
    pub fn counted_in_tree(tree: &Tree, interfaces: &str) -> Agent {
        Agent::start_in_tree(&counter(), tree, interfaces)
    }

    fn start_in_tree(by: &[String], tree: &Tree, interfaces: &str) -> Agent {
        assert!(is_root(), "only root can make an agent see a made-up tree");
        let scratch = Scratch::new();
        let batch = scratch.join("interfaces");
        std::fs::write(&batch, interfaces).expect("a file");
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| word.to_string())
                .collect::<Vec<_>>()
        };
        let ip = program("ip", "iproute2");
        let set_up = format!("{} -batch {} && exec \"$@\"", ip.display(), batch.display());
        let user = NOBODY.to_string();
        let all = [
            words(&["unshare", "--mount", "--net", "sh", "-c", &set_up, "sh"]),
            words(&["setpriv", "--reuid", &user, "--regid", &user]),
            words(&["--clear-groups", "--pdeathsig", "KILL", "--"]),
            by.to_vec(),
            vec![copy(&agent_binary(), &scratch)],
        ];
        let mut command = Agent::command(&scratch, &all.concat(), &[]);
        let agent = Agent::run(&mut command, scratch);
        let namespace = format!("--mount=/proc/{}/ns/mnt", agent.process.id());
        for name in tree.top() {
            let from = tree.path().join(&name);
            let mut bind = Command::new(program("nsenter", "util-linux"));
            bind.args([&namespace, "mount", "--bind"]);
            bind.arg(from).arg(format!("/{name}"));
            run(&mut bind, wait::ANSWER);
        }
        agent
    }

    /// Starts a copy of a program, by another program if `by` names one.
    fn start(by: &[String], binary: &Path, arguments: &[&str]) -> Agent {
        let scratch = Scratch::new();
        let words = [by, &[copy(binary, &scratch)]].concat();
        Agent::start_in(scratch, &words, arguments)
    }

    fn start_in(scratch: Scratch, words: &[String], arguments: &[&str]) -> Agent {
        let mut command = Agent::command(&scratch, words, arguments);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Agent::run(&mut command, scratch)
    }

    /// The command that starts an agent, whose files are in `scratch`.
    fn command(scratch: &Scratch, words: &[String], arguments: &[&str]) -> Command {
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
        command
    }

    fn run(command: &mut Command, scratch: Scratch) -> Agent {
        let agent = Agent {
            process: Process::spawn(command),
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

    /// Ends one that is counted; gives its instructions and those of its children, all of them.
    pub fn instructions(mut self) -> u64 {
        let children = self.children();
        self.process.signal(libc::SIGTERM);
        assert!(self.process.wait(wait::ANSWER).is_some());
        wait::expect("the end of workers", wait::ANSWER, || {
            let gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
            children.iter().all(gone)
        });
        let log = self.log();
        // Each process tells its own when it ends.
        let counts = log.split("Collected : ").skip(1);
        let number = |rest: &str| rest.split_whitespace().next()?.parse::<u64>().ok();
        let counts: Vec<u64> = counts.filter_map(number).collect();
        assert!(!counts.is_empty(), "no count in:\n{log}");
        counts.iter().sum()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Attaches strace to it with these arguments.
    pub fn trace(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new(program("strace", "strace"));
        command.args(["-f", "-qq"]).args(arguments);
        // Its workers are there already; children that it makes later are followed.
        for pid in [self.process.id()].into_iter().chain(self.children()) {
            command.args(["-p", &pid.to_string()]);
        }
        let tracer = Process::spawn(&mut command);
        wait::expect("the tracer", wait::ANSWER, || self.status("TracerPid") != 0);
        tracer
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its children.
    pub fn children(&self) -> Vec<u32> {
        let pid = self.process.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let numbers = text.split_whitespace().map(str::parse);
        numbers.map(|number| number.expect("a number")).collect()
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

/// What starts a program under callgrind.
fn counter() -> Vec<String> {
    vec![
        program("valgrind", "valgrind").display().to_string(),
        "--tool=callgrind".to_owned(),
        "--callgrind-out-file=/dev/null".to_owned(),
    ]
}

/// Copies a program, because the account it will run as need not reach the source tree.
fn copy(binary: &Path, scratch: &Scratch) -> String {
    let copy = scratch.join("agent");
    std::fs::copy(binary, &copy).unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
    copy.display().to_string()
}
