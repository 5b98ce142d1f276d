//! State that outlives a request: the guest with the options that tasks need, the command filter,
//! open files, programs, the freeze with its marker and hooks, the log.
#![forbid(unsafe_code)]

pub mod environment;
pub mod etc_file;
pub mod files;
pub mod filter;
pub mod freeze;
pub mod guest;
pub mod hooks;
pub mod initramfs;
pub mod log;
pub mod marker;
mod own_file;
pub mod pid_file;
pub mod programs;
pub mod target;
pub mod texts;
pub mod trust;

use crate::sys::power::ShutdownMode;
use files::Files;
use filter::Filter;
use freeze::Freeze;
use guest::Guest;
use log::Log;
use pid_file::PidFile;
use programs::Programs;

/// The state that handlers read and change.
pub struct State {
    /// The guest, which tasks use too.
    pub guest: Guest,
    /// The packed table of commands.
    pub commands: &'static [u8],
    /// Which commands are allowed.
    pub filter: Filter,
    /// The freeze.
    pub freeze: Freeze,
    /// Open files.
    pub files: Files,
    /// How the guest is going down, if it is.
    pub going_down: Option<ShutdownMode>,
    /// When to stop waiting for the init that was told to take the guest down;
    /// [`NEVER_MS`](crate::sys::clock::NEVER_MS) if a child of the agent does it instead.
    pub down_ms: u64,
    /// Programs that run, and results that no client has read.
    pub programs: Programs,
    /// The log.
    pub log: Log,
    /// The pid file of a daemon.
    pub pid_file: PidFile,
}

/// A state for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::sys::clock::NEVER_MS;

    /// The state of an agent that has just started, with a guest at this root directory.
    pub(crate) fn state(root: crate::sys::root::Root) -> State {
        State {
            guest: guest(root),
            commands: &[],
            filter: Filter::default(),
            freeze: Freeze::default(),
            files: Files::default(),
            going_down: None,
            down_ms: NEVER_MS,
            programs: Programs::default(),
            log: Log::new(),
            pid_file: PidFile::default(),
        }
    }

    /// A guest with this root directory.
    pub(crate) fn guest(root: crate::sys::root::Root) -> Guest {
        Guest {
            root,
            initramfs: crate::state::initramfs::Initramfs::default(),
            environment: environment::Environment::none(),
            hooks: hooks::Settings::none(),
            aborts_fuse: false,
            os_release: None,
            authorized_keys: None,
            time_zone: None,
            virtio_serials: crate::base::recent::RecentAnswers::new(),
            cpus: None,
            marker: marker::Marker::of(b"/nonexistent"),
        }
    }
}
