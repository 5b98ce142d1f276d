//! Whole files, locked and replaced in one step.
//!
//! Replaced means: written under another name in the same directory, with owner, mode and SELinux
//! label, brought to the disk, and renamed. Whoever looks, and whatever comes of a power cut, sees
//! the old file or the new one. What an interrupted run has left under that other name is removed by
//! the next. Of extended attributes the label alone is kept, no access control lists.
//!
//! The lock files are those of shadow-utils: `.pwd.lock`, locked as by lckpwdf(3), and `NAME.lock`,
//! made by linking a file that holds the owner's process number. One whose owner has ended is
//! removed; one whose owner's number went to another process, as may be after a power cut, is not:
//! as with shadow-utils somebody has to remove it.
//!
//! All of it is for children of the agent, which leave open what they opened until they end.
#![allow(unsafe_code)]

use core::ffi::CStr;
use core::mem::ManuallyDrop;

use linux_raw_sys::general::PROC_SUPER_MAGIC;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::mem::Buffer;
use super::root::{Root, relative};
use super::stream;
use super::{clock, process, raw};
use crate::base::limits::{LOCK_POLL_MS, LOCK_WAIT_MS};
use crate::base::path::Path;
use crate::base::text::{Digits, parse_u32};

/// The name of what is not finished.
const UNFINISHED: &CStr = c".gaunt";

impl Root {
    /// Opens a directory, written from the root, whose files then go by their names in it.
    pub fn enter(&self, path: &[u8], links: Links) -> Result<Self, Errno> {
        let path = Path::of(&[relative(path)]);
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let entered = self.named(path, OFlags::DIRECTORY, links)?;
        Ok(Self::from(ManuallyDrop::into_inner(entered)))
    }

    /// The owner of what is at this path.
    pub fn owner(&self, path: &[u8]) -> Result<u32, Errno> {
        let found = self.place_at(&[path], OFlags::empty())?;
        Ok(rustix::fs::fstat(found)?.st_uid)
    }

    /// Appends a file of this directory to `room`.
    #[inline(never)]
    pub fn read_named(
        &self,
        name: &CStr,
        links: Links,
        room: &mut Buffer,
    ) -> Result<ManuallyDrop<OwnedFd>, Errno> {
        let opened = self.look(name, links);
        if let Ok(file) = &opened {
            room.read(file)?;
        }
        opened
    }

    /// Opens a file of this directory to read, never waiting on it.
    #[inline(never)]
    pub fn look(&self, name: &CStr, links: Links) -> Result<ManuallyDrop<OwnedFd>, Errno> {
        self.named(name, OFlags::RDONLY, links)
    }

    #[inline(never)]
    fn named(
        &self,
        name: &CStr,
        flags: OFlags,
        links: Links,
    ) -> Result<ManuallyDrop<OwnedFd>, Errno> {
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let flags = match links {
            Links::Refuse => flags | OFlags::NOFOLLOW,
            Links::Follow => flags,
            Links::NotMagic => return self.without_magic(name, flags).map(ManuallyDrop::new),
        };
        let file = rustix::fs::openat(self, name, flags, Mode::RUSR | Mode::WUSR);
        file.map(ManuallyDrop::new)
    }

    /// Opens for [`Links::NotMagic`].
    fn without_magic(&self, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let file = match rustix::fs::openat2(self, name, flags, Mode::empty(), resolve) {
            // Before Linux 5.6, and where a filter of system calls knows no such call. The process has
            // closed whatever such a link could lead to.
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(self, name, flags, Mode::empty()),
            opened => opened,
        }?;
        // /proc/self is an ordinary link, and what is below it is about this process.
        match rustix::fs::fstatfs(&file)?.f_type as u32 {
            PROC_SUPER_MAGIC => Err(Errno::LOOP),
            _ => Ok(file),
        }
    }

    /// Takes the lock of flock(2) on the directory, until this process ends; [`Errno::AGAIN`] if
    /// somebody has it.
    pub fn lock(&self) -> Result<(), Errno> {
        rustix::fs::flock(self, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the locks of shadow-utils: that on all accounts, until this process ends, and the file
    /// `lock`. [`Errno::NOLCK`] if that takes too long.
    #[inline(never)]
    pub fn lock_accounts(&self, lock: &CStr) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let all = self.named(c".pwd.lock", flags, Links::Refuse)?;
        for _ in 0..LOCK_WAIT_MS / LOCK_POLL_MS {
            let locked = rustix::fs::fcntl_lock(&*all, FlockOperation::NonBlockingLockExclusive);
            match locked.and_then(|()| self.hold(lock)) {
                Err(Errno::AGAIN) => {}
                Err(Errno::EXIST) if self.is_stale(lock) => self.remove_named(lock),
                Err(Errno::EXIST) => {}
                done => return done,
            }
            clock::sleep_ms(LOCK_POLL_MS);
        }
        Err(Errno::NOLCK)
    }

    fn hold(&self, lock: &CStr) -> Result<(), Errno> {
        let digits = Digits::unsigned(process::own_pid().cast_unsigned().into());
        let made = self.make(digits.as_bytes());
        let linked =
            made.and_then(|_| rustix::fs::linkat(self, UNFINISHED, self, lock, AtFlags::empty()));
        self.remove_named(UNFINISHED);
        linked
    }

    /// Whether nobody holds a lock file any more. One that is empty or strange is somebody's.
    fn is_stale(&self, lock: &CStr) -> bool {
        let mut content = [0; 16];
        if let Ok(file) = self.look(lock, Links::Follow) {
            let _ = stream::read(&*file, &mut content);
        }
        // Others end the number with a NUL.
        let end = content
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or_default();
        content
            .get(..end)
            .and_then(parse_u32)
            .is_some_and(|holder| {
                let holder = holder.cast_signed();
                holder == process::own_pid() || process::kill(holder, 0) == Err(Errno::SRCH)
            })
    }

    /// Replaces the file `name` of this directory, or makes it; with owner, mode and label of `old`.
    #[inline(never)]
    pub fn replace(&self, name: &CStr, content: &[u8], old: Option<&OwnedFd>) -> Result<(), Errno> {
        let done = self.make(content).and_then(|file| {
            if let Some(old) = old {
                keep(&file, old)?;
            }
            rustix::fs::fsync(&*file)?;
            rustix::fs::renameat(self, UNFINISHED, self, name)
        });
        self.remove_named(UNFINISHED);
        done?;
        match rustix::fs::fsync(self) {
            // Not every file system knows how to with a directory.
            Err(Errno::INVAL) => Ok(()),
            other => other,
        }
    }

    /// Makes what is not finished.
    #[inline(never)]
    fn make(&self, content: &[u8]) -> Result<ManuallyDrop<OwnedFd>, Errno> {
        self.remove_named(UNFINISHED);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let made = self.named(UNFINISHED, flags, Links::Refuse);
        if let Ok(file) = &made {
            stream::write_all(&**file, content)?;
        }
        made
    }

    /// Removes a file of this directory, if it is there.
    #[inline(never)]
    pub fn remove_named(&self, name: &CStr) {
        let _ = rustix::fs::unlinkat(self, name, AtFlags::empty());
    }
}

/// What becomes of a name that is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It stands for what it points to.
    Follow,
    /// It is [`Errno::LOOP`].
    Refuse,
    /// As [`Links::Follow`], for a process that acts as a user whose links they are: those of /proc
    /// that lead to a process's open files and directories, and all files of /proc, are
    /// [`Errno::LOOP`]. Only to open what exists.
    NotMagic,
}

/// Whether a file is neither regular nor a directory, but a pipe, socket or device.
pub fn is_special(file: &OwnedFd) -> Result<bool, Errno> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
    Ok(!matches!(kind, FileType::RegularFile | FileType::Directory))
}

/// Gives a new file owner, mode and label of the old one.
fn keep(file: &OwnedFd, old: &OwnedFd) -> Result<(), Errno> {
    const LABEL: &CStr = c"security.selinux";
    let stat = rustix::fs::fstat(old)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    // After the owner, with whose change bits of the mode go.
    rustix::fs::fchmod(file, Mode::from_raw_mode(stat.st_mode))?;
    let mut label = [0u8; 256];
    let (old, file) = (old.as_raw_fd() as usize, file.as_raw_fd() as usize);
    let (name, room) = (
        LABEL.as_ptr().expose_provenance(),
        label.as_mut_ptr().expose_provenance(),
    );
    // SAFETY: both calls take a descriptor, a string that ends in NUL, and memory of so many bytes,
    // which the first writes to and the second reads; all of it outlives the calls.
    unsafe {
        if let Ok(len) = raw::call(libc::SYS_fgetxattr, [old, name, room, label.len(), 0]) {
            raw::call(libc::SYS_fsetxattr, [file, name, room, len, 0])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::XattrFlags;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn directory(name: &str) -> (std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-file-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        let entered = root.enter(b"/", Links::Follow).unwrap();
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
        fs::write(path.join(".gaunt"), "half").unwrap();
        fs::set_permissions(path.join("x"), fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(path.join("x")).unwrap();
        let old = root.look(c"x", Links::Refuse).unwrap();
        let label = b"system_u:object_r:shadow_t:s0\0";
        let may = XattrFlags::empty();
        let labelled = rustix::fs::fsetxattr(&*old, c"security.selinux", label, may);
        root.replace(c"x", b"new", Some(&old)).unwrap();
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
                let new = root.look(c"x", Links::Refuse).unwrap();
                let len = rustix::fs::fgetxattr(&*new, c"security.selinux", &mut kept[..]);
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
        assert_eq!(root.look(c"y", Links::Refuse).err(), Some(Errno::LOOP));
        assert!(root.look(c"y", Links::Follow).is_ok());
        assert!(root.look(c"y", Links::NotMagic).is_ok());
        for (name, target) in [
            ("open", "/proc/self/fd/0"),
            ("maps", "/proc/self/maps"),
            ("thread", "/proc/thread-self/status"),
            ("above", "/proc/self/cwd/Cargo.toml"),
        ] {
            symlink(target, path.join(name)).unwrap();
            let name = CString::new(name).unwrap();
            assert!(root.look(&name, Links::Follow).is_ok(), "{target}");
            let refused = root.look(&name, Links::NotMagic).err();
            assert_eq!(refused, Some(Errno::LOOP), "{target}");
        }
        symlink("/proc/self/root", path.join("d")).unwrap();
        assert!(root.enter(b"d", Links::Follow).is_ok());
        assert_eq!(root.enter(b"d", Links::NotMagic).err(), Some(Errno::LOOP));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn lock_files_are_held_and_taken_over() {
        let (path, root) = directory("locks");
        let lock = path.join("x.lock");
        let names = || {
            let mut names = names(&path);
            names.sort();
            names
        };
        root.lock_accounts(c"x.lock").unwrap();
        let content = std::process::id().to_string();
        assert_eq!(fs::read_to_string(&lock).unwrap(), content);
        assert_eq!(names(), [".pwd.lock", "x.lock"]);
        root.remove_named(c"x.lock");
        // Of a process that has ended.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        for left in [format!("{}\0", child.id()), child.id().to_string()] {
            fs::write(&lock, left).unwrap();
            root.lock_accounts(c"x.lock").unwrap();
            assert_eq!(fs::read_to_string(&lock).unwrap(), content);
        }
        // Of one that lives, or nobody's; neither goes by itself.
        for held in ["1\0", "1", "", "x\0"] {
            fs::write(&lock, held).unwrap();
            let refused = root.lock_accounts(c"x.lock").err();
            assert_eq!(refused, Some(Errno::NOLCK), "{held:?}");
            assert_eq!(fs::read_to_string(&lock).unwrap(), held);
        }
        assert_eq!(names(), [".pwd.lock", "x.lock"]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_lock_of_a_directory_is_one_s_alone() {
        let (path, root) = directory("flock");
        let again = root.enter(b".", Links::Follow).unwrap();
        root.lock().unwrap();
        assert_eq!(again.lock(), Err(Errno::AGAIN));
        drop(root);
        assert_eq!(again.lock(), Ok(()));
        fs::remove_dir_all(path).unwrap();
    }
}
