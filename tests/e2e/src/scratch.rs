//! Temporary directories.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The account of agents and libvirt when the tests run as root: nobody.
pub const NOBODY: u32 = 65534;

/// Returns whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no argument and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A temporary directory. Dropping it removes the directory and its content.
///
/// With `KEEP` in the environment the directory of a failed test stays. Its path is short, because the
/// path of a unix socket has at most 107 bytes.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a directory in /tmp.
    pub fn new() -> Scratch {
        Scratch::at("/tmp")
    }

    /// Makes a directory in memory if possible, for thousands of files.
    pub fn in_memory() -> Scratch {
        let memory = "/dev/shm";
        Scratch::at(if Path::new(memory).is_dir() {
            memory
        } else {
            "/tmp"
        })
    }

    fn at(directory: &str) -> Scratch {
        let mut template = format!("{directory}/gaunt.XXXXXX\0").into_bytes();
        // SAFETY: mkdtemp reads and rewrites a string that ends in a NUL; `template` is such a string and
        // outlives the call.
        let made = unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) };
        assert!(
            !made.is_null(),
            "mkdtemp: {}",
            std::io::Error::last_os_error()
        );
        let name = std::str::from_utf8(&template[..template.len() - 1]).expect("ASCII");
        Scratch {
            path: PathBuf::from(name),
        }
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes [`NOBODY`] the owner of the directory and its content, if the tests run as root.
    pub fn give_away(&self) {
        if is_root() {
            give_away(&self.path);
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("KEEP").is_some() {
            eprintln!("kept: {}", self.path.display());
            return;
        }
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn give_away(path: &Path) {
    let name = CString::new(path.as_os_str().as_bytes()).expect("a path without NUL");
    // SAFETY: lchown reads a string that ends in a NUL; `name` is one and outlives the call.
    unsafe { libc::lchown(name.as_ptr(), NOBODY, NOBODY) };
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            give_away(&entry.path());
        }
    }
}
