//! Agents on this machine, on a unix socket, without a guest.
//!
//! When the tests run as root the agent runs as [`NOBODY`]: with root's privileges it would freeze,
//! trim, reboot or set the clock of this machine. As a second safeguard no test sends such an agent
//! `guest-fsfreeze-freeze`, or `guest-shutdown` with a valid mode.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::client::Client;
use crate::process::{Process, program, run};
use crate::reference::reference;
use crate::scratch::{NOBODY, Scratch, is_root};
use crate::tree::Tree;
use crate::wait;
use crate::{agent_binary, limited_binary, plain_binary};

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

    /// Starts the build of gaunt that has only the commands of this set, `lifecycle` or `info`.
    pub fn limited(set: &str) -> Agent {
        Agent::start(&[], &limited_binary(set), &[])
    }

    /// Starts the reference with further arguments.
    pub fn reference(arguments: &[&str]) -> Agent {
        let scratch = Scratch::new();
        // Copies, because the agent's account may lack access to the source tree.
        reference().copy_to(scratch.path());
        let words = reference().words(scratch.path());
        Agent::start_in(scratch, &words, arguments)
    }

    /// Starts gaunt with this umask, in octal.
    pub fn with_umask(mask: &str) -> Agent {
        let script = format!("umask {mask}; exec \"$@\"");
        let launcher = ["/bin/sh", "-c", &script, "sh"].map(str::to_owned);
        Agent::start(&launcher, &agent_binary(), &[])
    }

    /// Starts gaunt through a launcher, a program that runs the command behind its arguments. gaunt is
    /// killed when the launcher ends.
    pub fn started_by(launcher: &[&str]) -> Agent {
        let tie = ["setpriv", "--pdeathsig", "KILL"];
        let words = launcher.iter().chain(&tie).map(|word| word.to_string());
        let words: Vec<String> = words.collect();
        Agent::start(&words, &agent_binary(), &[])
    }

    /// Starts gaunt under callgrind, which counts its instructions.
    pub fn under_callgrind() -> Agent {
        Agent::start(&callgrind(), &agent_binary(), &[])
    }

    /// Starts gaunt in a mount namespace where the directories of `tree` hide the machine's, and in a
    /// network namespace with the interfaces that `interfaces`, input of `ip -batch`, creates. Root only.
    ///
    /// The directories are mounted after the start, because callgrind needs the real /proc to start.
    pub fn in_tree(tree: &Tree, interfaces: &str) -> Agent {
        Agent::start_in_tree(&[], tree, interfaces)
    }

    /// As [`Agent::in_tree`], under callgrind.
    pub fn under_callgrind_in_tree(tree: &Tree, interfaces: &str) -> Agent {
        Agent::start_in_tree(&callgrind(), tree, interfaces)
    }

    fn start_in_tree(launcher: &[String], tree: &Tree, interfaces: &str) -> Agent {
        assert!(is_root(), "only root can mount a made-up tree");
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
            launcher.to_vec(),
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

    /// Starts a copy of a program, through `launcher` unless that is empty.
    fn start(launcher: &[String], binary: &Path, arguments: &[&str]) -> Agent {
        let scratch = Scratch::new();
        let words = [launcher, &[copy(binary, &scratch)]].concat();
        Agent::start_in(scratch, &words, arguments)
    }

    fn start_in(scratch: Scratch, words: &[String], arguments: &[&str]) -> Agent {
        let mut command = Agent::command(&scratch, words, arguments);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Agent::run(&mut command, scratch)
    }

    /// Returns the command that starts an agent with its files in `scratch`.
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

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("socket")
    }

    /// Returns its state directory.
    pub fn state(&self) -> PathBuf {
        self.scratch.join("state")
    }

    /// Connects to it.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// Ends an agent that runs under callgrind. Returns the instructions of all its processes.
    pub fn instructions(mut self) -> u64 {
        let children = self.children();
        self.process.signal(libc::SIGTERM);
        assert!(self.process.wait(wait::ANSWER).is_some());
        wait::expect("the workers to end", wait::ANSWER, || {
            let gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
            children.iter().all(gone)
        });
        let log = self.log();
        // Each process logs its own count when it ends.
        let counts = log.split("Collected : ").skip(1);
        let number = |rest: &str| rest.split_whitespace().next()?.parse::<u64>().ok();
        let counts: Vec<u64> = counts.filter_map(number).collect();
        assert!(!counts.is_empty(), "no count in:\n{log}");
        counts.iter().sum()
    }

    /// Returns its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Attaches strace to it with these arguments.
    pub fn trace(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new(program("strace", "strace"));
        command.args(["-f", "-qq"]).args(arguments);
        // Workers that run already are named; -f follows children that start later.
        for pid in [self.process.id()].into_iter().chain(self.children()) {
            command.args(["-p", &pid.to_string()]);
        }
        let tracer = Process::spawn(&mut command);
        wait::expect("strace to attach", wait::ANSWER, || {
            self.status("TracerPid") != 0
        });
        tracer
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the process ids of its children.
    pub fn children(&self) -> Vec<u32> {
        let pid = self.process.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let numbers = text.split_whitespace().map(str::parse);
        numbers.map(|number| number.expect("a number")).collect()
    }

    /// Returns its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }

    /// Returns the number in one line of its `/proc/PID/status`.
    pub fn status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let line = text
            .lines()
            .find(|line| line.split(':').next() == Some(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {path}"))
    }

    /// Returns its resident memory, shared pages included, in kB.
    pub fn resident_kb(&self) -> u64 {
        self.status("VmRSS")
    }

    /// Returns the proportional set size of each of its processes, its own last, in kB.
    pub fn pss_kb(&self) -> Vec<u64> {
        let mut pids = self.children();
        pids.push(self.id());
        let pss = |pid: u32| {
            // A child may have ended.
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        pids.into_iter().filter_map(pss).collect()
    }

    /// Returns the peak of its resident memory, in kB.
    pub fn peak_kb(&self) -> u64 {
        self.status("VmHWM")
    }
}

/// Returns the launcher that runs a program under callgrind.
fn callgrind() -> Vec<String> {
    vec![
        program("valgrind", "valgrind").display().to_string(),
        "--tool=callgrind".to_owned(),
        "--callgrind-out-file=/dev/null".to_owned(),
    ]
}

/// Copies a program into `scratch`, because the agent's account may lack access to the source tree.
fn copy(binary: &Path, scratch: &Scratch) -> String {
    let copy = scratch.join("agent");
    std::fs::copy(binary, &copy).unwrap_or_else(|e| panic!("{}: {e}", binary.display()));
    copy.display().to_string()
}
