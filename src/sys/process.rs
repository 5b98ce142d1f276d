//! Processes and their descriptors: clone(2), waitid(2), kill(2), exit_group(2), close_range(2).
//!
//! rustix keeps fork private, its waitid does not return the number of the child, and its type for
//! signals has no real-time signals; these are bare system calls.
#![allow(unsafe_code)]

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use static_assertions::const_assert_eq;

use super::{clock, power, raw, signal};
use crate::base::limits::{OPEN_FILES, PROGRAMS};

/// The two results of [`fork`].
pub enum Forked {
    /// In this process: the process number of the child.
    Parent(i32),
    /// In the child.
    Child(InChild),
}

/// Proof that this process is a child of the agent. Only [`fork`] makes it.
pub struct InChild {
    shares_files: bool,
}

/// Makes a child that is a copy of this process.
///
/// The agent has one thread, no heap and no atfork handlers, so the child may run any code.
///
/// With `shares_files` both processes have one table of descriptors: a descriptor that the child
/// opens or closes is open or closed here too, and stays open here when the child is killed. Such a
/// child must end without dropping values that it has from before the fork.
// Not inlined, to keep one copy of the code.
#[inline(never)]
pub fn fork(shares_files: bool) -> Result<Forked, Errno> {
    let flags = libc::SIGCHLD | if shares_files { libc::CLONE_FILES } else { 0 };
    // SAFETY: clone with these flags is fork: the child gets a copy of all memory and continues
    // here. It may share descriptors, as threads do. No other thread can hold a lock at this
    // moment: there is only one thread. The order of the arguments differs between processors, but
    // all after the first are 0.
    let pid = unsafe { raw::call(libc::SYS_clone, [flags as usize, 0, 0, 0, 0]) }?;
    Ok(match pid {
        0 => Forked::Child(InChild { shares_files }),
        // Process numbers are below 2^22.
        pid => Forked::Parent(pid as i32),
    })
}

/// Ends this process at once; drops nothing.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: exit_group takes any number, and does not return.
        let _ = unsafe { raw::call(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0]) };
    }
}

// `siginfo_t` of asm-generic/siginfo.h; waitid writes its beginning.
const_assert_eq!(size_of::<libc::siginfo_t>(), 128);

/// The way in which a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By exit, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Reaps a child that has ended. Returns its number, the way in which it ended, and whether it had
/// executed another program. `None` if no child has ended.
///
/// To find one, the kernel walks its list of all children, past those that still run.
pub fn reap() -> Option<(i32, Ended, bool)> {
    let (pid, ended) = look(libc::P_ALL, 0)?;
    Some((pid, ended, remove(pid)))
}

/// Reaps the child `pid` if it has ended, as [`reap`] does.
pub fn reap_child(pid: i32) -> Option<(Ended, bool)> {
    let (_, ended) = look(libc::P_PID, pid)?;
    Some((ended, remove(pid)))
}

/// Finds a child that has ended, and the way in which it ended; does not reap it.
fn look(kind: libc::idtype_t, pid: i32) -> Option<(i32, Ended)> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    wait(kind, pid, Some(&mut info), libc::WNOWAIT);
    // SAFETY: the kernel has written it, or it is zeros, which are valid for integers.
    let info = unsafe { info.assume_init() };
    // SAFETY: both are members that waitid writes for a child, or zeros.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let ended = match info.si_code {
        libc::CLD_EXITED => Ended::Exited(status),
        _ => Ended::Killed(status),
    };
    (pid > 0).then_some((pid, ended))
}

/// Removes a child that has ended from the table of processes. Returns whether it had executed
/// another program, which the kernel tells only before that.
fn remove(pid: i32) -> bool {
    let executed = has_executed(pid);
    wait(libc::P_PID, pid, None, 0);
    executed
}

fn wait(
    kind: libc::idtype_t,
    pid: i32,
    info: Option<&mut MaybeUninit<libc::siginfo_t>>,
    flags: i32,
) {
    let flags = flags | libc::WEXITED | libc::WNOHANG;
    let info = info.map_or(0, |info| info.as_mut_ptr().expose_provenance());
    // SAFETY: waitid writes at most one siginfo_t, which is borrowed and outlives the call; with a
    // null it writes none. The fifth argument is null: no `struct rusage` is written.
    let _ = unsafe {
        let args = [kind as usize, pid as usize, info, flags as usize, 0];
        raw::call(libc::SYS_waitid, args)
    };
}

/// Whether a child that is not reaped yet has executed another program.
///
/// After that the kernel refuses to move the child into another process group (setpgid(2)). A child
/// that has not executed a program is moved into a group of its own. So call this only for a child
/// that has executed a program or is about to end.
pub fn has_executed(pid: i32) -> bool {
    rustix::process::setpgid(Pid::from_raw(pid), None).is_err()
}

/// The number of this process.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// The number of the parent of this process; 0 for a parent in another PID namespace.
pub fn parent_pid() -> u32 {
    let parent = rustix::process::getppid();
    parent.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// Whether this process is the init of the machine, and not PID 1 of a container.
///
/// The kernel allows a change of Ctrl-Alt-Del in the first PID namespace only; /proc, which would
/// tell too, may not be mounted yet. Any error means no: a process without the privilege
/// (`CAP_SYS_BOOT`) could not do the work of an init either. The answer is remembered. A child of
/// the init is not the init.
pub fn is_init() -> bool {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    static OF_MACHINE: AtomicU8 = AtomicU8::new(UNKNOWN);
    if rustix::process::getpid() != Pid::INIT {
        return false;
    }
    if OF_MACHINE.load(Ordering::Relaxed) == UNKNOWN {
        let allowed = power::soften_ctrl_alt_del().is_ok();
        OF_MACHINE.store(if allowed { YES } else { NO }, Ordering::Relaxed);
    }
    OF_MACHINE.load(Ordering::Relaxed) == YES
}

/// Sends a signal to one process. The number is the kernel's: C libraries use others for real-time
/// signals. 0 sends nothing, but reports whether the process exists.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    if pid <= 0 {
        return Err(Errno::SRCH);
    }
    // SAFETY: kill takes any numbers. `pid` is positive, so it is one process, not a group.
    unsafe { raw::call(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0]) }.map(|_| ())
}

/// Sends a signal to every process but PID 1 and this one.
pub fn kill_all(signal: i32) {
    // SAFETY: kill takes any numbers. -1 stands for all processes.
    let _ = unsafe { raw::call(libc::SYS_kill, [usize::MAX, signal as usize, 0, 0, 0]) };
}

/// Closes every descriptor above 2, then calls `then`. For a process that is about to execute its
/// own program again.
pub fn close_all_and(then: fn() -> !) -> ! {
    // SAFETY: `then` captures nothing and does not return, so no value that owns a descriptor is
    // used or dropped after this. A value in a static is lent once (`mem::Lent`), to code that does
    // not continue either.
    unsafe { close_range(3, i32::MAX) };
    then()
}

/// Whether the child `pid` has not ended; false for 0.
pub fn is_running(pid: i32) -> bool {
    kill(pid, 0).is_ok() && look(libc::P_PID, pid).is_none()
}

/// Milliseconds between two looks at processes that end.
const PAUSE_MS: u64 = 20;

/// Waits until something is `done`, at most `limit_ms`. Returns whether it is done. Notices the end
/// of a child at once. For children of the agent.
pub fn wait_until(limit_ms: u64, done: &mut dyn FnMut() -> bool) -> bool {
    let deadline_ms = clock::in_ms(limit_ms);
    loop {
        if done() {
            return true;
        }
        if clock::boottime_ms() >= deadline_ms {
            return false;
        }
        signal::wait_for_child(PAUSE_MS);
    }
}

/// A child that does one step, which may hang in the kernel. For children of the agent.
pub struct Helper {
    child: i32,
}

impl Helper {
    /// Starts `step`, which returns an exit status. The child shares the descriptors of this
    /// process: `step` must close none but those that it opens, and a file that this process closes
    /// is closed for `step` as well.
    ///
    /// # Errors
    /// No child: [`Errno::NOMEM`] or [`Errno::AGAIN`].
    pub fn start(step: &mut dyn FnMut() -> i32) -> Result<Self, Errno> {
        match fork(true)? {
            Forked::Child(_) => exit(step()),
            Forked::Parent(child) => Ok(Self { child }),
        }
    }

    /// Waits for the end of the step, at most `limit_ms`. Returns its exit status, or EINTR if it
    /// was killed; `None` if it still runs.
    pub fn wait(&self, limit_ms: u64) -> Option<i32> {
        status_of(self.child, limit_ms)
    }

    /// Kills the step: if it hangs in the kernel, it ends when the kernel lets go of it.
    pub fn kill(&self) {
        let _ = kill(self.child, KILL);
    }
}

/// Waits for the end of a child, at most `limit_ms`. Returns its exit status, or EINTR if it was
/// killed; `None` if it still runs.
pub fn status_of(child: i32, limit_ms: u64) -> Option<i32> {
    let mut number = None;
    wait_until(limit_ms, &mut || {
        number = reap_child(child).map(|(ended, _)| match ended {
            Ended::Exited(number) => number,
            Ended::Killed(_) => libc::EINTR,
        });
        number.is_some()
    });
    number
}

/// Runs `step` in a child, as [`Helper::start`]. Returns its exit status; `None` if it still runs
/// after `limit_ms`: this process goes on without it.
pub fn within(limit_ms: u64, step: &mut dyn FnMut() -> i32) -> Option<i32> {
    match Helper::start(step) {
        Ok(started) => started.wait(limit_ms),
        // Without memory for a process, without a limit.
        Err(_) => Some(step()),
    }
}

/// Sends SIGKILL to the process group of the leader `pid`; [`Errno::SRCH`] if the group is empty.
pub fn kill_group(pid: i32) -> Result<(), Errno> {
    // 0 and 1 would stand for the own group and for all processes.
    let group = Pid::from_raw(pid).filter(|_| pid > 1).ok_or(Errno::SRCH)?;
    rustix::process::kill_process_group(group, Signal::KILL)
}

/// Kills the process group that `pid` has led, and waits until it is empty, `wait_ms` milliseconds
/// at most. Its processes need not be children of this process.
pub fn end_group(pid: i32, wait_ms: u64) {
    wait_until(wait_ms, &mut || kill_group(pid).is_err());
}

/// Has the kernel send `signal` to this process when its parent ends. Returns whether `parent` is
/// still the parent: it may have ended before this call.
pub fn tie_to(parent: i32, signal: i32) -> bool {
    // SAFETY: PR_SET_PDEATHSIG takes the number of a signal.
    let _ = unsafe {
        let args = [libc::PR_SET_PDEATHSIG as usize, signal as usize, 0, 0, 0];
        raw::call(libc::SYS_prctl, args)
    };
    parent_pid() == parent.unsigned_abs()
}

/// Makes `path` the root directory of this process (chroot(2)).
pub fn change_root(path: &CStr) -> Result<(), Errno> {
    rustix::process::chroot(path)
}

/// Makes `/` the working directory.
pub fn enter_root() {
    let _ = rustix::process::chdir(c"/");
}

/// Starts a new session, without a terminal (setsid(2)).
pub fn new_session() {
    let _ = rustix::process::setsid();
}

/// Sets the bits that are cleared in the mode of new files.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask));
}

impl InChild {
    /// Whether this child has one table of descriptors with the agent.
    pub fn shares_files(&self) -> bool {
        self.shares_files
    }

    /// Closes every descriptor above 2 but these two; in a child that shares the agent's
    /// descriptors, none.
    ///
    /// A child that hangs must not keep a client, a port or a file open. A child that acts as a user
    /// must not give the user a way to them.
    pub fn close_all_but(&self, one: BorrowedFd<'_>, other: BorrowedFd<'_>) {
        if self.shares_files {
            return;
        }
        let (one, other) = (one.as_raw_fd(), other.as_raw_fd());
        let (low, high) = (one.min(other), one.max(other));
        // SAFETY: this is a child with a table of its own, so the agent's descriptors stay open.
        // Here, values of the loop own the closed descriptors. The work of the child gets the guest
        // and the socket only, whose descriptors are the two that stay. The child never returns to
        // the loop: it ends by `exit` or executes another program, which drops nothing.
        unsafe {
            close_range(3, low - 1);
            close_range(low + 1, high - 1);
            close_range(high + 1, i32::MAX);
        }
    }

    /// For tests of what a child does.
    #[cfg(test)]
    pub(crate) fn in_test(shares_files: bool) -> Self {
        Self { shares_files }
    }
}

/// Replaces all open files and pipes of programs by copies of `stand_in`, so that nothing keeps
/// their file systems busy. For a child that shares its descriptors with the agent.
pub fn let_go_of_files(stand_in: impl AsFd) {
    let stand_in = stand_in.as_fd().as_raw_fd() as usize;
    let marked = libc::O_CLOEXEC as usize;
    for fd in FIRST_LASTING..=HIGHEST {
        // Not rustix's functions: no value here owns the descriptors. SAFETY: fcntl and dup3 take
        // any numbers. Open descriptors stay open, and the users of this range expect errors from
        // every call.
        let _ = unsafe {
            let fd = fd as usize;
            raw::call(libc::SYS_fcntl, [fd, libc::F_GETFD as usize, 0, 0, 0])
                .and_then(|_| raw::call(libc::SYS_dup3, [stand_in, fd, marked, 0, 0]))
        };
    }
}

/// Closes the descriptors of a range.
///
/// # Safety
/// Values that own one of them must never be used or dropped again: another file may get the
/// number.
// Not inlined, to keep one copy of the code.
#[inline(never)]
unsafe fn close_range(first: i32, last: i32) {
    if first > last {
        return;
    }
    // SAFETY: both calls take any numbers. The caller guarantees that no owner is left.
    unsafe {
        let range = [first as usize, last as usize, 0, 0, 0];
        if raw::call(libc::SYS_close_range, range).is_err() {
            // Linux before 5.9.
            for fd in first..=last.min(HIGHEST) {
                let _ = raw::call(libc::SYS_close, [fd as usize, 0, 0, 0, 0]);
            }
        }
    }
}

/// Has the kernel close every descriptor above 2 when this process executes another program.
pub(super) fn close_on_exec() {
    // SAFETY: closes nothing now. When another program is executed, it has none of the values that
    // own the descriptors.
    unsafe {
        let marked = libc::CLOSE_RANGE_CLOEXEC as usize;
        let range = [3, u32::MAX as usize, marked, 0, 0];
        if raw::call(libc::SYS_close_range, range).is_err() {
            // Linux before 5.11. The agent's own descriptors have the flag; inherited ones may not.
            for fd in 3..=HIGHEST {
                let mark = [
                    fd as usize,
                    libc::F_SETFD as usize,
                    libc::FD_CLOEXEC as usize,
                ];
                let [fd, set, marked] = mark;
                let _ = raw::call(libc::SYS_fcntl, [fd, set, marked, 0, 0]);
            }
        }
    }
}

/// The lowest lasting descriptor: of open files and pipes of programs. All other descriptors, of
/// clients and ports among others, are fewer than this.
pub(super) const FIRST_LASTING: i32 = 64;

/// The highest descriptor of the agent. A new descriptor gets the lowest free number, and there are
/// limits for files and pipes.
const HIGHEST: i32 = FIRST_LASTING + (OPEN_FILES + 3 * PROGRAMS) as i32;

/// Makes a lasting copy of a descriptor.
// Not inlined, to keep one copy of the code.
#[inline(never)]
pub fn make_lasting(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, FIRST_LASTING)
}

/// SIGCHLD: a child has ended.
pub const CHLD: i32 = libc::SIGCHLD;
/// SIGHUP: the terminal is gone.
pub const HUP: i32 = libc::SIGHUP;
/// SIGINT: Ctrl-C at a terminal; for PID 1, Ctrl-Alt-Del.
pub const INT: i32 = libc::SIGINT;
/// SIGQUIT: Ctrl-\ at a terminal.
pub const QUIT: i32 = libc::SIGQUIT;
/// SIGCONT: continues a stopped process.
pub const CONT: i32 = libc::SIGCONT;
/// SIGSTOP: stops a process.
pub const STOP: i32 = libc::SIGSTOP;
/// SIGTERM: asks a process to end.
pub const TERM: i32 = libc::SIGTERM;
/// SIGKILL: ends a process.
pub const KILL: i32 = libc::SIGKILL;
