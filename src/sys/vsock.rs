//! Sockets between a host and its guests: vsock(7).
#![allow(unsafe_code)]

use core::ptr;

use libc::sockaddr_vm;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::AddressFamily;
pub use rustix::net::SocketType;
use static_assertions::const_assert_eq;

use super::{raw, stream};

// `struct sockaddr_vm` of linux/vm_sockets.h.
const_assert_eq!(size_of::<sockaddr_vm>(), 16);

/// `VMADDR_CID_ANY`: as an address to listen at, any of the guest's.
pub const ANY: u32 = libc::VMADDR_CID_ANY;
/// `VMADDR_CID_LOCAL`: programs of the guest that connect to the guest.
pub const LOCAL: u32 = libc::VMADDR_CID_LOCAL;
/// `VMADDR_CID_HOST`: the host.
pub const HOST: u32 = libc::VMADDR_CID_HOST;

/// Connections that may wait to be accepted. The kernel refuses further ones.
const BACKLOG: i32 = 8;

fn address(cid: u32, port: u32) -> sockaddr_vm {
    sockaddr_vm {
        svm_family: libc::AF_VSOCK as u16,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: cid,
        svm_zero: [0; 4],
    }
}

/// Listens at an address.
///
/// # Errors
/// [`Errno::AFNOSUPPORT`] if the kernel has no vsock, [`Errno::ADDRNOTAVAIL`] if the guest has no such
/// CID. Either may change when a driver is loaded or a device is added.
pub fn listen(cid: u32, port: u32) -> Result<OwnedFd, Errno> {
    let socket = stream::socket(AddressFamily::VSOCK, SocketType::STREAM)?;
    bind(&socket, cid, port)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Whether the guest has this CID and this process may listen at the port, which may be taken. Takes the
/// address for a moment, but never listens.
///
/// # Errors
/// Those of [`listen`].
pub fn check(cid: u32, port: u32) -> Result<(), Errno> {
    match bind(
        &stream::socket(AddressFamily::VSOCK, SocketType::STREAM)?,
        cid,
        port,
    ) {
        Err(Errno::ADDRINUSE) => Ok(()),
        bound => bound,
    }
}

/// Begins to connect, from a port below 1024 if this process may use one. Never waits: the socket can be
/// written when it is connected, or has failed, after two seconds at the latest.
///
/// # Errors
/// Those of [`listen`], and [`Errno::NODEV`] if there is no way to that CID for this type of socket.
pub fn connect(kind: SocketType, cid: u32, port: u32) -> Result<OwnedFd, Errno> {
    let socket = stream::socket(AddressFamily::VSOCK, kind)?;
    for from in (1..1024).rev() {
        if bind(&socket, ANY, from) != Err(Errno::ADDRINUSE) {
            break;
        }
    }
    // SAFETY: connect reads one sockaddr_vm as bind does.
    match unsafe { with_address(libc::SYS_connect, &socket, cid, port) } {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn bind(socket: &OwnedFd, cid: u32, port: u32) -> Result<(), Errno> {
    // SAFETY: bind reads one sockaddr_vm of the given size.
    unsafe { with_address(libc::SYS_bind, socket, cid, port) }
}

/// Makes a system call whose arguments are a socket and an address.
///
/// # Safety
/// The call must read no more than one `sockaddr_vm` of the given size.
unsafe fn with_address(
    number: libc::c_long,
    socket: &OwnedFd,
    cid: u32,
    port: u32,
) -> Result<(), Errno> {
    let address = address(cid, port);
    let at = ptr::from_ref(&address).expose_provenance();
    let args = [socket.as_raw_fd() as usize, at, size_of_val(&address), 0, 0];
    // SAFETY: by the caller, the call reads the address only, which is ours and outlives the call.
    unsafe { raw::call(number, args) }.map(drop)
}

/// The CID at the other end of a connection; `None` if it is a connection of another kind.
pub fn peer(connection: &OwnedFd) -> Option<u32> {
    let mut peer = address(0, 0);
    peer.svm_family = 0;
    let mut len = size_of_val(&peer) as u32;
    // SAFETY: getpeername writes at most `len` bytes of an address, and its length into `len`. Both are
    // ours and outlive the call. Any bytes are valid for the integers of sockaddr_vm.
    unsafe {
        let at = ptr::from_mut(&mut peer).expose_provenance();
        let len = ptr::from_mut(&mut len).expose_provenance();
        let args = [connection.as_raw_fd() as usize, at, len, 0, 0];
        raw::call(libc::SYS_getpeername, args)
    }
    .ok()?;
    (i32::from(peer.svm_family) == libc::AF_VSOCK).then_some(peer.svm_cid)
}
