//! Hooks: programs that bring applications to rest before a freeze, and let them go on after the thaw.
//!
//! Every hook that was started with `freeze` is run with `thaw`: after the thaw, after a freeze that
//! failed or was given up, and by the next run if the agent was killed. It is run once, and once more
//! if the agent is killed during that. The list of hooks that still need it is `ledger`'s. A hook that
//! fails stops the freeze, unless `--hook-failures=ignore` says that it is only logged.
//!
//! A child of the agent that runs hooks ends with the agent, and kills the hook at hand with its
//! group. If it is killed itself, the kernel kills the hook, and whoever runs the thaw hooks first kills
//! what the hook has started.
//!
//! | file | |
//! | --- | --- |
//! | `session` | the hooks of one freeze and its thaw |
//! | `call` | what one hook is told, and how it fails |
//! | `ledger` | which hooks are to be thawed |
//! | `log` | what is written about them |
//! | `run` | one hook, run |
//!
//! Which hooks there are is `probe::hooks`. Hooks run in children of the agent only: they are waited
//! for.
//!
//! Differences from qemu-ga: a hook has a time limit; one that fails stops the freeze, whichever it is;
//! a thaw runs the hooks of the freeze before it, in reverse, and none without a freeze; a freeze that
//! froze nothing, or failed, has its thaw hooks run (Q18).

mod call;
mod ledger;
mod log;
mod run;
mod session;
mod trust;

pub use call::{Failure, Main, Settings};
pub use ledger::Ledger;
pub use run::OWN_PATH;
pub use session::Session;
