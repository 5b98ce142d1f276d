//! Channels: where clients come from. A channel is a port (a virtio port or a serial line), which is
//! one client while it is open, or a listening socket, each of whose connections is a client.
//!
//! All channels share the slots for clients. Of these one is reserved for each port that is not
//! open: it gets it as soon as its device is there, however many connections there are by then.
//!
//! All channels that wait for their device share one socket for the kernel's device events. It is
//! open only meanwhile, because each event wakes the agent.

use super::channel_options::{ChannelOption, Method};
use super::client::{self, Client, Transport};
use super::context::Context;
use super::ids::{ChannelId, Token};
use super::listener::Listener;
use super::opener::Opener;
use super::restart;
use crate::base::limits::CHANNELS;
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::netlink::Uevents;
use crate::sys::poll::{Interest, Poll};
use crate::sys::{Errno, process, vsock};

/// A channel.
struct Channel {
    opener: Opener,
    /// The socket of an open listener.
    listener: Option<Listener>,
}

/// All channels of the agent.
pub(super) struct Channels {
    list: heapless::Vec<Channel, CHANNELS>,
    /// The kernel's device events, while a channel waits for its device.
    uevents: Option<Uevents>,
    /// When the first channel is due.
    deadline_ms: u64,
    /// Whether a listener that cannot be opened is tried again; otherwise the agent ends.
    pub(super) retries: bool,
    /// The CID that may connect over vsock besides the host's.
    pub(super) vsock_peer: u32,
}

impl Channels {
    /// No channels.
    pub(super) fn new() -> Self {
        Self {
            list: heapless::Vec::new(),
            uevents: None,
            deadline_ms: NEVER_MS,
            retries: false,
            vsock_peer: vsock::HOST,
        }
    }

    /// Adds a channel, which [`Channels::open_due`] opens.
    pub(super) fn add(&mut self, option: &ChannelOption) {
        let channel = Channel {
            opener: Opener::new(option),
            listener: None,
        };
        // There is room for as many as there are options.
        let _ = self.list.push(channel);
        self.find_deadline();
    }

    fn get(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.list.get_mut(id.0)
    }

    /// Accepts the connections that wait at a listener.
    pub(super) fn accept(&mut self, id: ChannelId, clients: &mut [Client], context: &mut Context) {
        let waits = |channel: &&Channel| channel.opener.waits_for_slot();
        let reserved = self.list.iter().filter(waits).count();
        if let Some(listener) = self.get(id).and_then(|channel| channel.listener.as_mut()) {
            listener.accept(clients, reserved, context);
        }
    }

    /// Takes note that a client of this channel has left, and why.
    pub(super) fn client_left(&mut self, id: ChannelId, errno: Errno, context: &mut Context) {
        let Context { poll, state, .. } = context;
        if let Some(channel) = self.get(id).filter(|channel| channel.listener.is_none()) {
            let opener = &mut channel.opener;
            opener.lost(errno, clock::boottime_ms(), &mut state.log);
            return self.find_deadline();
        }
        // Its slot is free for a client of any listener.
        for channel in &mut self.list {
            if let Some(listener) = &mut channel.listener {
                listener.resume(poll);
            }
        }
    }

    /// Stops listening: from here on another agent may have the addresses.
    pub(super) fn stop_listening(&mut self) {
        for channel in &mut self.list {
            channel.listener = None;
        }
    }

    /// Whether a channel is open.
    pub(super) fn has_open(&self) -> bool {
        self.list.iter().any(|channel| channel.opener.is_open())
    }

    /// When [`Channels::open_due`] has something to do next.
    pub(super) fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// Sets the deadline anew, after a change of a channel.
    fn find_deadline(&mut self) {
        let due = self.list.iter().map(|channel| channel.opener.next_ms());
        self.deadline_ms = due.fold(NEVER_MS, u64::min);
    }

    /// Has channels looked for again whose device was missing.
    pub(super) fn device_event(&mut self) {
        if let Some(uevents) = &self.uevents {
            // The content of the events is ignored: the device is looked for anew.
            uevents.skip();
        }
        for channel in &mut self.list {
            channel.opener.device_event();
        }
        self.find_deadline();
    }

    /// Opens the channels whose time has come.
    #[inline(never)]
    pub(super) fn open_due(&mut self, now_ms: u64, clients: &mut [Client], context: &mut Context) {
        let Context { poll, state, .. } = context;
        // Before the first look, so that no device is missed that is added meanwhile.
        let needs_device = |channel: &Channel| channel.opener.needs_device();
        if self.uevents.is_none() && self.list.iter().any(needs_device) {
            self.uevents = listen_for_devices(poll).ok();
        }
        let has_events = self.uevents.is_some();
        state.guest.find_root();
        for (index, Channel { opener, listener }) in self.list.iter_mut().enumerate() {
            if opener.next_ms() > now_ms {
                continue;
            }
            let is_first = opener.is_new();
            let id = ChannelId(index);
            let opened = opener.open(&state.guest.root).and_then(|fd| {
                let transport = match opener.method {
                    Method::VirtioSerial => Transport::Port,
                    Method::IsaSerial => Transport::Connection,
                    Method::UnixListen | Method::VsockListen | Method::Inherited => {
                        *listener = Some(Listener::new(fd, id, self.vsock_peer, poll)?);
                        return Ok(());
                    }
                };
                client::admit(clients, fd, id, transport, poll)
            });
            opener.tried(opened, has_events, now_ms, &mut state.log);
            if is_first && opener.has_failed() && opener.method.listens() && !self.retries {
                if !process::is_init() {
                    state.pid_file.remove();
                    restart::end(1);
                }
                *opener = Opener::new(&ChannelOption::DEFAULT);
            }
        }
        let waits = |channel: &Channel| channel.opener.waits_for_device();
        if !self.list.iter().any(waits) {
            self.uevents = None;
        }
        self.find_deadline();
    }
}

/// Opens the socket for device events and has the loop wait for them.
fn listen_for_devices(poll: &Poll) -> Result<Uevents, Errno> {
    let uevents = Uevents::open()?;
    poll.add(&uevents, Token::Uevents.number(), Interest::Read)?;
    Ok(uevents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Agent, Host};
    use crate::base::limits::CLIENTS;
    use crate::sys::testing::Tree;
    use std::os::unix::net::UnixStream;

    const PING: &str = r#"{"execute": "guest-ping"}"#;
    const PONG: &str = r#"{"return": {}}"#;
    const PORT: ChannelId = ChannelId(0);

    /// A host that connects to the socket of this name in a tree.
    fn connect(tree: &Tree, name: &str) -> Host {
        Host::new(UnixStream::connect(tree.path.join(name)).unwrap())
    }

    /// An agent with a port at `/port`, and two listeners, `first` and `second`, all in a
    /// tree.
    fn agent(tree: &Tree) -> Agent {
        let listener = |name| ChannelOption::unix_listen(&tree.path.join(name));
        Agent::with(
            tree.open(),
            &[
                ChannelOption::at(Method::VirtioSerial, b"/port"),
                listener("first"),
                listener("second"),
            ],
        )
    }

    fn channels_of_clients(agent: &Agent) -> Vec<usize> {
        let clients = agent.server.clients.iter();
        let taken = clients.filter(|client| !client.is_free());
        taken.map(|client| client.channel.0).collect()
    }

    #[test]
    fn port_and_two_listeners_are_served_side_by_side() {
        let tree = Tree::new();
        let mut agent = agent(&tree);
        let mut hosts = [
            agent.connect_to(PORT, Transport::Port),
            connect(&tree, "first"),
            connect(&tree, "second"),
        ];
        for _ in 0..2 {
            for host in &mut hosts {
                host.send(PING.as_bytes());
            }
            for host in &mut hosts {
                assert_eq!(agent.reply(host), PONG);
            }
        }
        assert_eq!(channels_of_clients(&agent), [0, 1, 2]);
        // One after the other goes; the port's client stays when its host goes.
        let [port, first, mut second] = hosts;
        drop(first);
        agent.until(|agent| (channels_of_clients(agent) == [0, 2]).then_some(()));
        drop(port);
        assert_eq!(agent.ask(&mut second, PING), PONG);
        assert_eq!(channels_of_clients(&agent), [0, 2]);
        let mut next = connect(&tree, "first");
        assert_eq!(agent.ask(&mut next, PING), PONG);
        assert_eq!(channels_of_clients(&agent), [0, 1, 2]);
    }

    #[test]
    fn connections_wait_for_a_slot_and_leave_one_to_the_port() {
        let tree = Tree::new();
        let mut agent = agent(&tree);
        let mut hosts: Vec<_> = (0..CLIENTS)
            .map(|number| connect(&tree, ["first", "second"][number % 2]))
            .collect();
        for host in &mut hosts {
            host.send(PING.as_bytes());
        }
        let mut served = Vec::new();
        agent.until(|_| {
            served.extend((0..CLIENTS).filter(|&index| hosts[index].line().is_some()));
            (served.len() == CLIENTS - 1).then_some(())
        });
        agent.settle();
        assert_eq!(hosts.iter_mut().filter_map(Host::line).count(), 0);
        tree.fifo(c"port");
        agent.server.channels.device_event();
        agent.settle();
        assert!(channels_of_clients(&agent).contains(&0), "the port is open");
        let waiting = (0..CLIENTS).find(|index| !served.contains(index)).unwrap();
        assert_eq!(hosts[waiting].line(), None);
        // A client of either listener makes room for one of the other.
        let mut waiting = hosts.swap_remove(waiting);
        let kept = hosts.split_off(1);
        drop(hosts);
        assert_eq!(agent.reply(&mut waiting), PONG);
        drop(kept);
    }

    #[test]
    fn missing_port_is_opened_when_its_device_is_added() {
        let tree = Tree::new();
        let mut agent = agent(&tree);
        agent.settle();
        let channels = &agent.server.channels;
        assert!(channels.uevents.is_some() && channels.deadline_ms() == NEVER_MS);
        tree.fifo(c"port");
        agent.settle();
        assert!(channels_of_clients(&agent).is_empty(), "nothing is polled");
        agent.server.channels.device_event();
        agent.settle();
        assert_eq!(channels_of_clients(&agent), [0]);
        let channels = &agent.server.channels;
        assert!(channels.uevents.is_none() && channels.deadline_ms() == NEVER_MS);
    }

    #[test]
    fn port_that_cannot_be_opened_or_polled_is_tried_again_at_its_time() {
        let tree = Tree::new();
        let path = tree.path.join("port");
        // A directory cannot be opened.
        std::fs::create_dir(&path).unwrap();
        let earliest_ms = clock::in_ms(10_000);
        let mut agent = agent(&tree);
        agent.settle();
        let mut due_ms = agent.server.channels.deadline_ms();
        assert!((earliest_ms..=clock::in_ms(10_000)).contains(&due_ms));
        assert!(agent.server.channels.uevents.is_none());
        // An ordinary file cannot be polled.
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        agent.server.run_timers(due_ms);
        assert!(channels_of_clients(&agent).is_empty());
        due_ms += 10_000;
        assert_eq!(agent.server.channels.deadline_ms(), due_ms);
        std::fs::remove_file(&path).unwrap();
        tree.fifo(c"port");
        agent.server.run_timers(due_ms - 1);
        assert!(channels_of_clients(&agent).is_empty());
        agent.server.run_timers(due_ms);
        assert_eq!(channels_of_clients(&agent), [0]);
    }

    #[test]
    fn listener_that_cannot_be_made_is_tried_again_if_that_was_asked_for() {
        let tree = Tree::new();
        let directory = tree.path.join("late");
        let listener = ChannelOption::unix_listen(&directory.join("socket"));
        let mut agent = Agent::with_retries(tree.open(), &[listener]);
        let channels = &agent.server.channels;
        let due_ms = channels.deadline_ms();
        assert!(due_ms != NEVER_MS && channels.uevents.is_none());
        std::fs::create_dir(directory).unwrap();
        agent.server.run_timers(due_ms);
        let mut host = connect(&tree, "late/socket");
        assert_eq!(agent.ask(&mut host, PING), PONG);
    }
}
