//! The hardware clock: the ioctls of linux/rtc.h.
#![allow(unsafe_code)]

use core::ffi::c_int;
use core::ptr;

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};
use static_assertions::{const_assert, const_assert_eq};

use super::raw;

/// `struct rtc_time`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Seconds, 0 to 59.
    pub second: c_int,
    /// Minutes, 0 to 59.
    pub minute: c_int,
    /// Hours, 0 to 23.
    pub hour: c_int,
    /// The day of the month, from 1.
    pub day: c_int,
    /// The month, from 0.
    pub month: c_int,
    /// The year, from 1900.
    pub year: c_int,
    /// The day of the week, the day of the year, and daylight saving time: the kernel counts the
    /// first for drivers that want it, and has no use for the others.
    pub unused: [c_int; 3],
}

/// `RTC_SET_TIME`, `_IOW('p', 0x0a, struct rtc_time)`.
const RTC_SET_TIME: Opcode = opcode::write::<Time>(b'p', 0x0A);

const_assert_eq!(size_of::<Time>(), 36);
const_assert!(RTC_SET_TIME == 0x4024_700A);

/// Sets a hardware clock.
pub fn set(clock: BorrowedFd<'_>, time: &Time) -> Result<(), Errno> {
    let time = ptr::from_ref(time).expose_provenance();
    let clock = clock.as_raw_fd() as usize;
    // SAFETY: RTC_SET_TIME reads one `struct rtc_time`, whose layout `Time` has (its size is asserted
    // above), and which is borrowed until the call is over.
    unsafe { raw::call(libc::SYS_ioctl, [clock, RTC_SET_TIME as usize, time, 0, 0]) }.map(|_| ())
}
