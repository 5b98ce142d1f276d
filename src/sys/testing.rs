//! Temporary directories for tests, each the root directory of a made-up guest.

use rustix::fs::{FileType, Mode};
use std::ffi::{CStr, CString};
use std::fs;
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
        rustix::fs::mknodat(&self.root, name, FileType::Fifo, Mode::RUSR, 0).unwrap();
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
