//! Clocks: clock_gettime(2), clock_settime(2), nanosleep(2).
//!
//! A read is a system call. The vDSO, which answers without one, takes 1 kB of code to find, in
//! musl as in rustix, and no clock is read often enough to pay for that.
#![allow(unsafe_code)]

use core::ptr;

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec};

use static_assertions::const_assert_eq;

use super::raw;

// `struct __kernel_timespec` of linux/time_types.h.
const_assert_eq!(size_of::<libc::timespec>(), 16);

/// Nanoseconds in a second.
pub const NS_PER_S: i64 = 1_000_000_000;

/// The time of a clock in seconds and nanoseconds.
fn read(clock: libc::clockid_t) -> (i64, i64) {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime writes one timespec; `now` is ours, has the kernel's layout (asserted
    // above), and outlives the call. It fails only for a clock that does not exist.
    let _ = unsafe {
        let now = ptr::from_mut(&mut now).expose_provenance();
        raw::call(libc::SYS_clock_gettime, [clock as usize, now, 0, 0, 0])
    };
    (now.tv_sec, now.tv_nsec)
}

/// Nanoseconds since 1970 by the clock of the guest (CLOCK_REALTIME).
pub fn realtime_ns() -> i64 {
    let (s, ns) = read(libc::CLOCK_REALTIME);
    s.wrapping_mul(NS_PER_S).wrapping_add(ns)
}

/// Whole seconds since 1970 by the clock of the guest.
pub fn realtime_s() -> i64 {
    read(libc::CLOCK_REALTIME).0
}

/// Sets CLOCK_REALTIME to this many nanoseconds since 1970. The kernel refuses a negative time, and
/// one that is shorter than the guest has been up.
pub fn set_realtime_ns(unix_ns: i64) -> Result<(), Errno> {
    let time = Timespec {
        tv_sec: unix_ns / NS_PER_S,
        tv_nsec: unix_ns % NS_PER_S,
    };
    rustix::time::clock_settime(ClockId::Realtime, time)
}

/// As a deadline: there is none. As a time to wait: for ever.
pub const NEVER_MS: u64 = u64::MAX;

/// Milliseconds since the guest started, including those in suspend (CLOCK_BOOTTIME).
///
/// Deadlines use this clock. Nobody can set it, and it goes on in suspend: a freeze whose deadline
/// passes while the guest sleeps ends when the guest wakes up.
pub fn boottime_ms() -> u64 {
    u64::try_from(boottime_us() / 1000).unwrap_or(0)
}

/// The time on [`boottime_ms`] in `ms` milliseconds.
// Not inlined, to keep one copy of the code.
#[inline(never)]
pub fn in_ms(ms: u64) -> u64 {
    boottime_ms().saturating_add(ms)
}

/// Microseconds since the guest started, including those in suspend.
pub fn boottime_us() -> i64 {
    let (s, ns) = read(libc::CLOCK_BOOTTIME);
    s.wrapping_mul(1_000_000).wrapping_add(ns / 1000)
}

/// Sleeps for `ms` milliseconds. For children of the agent and for a restart, never for the loop.
pub fn sleep_ms(ms: u32) {
    let _ = rustix::thread::nanosleep(&span(ms.into()));
}

/// Milliseconds as a `struct timespec`.
pub(super) fn span(ms: u64) -> Timespec {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    Timespec {
        tv_sec: ms / 1000,
        tv_nsec: ms % 1000 * 1_000_000,
    }
}
