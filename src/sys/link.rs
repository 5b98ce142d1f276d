//! Brings a network interface up: SIOCSIFFLAGS of netdevice(7).
#![allow(unsafe_code)]

use core::ffi::c_char;

use linux_raw_sys::ioctl::SIOCSIFFLAGS;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use static_assertions::const_assert_eq;

/// `struct ifreq` with its member for flags; the kernel copies all 40 bytes.
#[repr(C)]
struct Request {
    name: [c_char; 16],
    flags: i16,
    rest: [u8; 22],
}

const_assert_eq!(size_of::<Request>(), 40);

/// Brings an interface up: `ip link set NAME up`. A name of more than 15 bytes is cut.
pub fn set_up(name: &[u8]) -> Result<(), Errno> {
    /// `IFF_UP` of linux/if.h.
    const UP: i16 = 1;
    let socket: OwnedFd = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = Request {
        name: [0; 16],
        flags: UP,
        rest: [0; 22],
    };
    // The last byte stays the NUL that ends the name.
    for (byte, given) in request.name[..15].iter_mut().zip(name) {
        *byte = c_char::from_ne_bytes([*given]);
    }
    // SAFETY: SIOCSIFFLAGS reads one `struct ifreq`: 40 bytes (asserted above), which begin with a
    // name that ends in a NUL, and the flags. `request` is ours and outlives the call.
    unsafe {
        ioctl(
            &socket,
            Setter::<{ SIOCSIFFLAGS as Opcode }, Request>::new(request),
        )
    }
}
