//! Files of the guest, by their names below one directory.
//!
//! In a guest the directory is `/`; in tests it is a captured tree. So a name never begins with a
//! slash; [`relative`] cuts the slash off a path. A name is given in pieces, which are joined
//! without anything between them. Files are opened so that the open itself does not wait for a FIFO
//! or a terminal.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use linux_raw_sys::general::{RAMFS_MAGIC, TMPFS_MAGIC};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::{DupFlags, Errno};

use crate::base::path::Path;

/// The longest line, in bytes. A line of the mount table may have two paths of 4 KiB, with four
/// bytes for each escaped one.
const LINE_BYTES: usize = 16 << 10;

/// The directory that stands for `/`; or another directory, whose files go by their names in it.
pub struct Root(OwnedFd);

/// The type of an entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType {
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Another type, or unknown.
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

/// The name below the root for an absolute path: `a/b` for `/a/b`, and `.` for `/`.
pub fn relative(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/');
    start.map_or(b".", |start| &path[start..])
}

impl Root {
    /// Opens the directory at `path`.
    pub fn open(path: &CStr) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map(Self)
    }

    /// As [`Root::open`], for bytes without a NUL.
    // Not inlined, to keep one copy of the code; so are the functions below that are not inlined.
    #[inline(never)]
    pub fn at(path: &[u8]) -> Result<Self, Errno> {
        let path = Path::of(&[path]);
        Self::open(path.as_c_str().ok_or(Errno::NAMETOOLONG)?)
    }

    /// Changes to the directory at `path`. The descriptor keeps its number, which children that
    /// share the agent's descriptors use.
    pub fn reopen(&mut self, path: &CStr) -> Result<(), Errno> {
        let new = Self::open(path)?;
        rustix::io::dup3(&new.0, &mut self.0, DupFlags::CLOEXEC)
    }

    /// Opens a file with these flags; a new one gets this mode.
    #[inline(never)]
    fn with_at(&self, name: &[&[u8]], flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
        let mode = Mode::from_bits_retain(mode);
        let path = &mut Path::new();
        let name = join(path, name)?;
        rustix::fs::openat(&self.0, name, flags | OFlags::CLOEXEC, mode)
    }

    /// Opens a file or directory to read; reads never wait.
    #[inline(never)]
    pub fn file_at(&self, name: &[&[u8]]) -> Result<OwnedFd, Errno> {
        self.with_at(name, OFlags::NONBLOCK | OFlags::NOCTTY, 0)
    }

    /// Opens a directory.
    pub fn directory_at(&self, name: &[&[u8]]) -> Result<Self, Errno> {
        self.with_at(name, OFlags::DIRECTORY, 0).map(Self)
    }

    /// Opens a file to read and write, which never waits; for a port, a character device.
    #[inline(never)]
    pub fn open_port(&self, name: &[&[u8]]) -> Result<OwnedFd, Errno> {
        self.with_at(name, OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY, 0)
    }

    /// Opens an existing file to write; writes never wait.
    pub fn for_writing(&self, name: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.with_at(name, flags, 0)
    }

    /// Opens or makes a file; only the owner may read or write a new one. Does not follow a
    /// symbolic link, which is [`Errno::LOOP`].
    pub fn open_private(&self, name: &[u8], options: OpenOptions) -> Result<OwnedFd, Errno> {
        self.with_at(&[name], options.0 | OFlags::NOFOLLOW, 0o600)
    }

    /// Finds the file of this name without opening it (O_PATH). A symbolic link is found itself.
    pub fn locate(&self, name: &[&[u8]]) -> Result<OwnedFd, Errno> {
        self.place_at(name, OFlags::NOFOLLOW)
    }

    /// Removes a file.
    #[inline(never)]
    pub fn remove_at(&self, name: &[&[u8]]) -> Result<(), Errno> {
        let path = &mut Path::new();
        let name = join(path, name)?;
        rustix::fs::unlinkat(&self.0, name, AtFlags::empty())
    }

    /// As [`Root::remove_at`].
    pub fn remove(&self, path: &Path) -> Result<(), Errno> {
        self.remove_at(&[path.as_bytes()])
    }

    /// Renames a file; replaces a file that has the new name.
    pub fn rename(&self, name: &[&[u8]], new: &[&[u8]]) -> Result<(), Errno> {
        let new = Path::of(new);
        let new = new.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let path = &mut Path::new();
        let name = join(path, name)?;
        rustix::fs::renameat(&self.0, name, &self.0, new)
    }

    /// Makes a directory; [`Errno::EXIST`] if the name is taken.
    #[inline(never)]
    pub fn make_directory(&self, name: &[u8], mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_bits_retain(mode);
        let path = &mut Path::new();
        let name = join(path, &[name])?;
        rustix::fs::mkdirat(&self.0, name, mode)
    }

    /// Makes the directories above a file or directory of this name, as far as they are missing and
    /// that is possible. Every user may read them.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub fn make_directories_above(&self, name: &[u8]) {
        for (at, byte) in name.iter().enumerate() {
            if *byte == b'/' {
                let _ = self.make_directory(&name[..at], 0o755);
            }
        }
    }

    /// Makes a character device that only its owner may use.
    #[inline(never)]
    pub fn make_device(&self, name: &[&[u8]], major: u32, minor: u32) -> Result<(), Errno> {
        let (kind, mode) = (FileType::CharacterDevice, Mode::RUSR | Mode::WUSR);
        let device = rustix::fs::makedev(major, minor);
        let path = &mut Path::new();
        let name = join(path, name)?;
        rustix::fs::mknodat(&self.0, name, kind, mode, device)
    }

    /// Reads a file until it ends or `buffer` is full. Returns the bytes; if they fill `buffer`,
    /// the file may be longer.
    pub fn read_at<'b>(&self, name: &[&[u8]], buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        self.read_from(name, 0, buffer)
    }

    /// As [`Root::read_at`], from `offset` on.
    #[inline(never)]
    pub fn read_from<'b>(
        &self,
        name: &[&[u8]],
        offset: u64,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], Errno> {
        let file = self.file_at(name)?;
        let mut len = 0;
        while len < buffer.len() {
            match rustix::io::pread(&file, &mut buffer[len..], offset.wrapping_add(len as u64)) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(&buffer[..len])
    }

    /// Writes `word` to an existing file with one call. Files of /proc and /sys may make it wait.
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

    /// Reads a file of sysfs with one call, which returns all bytes that fit into `buffer`.
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

    /// Reads the target of a symbolic link; with an empty name, of the link that this descriptor
    /// is.
    #[inline(never)]
    pub fn link_at<'b>(&self, name: &[&[u8]], buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let path = &mut Path::new();
        let name = join(path, name)?;
        let len = rustix::fs::readlinkat_raw(&self.0, name, &mut *buffer)?;
        // A target that fills the buffer may be longer.
        if len >= buffer.len() {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(&buffer[..len])
    }

    /// Finds a file without opening it (O_PATH).
    #[inline(never)]
    pub(super) fn place_at(&self, name: &[&[u8]], flags: OFlags) -> Result<OwnedFd, Errno> {
        self.with_at(name, flags | OFlags::PATH, 0)
    }

    /// Whether the name is taken, also by a dangling link.
    #[inline(never)]
    pub fn has_at(&self, name: &[&[u8]]) -> Result<bool, Errno> {
        let path = &mut Path::new();
        let name = join(path, name)?;
        let found = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).map(drop);
        match found {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Whether this process may write to the file or directory of this name: it has the right to, and
    /// the file system can be written.
    pub fn is_writable(&self, name: &[&[u8]]) -> bool {
        self.may_write(name).is_ok()
    }

    /// As [`Root::is_writable`], with the reason why not.
    pub fn may_write(&self, name: &[&[u8]]) -> Result<(), Errno> {
        self.access(name, Access::WRITE_OK)
    }

    /// Whether this process has the right to execute the file of this name, and the file system allows
    /// it.
    ///
    /// # Errors
    /// Those that execve(2) would have. It has also [`Errno::ACCESS`] for a directory.
    pub fn may_execute(&self, name: &[&[u8]]) -> Result<(), Errno> {
        self.access(name, Access::EXEC_OK)
    }

    /// Whether this process has the right to read and write the file of this name.
    ///
    /// # Errors
    /// Those that opening the file would have.
    pub fn may_open(&self, name: &[&[u8]]) -> Result<(), Errno> {
        self.access(name, Access::READ_OK | Access::WRITE_OK)
    }

    fn access(&self, name: &[&[u8]], access: Access) -> Result<(), Errno> {
        let path = &mut Path::new();
        rustix::fs::accessat(&self.0, join(path, name)?, access, AtFlags::EACCESS)
    }

    /// The major and minor number of the file of this name, if it is a block device.
    pub fn block_device_at(&self, name: &[u8]) -> Option<(u32, u32)> {
        block_device(&self.place_at(&[name], OFlags::empty()).ok()?)
    }

    /// Calls `each` with every name in a directory but `.` and `..` until it returns false. The
    /// order is that of the file system.
    #[inline(never)]
    pub fn list_at(
        &self,
        name: &[&[u8]],
        each: &mut dyn FnMut(&[u8], EntryType) -> bool,
    ) -> Result<(), Errno> {
        self.directory_at(name)?.list(each)
    }

    /// As [`Root::list_at`], for this directory, which [`Root::directory_at`] has opened.
    #[inline(never)]
    pub fn list(&self, each: &mut dyn FnMut(&[u8], EntryType) -> bool) -> Result<(), Errno> {
        let mut buffer = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&self.0, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let kind = match entry.file_type() {
                FileType::Directory => EntryType::Directory,
                FileType::Symlink => EntryType::Link,
                _ => EntryType::Other,
            };
            if name != b"." && name != b".." && !each(name, kind) {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` with every line of a file, without the line feed, until it returns false. Skips
    /// lines longer than [`LINE_BYTES`].
    ///
    /// # Errors
    /// Those of opening and reading the file.
    #[inline(never)]
    pub fn lines_at(
        &self,
        name: &[&[u8]],
        each: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), Errno> {
        self.beginnings_at(name, &mut |line, is_whole| !is_whole || each(line))
    }

    /// As [`Root::lines_at`], but calls `each` also with the first [`LINE_BYTES`] of a longer line.
    /// The second argument is whether the line is whole.
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

/// Joins the pieces of a name in `path`, which is empty.
// Not `Path::of`, which would copy all 4 KiB of the path.
#[inline(never)]
fn join<'p>(path: &'p mut Path, pieces: &[&[u8]]) -> Result<&'p CStr, Errno> {
    path.append(pieces);
    path.as_c_str().ok_or(Errno::NAMETOOLONG)
}

impl From<OwnedFd> for Root {
    /// The directory of this descriptor.
    fn from(directory: OwnedFd) -> Self {
        Self(directory)
    }
}

/// A directory of sysfs and one of its files. They can stay open, because opening takes longer than
/// reading: both are read from their beginning each time.
pub struct KeptDirectory {
    /// The directory.
    pub directory: Root,
    file: Option<OwnedFd>,
}

impl KeptDirectory {
    /// Opens the directory `name`, and if it exists its file `file`.
    pub fn open(root: &Root, name: &[u8], file: &[u8]) -> Result<Self, Errno> {
        let directory = root.directory_at(&[name])?;
        let file = directory.file_at(&[file]).ok();
        Ok(Self { directory, file })
    }

    /// As [`Root::list`].
    pub fn list(&self, each: &mut dyn FnMut(&[u8], EntryType) -> bool) -> Result<(), Errno> {
        rustix::fs::seek(&self.directory.0, SeekFrom::Start(0))?;
        self.directory.list(each)
    }

    /// Reads the file with one call, which returns all bytes that fit into `buffer`; `None` if it is
    /// missing or cannot be read.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let count = rustix::io::pread(self.file.as_ref()?, &mut *buffer, 0).ok()?;
        buffer.get(..count)
    }
}

/// The major and minor number of an open file, if it is a block device.
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
    use crate::sys::testing::Tree;

    #[test]
    fn yields_whole_lines_and_skips_one_that_is_too_long() {
        let tree = Tree::new();
        let mut text = b"first\n\n".to_vec();
        text.extend([b'x'; 3 * LINE_BYTES]);
        text.extend(b"\nafter\n");
        text.extend([b'y'; LINE_BYTES - 1]);
        text.extend(b"\nlast");
        tree.file("f", &text);
        let mut seen = Vec::new();
        let each = &mut |line: &[u8]| {
            seen.push(line.to_vec());
            true
        };
        tree.root.lines_at(&[b"f"], each).unwrap();
        let mut cut = Vec::new();
        let each = &mut |line: &[u8], is_whole: bool| {
            cut.extend((!is_whole).then(|| line.to_vec()));
            true
        };
        tree.root.beginnings_at(&[b"f"], each).unwrap();
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
    }

    #[test]
    fn absolute_paths_become_names_below_the_root() {
        assert_eq!(relative(b"/"), b".");
        assert_eq!(relative(b"//a/b"), b"a/b");
        assert_eq!(relative(b"a"), b"a");
    }

    #[test]
    fn reports_a_missing_file() {
        let tree = Tree::new();
        assert_eq!(tree.root.has_at(&[b"nothing"]), Ok(false));
        assert_eq!(tree.root.file_at(&[b"nothing"]).err(), Some(Errno::NOENT));
    }
}
