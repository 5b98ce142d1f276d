//! Whole files, locked and replaced in one step.
//!
//! Replaced means: written under another name in the same directory, with owner, mode and SELinux
//! label, brought to the disk, and renamed. Whoever looks, and whatever comes of a power cut, sees
//! the old file or the new one. What an interrupted run has left under that other name is removed by
//! the next. Of extended attributes the label alone is kept, no access control lists.
//!
//! All of it is for children of the agent, which leave open what they opened until they end.
#![allow(unsafe_code)]

use core::ffi::CStr;
use core::mem::ManuallyDrop;

use linux_raw_sys::general::PROC_SUPER_MAGIC;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::mem::Buffer;
use super::root::{OpenOptions, Root, relative};
use super::{raw, stream};
use crate::base::path::Path;

impl Root {
    /// Opens a directory, written from the root, whose files then go by their names in it.
    pub fn enter(&self, path: &[u8], links: Links) -> Result<Self, Errno> {
        let path = Path::of(&[relative(path)]);
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let entered = self.named(path, OFlags::DIRECTORY, links)?;
        Ok(Self::from(ManuallyDrop::into_inner(entered)))
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

    /// Replaces the file `name` of this directory, or makes it, with owner, mode and label of `old`. The
    /// new file has the name `temporary` until it is whole; a file of that name is removed.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub fn replace(
        &self,
        name: &CStr,
        temporary: &CStr,
        content: &[u8],
        old: Option<&OwnedFd>,
    ) -> Result<(), Errno> {
        let done = self.make(temporary, content).and_then(|file| {
            if let Some(old) = old {
                keep(&file, old)?;
            }
            rustix::fs::fsync(&*file)?;
            rustix::fs::renameat(self, temporary, self, name)
        });
        self.remove_named(temporary);
        done?;
        match rustix::fs::fsync(self) {
            // Not every file system can write out a directory by itself.
            Err(Errno::INVAL) => Ok(()),
            other => other,
        }
    }

    /// Makes a file with this content for its owner alone, in place of one that has the name.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub fn make(&self, name: &CStr, content: &[u8]) -> Result<ManuallyDrop<OwnedFd>, Errno> {
        self.remove_named(name);
        let options = OpenOptions::WRITE.create_new();
        let file = self.open_private(name.to_bytes(), options)?;
        let file = ManuallyDrop::new(file);
        stream::write_all(&*file, content)?;
        Ok(file)
    }

    /// Gives a file of this directory a second name; [`Errno::EXIST`] if that is taken.
    pub fn link(&self, name: &CStr, new: &CStr) -> Result<(), Errno> {
        rustix::fs::linkat(self, name, self, new, AtFlags::empty())
    }

    /// Removes a file of this directory, if it is there.
    #[inline(never)]
    pub fn remove_named(&self, name: &CStr) {
        let _ = rustix::fs::unlinkat(self, name, AtFlags::empty());
    }
}

/// Takes the lock of flock(2) on a file or directory. The lock is held until every copy of the
/// descriptor is closed, at the latest when the process ends.
///
/// # Errors
/// [`Errno::AGAIN`] if another holds the lock.
pub fn lock(file: impl AsFd) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Takes the lock of fcntl(2) on a whole file, as lockf(3) does. The lock is held until this process
/// closes any descriptor of the file, or ends.
///
/// # Errors
/// [`Errno::AGAIN`] if another process holds the lock.
pub fn lock_record(file: impl AsFd) -> Result<(), Errno> {
    rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Cuts a file to `len` bytes.
pub fn truncate(file: impl AsFd, len: u64) -> Result<(), Errno> {
    rustix::fs::ftruncate(file, len)
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
        fs::write(path.join(".new"), "half").unwrap();
        fs::set_permissions(path.join("x"), fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(path.join("x")).unwrap();
        let old = root.look(c"x", Links::Refuse).unwrap();
        let label = b"system_u:object_r:shadow_t:s0\0";
        let may = XattrFlags::empty();
        let labelled = rustix::fs::fsetxattr(&*old, c"security.selinux", label, may);
        root.replace(c"x", c".new", b"new", Some(&old)).unwrap();
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
    fn the_lock_of_a_directory_is_one_s_alone() {
        let (path, root) = directory("flock");
        let again = root.enter(b".", Links::Follow).unwrap();
        lock(&root).unwrap();
        assert_eq!(lock(&again), Err(Errno::AGAIN));
        drop(root);
        assert_eq!(lock(&again), Ok(()));
        fs::remove_dir_all(path).unwrap();
    }
}
