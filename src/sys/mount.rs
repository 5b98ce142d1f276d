//! Mounting, unmounting, how full a file system is, and kernel modules.

use core::ffi::CStr;

use rustix::fs::{AtFlags, OFlags, StatxAttributes, StatxFlags, fstatvfs, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::root::Root;
use crate::base::path::Path;

/// How something is mounted: flags of mount(2), by their numbers in linux/mount.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// `MS_RDONLY`: nothing can be written.
    pub const READ_ONLY: Self = Self(1);
    /// `MS_NOSUID`: set-user-ID bits mean nothing.
    pub const NO_SUID: Self = Self(1 << 1);
    /// `MS_NODEV`: device nodes mean nothing.
    pub const NO_DEV: Self = Self(1 << 2);
    /// `MS_NOEXEC`: nothing can be executed.
    pub const NO_EXEC: Self = Self(1 << 3);
    /// `MS_SYNCHRONOUS`: writing waits for the disk.
    pub const SYNC: Self = Self(1 << 4);
    /// `MS_REMOUNT`: what is mounted already changes its options.
    pub const REMOUNT: Self = Self(1 << 5);
    /// `MS_DIRSYNC`: writing directories waits for the disk.
    pub const DIR_SYNC: Self = Self(1 << 7);
    /// `MS_NOSYMFOLLOW`: symbolic links lead nowhere.
    pub const NO_SYMLINK_FOLLOW: Self = Self(1 << 8);
    /// `MS_NOATIME`: reading leaves access times alone.
    pub const NO_ATIME: Self = Self(1 << 10);
    /// `MS_NODIRATIME`: reading directories leaves access times alone.
    pub const NO_DIR_ATIME: Self = Self(1 << 11);
    /// `MS_BIND`: the source is a directory, which is shown once more.
    pub const BIND: Self = Self(1 << 12);
    /// `MS_BIND` and `MS_REC`: so is all that is mounted in it.
    pub const BIND_ALL: Self = Self(1 << 12 | 1 << 14);
    /// `MS_SILENT`: the kernel does not complain in its log.
    pub const SILENT: Self = Self(1 << 15);
    /// `MS_RELATIME`: reading sets access times now and then.
    pub const REL_ATIME: Self = Self(1 << 21);
    /// `MS_STRICTATIME`: reading sets access times.
    pub const STRICT_ATIME: Self = Self(1 << 24);
    /// `MS_LAZYTIME`: times are written late.
    pub const LAZY_TIME: Self = Self(1 << 25);

    /// These flags and the others.
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether all of the others are among these.
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

/// Mounts `source` at `target`; `data` is what the file system itself is told.
pub fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: Flags,
    data: &CStr,
) -> Result<(), Errno> {
    let flags = MountFlags::from_bits_retain(flags.0);
    rustix::mount::mount(source, target, kind, flags, data)
}

/// Whether something is mounted at this name itself. Kernels before 5.8 do not tell.
pub fn is_mount_point(root: &Root, name: &[u8]) -> bool {
    let place = root.place_at(&[name], OFlags::empty());
    place.is_ok_and(|place| {
        let found = statx(&place, c"", AtFlags::EMPTY_PATH, StatxFlags::empty());
        found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    })
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

/// How full the file system at `path` below `root` is. May wait for the file system.
pub fn usage(root: &Root, path: &Path) -> Result<Usage, Errno> {
    let place = root.place_at(&[path.as_bytes()], OFlags::empty())?;
    let stat = fstatvfs(&place)?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Usage {
        used: bytes(used),
        total: bytes(used.saturating_add(stat.f_bavail)),
        total_privileged: bytes(stat.f_blocks),
    })
}

/// Where the modules of the running kernel lie, below the root and with a slash behind it.
pub fn modules_directory() -> Path {
    let release = rustix::system::uname();
    Path::of(&[b"lib/modules/", release.release().to_bytes(), b"/"])
}

/// Loads the kernel module in a file, given these parameters; `compressed` if the kernel has to
/// unpack it. One that is loaded already is no error.
pub fn load_module(
    root: &Root,
    path: &[&[u8]],
    parameters: &CStr,
    compressed: bool,
) -> Result<(), Errno> {
    /// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h.
    const COMPRESSED: i32 = 4;
    let flags = if compressed { COMPRESSED } else { 0 };
    match rustix::system::finit_module(root.file_at(path)?, parameters, flags) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_told_from_a_directory() {
        let root = Root::open(c"/").unwrap();
        let is_mount_point = |path: &[u8]| is_mount_point(&root, path);
        assert!(is_mount_point(b"proc"));
        assert!(!is_mount_point(b"proc/self") && !is_mount_point(b"nonexistent"));
    }
}
