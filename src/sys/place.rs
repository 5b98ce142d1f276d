//! What a path leads to, found without waiting, and proven before it is opened.
//!
//! Whoever may rename a directory on a path decides what the path leads to, at every moment anew: the
//! disk that was mounted there, another file system, a FIFO. So a path is first resolved to a
//! [`Place`], an O_PATH descriptor: nothing is opened, no link is followed. The kernel then says which
//! file system and which mount the place belongs to. Only after that it is opened, through the
//! descriptor, which nobody can divert.
//!
//! A path may also be diverted into a file system whose server never answers (FUSE, NFS). The path to
//! a mount point is always in the kernel's cache of names, because the mount holds it there:
//! openat2(2) with RESOLVE_CACHED finds it without asking any server. Where that fails, because the
//! name is not there (it was diverted), because it was renamed that very moment, or because a network
//! file system checks every name with its server, the path is walked name by name, and the caller says
//! which file systems may be asked.
//!
//! Kernels before 5.12 cannot look into the cache alone: there a server is waited for. Those before
//! 5.6 follow links in the middle of a path.

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

/// How often a name is looked up in the cache alone. It also fails while somebody renames what is on
/// the way, which does not last.
const CACHED_LOOKUPS: usize = 4;

/// `BTRFS_SUPER_MAGIC` of linux/magic.h.
const BTRFS: u64 = 0x9123_683E;

/// Whether the file system that a place lies on may be asked for a name, and waited for.
pub type MayAsk<'a> = &'a mut dyn FnMut(&Place) -> bool;

/// What a path led to.
pub struct Place {
    descriptor: OwnedFd,
    /// Major and minor number of the device that stat(2) gives for it. A subvolume of btrfs has
    /// numbers of its own, which are not those of the mount table.
    pub device: (u32, u32),
    /// Number of the mount that it belongs to, as in the first field of mountinfo. Kernels before
    /// 3.15 do not tell.
    pub mount: Option<u64>,
    /// Whether it is the directory or file that is mounted. Kernels before 5.8 do not tell.
    pub is_mount_point: bool,
    kind: FileType,
}

impl Place {
    /// Finds what is at a path, written from the root; links are not followed. A name that the kernel
    /// has not in its cache is asked for in the root's own mount, and in others if `may_ask` says so of
    /// the directory.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] if a file system would have to be asked that may not be.
    pub fn find(root: &Root, path: &[u8], may_ask: MayAsk<'_>) -> Result<Self, Errno> {
        match Self::find_cached(root, path) {
            Err(Errno::AGAIN) => walk(root, path, may_ask),
            done => done,
        }
    }

    /// As [`Place::find`], but asks no file system for a name.
    pub fn find_cached(root: &Root, path: &[u8]) -> Result<Self, Errno> {
        let path = Path::of(&[path]);
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let found = match look_up_cached(root.as_fd(), path) {
            // No such flag, no such call, or a container that does not allow it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => look_up(root.as_fd(), path),
            done => done,
        };
        Self::of(root, found?)
    }

    /// What a descriptor refers to.
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
                    kind: FileType::from_raw_mode(found.st_mode),
                }
            }
        };
        if place.mount.is_none() {
            place.mount = place.mount_in_proc(root);
        }
        Ok(place)
    }

    /// The number of the mount as /proc/self/fdinfo has it.
    fn mount_in_proc(&self, root: &Root) -> Option<u64> {
        let mut buffer = [0; 256];
        let name = self.number();
        let info = root.read_at(&[b"proc/self/fdinfo/", name.as_bytes()], &mut buffer);
        value_of_key(info.ok()?, b"mnt_id").and_then(parse_u64)
    }

    pub(super) fn number(&self) -> Digits {
        Digits::signed(self.descriptor.as_raw_fd().into())
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Whether it lies on btrfs.
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
            // Through a link that leads to the same file whatever has its name by now.
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

/// Major and minor number of a device.
fn numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

const FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const RESOLVE: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// Looks a path up without asking the server of any file system.
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

/// Looks a path up, waiting where need be.
fn look_up(directory: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    match openat2(directory, path, FLAGS, Mode::empty(), RESOLVE) {
        Err(Errno::NOSYS | Errno::PERM) => openat(directory, path, FLAGS, Mode::empty()),
        done => done,
    }
}

/// Looks a path up name by name, as [`Place::find`] does.
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

/// Which file or directory was opened.
#[cfg(test)]
pub(crate) fn inode(opened: &OwnedFd) -> u64 {
    fstat(opened).unwrap().st_ino
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn tree(name: &str) -> (std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-place-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("d/e")).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        (path, root)
    }

    #[test]
    fn a_place_is_known_before_it_is_opened() {
        let (path, root) = tree("known");
        std::fs::write(path.join("d/file"), "").unwrap();
        rustix::fs::mknodat(root.as_fd(), c"d/fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
        let device = std::fs::metadata(&path).unwrap().dev();
        for (name, is_directory) in [
            ("d", true),
            (".", true),
            ("d/file", false),
            ("d/fifo", false),
        ] {
            let place = Place::find(&root, name.as_bytes(), &mut |_| false).unwrap();
            assert_eq!(place.device, numbers(device), "{name}");
            assert_eq!(place.is_directory(), is_directory, "{name}");
        }
        let machine = Root::open(c"/").unwrap();
        let inside = |name: &[u8]| {
            Place::find(&root, name, &mut |_| false)
                .unwrap()
                .open(&machine)
        };
        assert!(inside(b"d").is_ok() && inside(b"d/file").is_ok());
        assert_eq!(inside(b"d/fifo").err(), Some(Errno::NOTDIR));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_walk_by_names_comes_to_the_same_place() {
        let (path, root) = tree("walk");
        symlink("d", path.join("link")).unwrap();
        let inode_at = |found: Place| inode(&found.descriptor);
        for (name, same) in [("d/e", "d/e"), ("d//e/", "d/e"), ("", "."), ("d", "d")] {
            let expected = std::fs::metadata(path.join(same)).unwrap().ino();
            let found = walk(&root, name.as_bytes(), &mut |_| false).map(inode_at);
            assert_eq!(found, Ok(expected), "{name}");
        }
        assert_eq!(
            walk(&root, b"d/none", &mut |_| false).err(),
            Some(Errno::NOENT)
        );
        assert!(walk(&root, b"link/e", &mut |_| false).is_err());
        // What the kernel has never heard of is not in its cache, but may be asked for here.
        let name = CString::new(format!("new-{}", std::process::id())).unwrap();
        let cached = look_up_cached(root.as_fd(), &name).err();
        assert!(
            matches!(cached, Some(Errno::AGAIN | Errno::INVAL | Errno::NOSYS)),
            "{cached:?}"
        );
        assert_eq!(
            Place::find(&root, name.to_bytes(), &mut |_| false).err(),
            Some(Errno::NOENT)
        );
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn links_lead_nowhere() {
        let (path, root) = tree("links");
        symlink("d", path.join("link")).unwrap();
        assert_eq!(
            Place::find(&root, b"link/e", &mut |_| false).err(),
            Some(Errno::LOOP)
        );
        // The link itself, which cannot be opened.
        let link = Place::find(&root, b"link", &mut |_| false).unwrap();
        assert_eq!(link.open(&root).err(), Some(Errno::NOTDIR));
        assert_eq!(
            Place::find(&root, b"none", &mut |_| false).err(),
            Some(Errno::NOENT)
        );
        let long = [b'x'; crate::base::limits::PATH_BYTES];
        assert_eq!(
            Place::find(&root, &long, &mut |_| false).err(),
            Some(Errno::NAMETOOLONG)
        );
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_renamed_directory_is_still_the_one_that_was_found() {
        let (path, root) = tree("renamed");
        let place = Place::find(&root, b"d/e", &mut |_| false).unwrap();
        std::fs::rename(path.join("d"), path.join("f")).unwrap();
        std::fs::create_dir_all(path.join("d/e")).unwrap();
        let inside = place.open(&root).unwrap();
        let expected = std::fs::metadata(path.join("f/e")).unwrap().ino();
        assert_eq!(inode(&inside), expected);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn both_ways_to_know_the_mount_agree() {
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
