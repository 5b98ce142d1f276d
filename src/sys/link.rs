//! Network interfaces by ioctl(2), as netdevice(7) describes it.
#![allow(unsafe_code)]

use core::ffi::c_char;

use linux_raw_sys::ioctl::SIOCSIFFLAGS;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use static_assertions::const_assert_eq;

/// `struct ifreq` with its flags; the kernel copies all 40 bytes.
#[repr(C)]
struct Request {
    name: [c_char; 16],
    flags: i16,
    rest: [u8; 22],
}

const_assert_eq!(size_of::<Request>(), 40);

/// Brings up the loopback interface, to which the kernel then gives its addresses.
pub fn loopback_up() -> Result<(), Errno> {
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
    for (place, byte) in request.name.iter_mut().zip(b"lo") {
        *place = core::ffi::c_char::from_ne_bytes([*byte]);
    }
    // SAFETY: SIOCSIFFLAGS reads one `struct ifreq`: 40 bytes (asserted above) that begin with a
    // name that ends in a NUL and the flags. `request` is ours and outlives the call.
    unsafe {
        ioctl(
            &socket,
            Setter::<{ SIOCSIFFLAGS as Opcode }, Request>::new(request),
        )
    }
}
