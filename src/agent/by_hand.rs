//! The agent as the main hook: `fsfreeze-hook freeze`, `fsfreeze-hook thaw`.
//!
//! A link of that name starts the agent as the main hook. It runs the hooks of the directory beside
//! the link once and exits, so that an administrator can try them before the host takes a snapshot.
//! It does not freeze file systems.
//!
//! The log of hooks is also printed to the terminal. If a freeze fails, or Ctrl-C stops it, the
//! hooks that ran are thawed. A thaw runs all hooks, because no state is kept between the two
//! calls. A hook that runs its own main hook would run itself without end: that is an error.

use super::texts::AgentPhrase;
use crate::base::limits::PATH_BYTES;
use crate::base::path::Path;
use crate::base::sink::ByteSink;
use crate::parse::{file_name, word_index};
use crate::probe::hooks::{beside, find};
use crate::state::environment::Environment;
use crate::state::hooks::{OWN_PATH, Session, Settings};
use crate::state::log;
use crate::sys::argv::{Strings, variable};
use crate::sys::clock::NEVER_MS;
use crate::sys::root::{Root, relative};
use crate::sys::{self, Errno};

/// The name of the link.
const NAME: &[u8] = b"fsfreeze-hook";
/// The exit status for wrong arguments.
const USAGE: i32 = 2;

/// Whether the agent was started as the main hook.
pub(super) fn is_called(name: &[u8]) -> bool {
    file_name(name) == NAME
}

/// Runs the hooks; returns the exit status. `name` is the first argument of the process, `words`
/// are the others.
// Not inlined: the agent never leaves the function that calls this, and would keep its stack.
#[inline(never)]
pub(super) fn run(name: &[u8], mut words: Strings, environment: Strings) -> i32 {
    let (word, more) = (words.next().unwrap_or_default(), words.next());
    let freezes = match word_index(b"thaw freeze", word) {
        Some(index) if more.is_none() => index == 1,
        _ => {
            log::error(AgentPhrase::HookUsage, &[name]);
            return USAGE;
        }
    };
    match run_all(name, freezes, environment) {
        Ok(done) => i32::from(!done),
        Err(errno) => {
            log::error(AgentPhrase::CannotFindHooks, &[b": ", &sys::words(errno)]);
            1
        }
    }
}

/// Returns whether all hooks succeeded.
fn run_all(name: &[u8], freezes: bool, environment: Strings) -> Result<bool, Errno> {
    let root = Root::open(c"/")?;
    let mut here = [0; PATH_BYTES];
    let here = match name.contains(&b'/') && !name.starts_with(b"/") {
        true => root.link_at(&[b"proc/self/cwd"], &mut here)?,
        false => b"",
    };
    let main = Path::of(&[here, b"/", relative(name)]);
    let hooks = match name.contains(&b'/') {
        true => beside(&root, main.as_bytes()),
        // The shell found the link in PATH.
        false => find(&root, None),
    };
    let running = variable(environment, OWN_PATH);
    if let (Ok(hooks), Some(running)) = (&hooks, running)
        && hooks
            .bytes()
            .split(|byte| *byte == 0)
            .any(|hook| hook == running)
    {
        log::error(AgentPhrase::HookRunsItself, &[name, running]);
        return Ok(false);
    }
    let mut session = Session::new(Settings::none(), &root, Environment::none(), true);
    let ran = session.readable(&hooks).and_then(|hooks| match freezes {
        true => session.freeze(hooks, None, NEVER_MS),
        false => session.thaw_all(hooks),
    });
    if freezes && ran.is_err() {
        // The hooks that ran must not stay at rest.
        let _ = session.thaw();
    }
    Ok(ran.is_ok())
}
