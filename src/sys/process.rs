//! Processes: fork, wait, kill, exit, and starting the agent anew.
//!
//! rustix keeps fork and execve private. execve is musl's; fork is the bare system call, because
//! musl's own brings 1 kB of care for threads that there are none of.
#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

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
    // cannot be: there are no other threads. The C library's own record of the process number,
    // which goes stale in the child, is used by nothing here. The order of the arguments differs
    // between machines, but all after the first are 0.
    match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
        0 => Ok(Fork::Child),
        pid if pid > 0 => i32::try_from(pid)
            .map(Fork::Parent)
            .map_err(|_| Errno::OVERFLOW),
        _ => Err(last_errno()),
    }
}

/// Ends this process at once, running nothing on the way out.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(status) }
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
    if unsafe { libc::kill(pid, signal) } == 0 {
        return Ok(());
    }
    Err(last_errno())
}

/// Sends a signal to every process but PID 1 and this one.
pub fn kill_all(signal: i32) {
    // SAFETY: kill takes any two numbers; the first one here means everybody.
    unsafe { libc::kill(-1, signal) };
}

/// Why the last call into the C library failed.
fn last_errno() -> Errno {
    // SAFETY: the C library keeps a valid errno for the one thread there is.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// Starts this program anew in this process, with no arguments and no environment. Returns only if
/// that failed.
pub fn start_anew() {
    let path = c"/proc/self/exe";
    let argv = [path.as_ptr(), core::ptr::null()];
    let envp = [core::ptr::null()];
    // SAFETY: the path and the vectors end in NUL and null as execve wants, and outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
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
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
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
