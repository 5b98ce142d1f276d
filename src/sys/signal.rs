//! Signals as something to read: the loop never runs a handler.
//!
//! A signal set is the kernel's, one bit a signal.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;
use core::ptr;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

use super::{clock, raw};

/// SIGCHLD and the signals that end a program, blocked and read from a descriptor. SIGPIPE is blocked
/// too, and waits for ever: a client that is gone is found out by the write.
pub struct Signals(OwnedFd);

/// What is read.
const READ: u64 = bit(libc::SIGCHLD)
    | bit(libc::SIGINT)
    | bit(libc::SIGTERM)
    | bit(libc::SIGHUP)
    | bit(libc::SIGQUIT);
/// What is blocked.
const BLOCKED: u64 = READ | bit(libc::SIGPIPE);

/// The set of this signal alone.
pub(super) const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl Signals {
    /// Takes over the signals of this process.
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
        // SAFETY: signalfd4 just made this descriptor and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Whether an earlier run of the agent in this process had taken over the signals, and another
    /// program has not been run since. To be asked before [`Signals::new`].
    pub fn were_taken() -> bool {
        let mut mask = 0u64;
        // SAFETY: rt_sigprocmask writes one signal set of the given size, which is ours and outlives
        // the call; without a new set it changes nothing.
        let _ = unsafe {
            let mask = ptr::from_mut(&mut mask).expose_provenance();
            let args = [0, 0, mask, size_of::<u64>(), 0];
            raw::call(libc::SYS_rt_sigprocmask, args)
        };
        mask == BLOCKED
    }

    /// Waits until a signal has come or `other` can be read, at most `timeout_ms` milliseconds.
    pub fn wait_beside(&self, other: Option<&OwnedFd>, timeout_ms: u64) {
        let both = [&self.0, other.unwrap_or(&self.0)];
        let mut fds = both.map(|fd| PollFd::new(fd, PollFlags::IN));
        let _ = rustix::event::poll(&mut fds, Some(&clock::span(timeout_ms)));
    }

    /// The number of the next signal that has arrived; `None` if none has.
    pub fn read(&self) -> Option<i32> {
        let mut record = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: a read writes at most as many bytes as it is told, for which there is room.
        let read = unsafe {
            let fd = self.0.as_raw_fd() as usize;
            let place = record.as_mut_ptr().expose_provenance();
            raw::call(libc::SYS_read, [fd, place, size_of_val(&record), 0, 0])
        };
        if read.is_err() {
            return None;
        }
        // SAFETY: signalfd fills in whole records, and tells of an error if there is none.
        let record = unsafe { record.assume_init() };
        Some(record.ssi_signo.cast_signed())
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Undoes what the agent, and whoever started it, did to the signals of this process, in a child of
/// the agent that becomes another program: none is handled, ignored or blocked.
pub fn restore() {
    default_actions();
    change_mask(libc::SIG_SETMASK, 0);
}

/// Undoes what a fault did to the signals of this process, before the agent starts anew in it: none is
/// handled, and of those blocked only what the agent reads stays so. One that comes meanwhile is then
/// read by the new run, which also sees by it that it is not the first ([`Signals::were_taken`]).
///
/// A second signal of a fault that waits is dropped here: by default the init of the machine ignores
/// what other processes send it.
pub fn restore_for_agent() {
    default_actions();
    change_mask(libc::SIG_UNBLOCK, !BLOCKED);
}

fn default_actions() {
    /// Words of `struct sigaction`, asm/signal.h: handler, flags, restorer, mask. All zero is
    /// SIG_DFL.
    const DEFAULT: [usize; 4] = [0; 4];
    for signal in 1..=64 {
        // SAFETY: rt_sigaction reads one action of the kernel's layout, which is ours and outlives
        // the call, and writes none. For SIGKILL and SIGSTOP it only fails.
        let _ = unsafe {
            let action = ptr::from_ref(&DEFAULT).expose_provenance();
            let args = [signal, action, 0, size_of::<u64>(), 0];
            raw::call(libc::SYS_rt_sigaction, args)
        };
    }
}

fn change_mask(how: i32, set: u64) {
    // SAFETY: rt_sigprocmask reads one signal set of the given size, which is ours and outlives the
    // call; the old mask is not asked for.
    let _ = unsafe {
        let set = ptr::from_ref(&set).expose_provenance();
        raw::call(
            libc::SYS_rt_sigprocmask,
            [how as usize, set, 0, size_of::<u64>(), 0],
        )
    };
}
