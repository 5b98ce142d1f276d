//! Whole files of one directory: read, locked, and replaced in one step.
//!
//! To replace a file, the new one is written under a temporary name in the same directory. It may get
//! owner, mode and SELinux label of the old file, is brought to the disk, and is renamed. So every
//! process, and the disk after a power cut, has the old file or the new one. An interrupted run
//! leaves the temporary file; the next run removes it. Of the extended attributes only the label is
//! kept; access control lists are not.
//!
//! For children of the agent, which leave descriptors open until they end: closing one would give
//! up a lock of fcntl(2).
#![allow(unsafe_code)]

use core::ffi::CStr;
use core::mem::ManuallyDrop;
use core::ptr;

use linux_raw_sys::general::{F_OFD_SETLK, F_WRLCK, PROC_SUPER_MAGIC, flock};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, FlockOperation, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::mem::Buffer;
use super::place::Place;
use super::root::{OpenOptions, Root, relative};
use super::{raw, stream};
use crate::base::path::Path;

impl Root {
    /// Opens the directory at an absolute path.
    pub fn enter(&self, path: &[u8], links: Links) -> Result<Self, Errno> {
        let path = Path::of(&[relative(path)]);
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let entered = self.named(path, OFlags::DIRECTORY, links)?;
        Ok(Self::from(ManuallyDrop::into_inner(entered)))
    }

    /// Appends the content of a file to `room`, and returns the open file.
    // Not inlined, to keep one copy of the code; so are the functions below that are not inlined.
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

    /// Opens a file to read; reads never wait.
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

    /// Opens a file as [`Links::NotMagic`] says.
    fn without_magic(&self, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let file = match rustix::fs::openat2(self, name, flags, Mode::empty(), resolve) {
            // Linux before 5.6, or a seccomp filter that does not know the call. The process has
            // closed the files that such a link could lead to.
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(self, name, flags, Mode::empty()),
            opened => opened,
        }?;
        // /proc/self is an ordinary link; the files below it have facts about this process.
        match rustix::fs::fstatfs(&file)?.f_type as u32 {
            PROC_SUPER_MAGIC => Err(Errno::LOOP),
            _ => Ok(file),
        }
    }

    /// Replaces the file `name`, or makes it. The new file has the name `temporary` until it is whole;
    /// a file of that name is removed.
    #[inline(never)]
    pub fn replace(
        &self,
        name: &CStr,
        temporary: &CStr,
        content: &[u8],
        access: Access<'_>,
    ) -> Result<(), Errno> {
        let done = self.make(temporary, content).and_then(|file| {
            match access {
                Access::Private => {}
                Access::Readable => rustix::fs::fchmod(&*file, Mode::from_raw_mode(0o644))?,
                Access::As(old) => keep(&file, old)?,
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

    /// Whether [`Root::replace`] could have this name, as far as that is known without trying; the sticky
    /// bit, which does not hinder root, is not looked at. `root` has /proc, for kernels before 5.8.
    ///
    /// # Errors
    /// Those of [`Root::replace`].
    pub fn may_replace(&self, root: &Root, name: &[u8]) -> Result<(), Errno> {
        self.may_write(&[b"."])?;
        let find = |name: &[u8]| Place::of(root, self.locate(&[name])?);
        let here = find(b".")?;
        match find(name) {
            _ if here.is_fixed => Err(Errno::PERM),
            Err(Errno::NOENT) => Ok(()),
            Ok(found) if found.is_directory() => Err(Errno::ISDIR),
            Ok(found) if found.is_fixed => Err(Errno::PERM),
            Ok(found) if found.mount != here.mount => Err(Errno::BUSY),
            found => found.map(drop),
        }
    }

    /// Whether a file cannot be cut, replaced or removed, whatever the rights of a process: it is
    /// immutable, or for appending only.
    pub fn is_fixed(&self, name: &[u8]) -> bool {
        let found = self.locate(&[name]);
        found
            .and_then(|found| Place::of(self, found))
            .is_ok_and(|found| found.is_fixed)
    }

    /// Makes a file with this content, which only the owner may read or write. Removes a file that
    /// has the name.
    #[inline(never)]
    pub fn make(&self, name: &CStr, content: &[u8]) -> Result<ManuallyDrop<OwnedFd>, Errno> {
        self.remove_named(name);
        let options = OpenOptions::WRITE.create_new();
        let file = self.open_private(name.to_bytes(), options)?;
        let file = ManuallyDrop::new(file);
        stream::write_all(&*file, content)?;
        Ok(file)
    }

    /// Gives a file a second name; [`Errno::EXIST`] if that is taken.
    pub fn link(&self, name: &CStr, new: &CStr) -> Result<(), Errno> {
        rustix::fs::linkat(self, name, self, new, AtFlags::empty())
    }

    /// Removes a file, if there is one.
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

/// Takes the lock of fcntl(2) on a whole file, as lockf(3) does. The lock is held until this
/// process closes any descriptor of the file, or ends.
///
/// # Errors
/// [`Errno::AGAIN`] if another process holds the lock.
pub fn lock_record(file: impl AsFd) -> Result<(), Errno> {
    rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Takes the lock of an open file description (fcntl(2)) on a whole file that is open to write: it
/// excludes [`lock_record`], and is held until every copy of the descriptor is closed, whatever other
/// descriptors of the file are. Linux before 3.15 has [`lock_record`] only.
///
/// # Errors
/// [`Errno::AGAIN`] if another holds either lock.
pub fn lock_description(file: &OwnedFd) -> Result<(), Errno> {
    // From byte 0 to the end, wherever that is.
    let lock = flock {
        l_type: F_WRLCK as i16,
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: fcntl reads one `struct flock` of the kernel, which is ours and outlives the call.
    let locked = unsafe {
        let lock = ptr::from_ref(&lock).expose_provenance();
        let args = [file.as_raw_fd() as usize, F_OFD_SETLK as usize, lock, 0, 0];
        raw::call(libc::SYS_fcntl, args)
    };
    match locked {
        Err(Errno::INVAL) => lock_record(file),
        locked => locked.map(drop),
    }
}

/// Cuts a file to `len` bytes.
pub fn truncate(file: impl AsFd, len: u64) -> Result<(), Errno> {
    rustix::fs::ftruncate(file, len)
}

/// Replaces the content of a file in place, and writes it out to the disk.
pub fn overwrite(file: &OwnedFd, content: &[u8]) -> Result<(), Errno> {
    rustix::fs::seek(file, SeekFrom::Start(0))?;
    stream::write_all(file, content)?;
    truncate(file, content.len() as u64)?;
    write_out(file)
}

/// Writes a file out to the disk.
pub fn write_out(file: impl AsFd) -> Result<(), Errno> {
    rustix::fs::fsync(file)
}

/// Who may use a new file.
#[derive(Clone, Copy)]
pub enum Access<'a> {
    /// Only this user.
    Private,
    /// This user may write to it, every user may read it.
    Readable,
    /// Owner, mode and label are those of this file.
    As(&'a OwnedFd),
}

/// The treatment of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Follow them.
    Follow,
    /// [`Errno::LOOP`] if the name is one.
    Refuse,
    /// Follow them, but not into /proc: [`Errno::LOOP`] for every file there, and for the links of
    /// /proc to open files and directories of a process. For a process that acts as the user who
    /// made the links. Opens existing files only.
    NotMagic,
}

/// Gives a new file the owner, mode and label of the old one.
fn keep(file: &OwnedFd, old: &OwnedFd) -> Result<(), Errno> {
    const LABEL: &CStr = c"security.selinux";
    let stat = rustix::fs::fstat(old)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    // After the owner, because a change of the owner clears bits of the mode.
    rustix::fs::fchmod(file, Mode::from_raw_mode(stat.st_mode))?;
    let mut label = [0; 256];
    if let Ok(len) = rustix::fs::fgetxattr(old, LABEL, &mut label[..]) {
        rustix::fs::fsetxattr(file, LABEL, &label[..len], XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    /// A tree, and its root directory opened for what follows.
    fn directory() -> (Tree, Root) {
        let tree = Tree::new();
        let entered = tree.root.enter(b"/", Links::Follow).unwrap();
        (tree, entered)
    }

    fn names(path: &std::path::Path) -> Vec<String> {
        let names = fs::read_dir(path).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn replace_keeps_owner_mode_and_label() {
        let (tree, root) = directory();
        tree.file("x", "old");
        // An interrupted run has left this.
        tree.file(".new", "half");
        fs::set_permissions(tree.path.join("x"), fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(tree.path.join("x")).unwrap();
        let old = root.look(c"x", Links::Refuse).unwrap();
        let label = b"system_u:object_r:shadow_t:s0\0";
        let may = XattrFlags::empty();
        let labelled = rustix::fs::fsetxattr(&*old, c"security.selinux", label, may);
        root.replace(c"x", c".new", b"new", Access::As(&old))
            .unwrap();
        let after = fs::metadata(tree.path.join("x")).unwrap();
        assert_eq!(fs::read(tree.path.join("x")).unwrap(), b"new");
        assert_ne!(before.ino(), after.ino());
        let facts = |data: &fs::Metadata| (data.mode(), data.uid(), data.gid());
        assert_eq!(facts(&before), facts(&after));
        assert_eq!(names(&tree.path), ["x"]);
        // Only root may set labels, and only some file systems have them.
        match labelled {
            Err(errno) => eprintln!("label untested: {errno}"),
            Ok(()) => {
                let mut kept = [0; 64];
                let new = root.look(c"x", Links::Refuse).unwrap();
                let len = rustix::fs::fgetxattr(&*new, c"security.selinux", &mut kept[..]);
                assert_eq!(&kept[..len.unwrap()], label);
            }
        }
    }

    #[test]
    fn new_file_is_readable_as_told() {
        let (tree, root) = directory();
        for (access, mode) in [(Access::Private, 0o600), (Access::Readable, 0o644)] {
            root.replace(c"x", c".new", b"new", access).unwrap();
            let data = fs::metadata(tree.path.join("x")).unwrap();
            assert_eq!(data.mode() & 0o7777, mode);
        }
    }

    #[test]
    fn refuses_links_as_told() {
        let (tree, root) = directory();
        tree.file("x", "x");
        tree.link("y", "x");
        assert_eq!(root.look(c"y", Links::Refuse).err(), Some(Errno::LOOP));
        assert!(root.look(c"y", Links::Follow).is_ok());
        assert!(root.look(c"y", Links::NotMagic).is_ok());
        for (name, target) in [
            ("open", "/proc/self/fd/0"),
            ("maps", "/proc/self/maps"),
            ("thread", "/proc/thread-self/status"),
            ("above", "/proc/self/cwd/Cargo.toml"),
        ] {
            tree.link(name, target);
            let name = CString::new(name).unwrap();
            assert!(root.look(&name, Links::Follow).is_ok(), "{target}");
            let refused = root.look(&name, Links::NotMagic).err();
            assert_eq!(refused, Some(Errno::LOOP), "{target}");
        }
        tree.link("d", "/proc/self/root");
        assert!(root.enter(b"d", Links::Follow).is_ok());
        assert_eq!(root.enter(b"d", Links::NotMagic).err(), Some(Errno::LOOP));
    }

    #[test]
    fn a_directory_is_locked_once() {
        let (_tree, root) = directory();
        let again = root.enter(b".", Links::Follow).unwrap();
        lock(&root).unwrap();
        assert_eq!(lock(&again), Err(Errno::AGAIN));
        drop(root);
        assert_eq!(lock(&again), Ok(()));
    }
}
