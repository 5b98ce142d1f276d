//! Mounts, sizes of file systems, and kernel modules: mount(2), umount2(2), statvfs(3),
//! finit_module(2).

use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::place::Place;
use super::root::Root;
use crate::base::path::Path;

/// `MS_RDONLY`: mounts read-only.
pub const READ_ONLY: u32 = 1;
/// `MS_NOSUID`: ignores set-user-ID and set-group-ID bits.
pub const NO_SUID: u32 = 1 << 1;
/// `MS_REMOUNT`: changes the options of a mount.
pub const REMOUNT: u32 = 1 << 5;
/// `MS_BIND`: mounts a directory at a second place.
pub const BIND: u32 = 1 << 12;

/// Source, mount point, type, and options for the file system itself.
pub type MountArgs<'a> = [&'a [u8]; 4];

/// Mounts a file system, or changes a mount, as the flags of mount(2) say.
// Not inlined, to keep one copy of the code.
#[inline(never)]
pub fn mount(strings: &MountArgs<'_>, flags: u32) -> Result<(), Errno> {
    let paths = strings.map(|string| Path::of(&[string]));
    let string = |index: usize| paths[index].as_c_str().ok_or(Errno::NAMETOOLONG);
    // 32 bits here, 64 in rustix's backend for the C library, which Miri takes.
    let flags = MountFlags::from_bits_retain(flags as _);
    rustix::mount::mount(string(0)?, string(1)?, string(2)?, flags, string(3)?)
}

/// Whether the file or directory of this name is the root of a mount.
pub fn is_mount_point(root: &Root, name: &[u8]) -> bool {
    let Ok(place) = place(root, &[name]) else {
        return false;
    };
    place.is_mount_point || is_in_another_mount(root, name, &place)
}

fn place(root: &Root, name: &[&[u8]]) -> Result<Place, Errno> {
    let found = root.place_at(name, OFlags::empty())?;
    Place::of(root, found)
}

/// Whether a directory belongs to another mount than its parent. For kernels before 5.8, which do
/// not report roots of mounts.
fn is_in_another_mount(root: &Root, name: &[u8], directory: &Place) -> bool {
    let above = place(root, &[name, b"/.."]);
    above.is_ok_and(|above| above.mount != directory.mount)
}

/// Unmounts the file system at `target`; [`Errno::BUSY`] if it is in use. Follows no symbolic link
/// at the end of the path.
pub fn unmount(target: &Path) -> Result<(), Errno> {
    let target = target.as_c_str().ok_or(Errno::NAMETOOLONG)?;
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)
}

/// Makes the file system of a mount read-only, in all its mounts. `place` is the root of the mount.
pub fn make_read_only(place: &Place) -> Result<(), Errno> {
    // This link leads to the mount itself, even if another mount covers it.
    let path = Path::of(&[b"/proc/self/fd/", place.number().as_bytes()]);
    let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
    rustix::mount::mount_remount(path, MountFlags::RDONLY, c"")
}

/// The size of a file system, as statvfs(3) has it: numbers of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks that users other than root can use.
    pub available: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
}

/// The size of the file system that `place` lies on. May wait for the file system.
pub fn space(place: &Place) -> Result<Space, Errno> {
    let stat = fstatvfs(place)?;
    Ok(Space {
        blocks: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        block_bytes: stat.f_frsize,
    })
}

/// Loads a kernel module from a file; the kernel unpacks one that `is_compressed`.
///
/// # Errors
/// [`Errno::EXIST`] if the module is loaded.
pub fn load_module(file: &OwnedFd, parameters: &[u8], is_compressed: bool) -> Result<(), Errno> {
    /// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h.
    const COMPRESSED: i32 = 4;
    let parameters = Path::of(&[parameters]);
    let parameters = parameters.as_c_str().ok_or(Errno::NAMETOOLONG)?;
    let flags = if is_compressed { COMPRESSED } else { 0 };
    rustix::system::finit_module(file, parameters, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_mount_points_from_directories() {
        let root = Root::open(c"/").unwrap();
        let by_number = |path: &[u8]| {
            place(&root, &[path]).is_ok_and(|place| is_in_another_mount(&root, path, &place))
        };
        for (path, expected) in [
            (&b"proc"[..], true),
            (b"proc/self", false),
            (b"proc/version", false),
            (b"nonexistent", false),
        ] {
            assert_eq!(is_mount_point(&root, path), expected);
            assert_eq!(by_number(path), expected);
        }
    }
}
