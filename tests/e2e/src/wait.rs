//! Time limits.

use std::time::{Duration, Instant};

/// What a guest under software emulation on a busy machine may need to boot and answer.
pub const BOOT: Duration = Duration::from_secs(90);

/// How often a guest is started whose kernel stalls before anything of ours runs in it.
pub const BOOTS: usize = 3;

/// What a kernel says that has lost the timer of a processor at its start. QEMU's software emulation
/// of several processors does that to it now and then on a busy machine.
pub const STALLED: &str = "rcu_preempt kthread timer wakeup didn't happen";

/// What one answer may take, likewise.
pub const ANSWER: Duration = Duration::from_secs(30);

/// Asks until there is a value; `None` when the limit has passed.
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

/// Waits for a condition; panics with `what` when the limit has passed.
pub fn expect(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    if until(limit, || condition().then_some(())).is_none() {
        panic!("waited {} s in vain for: {what}", limit.as_secs());
    }
}
