//! The agent as a daemon (`--daemonize`), as qemu-ga has it: a child of the process that was started,
//! in a session of its own, with umask 077, `/` as its working directory, /dev/null as descriptors 0
//! to 2, and a pid file ([`crate::state::pid_file`]). A log file takes the place of descriptor 2.
//!
//! The child is made before any descriptor of the loop, so the two share none. It opens its log, locks
//! its pid file and tries to open its channels; then it detaches itself and tells its parent, which
//! exits.
//!
//! PID 1 never is a daemon: its exit would end the machine, or its container.
//!
//! Differences from qemu-ga: the parent waits until the child is ready, so the errors of the start are
//! seen on the terminal, and its exit status is that of a child that could not start. The pid file is
//! locked before the channels are opened: an agent that finds another one running leaves its socket
//! alone. The working directory stays if the path of an option is relative.

use super::options::{Key, Options};
use super::restart::essential;
use super::texts::AgentPhrase;
use crate::state::State;
use crate::state::log::{Level, Log};
use crate::sys::stream::Read;
use crate::sys::{Errno, OwnedFd, process, stdio, stream};

/// How long the parent waits for the status of a child that has closed its end of the pipe.
const EXIT_MS: u64 = 10_000;

/// The parent of a daemon, which waits for it; or none.
#[derive(Default)]
pub(super) struct Starter {
    /// The pipe to the parent.
    pipe: Option<OwnedFd>,
    keeps_directory: bool,
}

impl Starter {
    /// Returns in the daemon, if the agent is to be one. In its parent, waits until the daemon is
    /// ready or has ended, and exits.
    pub(super) fn fork(options: &Options) -> Self {
        if options.pid_file().is_none() {
            return Self::default();
        }
        let (pipe, end) = essential(AgentPhrase::CannotStart, stream::pipe_to_write());
        let forked = process::fork(false);
        if let process::Forked::Parent(child) = essential(AgentPhrase::CannotStart, forked) {
            drop(pipe);
            process::exit(match stream::read(&end, &mut [0]) {
                Ok(Read::Bytes(_)) => 0,
                _ => process::status_of(child, EXIT_MS).unwrap_or(1),
            });
        }
        let is_relative = |key| {
            options
                .text(key)
                .is_some_and(|path| !path.starts_with(b"/"))
        };
        let paths = [Key::Path, Key::StateDirectory, Key::LogFile];
        Self {
            pipe: Some(pipe),
            keeps_directory: paths.into_iter().any(is_relative),
        }
    }

    /// Detaches the daemon, which is ready, and has its parent exit.
    pub(super) fn release(&mut self, log: &mut Log) {
        let Some(pipe) = self.pipe.take() else {
            return;
        };
        process::new_session();
        process::set_umask(0o077);
        if !self.keeps_directory {
            process::enter_root();
        }
        match stream::null() {
            Ok(null) => stdio::replace(&[Some(null), None, None]),
            Err(_) => stdio::detach(),
        }
        // Descriptor 2 again.
        let _ = log.open();
        let _ = stream::write(pipe, b"\0");
    }
}

/// Makes the pid file, unless it was made before or something is frozen. Logs an error, and returns
/// whether there was none.
pub(super) fn hold_pid_file(state: &mut State) -> bool {
    if state.freeze.is_frozen() {
        return true;
    }
    let Err((path, errno)) = state.pid_file.make() else {
        return true;
    };
    let (what, path): (_, &[u8]) = match errno {
        Errno::AGAIN => (AgentPhrase::CannotLockPidFile, b""),
        _ => (AgentPhrase::CannotCreate, path),
    };
    state.log.failure(Level::Error, what, path, errno);
    false
}
