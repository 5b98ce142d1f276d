//! The new root directory after switch_root(8) or pivot_root(2).
//!
//! An agent that starts in an initramfs outlives it. switch_root mounts another file system over
//! `/` and changes the root directory of its own process alone. For every other process `/` remains
//! the emptied initramfs. A lookup of `/..` stays at the root directory and then enters the mount
//! on it, so `/..` leads to the new root. pivot_root changes the root directory of all processes,
//! but open descriptors still lead to the old one.
//!
//! Only a root directory in memory (ramfs, tmpfs) is watched: an initramfs is one, and other guests
//! pay nothing. Everything that is open stays open: files, pipes of programs, the log, a listening
//! socket.

use core::ffi::CStr;

use crate::sys::process;
use crate::sys::root::{Root, is_in_memory};
use crate::sys::status::Status;

/// The root directory that this process started in, if the guest may leave it for another.
#[derive(Default)]
pub struct Initramfs {
    /// Its device and inode numbers; `None` if it is not watched.
    known: Option<(u64, u64)>,
}

/// The root directory of this process.
const ROOT: &CStr = c"/";
/// The mount on it, or the root directory itself.
const TOP: &CStr = c"/..";

impl Initramfs {
    /// Watches the root directory of this process if it is in memory.
    pub fn watch() -> Self {
        let known = if is_in_memory(ROOT) {
            identity(ROOT)
        } else {
            None
        };
        Self { known }
    }

    /// If the root directory has changed, makes the new one the root directory of this process and
    /// of `root`. Takes one system call if it has not changed, none if it is not watched.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub fn leave(&mut self, root: &mut Root) {
        if self.known.is_none() {
            return;
        }
        let now = identity(TOP);
        if now.is_none() || now == self.known {
            return;
        }
        // Without the privilege for that, `root` alone changes, through which all files are found.
        if process::change_root(TOP).is_ok() {
            process::enter_root();
        }
        if root.reopen(TOP).is_ok() {
            *self = Self::watch();
        }
    }
}

fn identity(path: &CStr) -> Option<(u64, u64)> {
    let status = Status::at_path(path).ok()?;
    Some((status.device, status.inode))
}
