//! Facts about a file without opening it for reading: fstat(2).

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, OFlags, Stat, fstat, major, minor, statat};
use rustix::io::Errno;

use super::root::Root;

pub use rustix::fs::FileType;

/// The facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The type of the file.
    pub kind: FileType,
    /// Permissions, with the set-user-ID, set-group-ID and sticky bits.
    pub mode: u32,
    /// The user that the file belongs to.
    pub owner: u32,
    /// The number of names of the file.
    pub links: u64,
    /// The length in bytes.
    pub bytes: i64,
    /// The number of the device that the file is on.
    pub device: u64,
    /// The number of the file on that device.
    pub inode: u64,
    /// The major and minor number of a device node.
    pub number: (u32, u32),
    /// When the content last changed: seconds since 1970, and nanoseconds.
    pub modified: (i64, u64),
}

impl Status {
    /// The facts about an open file. Never waits.
    pub fn of(file: impl AsFd) -> Result<Self, Errno> {
        Self::of_fd(file.as_fd())
    }

    // Not generic, to keep one copy of the code.
    fn of_fd(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        fstat(file).map(|stat| Self::from_stat(&stat))
    }

    /// The facts about the file at a path of this process; symbolic links are followed.
    pub fn at_path(path: &CStr) -> Result<Self, Errno> {
        statat(CWD, path, AtFlags::empty()).map(|stat| Self::from_stat(&stat))
    }

    /// The facts about the file that a name below `root` leads to; symbolic links are followed.
    pub fn at(root: &Root, name: &[&[u8]]) -> Result<Self, Errno> {
        Self::of(&root.place_at(name, OFlags::empty())?)
    }

    /// The facts about the file of this name below `root`; of a symbolic link, not of its target.
    pub fn of_name(root: &Root, name: &[&[u8]]) -> Result<Self, Errno> {
        Self::of(&root.locate(name)?)
    }

    // The types of some members differ between machines, and in Miri.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    fn from_stat(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            owner: stat.st_uid,
            links: stat.st_nlink.into(),
            bytes: stat.st_size,
            device: stat.st_dev,
            inode: stat.st_ino,
            number: (major(stat.st_rdev), minor(stat.st_rdev)),
            modified: (stat.st_mtime, stat.st_mtime_nsec as u64),
        }
    }

    /// Whether both are facts about the same file, by whatever name.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether it is neither a regular file nor a directory, but a pipe, socket or device.
    pub fn is_special(&self) -> bool {
        !matches!(self.kind, FileType::RegularFile | FileType::Directory)
    }

    /// Whether root may execute it: it is a regular file that somebody may execute.
    pub fn is_program(&self) -> bool {
        self.kind == FileType::RegularFile && self.mode & 0o111 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn only_an_executable_file_is_a_program() {
        let found = Status::at_path(c"/proc/version").unwrap();
        for (kind, mode, is_program) in [
            (FileType::RegularFile, 0o755, true),
            (FileType::RegularFile, 0o001, true),
            (FileType::RegularFile, 0o644, false),
            (FileType::Directory, 0o755, false),
            (FileType::Symlink, 0o777, false),
            (FileType::Fifo, 0o777, false),
        ] {
            let status = Status {
                kind,
                mode,
                ..found
            };
            assert_eq!(status.is_program(), is_program, "{kind:?} {mode:o}");
        }
    }

    #[test]
    fn a_file_is_the_same_under_every_name() {
        let tree = Tree::of(&[("file", ""), ("other", ""), ("link", "-> file")]);
        let at = |name: &[u8]| Status::at(&tree.root, &[name]).unwrap();
        assert!(at(b"link").is_same_file(&at(b"file")));
        assert!(!at(b"other").is_same_file(&at(b"file")));
        assert_eq!(Status::at(&tree.root, &[b"none"]), Err(Errno::NOENT));
        let link = Status::of_name(&tree.root, &[b"link"]).unwrap();
        assert_eq!((link.kind, link.bytes), (FileType::Symlink, 4));
    }
}
