//! Freeze, thaw and trim of a mounted file system: ioctls of linux/fs.h.
#![allow(unsafe_code)]

use linux_raw_sys::general::fstrim_range;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, Updater, ioctl, opcode};
use static_assertions::{const_assert, const_assert_eq};

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

/// Freezes the file system that `inside` is on. It stays frozen when the descriptor is closed.
pub fn freeze(inside: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: FIFREEZE ignores its argument.
    unsafe { ioctl(inside, NoArg::<FIFREEZE>::new()) }
}

/// Undoes one freeze of the file system that `inside` is on.
///
/// # Errors
/// [`Errno::INVAL`] if it is not frozen.
pub fn thaw(inside: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: FITHAW ignores its argument.
    unsafe { ioctl(inside, NoArg::<FITHAW>::new()) }
}

/// Reports the unused blocks of the file system that `inside` is on to its device, in runs of at
/// least `minimum` bytes. Returns how many bytes it reported, and the shortest run that it would report:
/// the kernel may have raised the minimum.
pub fn trim(inside: BorrowedFd<'_>, minimum: u64) -> Result<[u64; 2], Errno> {
    let mut range = fstrim_range {
        start: 0,
        len: u64::MAX,
        minlen: minimum,
    };
    // SAFETY: FITRIM reads and writes one fstrim_range; `range` is ours, has the kernel's layout
    // (asserted above) and outlives the call.
    unsafe { ioctl(inside, Updater::<FITRIM, _>::new(&mut range)) }?;
    Ok([range.len, range.minlen])
}
