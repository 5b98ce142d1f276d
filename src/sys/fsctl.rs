//! Freeze, thaw and trim of a mounted file system: the ioctls of linux/fs.h.
#![allow(unsafe_code)]

use core::ptr;

use linux_raw_sys::general::fstrim_range;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};
use static_assertions::{const_assert, const_assert_eq};

use super::raw;

/// `FIFREEZE`, `_IOWR('X', 119, int)`.
const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
/// `FITHAW`, `_IOWR('X', 120, int)`.
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);
/// `FITRIM`, `_IOWR('X', 121, struct fstrim_range)`.
const FITRIM: Opcode = opcode::read_write::<fstrim_range>(b'X', 121);

const_assert_eq!(size_of::<fstrim_range>(), 24);
const_assert!(FIFREEZE == 0xC004_5877);
const_assert!(FITHAW == 0xC004_5878);
const_assert!(FITRIM == 0xC018_5879);

/// Freezes the file system that `inside` lies on; it stays frozen when the descriptor is closed.
pub fn freeze(inside: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: FIFREEZE takes no pointer; its argument is ignored.
    unsafe { ioctl(inside, FIFREEZE, 0) }
}

/// Undoes one freeze of the file system that `inside` lies on; EINVAL if it is not frozen.
pub fn thaw(inside: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: FITHAW takes no pointer; its argument is ignored.
    unsafe { ioctl(inside, FITHAW, 0) }
}

/// # Safety
/// The call must be sound with this argument.
#[inline(never)]
unsafe fn ioctl(inside: BorrowedFd<'_>, call: Opcode, argument: usize) -> Result<(), Errno> {
    let args = [inside.as_raw_fd() as usize, call as usize, argument, 0, 0];
    // SAFETY: ioctl takes a descriptor, the call, and what that takes, for which the caller answers.
    unsafe { raw::call(libc::SYS_ioctl, args) }.map(|_| ())
}

/// What a trim did, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Trimmed {
    /// Bytes given back.
    pub bytes: u64,
    /// The shortest run that was looked at; the kernel may have raised what was asked for.
    pub minimum: u64,
}

/// Tells the device below the file system which blocks are unused, in runs of at least `minimum`.
pub fn trim(inside: BorrowedFd<'_>, minimum: u64) -> Result<Trimmed, Errno> {
    let mut range = fstrim_range {
        start: 0,
        len: u64::MAX,
        minlen: minimum,
    };
    let place = ptr::from_mut(&mut range).expose_provenance();
    // SAFETY: FITRIM reads and writes one fstrim_range; `range` is ours, has the kernel's layout
    // (asserted above) and outlives the call.
    unsafe { ioctl(inside, FITRIM, place) }?;
    Ok(Trimmed {
        bytes: range.len,
        minimum: range.minlen,
    })
}
