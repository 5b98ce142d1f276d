//! Time limits.

use std::time::{Duration, Instant};

/// Time limit for a boot and the first answer, under software emulation on a busy machine.
pub const BOOT: Duration = Duration::from_secs(90);

/// Number of boots of a guest whose kernel stalls before it starts its first program.
pub const BOOTS: usize = 3;

/// The kernel logs this when the timer of a processor did not fire while it booted. It happens now and
/// then when QEMU emulates several processors in software on a busy machine.
pub const STALLED: &str = "rcu_preempt kthread timer wakeup didn't happen";

/// Time limit for one answer, under software emulation on a busy machine.
pub const ANSWER: Duration = Duration::from_secs(30);

/// Time in which something that is blocked would happen if it were not. Too short, it lets a test
/// pass that ought to fail; it never makes one fail.
pub const SETTLE: Duration = Duration::from_millis(1500);

/// Calls `ask` until it returns a value. `None` when the limit has passed.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ask() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for a condition. Panics with `what` when the limit has passed.
pub fn expect(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    if until(limit, || condition().then_some(())).is_none() {
        panic!("waited {} s in vain for: {what}", limit.as_secs());
    }
}
