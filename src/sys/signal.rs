//! Signals that are read from a descriptor: signalfd(2), and the masks and actions of the process.
//!
//! SIGCHLD and the signals that end a program are blocked, and read as numbers; no handler runs. A
//! signal set has the kernel's layout: bit N - 1 stands for signal N.
#![allow(unsafe_code)]

use core::ptr;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

use super::{clock, raw};

/// SIGCHLD, SIGINT, SIGTERM, SIGHUP and SIGQUIT, blocked and read from a descriptor.
///
/// SIGPIPE is blocked too, but not read: the write to a client that is gone returns an error as
/// well.
pub struct Signals(OwnedFd);

/// The signals that are read.
const READ: u64 = bit(libc::SIGCHLD)
    | bit(libc::SIGINT)
    | bit(libc::SIGTERM)
    | bit(libc::SIGHUP)
    | bit(libc::SIGQUIT);
/// The signals that are blocked.
const BLOCKED: u64 = READ | bit(libc::SIGPIPE);

/// The set of one signal.
pub(super) const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl Signals {
    /// Blocks the signals and opens the descriptor.
    pub fn new() -> Result<Self, Errno> {
        change_mask(libc::SIG_BLOCK, BLOCKED);
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: signalfd4 reads one signal set of the given size, which is ours and outlives the
        // call.
        let fd = unsafe {
            let set = ptr::from_ref(&READ).expose_provenance();
            let args = [usize::MAX, set, size_of::<u64>(), flags as usize, 0];
            raw::call(libc::SYS_signalfd4, args)
        }?;
        // SAFETY: signalfd4 has just made this descriptor, and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Whether an earlier run of the agent in this process has blocked the signals: the mask
    /// survives execve(2). Meaningful before [`Signals::new`] only.
    pub fn were_taken() -> bool {
        let mut mask = 0u64;
        // SAFETY: rt_sigprocmask writes one signal set of the given size, which is ours and
        // outlives the call. The null stands for no new mask.
        let _ = unsafe {
            let mask = ptr::from_mut(&mut mask).expose_provenance();
            let args = [0, 0, mask, size_of::<u64>(), 0];
            raw::call(libc::SYS_rt_sigprocmask, args)
        };
        mask == BLOCKED
    }

    /// Waits until a signal has arrived or `other` can be read, `timeout_ms` milliseconds at most.
    pub fn wait_beside(&self, other: Option<&OwnedFd>, timeout_ms: u64) {
        let both = [&self.0, other.unwrap_or(&self.0)];
        let mut fds = both.map(|fd| PollFd::new(fd, PollFlags::IN));
        let _ = rustix::event::poll(&mut fds, Some(&clock::span(timeout_ms)));
    }

    /// The number of the next signal that has arrived; `None` if none has.
    pub fn read(&self) -> Option<i32> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        rustix::io::read(&self.0, &mut record).ok()?;
        // The first member is the number of the signal.
        let (number, _) = record.split_first_chunk()?;
        Some(i32::from_ne_bytes(*number))
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Waits until a child of this process ends, at most `limit_ms`. Where SIGCHLD is not blocked, as in
/// host tests, always waits that long.
pub(super) fn wait_for_child(limit_ms: u64) {
    const CHILD: u64 = bit(libc::SIGCHLD);
    let limit = clock::span(limit_ms);
    // SAFETY: rt_sigtimedwait reads one signal set of the given size and one timespec, which outlive
    // the call. The null stands for no siginfo_t.
    let _ = unsafe {
        let set = ptr::from_ref(&CHILD).expose_provenance();
        let limit = ptr::from_ref(&limit).expose_provenance();
        let args = [set, 0, limit, size_of::<u64>(), 0];
        raw::call(libc::SYS_rt_sigtimedwait, args)
    };
}

/// Resets all signals of this process to what programs expect: none is handled, ignored or blocked.
/// For a child that executes another program; the agent, and its parent before it, may have changed
/// them.
pub fn restore() {
    default_actions();
    change_mask(libc::SIG_SETMASK, 0);
}

/// Resets the signals of this process before it executes the agent again: none is handled, and only
/// the signals of [`Signals`] stay blocked. The new run reads those that arrive meanwhile, and
/// learns from the mask that it is not the first run ([`Signals::were_taken`]).
///
/// The kernel drops a pending signal of a fault: with the default action, PID 1 ignores signals
/// that other processes send.
pub fn restore_for_agent() {
    default_actions();
    change_mask(libc::SIG_UNBLOCK, !BLOCKED);
}

/// Sets the action of every signal to the default.
fn default_actions() {
    /// `struct sigaction` of asm/signal.h: handler, flags, restorer, mask. Zeros stand for SIG_DFL.
    const DEFAULT: [usize; 4] = [0; 4];
    for signal in 1..=64 {
        // SAFETY: rt_sigaction reads one action of the kernel's layout, which is ours and outlives
        // the call. The null stands for no old action. For SIGKILL and SIGSTOP the call fails.
        let _ = unsafe {
            let action = ptr::from_ref(&DEFAULT).expose_provenance();
            let args = [signal, action, 0, size_of::<u64>(), 0];
            raw::call(libc::SYS_rt_sigaction, args)
        };
    }
}

fn change_mask(how: i32, set: u64) {
    // SAFETY: rt_sigprocmask reads one signal set of the given size, which is ours and outlives the
    // call. The null stands for no old mask.
    let _ = unsafe {
        let set = ptr::from_ref(&set).expose_provenance();
        raw::call(
            libc::SYS_rt_sigprocmask,
            [how as usize, set, 0, size_of::<u64>(), 0],
        )
    };
}
