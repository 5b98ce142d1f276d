//! A listening socket: accepts connections of root and of the agent's own user, or over vsock of the
//! host.
//!
//! Whoever talks to the agent is root in this guest, so any other connection is closed at once. Over
//! vsock any user of the guest could connect to the guest itself, whose CID is then
//! [`vsock::LOCAL`]: that is no host, unless an option says so. The log has a line about a refused
//! connection at most once in [`REFUSAL_LOG_MS`], so that nobody can flood it.
//!
//! While there is no slot for another client, connections wait in the kernel's queue.

use super::client::{self, Client, Transport};
use super::context::Context;
use super::ids::{ChannelId, Token};
use super::texts::AgentPhrase;
use crate::base::limits::CLIENTS;
use crate::base::text::Digits;
use crate::state::log::Level;
use crate::sys::poll::{Interest, Poll};
use crate::sys::{Errno, OwnedFd, clock, identity, stream, vsock};

/// Milliseconds from one line about a refused connection to the next.
const REFUSAL_LOG_MS: u64 = 60_000;

/// A listening socket.
pub(super) struct Listener {
    id: ChannelId,
    socket: OwnedFd,
    /// The CID that may connect besides the host's.
    vsock_peer: u32,
    /// Whether the loop waits for connections: not while all slots are taken.
    is_active: bool,
    /// When the log may have the next line about a refused connection.
    refusal_log_ms: u64,
}

/// Whether a user may connect: root, and the agent's own.
fn may_connect(uid: u32) -> bool {
    uid == 0 || uid == identity::effective_user()
}

impl Listener {
    /// Takes connections of a listening socket.
    pub(super) fn new(
        socket: OwnedFd,
        id: ChannelId,
        vsock_peer: u32,
        poll: &Poll,
    ) -> Result<Self, Errno> {
        poll.add(&socket, Token::Channel(id).number(), Interest::Read)?;
        Ok(Self {
            id,
            socket,
            vsock_peer,
            is_active: true,
            refusal_log_ms: 0,
        })
    }

    /// Accepts connections as long as there are more than `reserved` free slots.
    pub(super) fn accept(
        &mut self,
        clients: &mut [Client],
        reserved: usize,
        context: &mut Context,
    ) {
        // Not all at once: a flood of connections must keep no client waiting. The next wait
        // reports the rest.
        for _ in 0..CLIENTS {
            let free = clients.iter().filter(|client| client.is_free());
            if free.count() <= reserved {
                return self.wait_for(Interest::Nothing, &context.poll);
            }
            match stream::accept(&self.socket) {
                Ok(fd) => self.admit(fd, clients, context),
                // The queue is empty, or the client gave up: no failure of the channel.
                Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return,
                Err(errno) => {
                    let log = &mut context.state.log;
                    log.failure(Level::Error, AgentPhrase::CannotAccept, b"", errno);
                    // Tried again at the next connection, or when a client leaves.
                    return self.wait_for(Interest::Change, &context.poll);
                }
            }
        }
    }

    /// Takes a connection as a client, if its other end may connect.
    fn admit(&mut self, fd: OwnedFd, clients: &mut [Client], context: &mut Context) {
        let Context { poll, state, .. } = context;
        let (what, number, may_connect): (&[u8], _, _) = match vsock::peer(&fd) {
            Some(cid) => (b"CID", cid, self.may_connect_from(cid)),
            None => {
                let uid = stream::peer_user(&fd);
                (b"uid", uid, may_connect(uid))
            }
        };
        if !may_connect {
            if self.logs_refusal(clock::boottime_ms()) {
                let number = Digits::unsigned(number.into());
                let about = [what, number.as_bytes()];
                let log = &mut state.log;
                log.say(Level::Error, AgentPhrase::StrangerRefused, &about);
            }
            return;
        }
        let admitted = client::admit(clients, fd, self.id, Transport::Connection, poll);
        if let Err(errno) = admitted {
            let log = &mut state.log;
            log.failure(Level::Error, AgentPhrase::CannotPollClient, b"", errno);
        }
    }

    /// Whether a vsock address may connect: the host, and that of the option.
    fn may_connect_from(&self, cid: u32) -> bool {
        cid == vsock::HOST || cid == self.vsock_peer || self.vsock_peer == vsock::ANY
    }

    /// Whether to log a refused connection now.
    fn logs_refusal(&mut self, now_ms: u64) -> bool {
        let logs = now_ms >= self.refusal_log_ms;
        if logs {
            self.refusal_log_ms = now_ms.saturating_add(REFUSAL_LOG_MS);
        }
        logs
    }

    /// Accepts connections again: a client has left.
    pub(super) fn resume(&mut self, poll: &Poll) {
        self.wait_for(Interest::Read, poll);
    }

    /// Sets what the loop waits for.
    fn wait_for(&mut self, interest: Interest, poll: &Poll) {
        let active = interest == Interest::Read;
        let token = Token::Channel(self.id).number();
        if self.is_active != active && poll.modify(&self.socket, token, interest).is_ok() {
            self.is_active = active;
        }
    }
}
