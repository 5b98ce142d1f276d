//! Every look at a file of the guest, relative to one directory.
//!
//! In a guest that directory is `/`; in tests it is a captured tree. Paths given here therefore never
//! begin with a slash; [`relative`] makes one of a path that does.

#![allow(unsafe_code)]

use core::ffi::{CStr, c_long};
use core::mem::MaybeUninit;

use linux_raw_sys::general::{RAMFS_MAGIC, TMPFS_MAGIC, stat};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::{DupFlags, Errno};

use super::raw;

use crate::base::path::Path;

/// The longest line that is understood, in bytes. A line of the mount table may hold two paths of
/// 4 KiB, each byte of them escaped as four.
const LINE_BYTES: usize = 16 << 10;

/// The directory that stands for `/`.
pub struct Root(OwnedFd);

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Anything else, or unknown.
    Other,
}

/// Flags of open(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions(pub(super) OFlags);

/// Set in every case: an open file never waits for a FIFO, and no program inherits it.
const ALWAYS: OFlags = OFlags::NOCTTY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

impl OpenOptions {
    /// To read.
    pub const READ: Self = Self(ALWAYS.union(OFlags::RDONLY));
    /// To write.
    pub const WRITE: Self = Self(ALWAYS.union(OFlags::WRONLY));
    /// To read and write.
    pub const READ_WRITE: Self = Self(ALWAYS.union(OFlags::RDWR));

    /// Makes the file if it is missing.
    pub const fn create(self) -> Self {
        Self(self.0.union(OFlags::CREATE))
    }

    /// Makes the file; [`Errno::EXIST`] if the name is taken.
    pub const fn create_new(self) -> Self {
        Self(self.0.union(OFlags::CREATE).union(OFlags::EXCL))
    }

    /// Cuts the file to no bytes.
    pub const fn truncate(self) -> Self {
        Self(self.0.union(OFlags::TRUNC))
    }

    /// Writes at the end of the file only.
    pub const fn append(self) -> Self {
        Self(self.0.union(OFlags::APPEND))
    }
}

/// A path below the root for one that is written from it: `/a/b` is `a/b`, and `/` is `.`.
pub fn relative(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/');
    start.map_or(b".", |start| &path[start..])
}

impl Root {
    /// The root at `path`.
    pub fn open(path: &CStr) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map(Self)
    }

    /// As [`Root::open`].
    #[inline(never)]
    pub fn at(path: &[u8]) -> Result<Self, Errno> {
        let path = Path::of(&[path]);
        Self::open(path.as_c_str().ok_or(Errno::NAMETOOLONG)?)
    }

    /// Becomes the root at `path`. The descriptor keeps its number, which children that share the
    /// agent's descriptors use.
    pub fn reopen(&mut self, path: &CStr) -> Result<(), Errno> {
        let new = Self::open(path)?;
        rustix::io::dup3(&new.0, &mut self.0, DupFlags::CLOEXEC)
    }

    /// Makes a system call that takes a directory, a name in it, and two numbers more, and gives a
    /// descriptor or a length, neither of which is more than 32 bits.
    ///
    /// # Safety
    /// As for [`raw::call`].
    #[inline(never)]
    unsafe fn call(
        &self,
        number: c_long,
        name: &[&[u8]],
        third: usize,
        fourth: usize,
    ) -> Result<u32, Errno> {
        // Put together where it is used: `Path::of` would copy all of the room for it.
        let mut path = Path::new();
        path.append(name);
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let path = path.as_ptr().expose_provenance();
        let directory = self.0.as_raw_fd() as usize;
        // SAFETY: the path ends in a NUL and outlives the call; the caller answers for the rest.
        let result = unsafe { raw::call(number, [directory, path, third, fourth, 0]) };
        result.map(|result| result as u32)
    }

    #[inline(never)]
    pub(super) fn with_at(
        &self,
        name: &[&[u8]],
        flags: OFlags,
        mode: u32,
    ) -> Result<OwnedFd, Errno> {
        let flags = (flags | OFlags::CLOEXEC).bits() as usize;
        // SAFETY: openat takes two numbers more.
        let opened = unsafe { self.call(libc::SYS_openat, name, flags, mode as usize) }?;
        // SAFETY: openat just made this descriptor and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(opened.cast_signed()) })
    }

    /// Opens a file or directory to read, never waiting on it. The name, here and below, is these
    /// pieces, one after the other.
    #[inline(never)]
    pub fn file_at(&self, name: &[&[u8]]) -> Result<OwnedFd, Errno> {
        self.with_at(name, OFlags::NONBLOCK | OFlags::NOCTTY, 0)
    }

    /// Opens a directory, whose files then go by their names in it.
    pub fn directory_at(&self, name: &[&[u8]]) -> Result<Self, Errno> {
        self.with_at(name, OFlags::DIRECTORY, 0).map(Self)
    }

    /// Opens a character device for both directions, never waiting on it.
    #[inline(never)]
    pub fn open_port(&self, name: &[&[u8]]) -> Result<OwnedFd, Errno> {
        self.with_at(name, OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY, 0)
    }

    /// Opens a file to write, never waiting on it and never making it.
    pub fn for_writing(&self, name: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.with_at(name, flags, 0)
    }

    /// Opens or makes a file, but never through a symbolic link, which is [`Errno::LOOP`]. Only its owner
    /// may read or write a file that this makes.
    pub fn open_private(&self, name: &[u8], options: OpenOptions) -> Result<OwnedFd, Errno> {
        self.with_at(&[name], options.0 | OFlags::NOFOLLOW, 0o600)
    }

    /// Finds the file of this name without opening it (O_PATH): of a symbolic link, the link.
    pub fn locate(&self, name: &[&[u8]]) -> Result<OwnedFd, Errno> {
        self.place_at(name, OFlags::NOFOLLOW)
    }

    /// Removes a file.
    #[inline(never)]
    pub fn remove_at(&self, name: &[&[u8]]) -> Result<(), Errno> {
        // SAFETY: unlinkat takes one number more, which is 0.
        unsafe { self.call(libc::SYS_unlinkat, name, 0, 0) }.map(|_| ())
    }

    /// As [`Root::remove_at`].
    pub fn remove(&self, path: &Path) -> Result<(), Errno> {
        self.remove_at(&[path.as_bytes()])
    }

    /// Renames a file; one that has the new name is replaced.
    pub fn rename(&self, name: &[&[u8]], new: &[&[u8]]) -> Result<(), Errno> {
        let new = Path::of(new);
        let new = new.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let (directory, path) = (self.0.as_raw_fd() as usize, new.as_ptr());
        let path = path.expose_provenance();
        // SAFETY: renameat2 takes another directory and path, which ends in a NUL and outlives the
        // call, and no flags.
        unsafe { self.call(libc::SYS_renameat2, name, directory, path) }.map(|_| ())
    }

    /// Makes a directory that is not there yet.
    #[inline(never)]
    pub fn make_directory(&self, name: &[u8], mode: u32) -> Result<(), Errno> {
        // SAFETY: mkdirat takes one number more.
        unsafe { self.call(libc::SYS_mkdirat, &[name], mode as usize, 0) }.map(|_| ())
    }

    /// Makes a character device, for its owner alone.
    #[inline(never)]
    pub fn make_device(&self, name: &[&[u8]], major: u32, minor: u32) -> Result<(), Errno> {
        let mode = (libc::S_IFCHR | 0o600) as usize;
        let device = rustix::fs::makedev(major, minor) as usize;
        // SAFETY: mknodat takes two numbers more.
        unsafe { self.call(libc::SYS_mknodat, name, mode, device) }.map(|_| ())
    }

    /// Reads a file from its start until it ends or `buffer` is full. Gives what was read, which is
    /// all of `buffer` if there may be more.
    #[inline(never)]
    pub fn read_at<'b>(&self, name: &[&[u8]], buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let file = self.file_at(name)?;
        let mut len = 0;
        while len < buffer.len() {
            match rustix::io::read(&file, &mut buffer[len..]) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(&buffer[..len])
    }

    /// Writes `word` into a file at once; may wait.
    #[inline(never)]
    pub fn tell(&self, path: &[&[u8]], word: &[u8]) -> Result<(), Errno> {
        let file = self.for_writing(path)?;
        rustix::io::write(&file, word).map(drop)
    }

    /// Writes `text` at once into a FIFO; never waits.
    ///
    /// # Errors
    /// [`Errno::NXIO`] if nobody reads from it, [`Errno::INVAL`] if it is not a FIFO.
    pub fn tell_fifo(&self, path: &[u8], text: &[u8]) -> Result<(), Errno> {
        let fifo = self.for_writing(&[path])?;
        let mode = rustix::fs::fstat(&fifo)?.st_mode;
        if FileType::from_raw_mode(mode) != FileType::Fifo {
            return Err(Errno::INVAL);
        }
        rustix::io::write(&fifo, text).map(|_| ())
    }

    /// Reads a file of sysfs, or its beginning: with one call, because the kernel gives at once all
    /// that fits into `buffer`.
    #[inline(never)]
    pub fn attribute<'b>(&self, name: &[&[u8]], buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let file = self.file_at(name)?;
        loop {
            match rustix::io::read(&file, &mut *buffer) {
                Err(Errno::INTR) => {}
                done => return done.map(|count| &buffer[..count]),
            }
        }
    }

    /// Where a symbolic link points to.
    #[inline(never)]
    pub fn link_at<'b>(&self, name: &[&[u8]], buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let room = buffer.as_mut_ptr().expose_provenance();
        // SAFETY: readlinkat writes at most so many bytes there; the buffer is ours.
        let len = unsafe { self.call(libc::SYS_readlinkat, name, room, buffer.len()) }? as usize;
        // A target that fills the buffer may have been cut short.
        if len >= buffer.len() {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(&buffer[..len])
    }

    /// Opens what is at a name as a place: nothing happens to it.
    #[inline(never)]
    pub(super) fn place_at(&self, name: &[&[u8]], flags: OFlags) -> Result<OwnedFd, Errno> {
        self.with_at(name, flags | OFlags::PATH, 0)
    }

    /// Whether there is something, a dangling link included.
    #[inline(never)]
    pub fn has_at(&self, name: &[&[u8]]) -> Result<bool, Errno> {
        let mut found = MaybeUninit::<stat>::uninit();
        let room = found.as_mut_ptr().expose_provenance();
        let flags = libc::AT_SYMLINK_NOFOLLOW as usize;
        // SAFETY: newfstatat writes one `struct stat`, for which there is room, and takes a number.
        match unsafe { self.call(libc::SYS_newfstatat, name, room, flags) } {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Major and minor number of the block device of this name, if it is one.
    pub fn block_device_at(&self, name: &[u8]) -> Option<(u32, u32)> {
        block_device(&self.place_at(&[name], OFlags::empty()).ok()?)
    }

    /// Calls `each` with every name in a directory but `.` and `..`, in the directory's own order,
    /// until it returns false.
    #[inline(never)]
    pub fn list_at(
        &self,
        name: &[&[u8]],
        each: &mut dyn FnMut(&[u8], Entry) -> bool,
    ) -> Result<(), Errno> {
        self.directory_at(name)?.list(each)
    }

    /// As [`Root::list_at`], of a directory that was opened by [`Root::directory_at`].
    #[inline(never)]
    pub fn list(&self, each: &mut dyn FnMut(&[u8], Entry) -> bool) -> Result<(), Errno> {
        let mut buffer = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&self.0, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let kind = match entry.file_type() {
                FileType::Directory => Entry::Directory,
                FileType::Symlink => Entry::Link,
                _ => Entry::Other,
            };
            if name != b"." && name != b".." && !each(name, kind) {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` with every line of a file, without its end, until it returns false. What is
    /// longer than [`LINE_BYTES`] is left out.
    ///
    /// # Errors
    /// What opening or reading the file came to.
    #[inline(never)]
    pub fn lines_at(
        &self,
        name: &[&[u8]],
        each: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), Errno> {
        self.beginnings_at(name, &mut |line, is_whole| !is_whole || each(line))
    }

    /// As [`Root::lines_at`], but of what is longer than [`LINE_BYTES`] `each` gets so many bytes, and
    /// false for not being whole.
    #[inline(never)]
    pub fn beginnings_at(
        &self,
        name: &[&[u8]],
        each: &mut dyn FnMut(&[u8], bool) -> bool,
    ) -> Result<(), Errno> {
        let file = self.file_at(name)?;
        let mut buffer = [0; LINE_BYTES];
        let (mut held, mut too_long) = (0, false);
        loop {
            let count = match rustix::io::read(&file, &mut buffer[held..]) {
                Err(Errno::INTR) => continue,
                done => done?,
            };
            let mut rest = &buffer[..held + count];
            while let Some(len) = rest.iter().position(|byte| *byte == b'\n') {
                let (line, behind) = rest.split_at(len);
                rest = behind.get(1..).unwrap_or_default();
                if !core::mem::take(&mut too_long) && !each(line, true) {
                    return Ok(());
                }
            }
            if count == 0 {
                if !rest.is_empty() && !too_long {
                    each(rest, true);
                }
                return Ok(());
            }
            let end = held + count;
            held = rest.len();
            buffer.copy_within(end - held..end, 0);
            if held == LINE_BYTES {
                if !core::mem::replace(&mut too_long, true) && !each(&buffer, false) {
                    return Ok(());
                }
                held = 0;
            }
        }
    }
}

impl From<OwnedFd> for Root {
    /// The root that this directory stands for.
    fn from(directory: OwnedFd) -> Self {
        Self(directory)
    }
}

/// Major and minor number of the block device that a descriptor refers to, if it is one.
pub fn block_device(opened: &OwnedFd) -> Option<(u32, u32)> {
    let found = rustix::fs::fstat(opened).ok()?;
    let is_block = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
    let device = found.st_rdev;
    is_block.then(|| (rustix::fs::major(device), rustix::fs::minor(device)))
}

/// Whether the directory at `path` is in memory: on ramfs or tmpfs.
pub fn is_in_memory(path: &CStr) -> bool {
    // The number has 32 bits, whatever the width of the member.
    let kind = rustix::fs::statfs(path).map(|stat| stat.f_type as u32);
    matches!(kind, Ok(TMPFS_MAGIC | RAMFS_MAGIC))
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn tree(name: &str) -> (std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-root-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        (path, root)
    }

    #[test]
    fn lines_come_whole_and_a_monster_is_left_out() {
        let (path, root) = tree("lines");
        let mut text = b"first\n\n".to_vec();
        text.extend([b'x'; 3 * LINE_BYTES]);
        text.extend(b"\nafter\n");
        text.extend([b'y'; LINE_BYTES - 1]);
        text.extend(b"\nlast");
        std::fs::write(path.join("f"), &text).unwrap();
        let mut seen = Vec::new();
        let each = &mut |line: &[u8]| {
            seen.push(line.to_vec());
            true
        };
        root.lines_at(&[b"f"], each).unwrap();
        let mut cut = Vec::new();
        let each = &mut |line: &[u8], is_whole: bool| {
            cut.extend((!is_whole).then(|| line.to_vec()));
            true
        };
        root.beginnings_at(&[b"f"], each).unwrap();
        assert_eq!(cut, [[b'x'; LINE_BYTES]]);
        assert_eq!(
            seen.len(),
            5,
            "{:?}",
            seen.iter().map(Vec::len).collect::<Vec<_>>()
        );
        assert_eq!(
            &seen[..3],
            [b"first".to_vec(), b"".to_vec(), b"after".to_vec()]
        );
        assert_eq!(seen[3].len(), LINE_BYTES - 1);
        assert_eq!(seen[4], b"last");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn paths_from_the_root_become_relative() {
        assert_eq!(relative(b"/"), b".");
        assert_eq!(relative(b"//a/b"), b"a/b");
        assert_eq!(relative(b"a"), b"a");
    }

    #[test]
    fn a_missing_file_is_an_error_and_not_there() {
        let (path, root) = tree("missing");
        assert_eq!(root.has_at(&[b"nothing"]), Ok(false));
        assert_eq!(root.file_at(&[b"nothing"]).err(), Some(Errno::NOENT));
        std::fs::remove_dir_all(path).unwrap();
    }
}
