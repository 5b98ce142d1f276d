//! What outlives a request: what the agent was started with, and what it has done to the guest.
#![forbid(unsafe_code)]

pub mod environment;
pub mod files;
pub mod filter;
pub mod freeze;
pub mod hooks;
pub mod programs;

use crate::sys::initramfs::Initramfs;
use crate::sys::log::Log;
use crate::sys::power::Down;
use crate::sys::root::Root;
use files::Files;
use filter::Filter;
use freeze::Freeze;
use hooks::Settings;
use programs::Programs;

/// All that handlers may look at and change.
// In this order, because what is within 128 bytes of the beginning is reached by short instructions:
// the log, which holds lines, comes last.
#[repr(C)]
pub struct State {
    /// The guest's files.
    pub root: Root,
    /// Whether the root directory may be left for another.
    pub initramfs: Initramfs,
    /// Which commands are allowed.
    pub filter: Filter,
    /// Whether file systems are frozen.
    pub freeze: Freeze,
    /// What is told about hooks.
    pub hooks: Settings,
    /// Open files.
    pub files: Files,
    /// How the guest goes down, once it does.
    pub going_down: Option<Down>,
    /// Meanwhile, when to stop waiting for the init that was told; [`NEVER_MS`](crate::sys::clock)
    /// if a child of the agent is taking the guest down by itself.
    pub down_ms: u64,
    /// The programs that were started, and what a new one is started with.
    pub programs: Programs,
    /// The one os-release file to read, if told; in the guest's own terms.
    pub os_release: Option<&'static [u8]>,
    /// The time zone, if told.
    pub time_zone: Option<&'static [u8]>,
    /// The log.
    pub log: Log,
}

impl State {
    /// Looks for the guest's files where they are now: an initramfs may have been left.
    pub fn find_root(&mut self) {
        self.initramfs.leave(&mut self.root);
    }
}
