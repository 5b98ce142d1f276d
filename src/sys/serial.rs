//! Serial lines: ioctl_tty(2).
//!
//! Not rustix's functions, which also convert speeds: 1 KiB of code for a setting that stays.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;

use linux_raw_sys::general::{
    self as kernel, BRKINT, CLOCAL, CREAD, ECHO, ECHONL, ICANON, ICRNL, IEXTEN, IGNBRK, IGNCR,
    IMAXBEL, INLCR, INPCK, ISIG, ISTRIP, IXANY, IXOFF, IXON, OPOST, PARMRK, TCIFLUSH, VMIN, VTIME,
};
use linux_raw_sys::ioctl::{TCFLSH, TCGETS, TCSETS};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use static_assertions::const_assert_eq;

use super::raw;

// `struct termios` of asm-generic/termbits.h.
const_assert_eq!(size_of::<kernel::termios>(), 36);

/// Has a serial line pass all bytes as they are. Its speed stays. What it has received before is
/// dropped.
///
/// # Errors
/// [`Errno::NOTTY`] if it is no serial line.
pub fn make_raw(line: &OwnedFd) -> Result<(), Errno> {
    let mut settings = MaybeUninit::<kernel::termios>::zeroed();
    let at = settings.as_mut_ptr().expose_provenance();
    // SAFETY: TCGETS writes one `termios`, which is ours and outlives the call.
    unsafe { control(line, TCGETS, at) }?;
    // SAFETY: the kernel has written it; zeros would be valid as well.
    let settings = unsafe { settings.assume_init_mut() };
    settings.c_iflag &= !(IGNBRK
        | BRKINT
        | PARMRK
        | INPCK
        | ISTRIP
        | INLCR
        | IGNCR
        | ICRNL
        | IXON
        | IXOFF
        | IXANY
        | IMAXBEL);
    settings.c_oflag &= !OPOST;
    settings.c_lflag &= !(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    // With CLOCAL the line stays up while no host is connected.
    settings.c_cflag |= CLOCAL | CREAD;
    settings.c_cc[VMIN as usize] = 1;
    settings.c_cc[VTIME as usize] = 0;
    // SAFETY: TCSETS reads one `termios`, which is ours and outlives the call. TCFLSH takes a number.
    unsafe {
        control(line, TCSETS, at)?;
        control(line, TCFLSH, TCIFLUSH as usize)
    }
}

/// # Safety
/// `argument` must be what `request` takes.
unsafe fn control(line: &OwnedFd, request: u32, argument: usize) -> Result<(), Errno> {
    let args = [line.as_raw_fd() as usize, request as usize, argument, 0, 0];
    // SAFETY: the caller guarantees the argument.
    unsafe { raw::call(libc::SYS_ioctl, args) }.map(|_| ())
}
