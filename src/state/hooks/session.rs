//! The hooks of one freeze and its thaw.

use super::call::{Call, Failure, Settings};
use super::ledger::Ledger;
use super::run::Runner;
use crate::base::limits::HOOK_LIST_BYTES;
use crate::base::text::cut;
use crate::parse::hooks::directory_of;
use crate::state::environment::Environment;
use crate::state::texts::LogPhrase;
use crate::sys::Errno;
use crate::sys::clock::NEVER_MS;
use crate::sys::mem::Buffer;
use crate::sys::root::Root;

/// The hooks of one freeze and its thaw. Lists of hooks are those of `parse::hooks`.
pub struct Session<'a> {
    runner: Runner<'a>,
    /// The hooks that are to be thawed.
    ledger: Ledger,
}

impl<'a> Session<'a> {
    /// A session without hooks yet. `echo` shows the log on standard output too.
    pub fn new(settings: Settings, root: &'a Root, environment: Environment, echo: bool) -> Self {
        Self {
            runner: Runner::new(settings, root, environment, echo),
            ledger: Ledger::new(),
        }
    }

    /// The first hook that failed, what became of it, and the end of what it said.
    pub fn failure(&self) -> &[u8] {
        &self.runner.failure
    }

    /// Whether this process is to end: the agent is gone, or a person has pressed Ctrl-C.
    pub fn is_told_to_end(&self) -> bool {
        self.runner.told_to_end
    }

    /// The list of hooks that were found, or the main hook whose directory cannot be read: that is a
    /// failure. If failures are ignored, the directory has no hooks.
    pub fn readable(&mut self, found: Result<Buffer, (&[u8], Errno)>) -> Result<Buffer, Failure> {
        found.or_else(|(main, errno)| {
            let directory = directory_of(main);
            let failure = self.fail(directory.as_bytes(), LogPhrase::CannotReadHooks, errno);
            self.runner.unless_ignored(Err(failure))?;
            Ok(Buffer::growing(HOOK_LIST_BYTES))
        })
    }

    /// Takes note of what went wrong with `about` before any hook was run.
    pub fn fail(&mut self, about: &[u8], what: LogPhrase, errno: Errno) -> Failure {
        self.runner.fail(&Call::freeze(about), what, b"", errno)
    }

    /// Takes over the hooks that an earlier freeze has left in the state directory, and ends what is
    /// left of the one that ran.
    ///
    /// # Errors
    /// [`Errno::NOLCK`] if another process works on them, or that of reading the list.
    pub fn take_over(&mut self, directory: &[u8]) -> Result<(), Errno> {
        match Root::at(directory) {
            Ok(directory) if Ledger::exists(&directory) => {
                if let Some((pid, started)) = self.ledger.find(directory)? {
                    self.runner.end_left(pid, started);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Runs a list of hooks with `freeze`, until `deadline_ms` at the latest, if all of them may be
    /// run. Those that need their thaw are remembered as long as this process lives, and, if there is
    /// a state directory, in there until their thaw.
    pub fn freeze(
        &mut self,
        hooks: &[u8],
        directory: Option<&[u8]>,
        deadline_ms: u64,
    ) -> Result<(), Failure> {
        let mut rest = hooks;
        while !rest.is_empty() {
            let checked = self.runner.check(&Call::freeze(cut(&mut rest, 0)));
            self.runner.unless_ignored(checked)?;
        }
        if let Some(directory) = directory
            && !hooks.is_empty()
        {
            // Whoever may write to the list says what is run as root.
            self.runner.check(&Call::freeze(directory))?;
            let kept = Root::at(directory).and_then(|opened| self.ledger.keep_in(opened));
            kept.map_err(|errno| self.fail(directory, LogPhrase::CannotKeepHookList, errno))?;
        }
        let mut rest = hooks;
        while !rest.is_empty() {
            let hook = cut(&mut rest, 0);
            let added = self.ledger.add(hook);
            added.map_err(|errno| self.fail(hook, LogPhrase::CannotKeepHook, errno))?;
            let ran = self
                .runner
                .run(&Call::freeze(hook), &self.ledger, deadline_ms);
            self.ledger.remove_process();
            if ran.is_err_and(|failure| !failure.started) {
                self.ledger.remove_last();
            }
            self.runner.unless_ignored(ran)?;
        }
        Ok(())
    }

    /// Runs a list of hooks with `thaw`, the last first, as if all had run with `freeze`.
    pub fn thaw_all(&mut self, hooks: Buffer) -> Result<(), Failure> {
        self.ledger = Ledger::of(hooks);
        self.thaw()
    }

    /// Runs all hooks that are remembered with `thaw`, the last first, and forgets them. One that
    /// fails does not stop the others: the failure is that of the first. If this process is told to
    /// end, the rest is left for the next run.
    pub fn thaw(&mut self) -> Result<(), Failure> {
        self.runner.told_to_end = false;
        let mut first = Ok(());
        while let Some(hook) = self.ledger.last() {
            let ran = self.runner.run(&Call::thaw(hook), &self.ledger, NEVER_MS);
            if ran.is_err_and(|failure| failure.is_final) {
                return ran;
            }
            self.ledger.remove_last();
            first = first.and(ran);
        }
        self.ledger.close();
        self.runner.unless_ignored(first)
    }
}
