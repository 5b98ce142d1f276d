//! Netlink sockets: questions to the routing table's owner, and news of devices.
#![allow(unsafe_code)]

use core::ffi::c_int;
use core::ptr;

use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};
use static_assertions::const_assert_eq;

use super::raw;

/// A socket for rtnetlink dumps.
pub struct Route(OwnedFd);

impl Route {
    /// A new socket, which never waits: the kernel has the next part of an answer ready before it
    /// hands out the one before. It filters as asked, where the kernel can (Linux 4.20).
    pub fn open() -> Result<Self, Errno> {
        // Protocol 0 is NETLINK_ROUTE.
        let socket = open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None, 0)?;
        be_strict(&socket);
        Ok(Self(socket))
    }

    /// Asks; the answer is read with [`Route::receive`] until it says it is done.
    pub fn ask(&self, request: &[u8]) -> Result<(), Errno> {
        send(&self.0, request, SendFlags::empty()).map(|_| ())
    }

    /// One datagram of the answer, which holds whole messages. One that does not fit into `buffer`
    /// is an error: part of an answer is no answer.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        loop {
            // With TRUNC the kernel tells the length there was, not the length that fitted.
            match recv(&self.0, &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, len)) => return buffer.get(..len).ok_or(Errno::MSGSIZE),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// A socket that receives the kernel's device events.
pub struct Uevents(OwnedFd);

impl Uevents {
    /// The multicast group of the kernel's own events; udev re-sends them in another.
    const KERNEL_GROUP: u32 = 1;

    /// A new socket.
    pub fn open() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        open(flags, Some(KOBJECT_UEVENT), Self::KERNEL_GROUP).map(Self)
    }

    /// Takes all events that have come, lost ones included, without a look at what they are.
    #[inline(never)]
    pub fn skip(&self) {
        let mut byte = [0];
        while matches!(
            recv(&self.0, &mut byte, RecvFlags::empty()),
            Ok(_) | Err(Errno::NOBUFS | Errno::INTR)
        ) {}
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

/// Has the kernel take the filters of a dump request seriously. Old ones know no such option and
/// ignore filters, with which whoever asks has to reckon.
fn be_strict(socket: &OwnedFd) {
    /// `SOL_NETLINK`, linux/socket.h.
    const SOL_NETLINK: usize = 270;
    /// `NETLINK_GET_STRICT_CHK`, linux/netlink.h.
    const NETLINK_GET_STRICT_CHK: usize = 12;
    const LEN: usize = 4;
    const_assert_eq!(size_of::<c_int>(), 4);
    let on: c_int = 1;
    // SAFETY: the kernel reads `LEN` bytes at the pointer, which are those of `on`, and keeps no
    // pointer to them.
    let _ = unsafe {
        let on = ptr::from_ref(&on).expose_provenance();
        let socket = socket.as_raw_fd() as usize;
        raw::call(
            libc::SYS_setsockopt,
            [socket, SOL_NETLINK, NETLINK_GET_STRICT_CHK, on, LEN],
        )
    };
}
