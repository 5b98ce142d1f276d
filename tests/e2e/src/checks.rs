//! Runs many checks on one guest.
//!
//! A boot costs more than a check, so one guest serves many checks. Each check prints one line with
//! its evidence. A failed check does not stop the others; the test fails at the end. So each check sets
//! up what it needs, whatever the one before it has left.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

thread_local! {
    static FAILURES: Cell<usize> = const { Cell::new(0) };
}

/// Returns the number of checks that have failed in this thread.
pub(crate) fn failures() -> usize {
    FAILURES.get()
}

/// A group of checks.
pub struct Checks {
    title: &'static str,
    done: usize,
    failed: Vec<&'static str>,
}

impl Checks {
    /// Starts a group.
    pub fn new(title: &'static str) -> Checks {
        Checks {
            title,
            done: 0,
            failed: Vec::new(),
        }
    }

    /// Runs one check and prints the evidence it returns. Returns whether it passed.
    pub fn run(&mut self, name: &'static str, check: impl FnOnce() -> String) -> bool {
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(check));
        let seconds = start.elapsed().as_secs_f32();
        self.done += 1;
        let passed = result.is_ok();
        // A failed check has already printed its panic message.
        let evidence = result.unwrap_or_default();
        let mark = if passed { "ok    " } else { "FAILED" };
        eprintln!(
            "  {mark} {:5.1} s  {}: {name}: {evidence}",
            seconds, self.title
        );
        if !passed {
            self.failed.push(name);
            FAILURES.set(failures() + 1);
        }
        passed
    }

    /// Ends the group. Panics if a check failed.
    pub fn finish(self) {
        assert!(
            self.failed.is_empty(),
            "{}: {} of {} checks failed: {}",
            self.title,
            self.failed.len(),
            self.done,
            self.failed.join(", ")
        );
    }
}
