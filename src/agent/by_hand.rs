//! The agent as the main hook: `fsfreeze-hook freeze`, `fsfreeze-hook thaw`.
//!
//! Started under that name, which is a link to it, the agent runs the hooks of the directory beside
//! the link once and ends: so an administrator tries hooks before the host takes a snapshot. What is
//! logged goes to the terminal too. A freeze that fails, or is stopped with Ctrl-C, is followed by
//! the thaw of the hooks that ran. Nothing is remembered between the two calls: a thaw runs all hooks.
//!
//! Nothing is frozen here.

use crate::base::limits::PATH_BYTES;
use crate::base::path::Path;
use crate::base::texts::Phrase;
use crate::parse::file_name;
use crate::probe::hooks::Hooks;
use crate::state::environment::Environment;
use crate::state::hooks::{Failure, Session, Settings, Word};
use crate::sys::clock::NEVER_MS;
use crate::sys::log;
use crate::sys::root::Root;
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
pub(super) fn run(name: &[u8], mut words: impl Iterator<Item = &'static [u8]>) -> i32 {
    let word = match (words.next(), words.next()) {
        (Some(b"freeze"), None) => Word::Freeze,
        (Some(b"thaw"), None) => Word::Thaw,
        _ => {
            log::last_words(Phrase::HookUsage, &[name]);
            return USAGE;
        }
    };
    let done = Root::open(c"/").and_then(|root| {
        let hooks = match name.contains(&b'/') {
            true => Hooks::beside(&root, absolute(&root, name)?.as_bytes()),
            // It was found in PATH.
            false => Hooks::find(&root, None),
        };
        Ok(run_all(&root, &hooks, word).is_ok())
    });
    if let Err(errno) = done {
        log::last_words(Phrase::CannotFindHooks, &[b": ", &sys::words(errno)]);
    }
    i32::from(done != Ok(true))
}

fn run_all(root: &Root, hooks: &Hooks, word: Word) -> Result<(), Failure> {
    let mut session = Session::new(&Settings::none(), root, Environment::none(), true);
    if let Some((directory, errno)) = hooks.error() {
        session.cannot_read(directory.as_bytes(), errno)?;
    }
    session.remember_here();
    for hook in hooks.paths(root) {
        match word {
            Word::Freeze => session.check(hook.as_bytes())?,
            Word::Thaw => session.remember(hook.as_bytes())?,
        }
    }
    if word == Word::Freeze {
        let mut paths = hooks.paths(root);
        let ran = paths.try_for_each(|hook| session.freeze(hook.as_bytes(), NEVER_MS));
        if ran.is_ok() {
            return Ok(());
        }
        let _ = session.thaw();
        return ran;
    }
    session.thaw()
}

/// A path that may be written from the working directory, written from the root.
fn absolute(root: &Root, path: &[u8]) -> Result<Path, Errno> {
    if path.starts_with(b"/") {
        return Ok(Path::of(&[path]));
    }
    let mut here = [0; PATH_BYTES];
    let here = root.link_at(&[b"proc/self/cwd"], &mut here)?;
    Ok(Path::of(&[here, b"/", path]))
}
