//! Files that only the agent writes: the log of hooks, the list of hooks that need their thaw, the
//! marker of a freeze while it is locked, and the pid file.
//!
//! Such a file is a regular file with one name. It belongs to the user of this process, and no
//! other user may write to it. A file, link or FIFO that another user has put in its place is
//! [`Errno::PERM`] or [`Errno::LOOP`], and never waited for.
//!
//! The event loop must not make or write such a file: on a file system that another program has
//! frozen, that waits for the thaw. [`Version::of`] never waits.

use crate::base::limits::{LOCK_POLL_MS, LOCK_WAIT_MS};
use crate::sys::mem::Buffer;
use crate::sys::root::{OpenOptions, Root};
use crate::sys::status::{FileType, Status};
use crate::sys::{Errno, OwnedFd, clock, file, identity, stream};

/// Such a file, open to be written at its end.
pub struct OwnFile(OwnedFd);

impl OwnFile {
    /// Opens a file to write, and makes it if it is missing.
    pub fn to_append(directory: &Root, name: &[u8]) -> Result<Self, Errno> {
        Self::open(directory, name, OpenOptions::WRITE.create())
    }

    /// Opens a file to read and write, and takes its lock; `None` if the file is missing.
    ///
    /// The lock is held until this and all copies of the descriptor are closed, at the latest when
    /// the process ends.
    ///
    /// # Errors
    /// [`Errno::NOLCK`] if another process holds the lock for [`LOCK_WAIT_MS`].
    pub fn find(directory: &Root, name: &[u8]) -> Result<Option<Self>, Errno> {
        Self::find_within(directory, name, LOCK_WAIT_MS)
    }

    /// As [`OwnFile::find`], but waits `limit_ms` for the lock.
    pub fn find_within(
        directory: &Root,
        name: &[u8],
        limit_ms: u32,
    ) -> Result<Option<Self>, Errno> {
        let own = match Self::open(directory, name, OpenOptions::READ_WRITE) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        let mut waited_ms = 0;
        loop {
            match file::lock(&own.0) {
                // The process that held the lock may have removed the file.
                Ok(()) => return Ok((Status::of(&own.0)?.links != 0).then_some(own)),
                Err(Errno::AGAIN) if waited_ms < limit_ms => {
                    clock::sleep_ms(LOCK_POLL_MS);
                    waited_ms += LOCK_POLL_MS;
                }
                Err(Errno::AGAIN) => return Err(Errno::NOLCK),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Makes a file to read and write, and takes its lock. [`Errno::EXIST`] if the name is taken.
    pub fn make(directory: &Root, name: &[u8]) -> Result<Self, Errno> {
        let own = Self::open(directory, name, OpenOptions::READ_WRITE.create_new())?;
        file::lock(&own.0)?;
        Ok(own)
    }

    /// Opens a file to read and write, makes it if it is missing, and takes the lock that qemu-ga
    /// takes too.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] if another process holds the lock, or has just removed the file.
    pub(super) fn hold(directory: &Root, name: &[u8]) -> Result<Self, Errno> {
        // A device must not be opened.
        Self::check(directory, name)?;
        let own = Self::open(directory, name, OpenOptions::READ_WRITE.create())?;
        file::lock_description(&own.0)?;
        match Status::of(&own.0)?.links {
            0 => Err(Errno::AGAIN),
            _ => Ok(own),
        }
    }

    /// Whether [`OwnFile::hold`] could have this name, unless another process holds it. Opens and makes
    /// nothing.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub fn check(directory: &Root, name: &[u8]) -> Result<(), Errno> {
        let found = Status::of_name(directory, &[name]);
        let status = match &found {
            // An empty name cannot be made.
            Err(Errno::NOENT) if !name.is_empty() => return directory.may_write(&[b"."]),
            found => found.as_ref().map_err(|errno| *errno)?,
        };
        match status.kind {
            FileType::Symlink => return Err(Errno::LOOP),
            FileType::Directory => return Err(Errno::ISDIR),
            _ => directory.may_open(&[name])?,
        }
        check_own(status)?;
        match directory.is_fixed(name) {
            // It is cut to no bytes.
            true => Err(Errno::PERM),
            false => Ok(()),
        }
    }

    fn open(directory: &Root, name: &[u8], options: OpenOptions) -> Result<Self, Errno> {
        let file = directory.open_private(name, options.append())?;
        check_own(&Status::of(&file)?)?;
        Ok(Self(file))
    }

    /// Whether this name in a directory is that of this file.
    pub(super) fn has_name(&self, directory: &Root, name: &[u8]) -> bool {
        let named = Status::of_name(directory, &[name]);
        let own = Status::of(&self.0);
        matches!((&named, &own), (Ok(named), Ok(own)) if named.is_same_file(own))
    }

    /// Its length in bytes; 0 if that is not known.
    pub fn len(&self) -> u64 {
        Status::of(&self.0).map_or(0, |status| status.bytes.unsigned_abs())
    }

    /// Writes all of `bytes` at its end.
    pub fn append(&self, bytes: &[u8]) -> Result<(), Errno> {
        stream::write_all(&self.0, bytes)
    }

    /// Appends its content, from the position of the descriptor on, to `room`. [`Errno::FBIG`] if
    /// that does not fit.
    pub fn read(&self, room: &mut Buffer) -> Result<(), Errno> {
        room.read(&self.0)
    }

    /// Cuts it to `len` bytes.
    pub fn cut(&self, len: usize) -> Result<(), Errno> {
        file::truncate(&self.0, len as u64)
    }
}

/// Whether a file is as this process makes it: [`Errno::PERM`] if not.
fn check_own(status: &Status) -> Result<(), Errno> {
    let is_own = status.kind == FileType::RegularFile
        && status.mode & 0o022 == 0
        && status.owner == identity::effective_user()
        && status.links <= 1;
    is_own.then_some(()).ok_or(Errno::PERM)
}

/// Whether users other than root and the agent's own may make and rename files in a directory.
pub(super) fn is_shared(directory: &Root) -> bool {
    let status = Status::of(directory);
    status.is_ok_and(|status| !is_trusted(status.owner) || status.mode & 0o022 != 0)
}

/// Whether a user is root, or the user that the agent runs as.
pub(super) fn is_trusted(user: u32) -> bool {
    user == 0 || user == identity::effective_user()
}

/// Length and time of a file; they differ as soon as the file has been written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    bytes: i64,
    modified: (i64, u64),
}

impl Version {
    /// The version of the file that has this name now; `None` if there is none. Never waits.
    pub fn of(directory: &Root, name: &[u8]) -> Option<Self> {
        let status = Status::of_name(directory, &[name]).ok()?;
        Some(Self {
            bytes: status.bytes,
            modified: status.modified,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sink::ByteSink;
    use crate::sys::testing::Tree;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const NAME: &[u8] = b"list";

    #[test]
    fn appends_and_cuts() {
        let tree = Tree::new();
        let root = &tree.root;
        assert!(OwnFile::find(root, NAME).unwrap().is_none());
        let made = OwnFile::make(root, NAME).unwrap();
        assert_eq!(OwnFile::make(root, NAME).err(), Some(Errno::EXIST));
        made.append(b"one").unwrap();
        made.append(b"two").unwrap();
        made.cut(4).unwrap();
        assert_eq!(made.len(), 4);
        drop(made);
        let found = OwnFile::find(root, NAME).unwrap().unwrap();
        let mut room = Buffer::growing(5);
        found.read(&mut room).unwrap();
        assert_eq!(room.bytes(), b"onet");
        found.append(b"hree").unwrap();
        assert_eq!(fs::read(tree.path.join("list")).unwrap(), b"onethree");
        root.remove_at(&[NAME]).unwrap();
        assert!(OwnFile::find(root, NAME).unwrap().is_none());
    }

    #[test]
    fn the_version_changes_with_each_write() {
        let tree = Tree::new();
        let version = || Version::of(&tree.root, NAME);
        assert_eq!(version(), None);
        let made = OwnFile::make(&tree.root, NAME).unwrap();
        let empty = version();
        assert!(empty.is_some() && empty == version());
        made.append(b"one").unwrap();
        assert_ne!(version(), empty);
        // The same length as before, but later, once the clock of the file system has gone on.
        let is_later = (0..10_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            made.append(b"one").unwrap();
            made.cut(0).unwrap();
            version().is_some() && version() != empty
        });
        assert!(is_later);
    }

    #[test]
    fn refuses_files_that_others_may_have_made() {
        let tree = Tree::new();
        let root = &tree.root;
        let file = tree.path.join("list");
        let is_refused = || {
            let found = OwnFile::find(root, NAME).err();
            let appended = OwnFile::to_append(root, NAME).err();
            assert!(found.is_some() && appended.is_some());
            fs::remove_file(&file).unwrap();
        };
        tree.link("list", "/etc/passwd");
        is_refused();
        let other = tree.file("other", "");
        fs::hard_link(&other, &file).unwrap();
        is_refused();
        tree.file("list", "");
        fs::set_permissions(&file, Permissions::from_mode(0o620)).unwrap();
        is_refused();
        tree.fifo(c"list");
        is_refused();
        if identity::is_root() {
            tree.file("list", "");
            std::os::unix::fs::chown(&file, Some(1), None).unwrap();
            is_refused();
        }
        let made = OwnFile::to_append(root, NAME).unwrap();
        made.append(b"x").unwrap();
        root.rename(&[b"list"], &[b"other"]).unwrap();
        assert_eq!(fs::read(other).unwrap(), b"x");
    }

    #[test]
    fn waits_for_a_locked_file() {
        let tree = Tree::new();
        let root = tree.open();
        let made = OwnFile::make(&root, NAME).unwrap();
        let waiter = std::thread::spawn(move || {
            let found = OwnFile::find(&root, NAME);
            (root, found)
        });
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!waiter.is_finished());
        drop(made);
        let (root, found) = waiter.join().unwrap();
        assert!(found.unwrap().is_some());
        // The holder of the lock removes the file.
        let made = OwnFile::find(&root, NAME).unwrap().unwrap();
        let waiter = std::thread::spawn(move || OwnFile::find(&root, NAME).unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(200));
        fs::remove_file(tree.path.join("list")).unwrap();
        drop(made);
        assert!(waiter.join().unwrap());
    }
}
