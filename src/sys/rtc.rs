//! The hardware clock: an ioctl of linux/rtc.h.
#![allow(unsafe_code)]

use core::ffi::c_int;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use static_assertions::{const_assert, const_assert_eq};

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
    /// The day of the week, which the kernel computes itself; the day of the year and daylight
    /// saving time, which it ignores.
    pub unused: [c_int; 3],
}

/// `RTC_SET_TIME`, `_IOW('p', 0x0a, struct rtc_time)`.
const RTC_SET_TIME: Opcode = opcode::write::<Time>(b'p', 0x0A);

const_assert_eq!(size_of::<Time>(), 36);
const_assert!(RTC_SET_TIME == 0x4024_700A);

/// Sets a hardware clock.
pub fn set(clock: BorrowedFd<'_>, time: &Time) -> Result<(), Errno> {
    // SAFETY: RTC_SET_TIME reads one `struct rtc_time`, which is `Time`: nine ints (the size is
    // asserted above).
    unsafe { ioctl(clock, Setter::<RTC_SET_TIME, _>::new(*time)) }
}
