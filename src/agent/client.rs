//! A client: a descriptor, the messages that come in, and the replies that go out.
//!
//! Replies keep the order of requests: the agent takes the next request of a client only when no
//! slow command runs for it and few replies wait for it to read. Until then its further requests
//! stay in the kernel, so a client that never reads costs a fixed amount of memory.

use static_assertions::const_assert;

use super::ids::{ChannelId, ClientId, Token};
use super::port_peer::{Left, PortPeer};
use crate::base::limits::{
    READ_BYTES, REPLY_AT_REST, REPLY_BYTES, REPLY_LOW_WATER, REQUEST_AT_REST, REQUEST_BYTES,
};
use crate::base::sink::ByteSink;
use crate::state::files::Reading;
use crate::sys::mem::{self, Buffer, PAGE};
use crate::sys::poll::{Interest, Poll};
use crate::sys::stream::{self, Read};
use crate::sys::{Errno, OwnedFd, clock};
use crate::wire::check::Open;
use crate::wire::frame::{Event, Framer};

/// The memory of one slot: enough for ordinary requests and replies; longer ones borrow more.
// In this order, with whole pages for each part: where `targets/layout.ld` has it begin with a page, all
// pages of a part can be given back.
#[repr(C)]
pub(super) struct Memory {
    input: [u8; READ_BYTES],
    message: [u8; REQUEST_AT_REST],
    out: [u8; REPLY_AT_REST],
    open: Open,
}

const_assert!(READ_BYTES.is_multiple_of(PAGE));
const_assert!(REQUEST_AT_REST.is_multiple_of(PAGE) && REPLY_AT_REST.is_multiple_of(PAGE));
const_assert!(size_of::<Open>().is_multiple_of(PAGE));

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
pub(super) enum Transport {
    /// A virtio port: hosts come and go on one descriptor, so the end of the input is no reason to
    /// close it.
    Port,
    /// A connection: the end of the input is the end of the client.
    Connection,
}

/// Why the next message of a client has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// Not waiting.
    No,
    /// A slow command of this client runs.
    Job,
    /// A file is read for it, piece by piece.
    Reading,
    /// The same, and a worker reads the next piece.
    Fetch,
    /// The command may not run beside another that runs now, for another client or for the agent.
    Turn,
}

/// No limit on the bytes that may leave.
const ALL: usize = usize::MAX;

/// A slot for a client: its memory, and the client if there is one.
pub(super) struct Client {
    /// The index of the slot.
    pub(super) index: u32,
    /// Counts the clients of this slot, so that a late reply to an earlier one is dropped.
    generation: u32,
    fd: Option<OwnedFd>,
    /// The channel that the client came from.
    pub(super) channel: ChannelId,
    transport: Transport,
    /// Why the next message has to wait.
    pub(super) busy: Busy,
    /// The host, if the client is a port.
    host: PortPeer,
    /// Whether anything has happened since the client was last served.
    pub(super) has_events: bool,
    /// Whether there may be something to read.
    pub(super) readable: bool,
    /// What the loop waits for at the descriptor.
    interest: Interest,
    /// Bytes at the start of `out` that may leave. The reply of a running job is behind them: it
    /// leaves when it is whole.
    sendable: usize,
    /// The part of `input` that is still to be parsed.
    unread: core::ops::Range<usize>,
    /// The bytes to be sent.
    pub(super) out: Buffer,
    input: &'static mut [u8],
    /// The file that is read for the current message.
    pub(super) reading: Option<Reading>,
    /// The current message.
    pub(super) message: Buffer,
    pub(super) framer: Framer<'static>,
}

/// Puts a client into a free slot, and has the loop wait for its input.
///
/// # Errors
/// [`Errno::NOBUFS`] if no slot is free, or the error of epoll_ctl(2).
#[inline(never)]
pub(super) fn admit(
    clients: &mut [Client],
    fd: OwnedFd,
    channel: ChannelId,
    transport: Transport,
    poll: &Poll,
) -> Result<(), Errno> {
    let mut clients = clients.iter_mut();
    let client = clients.find(|client| client.is_free());
    let client = client.ok_or(Errno::NOBUFS)?;
    poll.add(&fd, client.token(), Interest::Read)?;
    client.take_in(fd, channel, transport);
    Ok(())
}

impl Client {
    /// A free slot with this memory.
    pub(super) fn new(index: u32, memory: &'static mut Memory) -> Self {
        Self {
            index,
            generation: 0,
            fd: None,
            channel: ChannelId(0),
            transport: Transport::Port,
            busy: Busy::No,
            host: PortPeer::Here,
            has_events: false,
            readable: false,
            interest: Interest::Read,
            sendable: ALL,
            reading: None,
            framer: Framer::new(&mut memory.open),
            message: Buffer::new(&mut memory.message, REQUEST_BYTES),
            // Children need the message at most.
            out: Buffer::new(mem::wipe_in_children(&mut memory.out), REPLY_BYTES),
            input: mem::wipe_in_children(&mut memory.input),
            unread: 0..0,
        }
    }

    /// Whether the slot has no client.
    pub(super) fn is_free(&self) -> bool {
        self.fd.is_none()
    }

    /// The number that stands for this slot in the poll set.
    fn token(&self) -> u64 {
        Token::Client(self.index as usize).number()
    }

    fn take_in(&mut self, fd: OwnedFd, channel: ChannelId, transport: Transport) {
        self.generation = self.generation.wrapping_add(1);
        self.fd = Some(fd);
        self.channel = channel;
        self.transport = transport;
        self.host = PortPeer::Here;
        self.interest = Interest::Read;
        self.has_events = true;
        self.readable = true;
    }

    /// Closes the client's descriptor and drops its requests and replies.
    pub(super) fn close(&mut self, poll: &Poll) {
        self.forget();
        self.message_done();
        // Closing removes the descriptor from the set only if no child of the agent has it open
        // too.
        if let Some(fd) = self.fd.take() {
            poll.remove(&fd);
        }
        self.release();
    }

    /// Drops a half message, a message that waits for its turn, and all replies: their host is
    /// gone. A running command goes on, and the next host need not wait for it.
    fn forget(&mut self) {
        self.framer.reset();
        self.reading = None;
        self.out.keep_mapping(false);
        self.out.truncate(0);
        self.unread = 0..0;
        self.generation = self.generation.wrapping_add(1);
        self.message_done();
    }

    /// Gives back memory that holds nothing.
    pub(super) fn release(&mut self) {
        self.message.release();
        self.out.release();
        if self.unread.is_empty() {
            mem::release_bytes(self.input);
        }
        mem::release_free(self.framer.free_memory());
    }

    /// The id of the present client.
    pub(super) fn id(&self) -> ClientId {
        ClientId {
            index: self.index,
            generation: self.generation,
        }
    }

    /// Sets what the loop waits for at the descriptor.
    pub(super) fn watch(&mut self, poll: &Poll) {
        let interest = if self.is_away() {
            // A port without a host reports a hang-up at every poll: wait for a change of that.
            Interest::Change
        } else if self.sendable() != 0 || self.busy == Busy::Reading {
            Interest::Write
        } else if self.busy != Busy::No && (self.readable || self.interest != Interest::Read) {
            Interest::Nothing
        } else {
            // Also while it is busy: most clients send nothing then, and to wait for nothing
            // meanwhile would cost two system calls for each slow command.
            Interest::Read
        };
        if interest != self.interest
            && let Some(fd) = &self.fd
        {
            self.interest = interest;
            // Fails only for want of kernel memory; the next change of interest tries again.
            let _ = poll.modify(fd, self.token(), interest);
        }
    }

    /// Has the next message wait for this reason.
    #[inline(never)]
    pub(super) fn wait(&mut self, busy: Busy) {
        self.busy = busy;
        self.sendable = if matches!(busy, Busy::Job | Busy::Fetch) {
            self.out.len()
        } else {
            ALL
        };
    }

    /// How many bytes of `out` may leave: all, or those before the reply of the running job.
    #[inline]
    pub(super) fn sendable(&self) -> usize {
        self.sendable.min(self.out.len())
    }

    /// Makes the client ready for its next message.
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

    /// Parses the input up to the next message or error. [`Event::NeedMore`]: there is none yet, or
    /// replies must leave first.
    pub(super) fn next_event(&mut self) -> Event {
        if !self.can_go_on() {
            return Event::NeedMore;
        }
        let unread = &self.input[self.unread.clone()];
        let (taken, event) = self.framer.feed(unread, &mut self.message);
        self.unread.start += taken;
        event
    }

    /// Whether there is input, and the next message need not wait.
    #[inline]
    pub(super) fn can_go_on(&self) -> bool {
        !self.unread.is_empty() && self.busy == Busy::No && self.out.len() < REPLY_LOW_WATER
    }

    /// Reads more input, once all input before was parsed and all replies have left.
    ///
    /// # Errors
    /// The client has ended, or its descriptor has failed: close it.
    pub(super) fn read(&mut self) -> Result<Filled, Errno> {
        // The last requests of a host that has left are read although their replies cannot leave.
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
            Read::End if self.transport == Transport::Connection => return Err(Errno::PIPE),
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

    /// Writes as many of the bytes that may leave as the descriptor takes.
    ///
    /// # Errors
    /// The descriptor has failed: close the client.
    pub(super) fn write(&mut self) -> Result<(), Errno> {
        let sendable = self.sendable();
        let Some(fd) = self.fd.as_ref().filter(|_| sendable != 0) else {
            return Ok(());
        };
        if self.is_away() && self.host.is_stale(clock::boottime_ms()) {
            // The replies are for a host that is gone: they are dropped when the next one arrives.
            return Ok(());
        }
        let written = stream::write(fd, &self.out.bytes()[..sendable])?;
        self.out.consume(written);
        // MAX minus the bytes written still means "no limit".
        self.sendable -= written;
        Ok(())
    }

    /// The host has left. Its last requests are still run: a host may send a command and leave.
    pub(super) fn hang_up(&mut self) {
        if self.transport == Transport::Port {
            self.host.hang_up(clock::boottime_ms());
        }
    }

    /// A host is connected.
    #[inline(never)]
    pub(super) fn arrive(&mut self) {
        if self.is_away() {
            let left = self.host.arrive(clock::boottime_ms());
            self.drop_left(left);
        }
    }

    /// Drops what a host that is gone has left behind.
    fn drop_left(&mut self, left: Left) {
        match left {
            Left::Nothing => {}
            // While a command runs or waits there is no half message: nothing is parsed meanwhile.
            Left::Request if self.busy != Busy::No => {}
            Left::Request => {
                self.framer.reset();
                self.message.truncate(0);
            }
            Left::All => self.forget(),
        }
    }

    /// Whether no host is connected to the port, which then reports only changes.
    pub(super) fn is_away(&self) -> bool {
        self.host.is_away()
    }
}

/// How much of the input buffer a read has filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Nothing was read.
    Not,
    /// A part: there was no more to read.
    Part,
    /// All of it: there may be more to read.
    Whole,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::root::Root;
    use crate::sys::testing::connection;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    /// A slot with a client, and the host at its other end.
    fn client(transport: Transport) -> (Client, UnixStream, Poll) {
        let poll = Poll::new().unwrap();
        let memory = Box::leak(Box::new(Memory::EMPTY));
        let mut slots = [Client::new(0, memory)];
        let (ours, theirs) = connection();
        admit(&mut slots, ours, ChannelId(2), transport, &poll).unwrap();
        let [client] = slots;
        theirs.set_nonblocking(true).unwrap();
        (client, theirs, poll)
    }

    #[test]
    fn client_needs_a_free_slot_and_a_descriptor_that_can_be_polled() {
        let poll = Poll::new().unwrap();
        let memory = Box::leak(Box::new(Memory::EMPTY));
        let mut slots = [Client::new(0, memory)];
        let mut add = |fd| admit(&mut slots, fd, ChannelId(1), Transport::Connection, &poll);
        let file = Root::open(c"/").unwrap().file_at(&[b"proc/self/exe"]);
        assert_eq!(add(file.unwrap()), Err(Errno::PERM));
        let (first, _host) = connection();
        assert_eq!(add(first), Ok(()));
        let (second, _host) = connection();
        assert_eq!(add(second), Err(Errno::NOBUFS));
        assert_eq!(
            (slots[0].channel, slots[0].is_free()),
            (ChannelId(1), false)
        );
        let id = slots[0].id();
        slots[0].close(&poll);
        assert!(slots[0].is_free() && slots[0].id() != id);
    }

    #[test]
    fn one_message_is_taken_at_a_time() {
        let (mut client, mut host, _poll) = client(Transport::Connection);
        host.write_all(br#"{"a": 1}{"b": 2}"#).unwrap();
        assert_eq!(client.read(), Ok(Filled::Part));
        assert_eq!(client.next_event(), Event::Message);
        assert_eq!(client.message.bytes(), br#"{"a":1}"#);
        client.wait(Busy::Job);
        assert_eq!(client.next_event(), Event::NeedMore);
        assert_eq!(client.read(), Ok(Filled::Not));
        client.message_done();
        assert_eq!(client.next_event(), Event::Message);
        assert_eq!(client.message.bytes(), br#"{"b":2}"#);
        client.message_done();
        assert_eq!(client.next_event(), Event::NeedMore);
        drop(host);
        assert_eq!(client.read(), Err(Errno::PIPE));
    }

    #[test]
    fn reply_of_a_job_leaves_when_it_is_whole() {
        let (mut client, mut host, _poll) = client(Transport::Connection);
        let mut received = || {
            let mut buffer = [0; 100];
            let len = host.read(&mut buffer).unwrap_or(0);
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        client.out.append(b"first\n").unwrap();
        client.wait(Busy::Job);
        client.out.append(b"half of ").unwrap();
        assert_eq!(client.write(), Ok(()));
        assert_eq!(received(), "first\n");
        assert_eq!(client.write(), Ok(()));
        assert_eq!(received(), "");
        client.out.append(b"the second\n").unwrap();
        client.message_done();
        assert_eq!(client.write(), Ok(()));
        assert_eq!(received(), "half of the second\n");
    }

    #[test]
    fn host_that_does_not_read_is_not_read_from() {
        let (mut client, mut host, _poll) = client(Transport::Connection);
        client.out.append(&[b'x'; REPLY_LOW_WATER]).unwrap();
        host.write_all(b"{}{}").unwrap();
        assert_eq!(client.read(), Ok(Filled::Not));
        assert_eq!(client.next_event(), Event::NeedMore);
        assert_eq!(client.write(), Ok(()));
        assert_eq!(client.read(), Ok(Filled::Part));
        assert_eq!(client.next_event(), Event::Message);
        client.message_done();
        client.out.append(&[b'x'; REPLY_LOW_WATER]).unwrap();
        assert_eq!(client.next_event(), Event::NeedMore);
    }

    #[test]
    fn next_host_of_a_port_gets_nothing_of_the_last() {
        let (mut client, mut host, _poll) = client(Transport::Port);
        host.write_all(br#"{"a": "#).unwrap();
        assert_eq!(client.read(), Ok(Filled::Part));
        assert_eq!(client.next_event(), Event::NeedMore);
        host.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(), Ok(Filled::Not));
        assert!(client.is_away(), "the end is not the end of a port");
        // The next host is there at once: its bytes do not complete the half message.
        client.arrive();
        let mut feed = |text: &[u8]| {
            client.input[..text.len()].copy_from_slice(text);
            client.unread = 0..text.len();
            client.next_event()
        };
        assert_eq!(feed(b"{}"), Event::Message);
        client.message_done();
        // A host whose command runs leaves for good: its reply is not for the next one.
        client.wait(Busy::Job);
        client.out.append(b"reply\n").unwrap();
        let id = client.id();
        client.drop_left(Left::All);
        assert!(client.id() != id && client.out.is_empty());
        assert_eq!(client.busy, Busy::No);
    }
}
