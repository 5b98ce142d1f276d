//! The end of the agent; as PID 1 of the machine, its restart in the same process.
//!
//! PID 1 must not exit: the kernel would panic. It executes its own program again, with the arguments
//! and the environment that it was started with, so that the policy stays the same. Before that it
//! closes all descriptors, which frees the port for the next run, and kills its children.
//!
//! The handler of a fault calls [`end`] too. So the numbers of the children are in atomics here: the
//! handler cannot reach the value that the loop works with.

use core::sync::atomic::{AtomicI32, Ordering};

use super::texts::AgentPhrase;
use crate::base::limits::{CHILDREN, RESTART_MS};
use crate::state::log;
use crate::sys::{Errno, clock, exec, process, words};

/// The process ids of the agent's children; 0 for none.
static CHILD_PIDS: [AtomicI32; CHILDREN] = [const { AtomicI32::new(0) }; CHILDREN];
/// The child that takes the guest down, or 0.
static TAKES_DOWN: AtomicI32 = AtomicI32::new(0);

/// Records that the child `pid` works for the agent, at this index.
pub(super) fn child_began(index: usize, pid: i32, takes_guest_down: bool) {
    if let Some(child) = CHILD_PIDS.get(index) {
        child.store(pid, Ordering::Relaxed);
    }
    if takes_guest_down {
        TAKES_DOWN.store(pid, Ordering::Relaxed);
    }
}

/// Records that the child `pid` does not work for the agent any more.
pub(super) fn child_ended(index: usize, pid: i32) {
    if let Some(child) = CHILD_PIDS.get(index) {
        child.store(0, Ordering::Relaxed);
    }
    if TAKES_DOWN.load(Ordering::Relaxed) == pid {
        TAKES_DOWN.store(0, Ordering::Relaxed);
    }
}

/// Returns the value, or logs the error and ends the agent.
pub(super) fn essential<T>(what: AgentPhrase, result: Result<T, Errno>) -> T {
    result.unwrap_or_else(|errno| give_up(what, errno))
}

/// Logs an error and ends the agent.
fn give_up(what: AgentPhrase, errno: Errno) -> ! {
    log::error(what, &[b": ", &words(errno)]);
    end(1)
}

/// Ends the agent, which cannot go on: exits, or, as PID 1 of the machine, starts anew.
pub(super) fn end(status: i32) -> ! {
    if process::is_init() {
        log::error(AgentPhrase::StartsAnew, &[]);
        // The guest goes down without the agent; a new run would mount again what the child has
        // unmounted.
        while process::is_running(TAKES_DOWN.load(Ordering::Relaxed)) {
            clock::sleep_ms(RESTART_MS);
        }
        // Requests that arrive from here on wait in the port for the next run.
        process::close_all_and(start_anew)
    }
    process::exit(status)
}

/// Kills the children and executes the agent's own program.
///
/// Tries until it succeeds, with a pause each time, so that a fault that stays does not fill the
/// console. Executes no other program, which would not know the policy.
fn start_anew() -> ! {
    // Children that share descriptors must not keep the port open.
    for child in &CHILD_PIDS {
        let pid = child.load(Ordering::Relaxed);
        if pid != 0 && !process::has_executed(pid) {
            let _ = process::kill(pid, process::KILL);
        }
    }
    loop {
        clock::sleep_ms(RESTART_MS);
        exec::execute_again();
    }
}
