//! Channels: where clients come from. A channel is a virtio port, which is one client while it is open,
//! or a listening socket, each of whose connections is a client.
//!
//! All channels share the slots for clients. Of these one is reserved for each port that is not open:
//! it gets it as soon as its device is there, however many connections there are by then.
//!
//! All ports that wait for their device share one socket for the kernel's device events. It is open
//! only meanwhile, because each event wakes the agent.

use super::client::{self, Client, Transport};
use super::context::Context;
use super::ids::{ChannelId, Token};
use super::listener::Listener;
use super::port::Port;
use crate::base::limits::CHANNELS;
use crate::sys::Errno;
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::netlink::Uevents;
use crate::sys::poll::{Interest, Poll};

/// A channel. Further kinds (a serial line, vsock, an inherited socket) become further variants.
enum Channel {
    Port(Port),
    Listener(Listener),
}

/// All channels of the agent.
pub(super) struct Channels {
    list: heapless::Vec<Channel, CHANNELS>,
    /// The kernel's device events, while a port waits for its device.
    uevents: Option<Uevents>,
}

impl Channels {
    /// No channels.
    pub(super) fn new() -> Self {
        Self {
            list: heapless::Vec::new(),
            uevents: None,
        }
    }

    /// Adds a port, which [`Channels::open_ports`] opens.
    pub(super) fn add_port(&mut self, path: &'static [u8]) -> Result<(), Errno> {
        self.add(Channel::Port(Port::new(path)))
    }

    /// Adds a listener.
    ///
    /// # Errors
    /// [`Errno::NOTSOCK`] if another kind of file is at `path`.
    pub(super) fn add_listener(&mut self, path: &[u8], poll: &Poll) -> Result<(), Errno> {
        let id = ChannelId(self.list.len());
        self.add(Channel::Listener(Listener::open(path, id, poll)?))
    }

    fn add(&mut self, channel: Channel) -> Result<(), Errno> {
        self.list.push(channel).map_err(|_| Errno::NOSPC)
    }

    fn ports(&self) -> impl Iterator<Item = &Port> {
        self.list.iter().filter_map(|channel| match channel {
            Channel::Port(port) => Some(port),
            Channel::Listener(_) => None,
        })
    }

    fn get(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.list.get_mut(id.0)
    }

    /// Accepts the connections that wait at a listener.
    pub(super) fn accept(&mut self, id: ChannelId, clients: &mut [Client], context: &mut Context) {
        let reserved = self.ports().filter(|port| !port.is_open()).count();
        if let Some(Channel::Listener(listener)) = self.get(id) {
            listener.accept(clients, reserved, context);
        }
    }

    /// Takes note that a client of this channel has left, and why.
    pub(super) fn client_left(&mut self, id: ChannelId, errno: Errno, context: &mut Context) {
        let Context { poll, state, .. } = context;
        if let Some(Channel::Port(port)) = self.get(id) {
            return port.lost(errno, clock::boottime_ms(), &mut state.log);
        }
        // Its slot is free for a client of any listener.
        for channel in &mut self.list {
            if let Channel::Listener(listener) = channel {
                listener.resume(poll);
            }
        }
    }

    /// When [`Channels::open_ports`] has something to do next.
    pub(super) fn deadline_ms(&self) -> u64 {
        let due = self.ports().map(Port::next_ms);
        due.fold(NEVER_MS, u64::min)
    }

    /// Has ports looked for again whose device was missing.
    pub(super) fn device_event(&mut self) {
        if let Some(uevents) = &self.uevents {
            // The content of the events is ignored: the port is looked for anew.
            uevents.skip();
        }
        for channel in &mut self.list {
            if let Channel::Port(port) = channel {
                port.device_event();
            }
        }
    }

    /// Opens the ports whose time has come.
    #[inline(never)]
    pub(super) fn open_ports(
        &mut self,
        now_ms: u64,
        clients: &mut [Client],
        context: &mut Context,
    ) {
        let Context { poll, state, .. } = context;
        // Before the first look, so that no device is missed that is added meanwhile.
        if self.uevents.is_none() {
            self.uevents = listen_for_devices(poll).ok();
        }
        let has_events = self.uevents.is_some();
        state.guest.find_root();
        for (index, channel) in self.list.iter_mut().enumerate() {
            let Channel::Port(port) = channel else {
                continue;
            };
            if port.next_ms() > now_ms {
                continue;
            }
            let id = ChannelId(index);
            let opened = port
                .open(&state.guest.root)
                .and_then(|fd| client::admit(clients, fd, id, Transport::Port, poll));
            port.tried(opened, has_events, now_ms, &mut state.log);
        }
        if !self.ports().any(Port::waits_for_device) {
            self.uevents = None;
        }
    }
}

/// Opens the socket for device events and has the loop wait for them.
fn listen_for_devices(poll: &Poll) -> Result<Uevents, Errno> {
    let uevents = Uevents::open()?;
    poll.add(&uevents, Token::Uevents.number(), Interest::Read)?;
    Ok(uevents)
}
