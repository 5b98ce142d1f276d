//! The file that a path leads to, found without waiting, and identified before it is opened.
//!
//! A user who may rename a directory on a path decides at every moment where the path leads: to the
//! mount of a disk, to another file system, to a FIFO. So a path is first resolved to a [`Place`],
//! an O_PATH descriptor: nothing is opened, no symbolic link is followed. The kernel then reports
//! the file system and the mount of the place. After that the place is opened through its
//! descriptor, which nobody can divert.
//!
//! A user may also divert a path into a file system whose server never answers (FUSE, NFS). The
//! names on the path of a mount point are always in the kernel's cache of names, because the mount
//! keeps them there: openat2(2) with RESOLVE_CACHED finds it without asking a server. That fails if
//! a name is not in the cache (the path was diverted), if a name changes at that moment, or if a
//! network file system has its server check every name. Then the path is walked name by name, and
//! the caller decides which file systems may be asked.
//!
//! Kernels before 5.12 cannot look up names in the cache alone, so there the walk waits for
//! servers. Kernels before 5.6 also follow symbolic links inside a path.

use core::ffi::CStr;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, fstat, fstatfs,
    openat, openat2, statx,
};
use rustix::io::Errno;

use super::root::Root;
use crate::base::path::Path;
use crate::base::text::{Digits, cut, parse_u64, value_of_key};

/// The number of lookups in the cache. A lookup also fails while a process renames something on the
/// way, which takes a moment only.
const CACHED_LOOKUPS: usize = 4;

/// `BTRFS_SUPER_MAGIC` of linux/magic.h.
const BTRFS: u64 = 0x9123_683E;

/// What keeps even root from changing a file: chattr(1) sets it.
const FIXED: StatxAttributes = StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND);

/// Decides whether to ask the file system of a place for a name, and to wait for it.
pub type MayAsk<'a> = &'a mut dyn FnMut(&Place) -> bool;

/// The file or directory at the end of a path, not opened.
pub struct Place {
    descriptor: OwnedFd,
    /// The major and minor number of its device, as stat(2) has them. A subvolume of btrfs has
    /// numbers of its own, which are not in the mount table.
    pub device: (u32, u32),
    /// The number of its mount, the first field of mountinfo. Kernels before 3.15 do not report it.
    pub mount: Option<u64>,
    /// Whether it is the root of its mount. False on kernels before 5.8, which do not report it.
    pub is_mount_point: bool,
    /// Whether the file is immutable or append-only (chattr(1)). Kernels before 4.11 do not report that.
    pub(super) is_fixed: bool,
    kind: FileType,
}

impl Place {
    /// Finds the place at a path below `root`; follows no symbolic links. Asks a file system for a
    /// name that is not in the kernel's cache if it is the mount of `root`, or if `may_ask` allows
    /// it for the directory.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] if a name is in a file system that must not be asked.
    pub fn find(root: &Root, path: &[u8], may_ask: MayAsk<'_>) -> Result<Self, Errno> {
        match Self::find_cached(root, path) {
            Err(Errno::AGAIN) => walk(root, path, may_ask),
            done => done,
        }
    }

    /// As [`Place::find`], but asks no file system.
    pub fn find_cached(root: &Root, path: &[u8]) -> Result<Self, Errno> {
        let path = Path::of(&[path]);
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let found = match look_up_cached(root.as_fd(), path) {
            // The kernel has no such flag or call, or a seccomp filter does not allow it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => look_up(root.as_fd(), path),
            done => done,
        };
        Self::of(root, found?)
    }

    /// The place that a descriptor refers to.
    pub(super) fn of(root: &Root, descriptor: OwnedFd) -> Result<Self, Errno> {
        let name = c"";
        // DONT_SYNC: what the kernel knows, without asking the server of the file system.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let wanted = StatxFlags::TYPE | StatxFlags::MNT_ID;
        let mut place = match statx(&descriptor, name, flags, wanted) {
            Ok(found) => Self {
                descriptor,
                device: (found.stx_dev_major, found.stx_dev_minor),
                mount: (found.stx_mask & StatxFlags::MNT_ID.bits() != 0)
                    .then_some(found.stx_mnt_id),
                is_mount_point: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
                is_fixed: found.stx_attributes.intersects(FIXED),
                kind: FileType::from_raw_mode(found.stx_mode.into()),
            },
            // Linux before 4.11, or a seccomp filter that does not allow the call.
            Err(_) => {
                let found = fstat(&descriptor)?;
                Self {
                    descriptor,
                    device: numbers(found.st_dev),
                    mount: None,
                    is_mount_point: false,
                    is_fixed: false,
                    kind: FileType::from_raw_mode(found.st_mode),
                }
            }
        };
        if place.mount.is_none() {
            place.mount = place.mount_in_proc(root);
        }
        Ok(place)
    }

    /// The number of the mount from /proc/self/fdinfo.
    fn mount_in_proc(&self, root: &Root) -> Option<u64> {
        let mut buffer = [0; 256];
        let name = self.number();
        let info = root.read_at(&[b"proc/self/fdinfo/", name.as_bytes()], &mut buffer);
        value_of_key(info.ok()?, b"mnt_id").and_then(parse_u64)
    }

    /// The number of the descriptor.
    pub(super) fn number(&self) -> Digits {
        Digits::signed(self.descriptor.as_raw_fd().into())
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Whether it is on btrfs.
    pub fn is_on_btrfs(&self) -> bool {
        fstatfs(&self.descriptor).is_ok_and(|found| found.f_type as u64 & 0xFFFF_FFFF == BTRFS)
    }

    /// Opens it to read.
    ///
    /// # Errors
    /// [`Errno::NOTDIR`] unless it is a directory or a regular file.
    pub fn open(&self, root: &Root) -> Result<OwnedFd, Errno> {
        match self.kind {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                openat(&self.descriptor, c".", flags, Mode::empty())
            }
            // This link leads to the file itself, even if another file has its name by now.
            FileType::RegularFile => root.file_at(&[b"proc/self/fd/", self.number().as_bytes()]),
            _ => Err(Errno::NOTDIR),
        }
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The major and minor number of a device.
fn numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

const FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const RESOLVE: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// Looks a path up in the kernel's cache of names only.
fn look_up_cached(directory: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let mut found = Err(Errno::AGAIN);
    for _ in 0..CACHED_LOOKUPS {
        found = openat2(
            directory,
            path,
            FLAGS,
            Mode::empty(),
            RESOLVE | ResolveFlags::CACHED,
        );
        if !matches!(found, Err(Errno::AGAIN)) {
            break;
        }
    }
    found
}

/// Looks a path up; waits for servers.
fn look_up(directory: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    match openat2(directory, path, FLAGS, Mode::empty(), RESOLVE) {
        Err(Errno::NOSYS | Errno::PERM) => openat(directory, path, FLAGS, Mode::empty()),
        done => done,
    }
}

/// Looks a path up name by name; see [`Place::find`].
fn walk(root: &Root, path: &[u8], may_ask: MayAsk<'_>) -> Result<Place, Errno> {
    let mut here = Place::of(root, look_up(root.as_fd(), c".")?)?;
    let top = here.mount;
    let mut rest = path;
    while !rest.is_empty() {
        let name = cut(&mut rest, b'/');
        if name.is_empty() {
            continue;
        }
        let name = Path::of(&[name]);
        let name = name.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let found = match look_up_cached(here.as_fd(), name) {
            Err(Errno::AGAIN) if here.mount == top || may_ask(&here) => look_up(here.as_fd(), name),
            done => done,
        };
        here = Place::of(root, found?)?;
    }
    Ok(here)
}

/// The inode number of an open file.
#[cfg(test)]
pub(crate) fn inode(opened: &OwnedFd) -> u64 {
    fstat(opened).unwrap().st_ino
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::ffi::CString;
    use std::os::unix::fs::MetadataExt;

    fn tree() -> Tree {
        let tree = Tree::new();
        tree.directory("d/e");
        tree
    }

    #[test]
    fn reports_device_and_type_before_opening() {
        let tree = tree();
        tree.file("d/file", "");
        tree.fifo(c"d/fifo");
        let device = std::fs::metadata(&tree.path).unwrap().dev();
        for (name, is_directory) in [
            ("d", true),
            (".", true),
            ("d/file", false),
            ("d/fifo", false),
        ] {
            let place = Place::find(&tree.root, name.as_bytes(), &mut |_| false).unwrap();
            assert_eq!(place.device, numbers(device), "{name}");
            assert_eq!(place.is_directory(), is_directory, "{name}");
        }
        let machine = Root::open(c"/").unwrap();
        let inside = |name: &[u8]| {
            Place::find(&tree.root, name, &mut |_| false)
                .unwrap()
                .open(&machine)
        };
        assert!(inside(b"d").is_ok() && inside(b"d/file").is_ok());
        assert_eq!(inside(b"d/fifo").err(), Some(Errno::NOTDIR));
    }

    #[test]
    fn walk_by_names_finds_the_same_place() {
        let tree = tree();
        tree.link("link", "d");
        let inode_at = |found: Place| inode(&found.descriptor);
        for (name, same) in [("d/e", "d/e"), ("d//e/", "d/e"), ("", "."), ("d", "d")] {
            let expected = std::fs::metadata(tree.path.join(same)).unwrap().ino();
            let found = walk(&tree.root, name.as_bytes(), &mut |_| false).map(inode_at);
            assert_eq!(found, Ok(expected), "{name}");
        }
        assert_eq!(
            walk(&tree.root, b"d/none", &mut |_| false).err(),
            Some(Errno::NOENT)
        );
        assert!(walk(&tree.root, b"link/e", &mut |_| false).is_err());
        // A new name is not in the cache, but the mount of the root may be asked for it.
        let name = CString::new(format!("new-{}", std::process::id())).unwrap();
        let cached = look_up_cached(tree.root.as_fd(), &name).err();
        assert!(
            matches!(cached, Some(Errno::AGAIN | Errno::INVAL | Errno::NOSYS)),
            "{cached:?}"
        );
        assert_eq!(
            Place::find(&tree.root, name.to_bytes(), &mut |_| false).err(),
            Some(Errno::NOENT)
        );
    }

    #[test]
    fn follows_no_symbolic_links() {
        let tree = tree();
        tree.link("link", "d");
        assert_eq!(
            Place::find(&tree.root, b"link/e", &mut |_| false).err(),
            Some(Errno::LOOP)
        );
        // A link at the end is found itself, and cannot be opened.
        let link = Place::find(&tree.root, b"link", &mut |_| false).unwrap();
        assert_eq!(link.open(&tree.root).err(), Some(Errno::NOTDIR));
        assert_eq!(
            Place::find(&tree.root, b"none", &mut |_| false).err(),
            Some(Errno::NOENT)
        );
        let long = [b'x'; crate::base::limits::PATH_BYTES];
        assert_eq!(
            Place::find(&tree.root, &long, &mut |_| false).err(),
            Some(Errno::NAMETOOLONG)
        );
    }

    #[test]
    fn opens_the_found_directory_after_a_rename() {
        let tree = tree();
        let place = Place::find(&tree.root, b"d/e", &mut |_| false).unwrap();
        std::fs::rename(tree.path.join("d"), tree.path.join("f")).unwrap();
        tree.directory("d/e");
        let inside = place.open(&tree.root).unwrap();
        let expected = std::fs::metadata(tree.path.join("f/e")).unwrap().ino();
        assert_eq!(inode(&inside), expected);
    }

    #[test]
    fn statx_and_fdinfo_agree_on_the_mount() {
        let root = Root::open(c"/").unwrap();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for path in ["/proc", "/"] {
            let mut lines = table
                .lines()
                .map(|line| line.split(' ').collect::<Vec<_>>());
            let mounted = lines.rfind(|fields| fields[4] == path);
            let number = mounted.map(|fields| fields[0].parse().unwrap());
            let name = super::super::root::relative(path.as_bytes());
            let place = Place::find(&root, name, &mut |_| false).unwrap();
            assert_eq!(place.mount, number, "{path}");
            assert_eq!(place.mount_in_proc(&root), number, "{path}");
            assert!(place.is_mount_point, "{path}");
        }
    }
}
