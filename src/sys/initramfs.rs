//! Finding the root directory again after switch_root(8) or pivot_root(2).
//!
//! An agent that is started in an initramfs outlives it. switch_root mounts another file system over
//! `/` and changes the root directory of its own process alone: for every other process `/` remains
//! the emptied initramfs below. A lookup of `/..` stays at the root directory and then enters what is
//! mounted on it, so `/..` leads to the new root. pivot_root changes the root directory of all
//! processes, but not where their open descriptors lead.
//!
//! Only a root directory in memory (ramfs, tmpfs) is watched: an initramfs is one, and other guests
//! pay nothing. What is open stays open: files, pipes of programs, the log, a listening socket.

use core::ffi::CStr;

use linux_raw_sys::general::{RAMFS_MAGIC, TMPFS_MAGIC};
use rustix::fs::{AtFlags, CWD};

use super::root::Root;

/// A root directory that may be left for another.
#[derive(Default)]
pub struct Initramfs {
    /// Its device and inode number; `None` if it is not watched.
    known: Option<(u64, u64)>,
}

/// The root directory of this process.
const ROOT: &CStr = c"/";
/// What is mounted on it; the root directory itself if nothing is.
const TOP: &CStr = c"/..";

impl Initramfs {
    /// Watches the root directory of this process, if it is in memory.
    pub fn watch() -> Self {
        let kind = rustix::fs::statfs(ROOT).map(|stat| stat.f_type as u32);
        let in_memory = matches!(kind, Ok(TMPFS_MAGIC | RAMFS_MAGIC));
        let known = if in_memory { identity(ROOT) } else { None };
        Self { known }
    }

    /// If the root directory has changed, makes the new one that of this process and of `root`.
    /// One system call if it has not, none if it is not watched.
    #[inline(never)]
    pub fn leave(&mut self, root: &mut Root) {
        if self.known.is_none() {
            return;
        }
        let now = identity(TOP);
        if now.is_none() || now == self.known {
            return;
        }
        // Without the privilege to change the root directory, files are found all the same.
        if rustix::process::chroot(TOP).is_ok() {
            let _ = rustix::process::chdir(ROOT);
        }
        if root.reopen(TOP).is_ok() {
            *self = Self::watch();
        }
    }
}

fn identity(path: &CStr) -> Option<(u64, u64)> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty()).ok()?;
    Some((stat.st_dev, stat.st_ino))
}
