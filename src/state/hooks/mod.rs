//! Hooks: programs that bring applications to rest before a freeze, and let them go on after the thaw.
//!
//! Every hook that was started with `freeze` is run with `thaw`: after the thaw, after a freeze that
//! failed or was given up, and by the next run if the agent was killed. It is run once, and once more
//! if the agent is killed during that. The list of hooks that still need it is `ledger`'s. A hook that
//! fails stops the freeze, unless `--hook-failures=ignore` says that it is only logged.
//!
//! A child of the agent that runs hooks ends with the agent, and kills the hook at hand with its
//! group. If it is killed itself, the kernel kills the hook, but not what the hook has started.
//!
//! | file | |
//! | --- | --- |
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

mod ledger;
mod log;
mod run;

use crate::base::limits::HOOK_TIMEOUT_S;
use crate::base::path::Path;
use crate::state::environment::Environment;
use crate::sys::Errno;
use crate::sys::clock::NEVER_MS;
use crate::sys::root::Root;
pub use ledger::Ledger;
use log::HookLog;
use run::Runner;
pub use run::{Failure, Stop, Word};

/// The user that hooks must belong to: root, in whose name they run.
pub const OWNER: u32 = 0;

/// Where the main hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Main {
    /// There are no hooks.
    None,
    /// Where distributions have it.
    Default,
    /// At this path.
    At(&'static [u8]),
}

/// What is told about hooks on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where the main hook is.
    pub main: Main,
    /// The seconds that one hook has.
    pub timeout_s: u32,
    /// Whether a hook that fails is only logged.
    pub ignore_failures: bool,
}

impl Settings {
    /// No hooks.
    pub const fn none() -> Self {
        Self {
            main: Main::None,
            timeout_s: HOOK_TIMEOUT_S,
            ignore_failures: false,
        }
    }
}

/// The hooks of one freeze and its thaw.
pub struct Session<'a> {
    runner: Runner<'a>,
    /// The hooks that are to be thawed; `None` as long as there was none.
    ledger: Option<Ledger>,
    ignore_failures: bool,
}

impl<'a> Session<'a> {
    /// A session without hooks yet. `echo` shows the log on standard output too.
    pub fn new(settings: &Settings, root: &'a Root, environment: Environment, echo: bool) -> Self {
        let log = HookLog::new(root, echo);
        Self {
            runner: Runner::new(log, root, environment, settings.timeout_s, OWNER),
            ledger: None,
            ignore_failures: settings.ignore_failures,
        }
    }

    /// The first hook that failed, what became of it, and the end of what it said.
    pub fn failure(&self) -> &[u8] {
        &self.runner.failure
    }

    /// Takes note of a directory of hooks that cannot be read.
    pub fn cannot_read(&mut self, directory: &[u8], errno: Errno) -> Result<(), Failure> {
        let failure = self.fail(directory, b"cannot be read", errno);
        self.unless_ignored(Err(failure))
    }

    /// Takes note of what went wrong with `about` before any hook was run.
    pub fn fail(&mut self, about: &[u8], what: &[u8], errno: Errno) -> Failure {
        self.runner.refuse(about, Word::Freeze, what, errno)
    }

    /// Takes over the hooks that an earlier freeze has left in the state directory.
    ///
    /// # Errors
    /// [`Errno::NOLCK`] if another process works on them, or that of reading the list.
    pub fn take_over(&mut self, directory: &[u8]) -> Result<(), Errno> {
        if let Ok(opened) = open(directory)
            && Ledger::exists(&opened)
        {
            self.ledger = Ledger::find(opened)?;
        }
        Ok(())
    }

    /// Has hooks remembered in the state directory until their thaw.
    ///
    /// # Errors
    /// They cannot be remembered there, or others than root could change what is to be run.
    pub fn remember_in(&mut self, directory: &[u8]) -> Result<(), Failure> {
        self.runner.check(directory, Word::Freeze)?;
        match open(directory).and_then(Ledger::make) {
            Ok(ledger) => self.ledger = Some(ledger),
            Err(errno) => return Err(self.fail(directory, b"cannot remember hooks", errno)),
        }
        Ok(())
    }

    /// Has hooks remembered as long as this process lives.
    pub fn remember_here(&mut self) {
        self.ledger = Some(Ledger::unnamed());
    }

    /// Looks whether hooks may be run, so that none is if one may not.
    pub fn check(&mut self, hook: &[u8]) -> Result<(), Failure> {
        let checked = self.runner.check(hook, Word::Freeze);
        self.unless_ignored(checked)
    }

    /// Runs a hook with `freeze`, until `deadline_ms` at the latest, and remembers it if it needs its
    /// thaw.
    pub fn freeze(&mut self, hook: &[u8], deadline_ms: u64) -> Result<(), Failure> {
        self.remember(hook)?;
        let ran = self.runner.run(hook, Word::Freeze, deadline_ms);
        if ran.is_err_and(|failure| !failure.started)
            && let Some(ledger) = &mut self.ledger
        {
            ledger.remove_last();
        }
        self.unless_ignored(ran)
    }

    /// Remembers that a hook is to be thawed, without having run it.
    pub fn remember(&mut self, hook: &[u8]) -> Result<(), Failure> {
        let added = match &mut self.ledger {
            Some(ledger) => ledger.add(hook),
            None => Err(Errno::BADF),
        };
        added.map_err(|errno| self.fail(hook, b"cannot be remembered", errno))
    }

    /// A failure that is only logged is none, unless it is the end of all.
    fn unless_ignored(&mut self, ran: Result<(), Failure>) -> Result<(), Failure> {
        match ran {
            Err(failure) if self.ignore_failures && failure.stop.is_none() => {
                self.runner.failure.clear();
                Ok(())
            }
            ran => ran,
        }
    }

    /// Closes the log, until there is something to be written again.
    pub fn pause(&mut self) {
        self.runner.log.close();
    }

    /// Runs all hooks that are remembered with `thaw`, the last first, and forgets them. One that
    /// fails does not stop the others: the failure is that of the first. [`Stop::ToldToEnd`] leaves
    /// the rest for the next run.
    pub fn thaw(&mut self) -> Result<(), Failure> {
        let Some(mut ledger) = self.ledger.take() else {
            return Ok(());
        };
        let mut first = Ok(());
        while let Some(hook) = ledger.last() {
            let ran = self.runner.run(hook.as_bytes(), Word::Thaw, NEVER_MS);
            if ran.is_err_and(|failure| failure.stop.is_some()) {
                self.ledger = Some(ledger);
                return ran;
            }
            ledger.remove_last();
            first = first.and(ran);
        }
        ledger.close();
        self.unless_ignored(first)
    }
}

/// Opens the state directory.
fn open(directory: &[u8]) -> Result<Root, Errno> {
    let path = Path::of(&[directory]);
    Root::open(path.as_c_str().ok_or(Errno::NAMETOOLONG)?)
}
