//! Signals as something to read: the loop never runs a handler.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;
use core::ptr;

use rustix::fd::{AsFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// What the agent was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// A child has ended.
    pub child: bool,
    /// To end.
    pub end: bool,
    /// Ctrl-Alt-Del was pressed on the console (PID 1 only).
    pub ctrl_alt_del: bool,
}

/// SIGCHLD, SIGTERM and SIGINT, blocked and read from a descriptor. SIGPIPE is ignored.
pub struct Signals(OwnedFd);

impl Signals {
    /// Takes over the signals of this process.
    pub fn new() -> Result<Self, Errno> {
        let set = own_set();
        // SAFETY: ignoring a signal installs no code; `set` is initialised and outlives the calls;
        // the old mask is not asked for.
        let fd = unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            libc::sigprocmask(libc::SIG_BLOCK, &set, ptr::null_mut());
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(Errno::MFILE);
        }
        // SAFETY: signalfd just made this descriptor and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Reads all that has come.
    pub fn read(&self) -> Told {
        let mut told = Told::default();
        // Standard signals do not queue, so there is never more than one of each.
        let mut records = [0u8; 4 * size_of::<libc::signalfd_siginfo>()];
        let Ok(len) = rustix::io::read(&self.0, &mut records[..]) else {
            return told;
        };
        for record in records[..len].chunks_exact(size_of::<libc::signalfd_siginfo>()) {
            // ssi_signo is the first member.
            let number = record
                .first_chunk()
                .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            told.child |= number == libc::SIGCHLD;
            told.end |= number == libc::SIGTERM;
            // The kernel sends PID 1 SIGINT for Ctrl-Alt-Del; to others it is a person's Ctrl-C.
            told.ctrl_alt_del |= number == libc::SIGINT && super::process::is_init();
            told.end |= number == libc::SIGINT && !super::process::is_init();
        }
        told
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Undoes [`Signals::new`] in a child of the agent, so that it can be ended.
pub fn restore() {
    let set = own_set();
    // SAFETY: `set` is initialised and outlives the call; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &set, ptr::null_mut()) };
}

fn own_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises all of what it is given a pointer to; only then are members
    // added and the value taken.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}
