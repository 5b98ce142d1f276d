//! Clocks.

use rustix::time::{ClockId, clock_gettime};

const NS_PER_S: i64 = 1_000_000_000;

/// Nanoseconds since 1970 (CLOCK_REALTIME), as the guest believes.
pub fn realtime_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.wrapping_mul(NS_PER_S).wrapping_add(now.tv_nsec)
}

/// Milliseconds since the guest started, time in suspend included (CLOCK_BOOTTIME).
///
/// Deadlines are counted on this clock: nobody can set it, and a freeze that slept through its time
/// has waited long enough.
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let ms = now
        .tv_sec
        .wrapping_mul(1000)
        .wrapping_add(now.tv_nsec / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

/// Sleeps for `ms` milliseconds. Never called from the loop, only in children of the agent.
pub fn sleep_ms(ms: u32) {
    let span = rustix::time::Timespec {
        tv_sec: i64::from(ms / 1000),
        tv_nsec: i64::from(ms % 1000) * 1_000_000,
    };
    let _ = rustix::thread::nanosleep(&span);
}
