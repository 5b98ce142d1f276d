//! For tests: an agent whose loop is driven turn by turn, and hosts that talk to it.
//!
//! A test makes an agent of its own, with its channels and its children, which are killed and
//! reaped when it is dropped. There is no SIGCHLD in a test, so each turn reaps the agent's own
//! children.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::channel::Channels;
use super::channel_options::ChannelOption;
use super::client::{self, Client, Transport};
use super::event_loop::Server;
use super::ids::ChannelId;
use super::ready::ReadySignal;
use crate::base::limits::CLIENTS;
use crate::commands::TABLE;
use crate::state::testing::state;
use crate::sys::argv::Strings;
use crate::sys::poll::Poll;
use crate::sys::root::Root;
use crate::sys::signal::Signals;
use crate::sys::testing::{self, Tree};
use crate::sys::{clock, process};

/// How long anything may take before a test fails.
const LIMIT: Duration = Duration::from_secs(20);
/// How long one turn waits for an event, in milliseconds.
const TURN_MS: u64 = 5;

/// An agent.
pub(super) struct Agent {
    pub(super) server: Server,
    /// Where its socket is.
    _tree: Option<Tree>,
}

impl Agent {
    /// An agent with one channel, a listener, to which [`Agent::connect`] connects hosts.
    pub(super) fn new() -> Self {
        let tree = Tree::new();
        let listener = ChannelOption::unix_listen(&tree.path.join("socket"));
        let mut agent = Self::with(Root::open(c"/").unwrap(), &[listener]);
        agent._tree = Some(tree);
        agent
    }

    /// An agent with these channels, in a guest that has its files at `root`.
    pub(super) fn with(root: Root, list: &[ChannelOption]) -> Self {
        Self::with_channels(Channels::new(), root, list)
    }

    /// As [`Agent::with`], but listeners that cannot be opened are tried again.
    pub(super) fn with_retries(root: Root, list: &[ChannelOption]) -> Self {
        let mut channels = Channels::new();
        channels.retries = true;
        Self::with_channels(channels, root, list)
    }

    fn with_channels(mut channels: Channels, root: Root, list: &[ChannelOption]) -> Self {
        let poll = Poll::new().unwrap();
        list.iter().for_each(|option| channels.add(option));
        let mut state = state(root);
        state.commands = TABLE;
        let memory = Box::leak(Box::new([client::Memory::EMPTY; CLIENTS]));
        let mut agent = Self {
            server: Server::new(
                channels,
                ReadySignal::new(Strings::none()),
                state,
                poll,
                Signals::new().unwrap(),
                memory,
            ),
            _tree: None,
        };
        // Opens the channels.
        agent.turn();
        agent
    }

    /// Connects a host to the first channel, a listener, over a socket pair.
    pub(super) fn connect(&mut self) -> Host {
        self.connect_to(ChannelId(0), Transport::Connection)
    }

    /// Connects a host to a channel over a socket pair.
    pub(super) fn connect_to(&mut self, channel: ChannelId, transport: Transport) -> Host {
        let (ours, theirs) = testing::connection();
        let Server {
            clients, context, ..
        } = &mut self.server;
        client::admit(clients, ours, channel, transport, &context.poll).unwrap();
        Host::new(theirs)
    }

    /// One turn of the loop. A task that it starts is still listed at its end, however short it is.
    pub(super) fn turn(&mut self) {
        self.server.reap_own();
        self.server.turn(TURN_MS);
    }

    /// As many turns as it takes to see that something does not happen.
    pub(super) fn settle(&mut self) {
        for _ in 0..10 {
            self.turn();
        }
    }

    /// Turns until `ready` gives a value.
    pub(super) fn until<T>(&mut self, mut ready: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(value) = ready(self) {
                return value;
            }
            assert!(Instant::now() < end, "this took too long");
            self.turn();
        }
    }

    /// The next line that the agent sends to a host.
    pub(super) fn reply(&mut self, host: &mut Host) -> String {
        self.until(|_| host.line())
    }

    /// Sends a request; returns its reply.
    pub(super) fn ask(&mut self, host: &mut Host, request: &str) -> String {
        host.send(request.as_bytes());
        self.reply(host)
    }

    /// The children of the agent.
    pub(super) fn children(&self) -> Vec<i32> {
        self.server.context.jobs.pids().collect()
    }

    /// Makes a worker for guest-get-fsinfo and stops it, so that its next task takes until it is
    /// continued. Returns its number.
    pub(super) fn stopped_worker(&mut self) -> i32 {
        let mut host = self.connect();
        let reply = self.ask(&mut host, r#"{"execute": "guest-get-fsinfo"}"#);
        assert!(reply.starts_with(r#"{"return": ["#), "{reply}");
        drop(host);
        self.until(|agent| agent.has_no_clients().then_some(()));
        let [worker] = self.children()[..] else {
            panic!("{:?}", self.children())
        };
        process::kill(worker, process::STOP).unwrap();
        worker
    }

    fn has_no_clients(&self) -> bool {
        self.server.clients.iter().all(Client::is_free)
    }

    /// Whether tasks run.
    pub(super) fn is_working(&self) -> bool {
        !self.server.context.jobs.is_empty()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for pid in self.children() {
            let _ = process::kill(pid, process::KILL);
            // Not without end: a test that failed may have reaped it already.
            for _ in 0..1000 {
                if process::reap_child(pid).is_some() {
                    break;
                }
                clock::sleep_ms(1);
            }
        }
    }
}

/// A host: the other end of a client.
pub(super) struct Host {
    socket: UnixStream,
    received: Vec<u8>,
    /// Whether the agent has closed the connection.
    pub(super) ended: bool,
}

impl Host {
    /// A host at its end of a connection.
    pub(super) fn new(socket: UnixStream) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            received: Vec::new(),
            ended: false,
        }
    }

    /// Sends bytes for which the socket has room.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends as many bytes as the socket has room for; returns their number.
    pub(super) fn send_some(&mut self, bytes: &[u8]) -> usize {
        match self.socket.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            sent => sent.unwrap(),
        }
    }

    /// Receives the bytes that have come, at most `limit` of them; returns all bytes not taken yet.
    pub(super) fn receive(&mut self, limit: usize) -> &[u8] {
        let mut buffer = vec![0; limit];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        &self.received
    }

    /// The next line, if it has come.
    pub(super) fn line(&mut self) -> Option<String> {
        self.receive(1 << 20);
        let end = self.received.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.received.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().into())
    }
}
