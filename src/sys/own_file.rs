//! Files that the agent alone writes: the log of hooks, and the list of hooks that are to be thawed.
//!
//! Nothing else is taken for one of them: it is a regular file under one name, it belongs to this
//! process's user, and nobody else may write to it. So a file, a link or a FIFO that somebody put in
//! its place is an error, and never waited for.
//!
//! For children of the agent: on a file system that somebody else has frozen, making a file and
//! writing to one waits for the thaw.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, FlockOperation, OFlags, flock, fstat, ftruncate};
use rustix::io::Errno;

use super::mem::Buffer;
use super::root::Root;
use super::{clock, stream};
use crate::base::limits::{LOCK_POLL_MS, LOCK_WAIT_MS};

/// One of these files, open to be written at its end.
pub struct OwnFile(OwnedFd);

impl OwnFile {
    /// Opens a file to write, and makes it if it is not there.
    pub fn to_append(directory: &Root, name: &[u8]) -> Result<Self, Errno> {
        Self::with(directory, name, OFlags::WRONLY | OFlags::CREATE)
    }

    /// Opens a file in a directory to read and write, and takes its lock; `None` if there is none.
    ///
    /// The lock is held until this and all copies of the descriptor are closed, at the latest when
    /// the process ends.
    ///
    /// # Errors
    /// [`Errno::NOLCK`] if another process has the lock for long.
    pub fn find(directory: &Root, name: &[u8]) -> Result<Option<Self>, Errno> {
        let file = match Self::with(directory, name, OFlags::RDWR) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        for _ in 0..LOCK_WAIT_MS / LOCK_POLL_MS {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever had the lock may have removed the file.
                Ok(()) => return Ok((fstat(&file)?.st_nlink != 0).then_some(file)),
                Err(Errno::AGAIN) => clock::sleep_ms(LOCK_POLL_MS),
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::NOLCK)
    }

    /// Makes a file in a directory, to read and write, and takes its lock. [`Errno::EXIST`] if there
    /// is one.
    pub fn make(directory: &Root, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = Self::with(directory, name, flags)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    fn with(directory: &Root, name: &[u8], flags: OFlags) -> Result<Self, Errno> {
        let careful = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = directory.with_at(&[name], flags | careful | OFlags::APPEND, 0o600)?;
        let stat = fstat(&file)?;
        let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_mode & 0o022 == 0
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_nlink <= 1;
        if is_ours {
            Ok(Self(file))
        } else {
            Err(Errno::PERM)
        }
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        fstat(&self.0).map_or(0, |stat| stat.st_size.unsigned_abs())
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes all of `bytes` at its end.
    pub fn append(&self, bytes: &[u8]) -> Result<(), Errno> {
        stream::write_all(&self.0, bytes)
    }

    /// Appends all of it to `room`, once. [`Errno::FBIG`] if it does not fit.
    pub fn read(&self, room: &mut Buffer) -> Result<(), Errno> {
        room.read(&self.0)
    }

    /// Cuts it to `len` bytes.
    pub fn cut(&self, len: usize) -> Result<(), Errno> {
        ftruncate(&self.0, len as u64)
    }
}

/// A file as it is at one moment; another one as soon as it has been written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    bytes: i64,
    written_s: i64,
    /// Of the same width, but not of the same sign, under Miri.
    written_ns: [u8; 8],
}

impl Version {
    /// The version of what has this name now, if there is something. Never waits.
    pub fn of(directory: &Root, name: &[u8]) -> Option<Self> {
        let file = directory.place_at(&[name], OFlags::NOFOLLOW).ok()?;
        let stat = fstat(file).ok()?;
        Some(Self {
            bytes: stat.st_size,
            written_s: stat.st_mtime,
            written_ns: stat.st_mtime_nsec.to_ne_bytes(),
        })
    }
}

impl AsFd for OwnFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::store::Store;
    use crate::sys::testing::Directory;
    use rustix::fs::Mode;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    const NAME: &[u8] = b"list";

    #[test]
    fn a_list_is_written_at_its_end_and_cut() {
        let directory = Directory::new("own-list");
        let (path, root) = (&directory.path, &directory.root);
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
        assert_eq!(fs::read(path.join("list")).unwrap(), b"onethree");
        root.remove_at(&[NAME]).unwrap();
        assert!(OwnFile::find(root, NAME).unwrap().is_none());
    }

    #[test]
    fn a_file_that_was_written_to_is_another_version() {
        let directory = Directory::new("own-version");
        let version = || Version::of(&directory.root, NAME);
        assert_eq!(version(), None);
        let made = OwnFile::make(&directory.root, NAME).unwrap();
        let empty = version();
        assert!(empty.is_some() && empty == version());
        made.append(b"one").unwrap();
        assert_ne!(version(), empty);
        // Of the same length again, but later.
        std::thread::sleep(std::time::Duration::from_millis(20));
        made.cut(0).unwrap();
        assert!(version().is_some() && version() != empty);
    }

    #[test]
    fn what_others_may_have_put_there_is_refused() {
        let directory = Directory::new("own-refused");
        let (path, root) = (&directory.path, &directory.root);
        let file = path.join("list");
        let is_refused = || {
            let found = OwnFile::find(root, NAME).err();
            let appended = OwnFile::to_append(root, NAME).err();
            assert!(found.is_some() && appended.is_some());
            fs::remove_file(&file).unwrap();
        };
        symlink("/etc/passwd", &file).unwrap();
        is_refused();
        fs::write(path.join("other"), "").unwrap();
        fs::hard_link(path.join("other"), &file).unwrap();
        is_refused();
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o620)).unwrap();
        is_refused();
        rustix::fs::mknodat(root, c"list", FileType::Fifo, Mode::RUSR, 0).unwrap();
        is_refused();
        if rustix::process::geteuid().is_root() {
            fs::write(&file, "").unwrap();
            std::os::unix::fs::chown(&file, Some(1), None).unwrap();
            is_refused();
        }
        let made = OwnFile::to_append(root, NAME).unwrap();
        made.append(b"x").unwrap();
        root.rename(&[b"list"], &[b"other"]).unwrap();
        assert_eq!(fs::read(path.join("other")).unwrap(), b"x");
    }

    #[test]
    fn a_file_that_another_process_has_locked_is_waited_for() {
        let directory = Directory::new("own-locked");
        let root = directory.open();
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
        // Removed by whoever had it.
        let made = OwnFile::find(&root, NAME).unwrap().unwrap();
        let waiter = std::thread::spawn(move || OwnFile::find(&root, NAME).unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(200));
        fs::remove_file(directory.path.join("list")).unwrap();
        drop(made);
        assert!(waiter.join().unwrap());
    }
}
