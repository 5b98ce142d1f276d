//! A client: a descriptor, the messages that come in, the replies that wait to go out.
//!
//! Replies keep the order of requests: while a slow command runs for a client, or replies wait for
//! it to read, nothing more of what it sent is looked at. What it sends meanwhile stays in the
//! kernel, so a client that never reads costs a fixed amount of memory.

use super::host::Host;
use crate::base::limits::{
    READ_BYTES, REPLY_AT_REST, REPLY_BYTES, REPLY_LOW_WATER, REQUEST_AT_REST, REQUEST_BYTES,
};
use crate::base::store::Store;
use crate::state::files::Reading;
use crate::sys::mem::Buffer;
use crate::sys::poll::Interest;
use crate::sys::stream::{self, Read};
use crate::sys::{Errno, OwnedFd, clock};
use crate::wire::frame::{Event, Framer};

/// Memory at rest of one client.
pub(super) const AT_REST: usize = READ_BYTES + REQUEST_AT_REST + REPLY_AT_REST;

/// What a client's descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A virtio port: hosts come and go unseen, an end is not the end.
    Port,
    /// A connection.
    Connection,
}

/// Why a client's next message has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// It has not.
    No,
    /// A slow command of this client runs.
    Job,
    /// A file is read for it, piece by piece.
    Reading,
    /// The same, but a child reads what comes next.
    Fetch,
    /// The message is a command that waits until another client's, or the agent's own, is over.
    Turn,
}

/// Reasons for a client to be let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// It ended, and has everything it asked for.
    Ended,
    /// Its descriptor does not work any more.
    Broken(Errno),
}

/// A place for a client: its memory, and the client if there is one.
pub(super) struct Slot {
    connection: Option<Connection>,
    /// The file that is read for the message at hand.
    pub(super) reading: Option<Reading>,
    framer: Framer,
    message: Buffer,
    out: Buffer,
    input: &'static mut [u8],
    /// What of `input` is still to be looked at.
    unread: core::ops::Range<usize>,
    /// Counts the clients this place has had; a reply for an earlier one is not for the one there
    /// now.
    generation: u32,
}

struct Connection {
    fd: OwnedFd,
    kind: Kind,
    busy: Busy,
    /// On a port: the host.
    host: Host,
    /// On a port: the host that sent the message at hand is gone, so its reply is for nobody.
    orphaned: bool,
    /// Bytes of `out` before the reply of a running job, which may not leave before it is whole.
    sendable: Option<usize>,
    interest: Interest,
}

impl Slot {
    /// An empty place, with [`AT_REST`] bytes for its client.
    pub(super) fn new(memory: &'static mut [u8]) -> Self {
        let (input, memory) = memory.split_at_mut(READ_BYTES);
        let (message, out) = memory.split_at_mut(REQUEST_AT_REST);
        Self {
            connection: None,
            reading: None,
            framer: Framer::new(),
            message: Buffer::new(message, REQUEST_BYTES),
            out: Buffer::new(out, REPLY_BYTES),
            input,
            unread: 0..0,
            generation: 0,
        }
    }

    /// Whether nobody is here.
    pub(super) fn is_free(&self) -> bool {
        self.connection.is_none()
    }

    /// Takes in a client.
    pub(super) fn take_in(&mut self, fd: OwnedFd, kind: Kind) {
        self.forget();
        self.generation = self.generation.wrapping_add(1);
        self.connection = Some(Connection {
            fd,
            kind,
            busy: Busy::No,
            host: Host::Here,
            orphaned: false,
            sendable: None,
            interest: Interest::Read,
        });
    }

    /// Lets the client go: closes it and forgets what it sent and was to be sent.
    pub(super) fn let_go(&mut self) -> Option<OwnedFd> {
        self.forget();
        self.connection.take().map(|connection| connection.fd)
    }

    /// Forgets a half message and all replies: whoever they belong to is not there any more. The
    /// message of a command that runs, or waits, stays until that is over.
    fn forget(&mut self) {
        self.framer.reset();
        self.reading = None;
        self.out.keep_mapping(false);
        self.out.truncate(0);
        self.unread = 0..0;
        match &mut self.connection {
            Some(connection) if connection.busy == Busy::Reading => self.message_done(),
            Some(connection) if connection.busy != Busy::No => {
                connection.orphaned = true;
                connection.sendable = connection.sendable.map(|_| 0);
            }
            _ => self.message.truncate(0),
        }
    }

    /// The number of the client that is here now.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// The client's descriptor and what it is to be waited for; the latter only if that changed.
    pub(super) fn new_interest(&mut self) -> Option<(&OwnedFd, Interest)> {
        let connection = self.connection.as_mut()?;
        let blocked = connection.sendable.unwrap_or(self.out.len()) != 0;
        let interest = if connection.host.is_away() {
            // Without a host a port is always ready: only changes are news.
            Interest::Change
        } else if blocked || connection.busy == Busy::Reading {
            Interest::Write
        } else if connection.busy != Busy::No {
            Interest::Nothing
        } else {
            Interest::Read
        };
        if interest == connection.interest {
            return None;
        }
        connection.interest = interest;
        Some((&connection.fd, interest))
    }

    /// Why the next message has to wait.
    pub(super) fn busy(&self) -> Busy {
        self.connection
            .as_ref()
            .map_or(Busy::No, |connection| connection.busy)
    }

    /// Has the message at hand wait.
    #[inline(never)]
    pub(super) fn wait(&mut self, busy: Busy) {
        let sendable = matches!(busy, Busy::Job | Busy::Fetch).then_some(self.out.len());
        if let Some(connection) = &mut self.connection {
            connection.busy = busy;
            connection.sendable = sendable;
        }
    }

    /// The message at hand, and where its reply goes.
    pub(super) fn message_and_out(&mut self) -> (&[u8], &mut Buffer) {
        (self.message.bytes(), &mut self.out)
    }

    /// Where the reply of the running job begins.
    pub(super) fn reply_start(&self) -> usize {
        let sendable = self
            .connection
            .as_ref()
            .and_then(|connection| connection.sendable);
        sendable.unwrap_or(self.out.len())
    }

    /// The message at hand is dealt with.
    #[inline(never)]
    pub(super) fn message_done(&mut self) {
        self.message.truncate(0);
        self.wait(Busy::No);
        if let Some(connection) = &mut self.connection {
            connection.orphaned = false;
        }
    }

    /// Whether anybody waits for the reply to the message at hand.
    pub(super) fn wants_reply(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| !connection.orphaned)
    }

    /// Whether the next piece of a file is to be read.
    pub(super) fn reads_file(&self) -> bool {
        self.busy() == Busy::Reading && self.out.len() < REPLY_LOW_WATER
    }

    /// The next message or error in what the client sent; [`Event::NeedMore`] if there is none yet,
    /// or if replies must leave first.
    pub(super) fn next_event(&mut self) -> Event {
        if !self.can_go_on() {
            return Event::NeedMore;
        }
        let unread = &self.input[self.unread.clone()];
        let (taken, event) = self.framer.feed(unread, &mut self.message);
        self.unread.start += taken;
        event
    }

    /// Whether there is something to look at that nothing stands in the way of.
    pub(super) fn can_go_on(&self) -> bool {
        !self.unread.is_empty() && self.busy() == Busy::No && self.out.len() < REPLY_LOW_WATER
    }

    /// Reads more, if all that came before was looked at and nothing waits to leave. Gives whether
    /// there is something new to look at and, likely, more to read behind it.
    pub(super) fn read(&mut self) -> Result<Option<Filled>, Over> {
        let Some(connection) = &mut self.connection else {
            return Ok(None);
        };
        // What a host sent before it left is read although its replies cannot leave.
        let room = if connection.host.is_away() {
            REPLY_LOW_WATER
        } else {
            1
        };
        if connection.busy != Busy::No || !self.unread.is_empty() || self.out.len() >= room {
            return Ok(None);
        }
        match stream::read(&connection.fd, self.input).map_err(Over::Broken)? {
            Read::NotYet => {
                self.arrive();
                Ok(None)
            }
            Read::End if connection.kind == Kind::Connection => Err(Over::Ended),
            Read::End => {
                connection.host.end(clock::boottime_ms());
                Ok(None)
            }
            Read::Bytes(count) => {
                if connection.host.is_away() && connection.host.hear(clock::boottime_ms()) {
                    self.framer.reset();
                    self.message.truncate(0);
                }
                self.unread = 0..count;
                Ok(Some(if count == self.input.len() {
                    Filled::Whole
                } else {
                    Filled::Part
                }))
            }
        }
    }

    /// Writes what may leave and can.
    pub(super) fn write(&mut self) -> Result<(), Over> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let sendable = connection.sendable.unwrap_or(self.out.len());
        if sendable == 0 {
            return Ok(());
        }
        if connection.host.is_away() && connection.host.is_stale(clock::boottime_ms()) {
            // For a host that is gone; dropped when the next arrives.
            return Ok(());
        }
        let bytes = self.out.bytes().get(..sendable).unwrap_or_default();
        let written = stream::write(&connection.fd, bytes).map_err(Over::Broken)?;
        self.out.consume(written);
        if let Some(sendable) = &mut connection.sendable {
            *sendable = sendable.saturating_sub(written);
        }
        Ok(())
    }

    /// Takes note that the other side is away. What it sent before is still looked at: a host may
    /// send a command and leave.
    pub(super) fn hang_up(&mut self) {
        if let Some(connection) = &mut self.connection
            && connection.kind == Kind::Port
        {
            connection.host.hang_up(clock::boottime_ms());
        }
    }

    /// Takes note that the other side is there.
    pub(super) fn arrive(&mut self) {
        if let Some(connection) = &mut self.connection
            && connection.host.is_away()
            && connection.host.arrive(clock::boottime_ms())
        {
            self.forget();
        }
    }

    /// Whether the other side is away, and news of it come only once.
    pub(super) fn is_away(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.host.is_away())
    }
}

/// How much a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// As much as was asked for; there may be more.
    Whole,
    /// Less than that.
    Part,
}
