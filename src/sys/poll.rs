//! epoll, with descriptors known by small numbers.
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

/// What a descriptor is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Until there is something to read.
    Read,
    /// Until something can be written.
    Write,
    /// For the next change of its state only. A virtio port whose host is away reports a hang-up on
    /// every poll; waited for like this it is silent until the host comes back or writes.
    Change,
    /// For nothing but the news that the other side went away, once.
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

/// One descriptor's news.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number it was added under.
    pub token: u64,
    /// The other side is away.
    pub hung_up: bool,
}

/// A set of descriptors to wait for.
pub struct Poll(OwnedFd);

/// The news that one wait brought.
pub struct News {
    events: [Event; News::BATCH],
    ready: usize,
}

impl News {
    /// Descriptors reported by one wait; more are reported by the next.
    const BATCH: usize = 8;

    /// None yet.
    pub fn none() -> Self {
        // SAFETY: all that is in there are plain numbers, for which zeros are valid.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    /// The news of each descriptor that has any.
    pub fn each(&self) -> impl Iterator<Item = Ready> {
        self.events.iter().take(self.ready).map(|event| {
            // The kernel packs this structure on x86-64, so its fields are copied out first.
            let Event { flags, data } = *event;
            let gone = EventFlags::HUP | EventFlags::ERR;
            Ready {
                token: data.u64(),
                hung_up: flags.intersects(gone),
            }
        })
    }
}

/// Waits until one descriptor can be read from or written to, `limit_ms` milliseconds at most. Gives
/// whether it can be, or is at its end.
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

    /// Adds a descriptor under `token`.
    pub fn add(&self, fd: &impl AsRawFd, token: u64, interest: Interest) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), token, interest)
    }

    /// Changes what a descriptor is waited for.
    pub fn modify(&self, fd: &impl AsRawFd, token: u64, interest: Interest) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), token, interest)
    }

    /// Takes a descriptor out.
    pub fn remove(&self, fd: &impl AsRawFd) {
        // Fails only for one that is not in there.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), 0, Interest::Nothing);
    }

    #[inline(never)]
    fn control(&self, what: i32, fd: RawFd, token: u64, interest: Interest) -> Result<(), Errno> {
        let event = Event {
            flags: interest.flags(),
            data: EventData::new_u64(token),
        };
        let (epoll, fd) = (self.0.as_raw_fd() as usize, fd as usize);
        let event = ptr::from_ref(&event).expose_provenance();
        // SAFETY: epoll_ctl reads one event, which is ours, outlives the call and has the kernel's
        // layout, which is that of rustix's type; the rest are numbers.
        unsafe { raw::call(libc::SYS_epoll_ctl, [epoll, what as usize, fd, event, 0]) }.map(|_| ())
    }

    /// Waits for news, `timeout_ms` milliseconds at most; [`clock::NEVER_MS`] waits for ever.
    #[inline(never)]
    pub fn wait(&self, news: &mut News, timeout_ms: u64) -> Result<(), Errno> {
        let timeout = match timeout_ms {
            clock::NEVER_MS => usize::MAX,
            // What is longer than 24 days is asked for again.
            ms => ms.min(i32::MAX as u64) as usize,
        };
        let events = ptr::from_mut(&mut news.events).expose_provenance();
        // SAFETY: epoll_pwait writes at most `BATCH` events, for which there is room, in the kernel's
        // layout, which is that of rustix's type; the null is no signal mask.
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
