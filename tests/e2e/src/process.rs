//! Child processes that die with the tests.

use crate::wait;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Directories of system programs, which the PATH of an ordinary user may lack.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/libexec"];

/// Finds an installed program. Panics with the name of its package if it is missing.
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(SYSTEM_DIRECTORIES)
        .map(|directory| PathBuf::from(directory).join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            panic!("{name} is not installed: run `image/setup test` (Debian package {package})")
        })
}

/// Runs a program that must succeed. Returns its standard output. Panics with all output if it fails.
pub fn run(command: &mut Command, limit: Duration) -> String {
    let output = output(command, limit);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        text(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program. Returns its output and status. Panics at the time limit.
pub fn output(command: &mut Command, limit: Duration) -> Output {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let name = format!("{command:?}");
    let child = spawn_tied(command).unwrap_or_else(|error| panic!("{name}: {error}"));
    let pid = child.id();
    let (done, finished) = channel();
    std::thread::spawn(move || {
        let _ = done.send(child.wait_with_output());
    });
    match finished.recv_timeout(limit) {
        Ok(output) => output.unwrap_or_else(|error| panic!("{name}: {error}")),
        Err(_) => {
            signal(pid, libc::SIGKILL);
            panic!("{name}: still running after {} s", limit.as_secs());
        }
    }
}

/// Returns standard output and standard error of a program, for a message.
pub fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// A running program. Dropping it kills the program.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program.
    pub fn spawn(command: &mut Command) -> Process {
        let child = spawn_tied(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { child }
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Waits for its end. `None` at the limit.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait::until(limit, || self.ended())
    }

    /// Waits without a limit for its end.
    pub fn wait_without_limit(&mut self) -> ExitStatus {
        self.child.wait().expect("a child of ours")
    }

    /// Sends it a signal.
    pub fn signal(&self, number: i32) {
        signal(self.child.id(), number);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of the tests.
pub fn signal(pid: u32, number: i32) {
    let pid = i32::try_from(pid).expect("a process id");
    // Zero and negative numbers name process groups.
    assert!(pid > 1, "process id {pid}");
    // SAFETY: kill takes two numbers and touches no memory of this process.
    unsafe { libc::kill(pid, number) };
}

/// A command to start, and the channel that returns it with its child.
type Request = (Command, Sender<(Command, io::Result<Child>)>);

/// Starts a child that dies with this process, even when this process is killed.
///
/// PR_SET_PDEATHSIG ties the child to the thread that forked it, not to the process. So one thread,
/// which lives as long as the process, forks all children.
fn spawn_tied(command: &mut Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (send, receive) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in receive {
                let child = command.spawn();
                let _ = reply.send((command, child));
            }
        });
        Mutex::new(send)
    });
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl is one.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let (reply, answer) = channel();
    let moved = std::mem::replace(command, Command::new("true"));
    spawner
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .send((moved, reply))
        .expect("the spawner never ends");
    let (moved, child) = answer.recv().expect("the spawner answers every request");
    *command = moved;
    child
}
