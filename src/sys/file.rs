//! Whole files, locked and replaced in one step.
//!
//! Replaced means: written under another name in the same directory, with owner, mode and SELinux
//! label, brought to the disk, and renamed. Whoever looks, and whatever comes of a power cut, sees
//! the old file or the new one. What an interrupted run has left under that other name is removed by
//! the next. Of extended attributes the label alone is kept, no access control lists.
//!
//! The lock files are those of shadow-utils: `NAME.lock`, made by linking a file that holds the
//! owner's process number and a NUL. One whose owner has ended is removed; so is one from before the
//! guest started, whoever has that number by now.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{FlockOperation, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::root::{Root, relative};
use super::stream;
use super::{clock, process, raw};
use crate::base::limits::{LOCK_POLL_MS, LOCK_WAIT_MS};
use crate::base::path::Path;
use crate::base::text::{Digits, parse_u32};

/// Appended to a name while what will bear it is not finished.
const UNFINISHED: &[u8] = b".gaunt";
/// Appended to a name for its lock file.
const LOCK: &[u8] = b".lock";

/// Whose a file is, and who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The permissions.
    pub mode: u32,
}

/// Whose an open file is.
#[inline(never)]
pub fn owner(file: &OwnedFd) -> Result<Owner, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok(Owner {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode,
    })
}

/// Tries until something else than [`Errno::AGAIN`] comes of it, or until it has taken too long,
/// which is [`Errno::NOLCK`].
#[inline(never)]
fn patiently(attempt: &mut dyn FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    for _ in 0..LOCK_WAIT_MS / LOCK_POLL_MS {
        match attempt() {
            Err(Errno::AGAIN) => clock::sleep_ms(LOCK_POLL_MS),
            done => return done,
        }
    }
    Err(Errno::NOLCK)
}

impl Root {
    /// Opens a directory, written from the root, whose files then go by their names in it.
    #[inline(never)]
    pub fn enter(&self, path: &[u8]) -> Result<Self, Errno> {
        self.directory(&Path::of(&[relative(path)]))
    }

    /// Makes a directory, written from the root, that is its owner's alone.
    #[inline(never)]
    pub fn make_private(&self, path: &[u8]) -> Result<(), Errno> {
        self.new_directory(&Path::of(&[relative(path)]), 0o700)
    }

    /// Opens a file of this directory to read, never waiting on it.
    #[inline(never)]
    pub fn look(&self, name: &[u8], links: Links) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let links = match links {
            Links::Follow => OFlags::empty(),
            Links::Refuse => OFlags::NOFOLLOW,
        };
        self.open_as(&[name], flags | links)
    }

    fn open_as(&self, pieces: &[&[u8]], flags: OFlags) -> Result<OwnedFd, Errno> {
        self.with(&Path::of(pieces), flags | OFlags::CLOEXEC, 0o600)
    }

    /// Takes the lock of fcntl(2) on a file of this directory, which is made if there is none, until
    /// it is closed.
    pub fn lock_record(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
        let file = self.open_as(&[name], flags)?;
        let lock = FlockOperation::NonBlockingLockExclusive;
        patiently(&mut || rustix::fs::fcntl_lock(&file, lock))?;
        Ok(file)
    }

    /// Takes the lock of flock(2) on the directory, until this is dropped.
    pub fn lock(&self) -> Result<(), Errno> {
        let lock = FlockOperation::NonBlockingLockExclusive;
        patiently(&mut || rustix::fs::flock(self, lock))
    }

    /// Makes the lock file of `name`.
    #[inline(never)]
    pub fn lock_file(&self, name: &[u8]) -> Result<(), Errno> {
        let digits = Digits::unsigned(process::own_pid().cast_unsigned().into());
        patiently(&mut || {
            let made = self.make(name, &[digits.as_bytes(), b"\0"]);
            let linked = made.and_then(|_| self.place(libc::SYS_linkat, name, LOCK));
            self.drop_name(name, UNFINISHED);
            match linked {
                Err(Errno::EXIST) => {
                    if self.is_stale(name) == Ok(true) {
                        self.unlock_file(name);
                    }
                    Err(Errno::AGAIN)
                }
                other => other,
            }
        })
    }

    /// Removes the lock file of `name`.
    pub fn unlock_file(&self, name: &[u8]) {
        self.drop_name(name, LOCK);
    }

    /// Whether nobody holds a lock file any more. One that is empty or strange is somebody's.
    fn is_stale(&self, name: &[u8]) -> Result<bool, Errno> {
        let mut content = [0; 16];
        let file = self.open_as(&[name, LOCK], OFlags::RDONLY | OFlags::NONBLOCK)?;
        let made_s = rustix::fs::fstat(&file)?.st_ctime;
        let _ = stream::read(&file, &mut content);
        let holder = content.split(|byte| *byte == 0).next().and_then(parse_u32);
        let holder = holder.unwrap_or(1).cast_signed();
        let start_ms = clock::realtime_ns() / 1_000_000 - clock::boottime_ms().cast_signed();
        Ok(made_s < start_ms / 1000 - 1
            || holder == process::own_pid()
            || process::kill(holder, 0) == Err(Errno::SRCH))
    }

    /// Replaces the file `name` of this directory, or makes it, with the label of `old`.
    #[inline(never)]
    pub fn replace(
        &self,
        name: &[u8],
        content: &[u8],
        owner: Owner,
        old: Option<&OwnedFd>,
    ) -> Result<(), Errno> {
        let done = self
            .make(name, &[content])
            .and_then(|file| finish(&file, owner, old))
            .and_then(|()| self.place(libc::SYS_renameat2, name, b""));
        if done.is_err() {
            self.drop_name(name, UNFINISHED);
            return done;
        }
        match rustix::fs::fsync(self) {
            // Not every file system knows how to with a directory.
            Err(Errno::INVAL) => Ok(()),
            other => other,
        }
    }

    /// Makes what is to become `name`, of these pieces.
    #[inline(never)]
    fn make(&self, name: &[u8], pieces: &[&[u8]]) -> Result<OwnedFd, Errno> {
        self.drop_name(name, UNFINISHED);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = self.open_as(&[name, UNFINISHED], flags)?;
        for piece in pieces {
            stream::write_all(&file, piece)?;
        }
        Ok(file)
    }

    /// Removes a file, if it is there.
    #[inline(never)]
    fn drop_name(&self, name: &[u8], end: &[u8]) {
        let _ = self.remove(&Path::of(&[name, end]));
    }

    /// Has `name` with this end stand for what was made, by linkat(2) or renameat2(2).
    #[inline(never)]
    fn place(&self, call: libc::c_long, name: &[u8], end: &[u8]) -> Result<(), Errno> {
        let (from, to) = (Path::of(&[name, UNFINISHED]), Path::of(&[name, end]));
        let (Some(from), Some(to)) = (from.as_c_str(), to.as_c_str()) else {
            return Err(Errno::NAMETOOLONG);
        };
        let here = self.as_fd().as_raw_fd() as usize;
        let [from, to] = [from, to].map(|path| path.as_ptr().expose_provenance());
        // SAFETY: both calls take two pairs of a directory and a string that ends in NUL, which
        // outlive the call, and flags, of which there are none.
        unsafe { raw::call(call, [here, from, here, to, 0]) }.map(|_| ())
    }
}

/// What becomes of a name that is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It stands for what it points to.
    Follow,
    /// It is [`Errno::LOOP`].
    Refuse,
}

/// Gives a new file what it needs besides its content, and brings it to the disk.
#[inline(never)]
fn finish(file: &OwnedFd, owner: Owner, old: Option<&OwnedFd>) -> Result<(), Errno> {
    const LABEL: &core::ffi::CStr = c"security.selinux";
    rustix::fs::fchown(
        file,
        Some(Uid::from_raw(owner.uid)),
        Some(Gid::from_raw(owner.gid)),
    )?;
    // After the owner, with whose change bits of the mode go.
    rustix::fs::fchmod(file, Mode::from_raw_mode(owner.mode))?;
    let mut label = [0u8; 256];
    if let Some(old) = old
        && let Ok(len) = rustix::fs::fgetxattr(old, LABEL, &mut label[..])
    {
        let label = label.get(..len).unwrap_or_default();
        rustix::fs::fsetxattr(file, LABEL, label, XattrFlags::empty())?;
    }
    rustix::fs::fsync(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn directory(name: &str) -> (std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-file-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        let entered = root.enter(b"/").unwrap();
        (path, entered)
    }

    fn names(path: &std::path::Path) -> Vec<String> {
        let names = fs::read_dir(path).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_with_its_owner_mode_and_label() {
        let (path, root) = directory("replace");
        fs::write(path.join("x"), "old").unwrap();
        // Left behind by a run that was interrupted.
        fs::write(path.join("x.gaunt"), "half").unwrap();
        fs::set_permissions(path.join("x"), fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(path.join("x")).unwrap();
        let old = root.look(b"x", Links::Refuse).unwrap();
        let label = b"system_u:object_r:shadow_t:s0\0";
        let may = XattrFlags::empty();
        let labelled = rustix::fs::fsetxattr(&old, c"security.selinux", label, may);
        root.replace(b"x", b"new", owner(&old).unwrap(), Some(&old))
            .unwrap();
        let after = fs::metadata(path.join("x")).unwrap();
        assert_eq!(fs::read(path.join("x")).unwrap(), b"new");
        assert_ne!(before.ino(), after.ino());
        let facts = |data: &fs::Metadata| (data.mode(), data.uid(), data.gid());
        assert_eq!(facts(&before), facts(&after));
        assert_eq!(names(&path), ["x"]);
        // Only root may give labels, and only some file systems keep them.
        match labelled {
            Err(errno) => eprintln!("label untested: {errno}"),
            Ok(()) => {
                let mut kept = [0; 64];
                let new = root.look(b"x", Links::Refuse).unwrap();
                let len = rustix::fs::fgetxattr(&new, c"security.selinux", &mut kept[..]);
                assert_eq!(&kept[..len.unwrap()], label);
            }
        }
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn links_are_refused_where_they_must_be() {
        let (path, root) = directory("links");
        fs::write(path.join("x"), "x").unwrap();
        symlink("x", path.join("y")).unwrap();
        assert_eq!(root.look(b"y", Links::Refuse).err(), Some(Errno::LOOP));
        assert!(root.look(b"y", Links::Follow).is_ok());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn lock_files_are_held_and_taken_over() {
        let (path, root) = directory("locks");
        let lock = path.join("x.lock");
        root.lock_file(b"x").unwrap();
        let content = format!("{}\0", std::process::id());
        assert_eq!(fs::read_to_string(&lock).unwrap(), content);
        assert_eq!(names(&path), ["x.lock"]);
        root.unlock_file(b"x");
        // Of a process that has ended.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        fs::write(&lock, format!("{}\0", child.id())).unwrap();
        root.lock_file(b"x").unwrap();
        assert_eq!(fs::read_to_string(&lock).unwrap(), content);
        // Of one that lives, or nobody's; neither goes by itself.
        for held in ["1\0", "", "x\0"] {
            fs::write(&lock, held).unwrap();
            assert_eq!(root.lock_file(b"x"), Err(Errno::NOLCK), "{held:?}");
            assert_eq!(fs::read_to_string(&lock).unwrap(), held);
        }
        assert_eq!(names(&path), ["x.lock"]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_lock_of_a_directory_is_waited_for_in_vain() {
        let (path, root) = directory("flock");
        let again = root.enter(b".").unwrap();
        root.lock().unwrap();
        assert_eq!(again.lock(), Err(Errno::NOLCK));
        drop(root);
        assert_eq!(again.lock(), Ok(()));
        fs::remove_dir_all(path).unwrap();
    }
}
