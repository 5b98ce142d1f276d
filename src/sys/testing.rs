//! For tests: trees of files that stand for guests, and sockets.
#![allow(unsafe_code)]

use rustix::fd::{FromRawFd, OwnedFd};
use rustix::fs::{FileType, Mode};
use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io::{Seek, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::root::Root;

/// A tree of files in a temporary directory, which is removed when dropped. Paths are relative to
/// `root`, the root directory of a made-up guest.
pub(crate) struct Tree {
    pub(crate) path: PathBuf,
    pub(crate) root: Root,
}

impl Tree {
    /// An empty tree.
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// An empty tree in memory if possible, for thousands of files.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Self::below(memory),
            false => Self::new(),
        }
    }

    /// Files with their content; content that begins with `-> ` makes a symbolic link.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let tree = Self::new();
        for (path, content) in files {
            tree.add(path, content.as_bytes());
        }
        tree
    }

    /// A machine from tests/fixtures, whose file `tree` lists its files.
    ///
    /// The fixtures are not kept as a tree of files, because circular links, as sysfs has them,
    /// and names with colons give other programs trouble.
    pub(crate) fn captured(machine: &str) -> Self {
        let top = env!("CARGO_MANIFEST_DIR");
        let list = format!("{top}/tests/fixtures/{machine}/tree");
        let list = fs::read_to_string(list).unwrap();
        let tree = Self::new();
        for line in list.lines().filter(|line| !line.starts_with('#')) {
            let (path, content) = line.split_once('\t').unwrap();
            tree.add(path, &unescaped(content));
        }
        tree
    }

    fn below(directory: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("gaunt-{}-{number}", std::process::id()));
        // A killed run may have left a tree of this name.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let root = open(&path);
        Self { path, root }
    }

    /// Makes a directory and those above it. Returns its path on this machine.
    pub(crate) fn directory(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.path.join(path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Makes or replaces a file, and makes the directories above it. Returns its path on this machine.
    pub(crate) fn file(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.place(path);
        fs::write(&path, content).unwrap();
        path
    }

    /// Makes a symbolic link and the directories above it. Returns its path on this machine.
    pub(crate) fn link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> PathBuf {
        let path = self.place(path);
        symlink(target, &path).unwrap();
        path
    }

    /// Makes a FIFO.
    pub(crate) fn fifo(&self, name: &CStr) {
        rustix::fs::mknodat(&self.root, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    /// Opens the root directory once more.
    pub(crate) fn open(&self) -> Root {
        open(&self.path)
    }

    fn add(&self, path: &str, content: &[u8]) {
        match content.strip_prefix(b"-> ") {
            Some(target) => self.link(path, OsStr::from_bytes(target)),
            None => self.file(path, content),
        };
    }

    /// Makes the directories above `path`. Returns its path on this machine.
    fn place(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A file with this content, read from its beginning. It has no name any more. Works under Miri, which
/// has no openat(2).
pub(crate) fn file_of(content: &[u8]) -> OwnedFd {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("gaunt-file-{}-{number}", std::process::id()));
    let mut options = fs::File::options();
    options.read(true).write(true).create(true).truncate(true);
    let mut file = options.open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    // SAFETY: `into_raw_fd` gives the descriptor away.
    unsafe { OwnedFd::from_raw_fd(file.into_raw_fd()) }
}

fn open(path: &Path) -> Root {
    Root::open(&CString::new(path.as_os_str().as_bytes()).unwrap()).unwrap()
}

/// Undoes `\n`, `\t`, `\xNN` and `\\`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
            byte => byte,
        });
    }
    bytes
}

/// Two connected sockets: one for the agent, whose reads and writes never wait, and one for a test.
pub(crate) fn connection() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    // SAFETY: `into_raw_fd` gives up the descriptor, so this is its only owner.
    (unsafe { OwnedFd::from_raw_fd(ours.into_raw_fd()) }, theirs)
}
