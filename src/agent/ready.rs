//! The ready signal, `READY=1` in systemd's form (sd_notify(3)), sent as soon as one channel is open.
//!
//! It goes to the socket of `NOTIFY_SOCKET`: an absolute path or `@` and an abstract name of a unix
//! datagram socket, or an address of vsock: `vsock:CID:PORT`, a datagram or, where there are none, a
//! packet of a connection; `vsock-stream:`, `vsock-dgram:` and `vsock-seqpacket:` stand for one type of
//! socket. Over vsock it comes from a port below 1024, which tells the host that root has sent it.
//!
//! As PID 1 of the machine the agent takes that address from the credential `vmm.notify_socket` as
//! well ([`crate::probe::credential`]): then the machine is ready as soon as the agent is. In any other
//! guest the init sends that signal, and the agent's would come too early.
//!
//! The socket never waits: the loop writes when it can be written, and closes it. The kernel gives up a
//! vsock connection after two seconds. A signal that cannot be sent is a line in the log, and there is
//! no second try. PID 1 sends it again after a fault.

use super::ids::Token;
use super::texts::AgentPhrase;
use crate::base::text;
use crate::parse::word_index;
use crate::probe::credential;
use crate::state::log::{Level, Log};
use crate::sys::argv::{Strings, variable};
use crate::sys::poll::{Interest, Poll};
use crate::sys::root::Root;
use crate::sys::vsock::SocketType;
use crate::sys::{Errno, OwnedFd, process, stream, vsock};

/// The signal, which is sent once.
pub(super) struct ReadySignal {
    environment: Strings,
    was_sent: bool,
    /// The socket that it is to be written to.
    socket: Option<OwnedFd>,
}

impl ReadySignal {
    /// The signal of an agent with this environment.
    pub(super) fn new(environment: Strings) -> Self {
        Self {
            environment,
            was_sent: false,
            socket: None,
        }
    }

    /// Begins to send it, unless that was done before or nobody waits for it.
    #[inline(never)]
    pub(super) fn send(&mut self, root: &Root, poll: &Poll, log: &mut Log) {
        if core::mem::replace(&mut self.was_sent, true) {
            return;
        }
        let found;
        let mut address = variable(self.environment, b"NOTIFY_SOCKET");
        if address.is_none() && process::is_init() {
            let directory = variable(self.environment, b"CREDENTIALS_DIRECTORY");
            found = credential::notify_socket(root, directory);
            address = found.as_deref();
        }
        let Some(address) = address else {
            return;
        };
        let begun = connect(address.trim_ascii()).and_then(|socket| {
            poll.add(&socket, Token::Ready.number(), Interest::Write)?;
            Ok(socket)
        });
        match begun {
            Ok(socket) => self.socket = Some(socket),
            Err(errno) => failed(errno, log),
        }
    }

    /// Writes it: the socket can be written, or has failed.
    pub(super) fn write(&mut self, log: &mut Log) {
        if let Some(socket) = self.socket.take() {
            let connected = stream::connected(&socket);
            match connected.and_then(|()| stream::write(&socket, b"READY=1")) {
                // The receiver has no room for it yet.
                Ok(0) => self.socket = Some(socket),
                Ok(_) => {}
                Err(errno) => failed(errno, log),
            }
        }
    }
}

fn failed(errno: Errno, log: &mut Log) {
    log.failure(Level::Error, AgentPhrase::CannotSignal, b"", errno);
}

/// Opens a socket that leads to this address as soon as it can be written.
fn connect(address: &[u8]) -> Result<OwnedFd, Errno> {
    if matches!(address, [b'/' | b'@', ..]) {
        return stream::connect_datagram(address);
    }
    let (types, cid, port) = vsock_target(address).ok_or(Errno::INVAL)?;
    let mut socket = Err(Errno::INVAL);
    for kind in types {
        socket = socket.or_else(|_| vsock::connect(*kind, cid, port));
    }
    socket
}

/// The types of sockets to try, CID and port.
fn vsock_target(address: &[u8]) -> Option<(&'static [SocketType], u32, u32)> {
    let mut rest = address;
    let name = text::cut(&mut rest, b':');
    let types: &[_] = match word_index(b"vsock vsock-stream vsock-dgram vsock-seqpacket", name)? {
        0 => &[SocketType::DGRAM, SocketType::SEQPACKET],
        1 => &[SocketType::STREAM],
        2 => &[SocketType::DGRAM],
        _ => &[SocketType::SEQPACKET],
    };
    let cid = text::parse_u32(text::cut(&mut rest, b':'))?;
    Some((types, cid, text::parse_u32(rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn vsock_address_has_a_type_a_cid_and_a_port() {
        let target = |address: &'static str| {
            let (types, cid, port) = vsock_target(address.as_bytes())?;
            Some((types.to_vec(), cid, port))
        };
        let stream = vec![SocketType::STREAM];
        assert_eq!(target("vsock-stream:2:1"), Some((stream, 2, 1)));
        let packets = vec![SocketType::SEQPACKET];
        assert_eq!(target("vsock-seqpacket:2:1"), Some((packets, 2, 1)));
        assert_eq!(target("vsock-dgram:2:1").unwrap().0, [SocketType::DGRAM]);
        let both = vec![SocketType::DGRAM, SocketType::SEQPACKET];
        assert_eq!(target("vsock:4294967295:0"), Some((both, u32::MAX, 0)));
        for address in [
            "",
            "vsock",
            "vsock:",
            "vsock:2",
            "vsock:2:",
            "vsock::1",
            "vsock:2:1:3",
            "vsock:x:1",
            "vsocks:2:1",
            "unix:2:1",
            "vsock-:2:1",
        ] {
            assert_eq!(target(address), None, "{address}");
        }
    }

    #[test]
    fn is_sent_to_a_path_or_an_abstract_name() {
        let tree = Tree::new();
        let path = tree.path.join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut signal = ReadySignal::new(Strings::none());
        let mut log = Log::new();
        signal.socket = connect(path.to_str().unwrap().as_bytes()).ok();
        signal.write(&mut log);
        assert!(signal.socket.is_none());
        let mut text = [0; 64];
        let len = receiver.recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"READY=1");

        use std::os::linux::net::SocketAddrExt;
        let name = format!("gaunt-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        signal.socket = connect(format!("@{name}").as_bytes()).ok();
        // Full.
        receiver.set_nonblocking(true).unwrap();
        let filler = UnixDatagram::unbound().unwrap();
        filler.connect_addr(&address).unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send(b"x").is_ok() {}
        signal.write(&mut log);
        assert!(signal.socket.is_some());
        while receiver.recv(&mut text).is_ok() {}
        signal.write(&mut log);
        let len = receiver.recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"READY=1");
        assert!(signal.socket.is_none());

        assert_eq!(connect(b"relative").err(), Some(Errno::INVAL));
        assert_eq!(connect(b"/nonexistent/x").err(), Some(Errno::NOENT));
    }
}
