//! Every look at a file of the guest, relative to one directory.
//!
//! In a guest that directory is `/`; in tests it is a captured tree. Paths given here therefore never
//! begin with a slash; [`relative`] makes one of a path that does.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

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

    /// Opens a file or directory to read, never waiting on it.
    pub fn file(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.with(path, flags, 0)
    }

    /// Opens a directory, whose files then go by their names in it.
    pub fn directory(&self, path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.with(path, flags, 0).map(Self)
    }

    /// Opens a mount point as qemu-ga does: O_RDONLY and O_CLOEXEC alone.
    pub fn mount_point(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.with(path, OFlags::RDONLY | OFlags::CLOEXEC, 0)
    }

    /// Opens a file to write, never waiting on it and never making it.
    pub fn for_writing(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.with(
            path,
            OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
            0,
        )
    }

    /// Makes an empty file with these permissions, or leaves the one that is there.
    pub fn create(&self, path: &Path, mode: u32) -> Result<OwnedFd, Errno> {
        self.with(
            path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            mode,
        )
    }

    pub(super) fn with(&self, path: &Path, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        rustix::fs::openat(&self.0, path, flags, Mode::from_bits_truncate(mode))
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> Result<(), Errno> {
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        rustix::fs::unlinkat(&self.0, path, AtFlags::empty())
    }

    /// Makes a directory; one that is there already is no error.
    pub fn make_directory(&self, path: &Path, mode: u32) -> Result<(), Errno> {
        match self.new_directory(path, mode) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    /// Makes a directory that is not there yet.
    pub fn new_directory(&self, path: &Path, mode: u32) -> Result<(), Errno> {
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        rustix::fs::mkdirat(&self.0, path, Mode::from_bits_truncate(mode))
    }

    /// Makes a character device.
    pub fn make_device(&self, path: &Path, major: u32, minor: u32) -> Result<(), Errno> {
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(
            &self.0,
            path,
            FileType::CharacterDevice,
            Mode::RUSR | Mode::WUSR,
            device,
        )
    }

    /// Reads a file from its start until it ends or `buffer` is full. Gives what was read, which is
    /// all of `buffer` if there may be more.
    pub fn read<'b>(&self, path: &Path, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let file = self.file(path)?;
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

    /// As [`Root::read`], of the path that these pieces make. Out of line, as is the next, so that no
    /// caller has a path on its stack: code beside one takes longer instructions.
    #[inline(never)]
    pub fn read_at<'b>(&self, path: &[&[u8]], buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        self.read(&Path::of(path), buffer)
    }

    /// Writes `word` into the file at `path` at once; may wait.
    #[inline(never)]
    pub fn tell(&self, path: &[&[u8]], word: &[u8]) -> Result<(), Errno> {
        let file = self.for_writing(&Path::of(path))?;
        rustix::io::write(file, word).map(drop)
    }

    /// Where a symbolic link points to.
    pub fn link<'b>(&self, path: &Path, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let len = rustix::fs::readlinkat_raw(&self.0, path, &mut *buffer)?;
        // A target that fills the buffer may have been cut short.
        if len == buffer.len() {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(&buffer[..len])
    }

    /// Whether there is something at `path`, a dangling link included.
    pub fn has(&self, path: &Path) -> Result<bool, Errno> {
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        match rustix::fs::statat(&self.0, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Major and minor number of the block device at `path`, if it is one.
    pub fn block_device(&self, path: &Path) -> Result<Option<(u32, u32)>, Errno> {
        let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let stat = rustix::fs::statat(&self.0, path, AtFlags::empty())?;
        let is_block = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
        let device = stat.st_rdev;
        Ok(is_block.then(|| (rustix::fs::major(device), rustix::fs::minor(device))))
    }

    /// Calls `each` with every name in a directory but `.` and `..`, in the directory's own order,
    /// until it returns false.
    pub fn list(
        &self,
        path: &Path,
        each: &mut dyn FnMut(&[u8], Entry) -> bool,
    ) -> Result<(), Errno> {
        let directory = self.directory(path)?.0;
        let mut buffer = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(directory, &mut buffer);
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
    pub fn lines(&self, path: &Path, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Errno> {
        let file = self.file(path)?;
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
                if !core::mem::take(&mut too_long) && !each(line) {
                    return Ok(());
                }
            }
            if count == 0 {
                if !rest.is_empty() && !too_long {
                    each(rest);
                }
                return Ok(());
            }
            let end = held + count;
            held = rest.len();
            buffer.copy_within(end - held..end, 0);
            if held == LINE_BYTES {
                (held, too_long) = (0, true);
            }
        }
    }
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
        root.lines(&Path::of(&[b"f"]), each).unwrap();
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
        assert_eq!(root.has(&Path::of(&[b"nothing"])), Ok(false));
        assert_eq!(
            root.file(&Path::of(&[b"nothing"])).err(),
            Some(Errno::NOENT)
        );
        std::fs::remove_dir_all(path).unwrap();
    }
}
