//! epoll, with descriptors known by small numbers.
#![allow(unsafe_code)]

use core::ptr;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;

use super::raw;

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
    /// There is something to read, be it an end or an error.
    pub readable: bool,
    /// The other side is away.
    pub hung_up: bool,
}

/// A set of descriptors to wait for.
pub struct Poll {
    epoll: OwnedFd,
    events: [Event; Poll::BATCH],
    ready: usize,
}

impl Poll {
    /// Descriptors reported by one wait; more are reported by the next.
    const BATCH: usize = 8;

    /// An empty set.
    pub fn new() -> Result<Self, Errno> {
        let none = Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: [none; Self::BATCH],
            ready: 0,
        })
    }

    /// Adds a descriptor under `token`.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token), interest.flags())
    }

    /// Changes what a descriptor is waited for.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token), interest.flags())
    }

    /// Takes a descriptor out.
    pub fn remove(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.epoll, fd)
    }

    /// Waits for news, `timeout_ms` milliseconds at most; `None` waits for ever.
    pub fn wait(&mut self, timeout_ms: Option<u64>) -> Result<(), Errno> {
        // A number of its own for ever; what is longer than 24 days is asked for again.
        let timeout = timeout_ms.map_or(usize::MAX, |ms| ms.min(i32::MAX as u64) as usize);
        let events = ptr::from_mut(&mut self.events).expose_provenance();
        // SAFETY: epoll_pwait writes at most `BATCH` events, for which there is room, in the kernel's
        // layout, which is that of rustix's type; the null is no signal mask.
        self.ready = match unsafe {
            let epoll = self.epoll.as_raw_fd() as usize;
            let args = [epoll, events, Self::BATCH, timeout, 0];
            raw::call(libc::SYS_epoll_pwait, args)
        } {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno),
        };
        Ok(())
    }

    /// The news of the last wait by position, or `None` past the end.
    pub fn news(&self, position: usize) -> Option<Ready> {
        let event = self.events.get(..self.ready)?.get(position)?;
        // The kernel packs this structure on x86-64, so its fields are copied out first.
        let Event { flags, data } = *event;
        let gone = EventFlags::HUP | EventFlags::ERR;
        Some(Ready {
            token: data.u64(),
            readable: flags.intersects(EventFlags::IN | EventFlags::RDHUP | gone),
            hung_up: flags.intersects(gone),
        })
    }
}
