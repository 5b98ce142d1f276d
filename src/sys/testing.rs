//! For tests: temporary directories, each the root directory of a made-up guest, and sockets.
#![allow(unsafe_code)]

use rustix::fd::{FromRawFd, OwnedFd};
use rustix::fs::{FileType, Mode};
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::root::Root;

/// A temporary directory, removed when dropped.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) root: Root,
}

impl Directory {
    /// An empty directory. Tests that run at the same time need different names.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gaunt-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        Self { path, root }
    }

    /// Makes a FIFO in it.
    pub(crate) fn make_fifo(&self, name: &CStr) {
        rustix::fs::mknodat(&self.root, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    /// Opens the directory once more.
    pub(crate) fn open(&self) -> Root {
        Root::open(&CString::new(self.path.to_str().unwrap()).unwrap()).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Two connected sockets: one for the agent, whose reads and writes never wait, and one for a test.
pub(crate) fn connection() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    // SAFETY: `into_raw_fd` gives up the descriptor, so this is its only owner.
    (unsafe { OwnedFd::from_raw_fd(ours.into_raw_fd()) }, theirs)
}
