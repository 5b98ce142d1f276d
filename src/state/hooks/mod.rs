//! Hooks: programs that bring applications to rest before a freeze, and let them go on after the
//! thaw.
//!
//! A hook that was started with `freeze` also runs with `thaw`: after the thaw, after a freeze that
//! failed, or in the next run if the agent was killed. It runs once, and once more if the agent is
//! killed meanwhile. `ledger` keeps the list of hooks that still need their thaw. A hook that fails
//! stops the freeze; with `--hook-failures=ignore` the failure is only logged.
//!
//! A child of the agent runs the hooks and waits for them, so that the loop need not.
//! `agent::by_hand` has no loop and runs them itself. The child ends with the agent, after killing
//! the running hook and its process group. If the child itself is killed, the kernel kills the
//! hook, and the next child that runs thaw hooks kills the rest of the group.
//!
//! | file | holds |
//! | --- | --- |
//! | `session` | the hooks of one freeze and its thaw |
//! | `call` | options, the arguments of a hook, its failure |
//! | `ledger` | the list of hooks that need their thaw |
//! | `log` | the log of hooks |
//! | `run` | running one hook |
//!
//! `probe::hooks` finds the hooks. `state::trust` proves that only root can change one.
//!
//! Differences from qemu-ga: a hook has a time limit; every hook that fails stops the freeze; a
//! thaw runs the hooks of its freeze, in reverse order, and none without a freeze; hooks also run
//! with `thaw` after a freeze that froze nothing or failed.

mod call;
mod ledger;
mod log;
mod run;
mod session;

pub use call::{HookFailure, Main, Settings};
pub use ledger::Ledger;
pub use run::{OWN_PATH, Refusal, check, would_run};
pub use session::Session;
