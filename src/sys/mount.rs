//! Mounting, unmounting, how full a file system is, and kernel modules.

use core::ffi::CStr;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::root::Root;
use crate::base::path::Path;

/// Options of a mount that the kernel takes as flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-ID bits mean nothing.
    pub no_suid: bool,
    /// Device nodes mean nothing.
    pub no_dev: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
    /// Reading leaves access times alone.
    pub no_atime: bool,
    /// Writing waits for the disk.
    pub synchronous: bool,
}

impl Options {
    fn flags(self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOSUID, self.no_suid);
        flags.set(MountFlags::NODEV, self.no_dev);
        flags.set(MountFlags::NOEXEC, self.no_exec);
        flags.set(MountFlags::NOATIME, self.no_atime);
        flags.set(MountFlags::SYNCHRONOUS, self.synchronous);
        flags
    }
}

/// Mounts `source` at `target`; `data` is what the file system itself is told.
pub fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    options: Options,
    data: &CStr,
) -> Result<(), Errno> {
    rustix::mount::mount(source, target, kind, options.flags(), data)
}

/// Unmounts what is mounted at `target`, if nobody uses it.
pub fn unmount(target: &CStr) -> Result<(), Errno> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)
}

/// Makes what is mounted at `target` read-only, for all who have it mounted.
pub fn make_read_only(target: &CStr) -> Result<(), Errno> {
    rustix::mount::mount_remount(target, MountFlags::RDONLY, c"")
}

/// How full a file system is, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// In use.
    pub used: u64,
    /// In use or free for anybody.
    pub total: u64,
    /// In use, free for anybody or kept for root.
    pub total_privileged: u64,
}

/// How full the file system at `path` is.
pub fn usage(path: &CStr) -> Result<Usage, Errno> {
    let stat = statvfs(path)?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Usage {
        used: bytes(used),
        total: bytes(used.saturating_add(stat.f_bavail)),
        total_privileged: bytes(stat.f_blocks),
    })
}

/// Loads the kernel module in a file; `compressed` if the kernel has to unpack it. One that is
/// loaded already is no error.
pub fn load_module(root: &Root, path: &Path, compressed: bool) -> Result<(), Errno> {
    /// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h.
    const COMPRESSED: i32 = 4;
    let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
    let file: OwnedFd = openat(
        root.as_fd(),
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let flags = if compressed { COMPRESSED } else { 0 };
    match rustix::system::finit_module(&file, c"", flags) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}
