//! Mounting, unmounting, how full a file system is, and kernel modules.
#![allow(unsafe_code)]

use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::place::Place;
use super::raw;
use super::root::Root;
use crate::base::path::Path;

/// `MS_RDONLY`: nothing can be written.
pub const READ_ONLY: u32 = 1;
/// `MS_NOSUID`: set-user-ID bits mean nothing.
pub const NO_SUID: u32 = 1 << 1;
/// `MS_REMOUNT`: what is mounted already changes its options.
pub const REMOUNT: u32 = 1 << 5;
/// `MS_BIND`: the source is a directory, which is shown once more.
pub const BIND: u32 = 1 << 12;

/// What is mounted, where, of which type, and what the file system itself is told.
pub type Strings<'a> = [&'a [u8]; 4];

/// Mounts, with flags as mount(2) has them, by their numbers in linux/mount.h.
#[inline(never)]
pub fn mount(strings: &Strings<'_>, flags: u32) -> Result<(), Errno> {
    let paths = strings.map(|string| Path::of(&[string]));
    let mut addresses = [0; 4];
    for (path, address) in paths.iter().zip(&mut addresses) {
        let string = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        *address = string.as_ptr().expose_provenance();
    }
    let [source, target, kind, data] = addresses;
    // SAFETY: mount takes strings that end in NUL, which outlive the call, and flags; what a file
    // system is told is a string for all that do not bring helpers of their own.
    unsafe {
        raw::call(
            libc::SYS_mount,
            [source, target, kind, flags as usize, data],
        )
    }
    .map(|_| ())
}

/// Whether something is mounted at this name itself.
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

/// Whether a directory is in another mount than the one above it: what kernels before 5.8 tell.
fn is_in_another_mount(root: &Root, name: &[u8], directory: &Place) -> bool {
    let above = place(root, &[name, b"/.."]);
    above.is_ok_and(|above| above.mount != directory.mount)
}

/// Unmounts what is mounted at `target`, if nobody uses it.
pub fn unmount(target: &Path) -> Result<(), Errno> {
    let target = target.as_c_str().ok_or(Errno::NAMETOOLONG)?;
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)
}

/// Makes the file system that is mounted at a place read-only, for all who have it mounted.
pub fn make_read_only(place: &Place) -> Result<(), Errno> {
    // A link that leads to the very mount, whatever covers it.
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
    fn a_mount_point_is_told_from_a_directory() {
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
