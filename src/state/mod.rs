//! What outlives a request: what the agent was started with, and what it has done to the guest.
#![forbid(unsafe_code)]

pub mod environment;
pub mod files;
pub mod filter;
pub mod freeze;
pub mod guest;
pub mod hooks;
pub mod initramfs;
pub mod log;
pub mod marker;
mod own_file;
pub mod programs;
pub mod texts;

use crate::sys::power::Down;
use files::Files;
use filter::Filter;
use freeze::Freeze;
use guest::Guest;
use log::Log;
use programs::Programs;

/// All that handlers may look at and change.
pub struct State {
    /// What tasks use too.
    pub guest: Guest,
    /// The packed table of commands.
    pub commands: &'static [u8],
    /// Which commands are allowed.
    pub filter: Filter,
    /// Whether file systems are frozen.
    pub freeze: Freeze,
    /// Open files.
    pub files: Files,
    /// How the guest goes down, once it does.
    pub going_down: Option<Down>,
    /// Meanwhile, when to stop waiting for the init that was told; [`NEVER_MS`](crate::sys::clock)
    /// if a child of the agent is taking the guest down by itself.
    pub down_ms: u64,
    /// The programs that were started.
    pub programs: Programs,
    /// The one os-release file to read, if told; in the guest's own terms.
    pub os_release: Option<&'static [u8]>,
    /// The time zone, if told.
    pub time_zone: Option<&'static [u8]>,
    /// The log.
    pub log: Log,
}

/// For tests: a state of nothing in particular.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::sys::clock::NEVER_MS;

    /// The state of an agent that has just been started, whose guest has its files at this root.
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
            os_release: None,
            time_zone: None,
            log: Log::new(),
        }
    }

    /// A guest with its files at this root.
    pub(crate) fn guest(root: crate::sys::root::Root) -> Guest {
        Guest {
            root,
            initramfs: crate::state::initramfs::Initramfs::default(),
            environment: environment::Environment::none(),
            hooks: hooks::Settings::none(),
            marker: marker::Marker::of(b"/nonexistent"),
        }
    }
}
