//! A client: a descriptor, the messages that come in, the replies that wait to go out.
//!
//! Replies keep the order of requests: while a slow command runs for a client, or replies wait for
//! it to read, nothing more of what it sent is looked at. What it sends meanwhile stays in the
//! kernel, so a client that never reads costs a fixed amount of memory.

use super::ids::{ClientId, Token};
use super::port_peer::{Left, PortPeer};
use crate::base::limits::{
    READ_BYTES, REPLY_AT_REST, REPLY_BYTES, REPLY_LOW_WATER, REQUEST_AT_REST, REQUEST_BYTES,
};
use crate::base::store::Store;
use crate::state::files::Reading;
use crate::sys::mem::Buffer;
use crate::sys::poll::{Interest, Poll};
use crate::sys::stream::{self, Read};
use crate::sys::{Errno, OwnedFd, clock};
use crate::wire::check::Open;
use crate::wire::frame::{Event, Framer};

/// Memory at rest of one client.
pub(super) struct Memory {
    input: [u8; READ_BYTES],
    message: [u8; REQUEST_AT_REST],
    out: [u8; REPLY_AT_REST],
    open: Open,
}

impl Memory {
    pub(super) const EMPTY: Self = Self {
        input: [0; READ_BYTES],
        message: [0; REQUEST_AT_REST],
        out: [0; REPLY_AT_REST],
        open: Open::new(),
    };
}

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
    /// Not waiting.
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

/// No limit on the bytes that may leave.
const ALL: usize = usize::MAX;

/// A place for a client: its memory, and the client if there is one.
pub(super) struct Client {
    /// Its number among the places.
    pub(super) place: u32,
    /// Counts the clients this place has had; a reply for an earlier one is not for the one there
    /// now.
    generation: u32,
    fd: Option<OwnedFd>,
    kind: Kind,
    /// Why the next message has to wait.
    pub(super) busy: Busy,
    /// On a port: the host.
    host: PortPeer,
    /// Whether something may have come up since it was last looked at.
    pub(super) news: bool,
    /// Whether there may be something to read.
    pub(super) readable: bool,
    /// What the descriptor is waited for.
    interest: Interest,
    /// Bytes of `out` before the reply of a running job, which may not leave before it is whole.
    sendable: usize,
    /// What of `input` is still to be looked at.
    unread: core::ops::Range<usize>,
    /// What is to be sent.
    pub(super) out: Buffer,
    input: &'static mut [u8],
    /// The file that is read for the message at hand.
    pub(super) reading: Option<Reading>,
    /// The message at hand.
    pub(super) message: Buffer,
    pub(super) framer: Framer<'static>,
}

impl Client {
    /// An empty place, with memory for its client.
    pub(super) fn new(place: u32, memory: &'static mut Memory) -> Self {
        Self {
            place,
            generation: 0,
            fd: None,
            kind: Kind::Port,
            busy: Busy::No,
            host: PortPeer::Here,
            news: false,
            readable: false,
            interest: Interest::Read,
            sendable: ALL,
            reading: None,
            framer: Framer::new(&mut memory.open),
            message: Buffer::new(&mut memory.message, REQUEST_BYTES),
            out: Buffer::new(&mut memory.out, REPLY_BYTES),
            input: &mut memory.input,
            unread: 0..0,
        }
    }

    /// Whether nobody is here.
    pub(super) fn is_free(&self) -> bool {
        self.fd.is_none()
    }

    /// Takes a client, waited for to be read from, into this free place.
    pub(super) fn take_in(&mut self, fd: OwnedFd, kind: Kind) {
        self.generation = self.generation.wrapping_add(1);
        self.fd = Some(fd);
        self.kind = kind;
        self.host = PortPeer::Here;
        self.interest = Interest::Read;
        self.news = true;
        self.readable = true;
    }

    /// Lets the client go: closes it and forgets what it sent and was to be sent.
    pub(super) fn let_go(&mut self, poll: &Poll) {
        self.forget();
        self.message_done();
        // Closing takes it out of the set only if no child of the agent has it open too.
        if let Some(fd) = self.fd.take() {
            poll.remove(&fd);
        }
    }

    /// Forgets a half message, one that waits for its turn, and all replies: whoever they belong to is
    /// not there any more. A command that runs goes on, and whoever is here next need not wait for it.
    fn forget(&mut self) {
        self.framer.reset();
        self.reading = None;
        self.out.keep_mapping(false);
        self.out.truncate(0);
        self.unread = 0..0;
        self.generation = self.generation.wrapping_add(1);
        self.message_done();
    }

    /// Who gets the replies to what is sent now.
    pub(super) fn id(&self) -> ClientId {
        ClientId {
            place: self.place,
            generation: self.generation,
        }
    }

    /// Has the client's descriptor waited for as it should be now.
    pub(super) fn watch(&mut self, poll: &Poll) {
        let interest = if self.is_away() {
            // Without a host a port is always ready: only changes are news.
            Interest::Change
        } else if self.sendable() != 0 || self.busy == Busy::Reading {
            Interest::Write
        } else if self.busy != Busy::No && (self.readable || self.interest != Interest::Read) {
            Interest::Nothing
        } else {
            // Also while it is busy: most clients send nothing then, and waiting for something else
            // and back would be two system calls more for each slow command.
            Interest::Read
        };
        if interest != self.interest
            && let Some(fd) = &self.fd
        {
            self.interest = interest;
            // Fails only for want of kernel memory, and is tried again at the next change.
            let token = Token::Client(self.place as usize).number();
            let _ = poll.modify(fd, token, interest);
        }
    }

    /// Has the message at hand wait.
    #[inline(never)]
    pub(super) fn wait(&mut self, busy: Busy) {
        self.busy = busy;
        self.sendable = if matches!(busy, Busy::Job | Busy::Fetch) {
            self.out.len()
        } else {
            ALL
        };
    }

    /// How many bytes may leave: all, or those before where the reply of the running job begins.
    #[inline]
    pub(super) fn sendable(&self) -> usize {
        self.sendable.min(self.out.len())
    }

    /// The message at hand is dealt with.
    #[inline(never)]
    pub(super) fn message_done(&mut self) {
        self.message.truncate(0);
        self.wait(Busy::No);
    }

    /// Whether the next piece of a file is to be read.
    #[inline]
    pub(super) fn reads_file(&self) -> bool {
        self.busy == Busy::Reading && self.out.len() < REPLY_LOW_WATER
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
    #[inline]
    pub(super) fn can_go_on(&self) -> bool {
        !self.unread.is_empty() && self.busy == Busy::No && self.out.len() < REPLY_LOW_WATER
    }

    /// Reads more, if all that came before was looked at and nothing waits to leave. An error means
    /// that the client is over: it has ended, or its descriptor does not work any more.
    pub(super) fn read(&mut self) -> Result<Filled, Errno> {
        // What a host sent before it left is read although its replies cannot leave.
        let away = self.is_away();
        let room = if away { REPLY_LOW_WATER } else { 1 };
        if self.busy != Busy::No || !self.unread.is_empty() || self.out.len() >= room {
            return Ok(Filled::Not);
        }
        let Some(fd) = &self.fd else {
            return Ok(Filled::Not);
        };
        match stream::read(fd, self.input)? {
            Read::NotYet => {
                self.readable = false;
                self.arrive();
            }
            Read::End if self.kind == Kind::Connection => return Err(Errno::PIPE),
            Read::End => self.host.end(clock::boottime_ms()),
            Read::Bytes(count) => {
                if away {
                    let left = self.host.hear(clock::boottime_ms());
                    self.drop_left(left);
                }
                self.unread = 0..count;
                return Ok(if count == self.input.len() {
                    Filled::Whole
                } else {
                    Filled::Part
                });
            }
        }
        Ok(Filled::Not)
    }

    /// Writes what may leave and can. An error means that the client is over.
    pub(super) fn write(&mut self) -> Result<(), Errno> {
        let bytes = &self.out.bytes()[..self.sendable()];
        let Some(fd) = self.fd.as_ref().filter(|_| !bytes.is_empty()) else {
            return Ok(());
        };
        if self.is_away() && self.host.is_stale(clock::boottime_ms()) {
            // For a host that is gone; dropped when the next arrives.
            return Ok(());
        }
        let written = stream::write(fd, bytes)?;
        self.out.consume(written);
        // [`ALL`] minus what was written still means that all may leave.
        self.sendable -= written;
        Ok(())
    }

    /// Takes note that the other side is away. What it sent before is still looked at: a host may
    /// send a command and leave.
    pub(super) fn hang_up(&mut self) {
        if self.kind == Kind::Port {
            self.host.hang_up(clock::boottime_ms());
        }
    }

    /// Takes note that the other side is there.
    #[inline(never)]
    pub(super) fn arrive(&mut self) {
        if self.is_away() {
            let left = self.host.arrive(clock::boottime_ms());
            self.drop_left(left);
        }
    }

    /// Drops what is left of a host that has gone.
    fn drop_left(&mut self, left: Left) {
        match left {
            Left::Nothing => {}
            // There is none while a command runs or waits: nothing was read then.
            Left::Request if self.busy != Busy::No => {}
            Left::Request => {
                self.framer.reset();
                self.message.truncate(0);
            }
            Left::All => self.forget(),
        }
    }

    /// Whether the other side is away, and news of it come only once.
    pub(super) fn is_away(&self) -> bool {
        self.host.is_away()
    }
}

/// How much a read brought.
// As wide as an error number: together they come back in two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Filled {
    /// Nothing was read.
    Not,
    /// Less than was asked for.
    Part,
    /// As much as was asked for; there may be more.
    Whole,
}
