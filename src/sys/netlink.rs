//! Netlink sockets: rtnetlink(7) dumps, and device events of the kernel (uevents).

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};

/// A socket for rtnetlink dumps.
pub struct Route(OwnedFd);

impl Route {
    /// A new socket. It never waits: the kernel has the next part of a dump ready before it hands
    /// out the part before.
    pub fn open() -> Result<Self, Errno> {
        // Protocol 0 is NETLINK_ROUTE.
        open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None, 0).map(Self)
    }

    /// Sends a request for a dump, whose parts [`Route::receive`] reads.
    pub fn ask(&self, request: &[u8]) -> Result<(), Errno> {
        send(&self.0, request, SendFlags::empty()).map(|_| ())
    }

    /// Receives one part of the dump, which holds whole messages.
    ///
    /// # Errors
    /// [`Errno::MSGSIZE`] if the part is longer than `buffer`.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        loop {
            // With TRUNC the kernel returns the length of the part, even if the buffer is shorter.
            match recv(&self.0, &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, len)) => return buffer.get(..len).ok_or(Errno::MSGSIZE),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// A socket that receives uevents.
pub struct Uevents(OwnedFd);

impl Uevents {
    /// The multicast group of the kernel's own events; udev re-sends them in another.
    const KERNEL_GROUP: u32 = 1;

    /// A new socket.
    pub fn open() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        open(flags, Some(KOBJECT_UEVENT), Self::KERNEL_GROUP).map(Self)
    }

    /// Discards all events that have arrived, and the error that stands for lost events.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub fn skip(&self) {
        let mut byte = [0];
        while matches!(
            recv(&self.0, &mut byte, RecvFlags::empty()),
            Ok(_) | Err(Errno::NOBUFS | Errno::INTR)
        ) {}
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Uevents {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn open(flags: SocketFlags, protocol: Option<Protocol>, groups: u32) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}
