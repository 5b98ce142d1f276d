//! The hooks of one freeze and its thaw: in order with `freeze`, in reverse order with `thaw`.

use super::call::{Call, HookFailure, Settings};
use super::ledger::Ledger;
use super::run::Runner;
use crate::base::sink::ByteSink;
use crate::base::text::cut;
use crate::parse::hooks::directory_of;
use crate::state::environment::Environment;
use crate::state::texts::LogPhrase;
use crate::sys::Errno;
use crate::sys::clock::NEVER_MS;
use crate::sys::mem::Buffer;
use crate::sys::root::Root;

/// The hooks of one freeze and its thaw. `parse::hooks` describes lists of hooks.
pub struct Session<'a> {
    runner: Runner<'a>,
    /// The hooks that need their thaw.
    ledger: Ledger,
}

impl<'a> Session<'a> {
    /// A session without hooks. With `echo` its log is also written to standard output.
    pub fn new(settings: Settings, root: &'a Root, environment: Environment, echo: bool) -> Self {
        Self {
            runner: Runner::new(settings, root, environment, echo),
            ledger: Ledger::new(),
        }
    }

    /// The first failure: the hook, how it ended, and the end of its output.
    pub fn failure(&self) -> &[u8] {
        &self.runner.failure
    }

    /// Whether a signal has told this process to end: the agent is gone, or a person has pressed
    /// Ctrl-C.
    pub fn is_told_to_end(&self) -> bool {
        self.runner.told_to_end
    }

    /// Returns the list of hooks that `probe::hooks` has found. A directory that could not be read is a
    /// failure, or, if failures are ignored, an empty list.
    pub fn readable<'f>(
        &mut self,
        found: &'f Result<Buffer, (&[u8], Errno)>,
    ) -> Result<&'f [u8], HookFailure> {
        match found {
            Ok(list) => Ok(list.bytes()),
            Err((main, errno)) => {
                let directory = directory_of(main);
                let failure = self.fail(directory.as_bytes(), LogPhrase::CannotReadHooks, *errno);
                self.runner.unless_ignored(Err(failure)).map(|()| &b""[..])
            }
        }
    }

    /// Logs an error with the file `about` before any hook was run.
    pub fn fail(&mut self, about: &[u8], what: LogPhrase, errno: Errno) -> HookFailure {
        self.runner.fail(&Call::freeze(about), what, b"", errno)
    }

    /// Takes over the list that an earlier freeze has left in the state directory, and kills the
    /// process group of the hook that was running.
    ///
    /// # Errors
    /// [`Errno::NOLCK`] if another process has the list locked, or the error of reading it.
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

    /// Checks all hooks, then runs them with `freeze`, until `deadline_ms` at the latest. The hooks
    /// that need their thaw are listed in this process, and in the state directory if one is given.
    pub fn freeze(
        &mut self,
        hooks: &[u8],
        directory: Option<&[u8]>,
        deadline_ms: u64,
    ) -> Result<(), HookFailure> {
        let mut rest = hooks;
        while !rest.is_empty() {
            let checked = self.runner.check(&Call::freeze(cut(&mut rest, 0)));
            self.runner.unless_ignored(checked)?;
        }
        if let Some(directory) = directory
            && !hooks.is_empty()
        {
            // The hooks on the list run as root: only root may write to it.
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

    /// Runs hooks with `thaw` in reverse order, as if all had run with `freeze`.
    pub fn thaw_all(&mut self, mut hooks: &[u8]) -> Result<(), HookFailure> {
        while !hooks.is_empty() {
            // A list of hooks fits.
            let _ = self.ledger.add(cut(&mut hooks, 0));
        }
        self.thaw()
    }

    /// Runs the listed hooks with `thaw` in reverse order, and removes them from the list. A
    /// failure does not stop the others; the first one is returned. If this process is told to end,
    /// the rest stays listed for the next run.
    pub fn thaw(&mut self) -> Result<(), HookFailure> {
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
