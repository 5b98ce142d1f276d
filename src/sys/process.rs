//! Processes: fork, wait, kill, exit, and starting the agent anew.
//!
//! rustix keeps fork and execve private; they are the bare system calls.
#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use super::raw;

/// The two sides of a fork.
pub enum Fork {
    /// In the agent; the child has this process number.
    Parent(i32),
    /// In the child.
    Child,
}

/// Duplicates this process.
///
/// The agent has one thread, no heap and no atfork handlers, so the child may go on with ordinary
/// code; all its memory is its own copy.
pub fn fork() -> Result<Fork, Errno> {
    // SAFETY: clone with no flag but the signal is fork: the child gets a copy of all memory and
    // goes on from here. What makes that dangerous, locks held by other threads at this moment,
    // cannot be: there are no other threads. The order of the arguments differs between machines,
    // but all after the first are 0.
    let pid = unsafe { raw::call(libc::SYS_clone, [libc::SIGCHLD as usize, 0, 0, 0, 0]) }?;
    Ok(match pid {
        0 => Fork::Child,
        // Process numbers end long before 2^31.
        pid => Fork::Parent(pid as i32),
    })
}

/// Ends this process at once, running nothing on the way out.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: exit_group takes any number, and does not return.
        let _ = unsafe { raw::call(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0]) };
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// A child that has ended and is hereby buried; `None` if there is none just now.
pub fn reap() -> Option<(i32, Ended)> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(ended) = ended(status) {
                    return Some((pid.as_raw_nonzero().get(), ended));
                }
            }
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

fn ended(status: WaitStatus) -> Option<Ended> {
    let exited = status.exit_status().map(Ended::Exited);
    exited.or_else(|| status.terminating_signal().map(Ended::Killed))
}

/// This process's number.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Whether this process is the init of its guest.
pub fn is_init() -> bool {
    rustix::process::getpid() == Pid::INIT
}

/// Sends a signal, by its number, to one process. Numbers are the kernel's: real-time signals
/// included, which the C libraries renumber.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    if pid <= 0 {
        return Err(Errno::SRCH);
    }
    // SAFETY: kill takes any two numbers; `pid` is positive, so it names one process, not a group.
    unsafe { raw::call(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0]) }.map(|_| ())
}

/// Sends a signal to every process but PID 1 and this one.
pub fn kill_all(signal: i32) {
    // SAFETY: kill takes any two numbers; the first one here means everybody.
    let _ = unsafe { raw::call(libc::SYS_kill, [usize::MAX, signal as usize, 0, 0, 0]) };
}

/// Starts this program anew in this process, with no arguments and no environment. Returns only if
/// that failed.
pub fn start_anew() {
    let path = c"/proc/self/exe";
    let argv = [path.as_ptr(), core::ptr::null()];
    let envp = [core::ptr::null()];
    // SAFETY: the path and the vectors end in NUL and null as execve wants, and outlive the call.
    let _ = unsafe {
        let [argv, envp] = [&argv[..], &envp].map(|vector| vector.as_ptr().expose_provenance());
        let path = path.as_ptr().expose_provenance();
        raw::call(libc::SYS_execve, [path, argv, envp, 0, 0])
    };
}

/// Leaves the session and the terminal of whoever started this process.
pub fn new_session() {
    let _ = rustix::process::setsid();
}

/// The mask taken off the mode of new files.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask));
}

/// Closes every descriptor from 3 to [`FIRST_LASTING`] but these two.
///
/// A child of the agent that hangs must not hold a client or a port open.
pub fn close_all_but(one: BorrowedFd<'_>, other: BorrowedFd<'_>) {
    let (one, other) = (one.as_raw_fd(), other.as_raw_fd());
    let (low, high) = (one.min(other), one.max(other));
    for (first, last) in [
        (3, low - 1),
        (low + 1, high - 1),
        (high + 1, FIRST_LASTING - 1),
    ] {
        if first <= last {
            // SAFETY: the descriptors closed belong to values of the agent, none of which the child
            // uses: it runs its work, which holds only these two and lasting ones, and exits without
            // dropping anything. A kernel without close_range leaves them open, which is only less
            // tidy.
            let _ = unsafe {
                let range = [first as usize, last as usize, 0, 0, 0];
                raw::call(libc::SYS_close_range, range)
            };
        }
    }
}

/// Where descriptors begin that children of the agent keep: open files and what belongs to programs
/// that run. All others, clients and ports among them, are fewer than this.
const FIRST_LASTING: i32 = 64;

/// Moves a descriptor to where children of the agent keep it.
pub fn make_lasting(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, FIRST_LASTING)
}

/// Names this machine.
pub fn set_host_name(name: &[u8]) -> Result<(), Errno> {
    rustix::system::sethostname(name)
}

/// SIGCONT: go on, if stopped.
pub const CONT: i32 = libc::SIGCONT;
/// SIGTERM: please end.
pub const TERM: i32 = libc::SIGTERM;
/// SIGKILL: end.
pub const KILL: i32 = libc::SIGKILL;
