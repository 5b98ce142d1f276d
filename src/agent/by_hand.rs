//! The agent as the main hook: `fsfreeze-hook freeze`, `fsfreeze-hook thaw`.
//!
//! Started under that name, which is a link to it, the agent runs the hooks of the directory beside
//! the link once and ends: so an administrator tries hooks before the host takes a snapshot. What is
//! logged goes to the terminal too. A freeze that fails, or is stopped with Ctrl-C, is followed by
//! the thaw of the hooks that ran. Nothing is remembered between the two calls: a thaw runs all hooks.
//! A hook that runs the main hook it is run by would run itself, again and again: that is an error.
//!
//! Nothing is frozen here.

use super::texts::AgentPhrase;
use crate::base::limits::PATH_BYTES;
use crate::base::path::Path;
use crate::base::store::Store;
use crate::parse::file_name;
use crate::probe::hooks::{beside, find};
use crate::state::environment::Environment;
use crate::state::hooks::{OWN_PATH, Session, Settings};
use crate::state::log;
use crate::sys::args::{Strings, variable};
use crate::sys::clock::NEVER_MS;
use crate::sys::root::{Root, relative};
use crate::sys::{self, Errno};

/// The name.
const NAME: &[u8] = b"fsfreeze-hook";
/// The exit status of a call that makes no sense.
const USAGE: i32 = 2;

/// Whether a program of this name is the main hook.
pub(super) fn is_called(name: &[u8]) -> bool {
    file_name(name) == NAME
}

/// Runs the hooks; gives the exit status. `name` is how this program was called, the words follow it.
// Not inlined: the agent never leaves the function that calls this, and would keep its stack.
#[inline(never)]
pub(super) fn run(name: &[u8], mut words: Strings, environment: Strings) -> i32 {
    let freezes = match words.next() {
        Some(b"freeze") => Some(true),
        Some(b"thaw") => Some(false),
        _ => None,
    };
    let Some(freezes) = freezes.filter(|_| words.next().is_none()) else {
        log::error(AgentPhrase::HookUsage, &[name]);
        return USAGE;
    };
    match run_all(name, freezes, environment) {
        Ok(done) => i32::from(!done),
        Err(errno) => {
            log::error(AgentPhrase::CannotFindHooks, &[b": ", &sys::words(errno)]);
            1
        }
    }
}

/// Gives whether all went well.
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
        // It was found in PATH.
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
    let ran = session.readable(hooks).and_then(|hooks| match freezes {
        true => session.freeze(hooks.bytes(), None, NEVER_MS),
        false => session.thaw_all(hooks),
    });
    if freezes && ran.is_err() {
        // Those that were brought to rest.
        let _ = session.thaw();
    }
    Ok(ran.is_ok())
}
