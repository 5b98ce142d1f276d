//! The guest as tasks see it, in the agent, in a worker, or in a child.

use crate::base::recent::RecentAnswers;
use crate::state::environment::Environment;
use crate::state::hooks::Settings;
use crate::state::initramfs::Initramfs;
use crate::state::marker::Marker;
use crate::sys::root::{KeptDirectory, Root};

/// The guest, and the options that tasks need.
pub struct Guest {
    /// The root directory of the guest.
    pub root: Root,
    /// Follows the guest when it leaves its initramfs.
    pub initramfs: Initramfs,
    /// The environment of programs that are given none.
    pub environment: Environment,
    /// The options of hooks.
    pub hooks: Settings,
    /// Whether a freeze that takes longer than the freeze timeout aborts FUSE connections.
    pub aborts_fuse: bool,
    /// The path of the os-release file in the guest, if the environment gives one.
    pub os_release: Option<&'static [u8]>,
    /// The pattern for the path of a user's ssh keys (`parse::keys_path`), if an option gives one.
    pub authorized_keys: Option<&'static [u8]>,
    /// The time zone, if the environment gives one.
    pub time_zone: Option<&'static [u8]>,
    /// Serial numbers of virtio disks, by the number that the kernel gave the disk (`probe::serial`).
    pub virtio_serials: RecentAnswers,
    /// The directory of processors, once they have been listed.
    pub cpus: Option<KeptDirectory>,
    /// The marker of a freeze.
    pub marker: Marker,
}

impl Guest {
    /// Changes to the new root directory if the guest has left its initramfs.
    pub fn find_root(&mut self) {
        self.initramfs.leave(&mut self.root);
    }
}
