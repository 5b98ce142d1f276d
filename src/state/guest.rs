//! What a task may use, in whichever process it runs.

use crate::state::environment::Environment;
use crate::state::hooks::Settings;
use crate::state::initramfs::Initramfs;
use crate::state::marker::Marker;
use crate::sys::root::Root;

/// The guest, and what the agent was told about it when it was started.
pub struct Guest {
    /// The guest's files.
    pub root: Root,
    /// Whether the root directory may be left for another.
    pub initramfs: Initramfs,
    /// The environment of programs that get none of their own.
    pub environment: Environment,
    /// What is told about hooks.
    pub hooks: Settings,
    /// Where the marker of a freeze is.
    pub marker: Marker,
}

impl Guest {
    /// Looks for the guest's files where they are now: an initramfs may have been left.
    pub fn find_root(&mut self) {
        self.initramfs.leave(&mut self.root);
    }
}
