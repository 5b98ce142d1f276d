//! epoll(7) with a number for each descriptor, and poll(2) for one descriptor.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;
use core::ptr;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;

use static_assertions::const_assert_eq;

use super::{clock, raw};

// `struct epoll_event` of linux/eventpoll.h, packed on x86-64 alone.
const_assert_eq!(
    size_of::<Event>(),
    if cfg!(target_arch = "x86_64") { 12 } else { 16 }
);

/// The change of a descriptor that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// There are bytes to read, or it is at its end.
    Read,
    /// Bytes can be written.
    Write,
    /// Its state changes (edge-triggered). A virtio port without a connected host reports a hang-up
    /// on every level-triggered wait; edge-triggered it is silent until a host connects or writes.
    Change,
    /// The other side hangs up; reported once.
    Nothing,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN | EventFlags::RDHUP,
            Self::Write => EventFlags::OUT,
            Self::Change => EventFlags::IN | EventFlags::OUT | EventFlags::ET,
            Self::Nothing => EventFlags::ET,
        }
    }
}

/// An event of one descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number that the descriptor was added with.
    pub token: u64,
    /// Whether the other side has hung up.
    pub hung_up: bool,
}

/// A set of descriptors that are waited for: an epoll instance.
pub struct Poll(OwnedFd);

/// The events of one wait.
pub struct News {
    events: [Event; News::BATCH],
    ready: usize,
}

impl News {
    /// Events of one wait; the next wait returns further ones.
    const BATCH: usize = 8;

    /// No events.
    pub fn none() -> Self {
        // SAFETY: all members are integers, for which zeros are valid.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        self.ready == 0
    }

    /// The events.
    pub fn each(&self) -> impl Iterator<Item = Ready> {
        self.events.iter().take(self.ready).map(|event| {
            // The structure is packed on x86-64, so its fields are copied before they are used.
            let Event { flags, data } = *event;
            let gone = EventFlags::HUP | EventFlags::ERR;
            Ready {
                token: data.u64(),
                hung_up: flags.intersects(gone),
            }
        })
    }
}

/// Waits until a descriptor can be read or written, `limit_ms` milliseconds at most. Returns
/// whether it can; at the end of a file it can.
// Not inlined, to keep one copy of the code.
#[inline(never)]
pub fn is_ready(fd: BorrowedFd<'_>, interest: Interest, limit_ms: u64) -> bool {
    let flags = match interest {
        Interest::Write => PollFlags::OUT,
        _ => PollFlags::IN,
    };
    let mut one = [PollFd::from_borrowed_fd(fd, flags)];
    let count = rustix::event::poll(&mut one, Some(&clock::span(limit_ms)));
    count.is_ok_and(|count| count != 0)
}

impl Poll {
    /// An empty set.
    pub fn new() -> Result<Self, Errno> {
        epoll::create(CreateFlags::CLOEXEC).map(Self)
    }

    /// Adds a descriptor with this number.
    pub fn add(&self, fd: &impl AsRawFd, token: u64, interest: Interest) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), token, interest)
    }

    /// Changes the number and the interest of a descriptor.
    pub fn modify(&self, fd: &impl AsRawFd, token: u64, interest: Interest) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), token, interest)
    }

    /// Removes a descriptor.
    pub fn remove(&self, fd: &impl AsRawFd) {
        // Fails only for a descriptor that was not added.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), 0, Interest::Nothing);
    }

    // Not inlined, to keep one copy of the code. Not rustix's functions, which are one for each
    // operation.
    #[inline(never)]
    fn control(&self, what: i32, fd: RawFd, token: u64, interest: Interest) -> Result<(), Errno> {
        let event = Event {
            flags: interest.flags(),
            data: EventData::new_u64(token),
        };
        let (epoll, fd) = (self.0.as_raw_fd() as usize, fd as usize);
        let event = ptr::from_ref(&event).expose_provenance();
        // SAFETY: epoll_ctl reads one event, which is ours and outlives the call. rustix's type has
        // the kernel's layout. The other arguments are numbers.
        unsafe { raw::call(libc::SYS_epoll_ctl, [epoll, what as usize, fd, event, 0]) }.map(|_| ())
    }

    /// Waits for events, `timeout_ms` milliseconds at most; [`clock::NEVER_MS`] waits for ever. May
    /// return without an event earlier.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub fn wait(&self, news: &mut News, timeout_ms: u64) -> Result<(), Errno> {
        let timeout = match timeout_ms {
            clock::NEVER_MS => usize::MAX,
            // The kernel takes an int: after 24 days the caller waits again.
            ms => ms.min(i32::MAX as u64) as usize,
        };
        let events = ptr::from_mut(&mut news.events).expose_provenance();
        // SAFETY: epoll_pwait writes at most `BATCH` events, for which there is room. rustix's type
        // has the kernel's layout. The null stands for no signal mask.
        news.ready = match unsafe {
            let epoll = self.0.as_raw_fd() as usize;
            let args = [epoll, events, News::BATCH, timeout, 0];
            raw::call(libc::SYS_epoll_pwait, args)
        } {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno),
        };
        Ok(())
    }
}
