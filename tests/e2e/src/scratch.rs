//! Temporary directories.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The account that agents and libvirt run as when the tests run as root.
pub const NOBODY: u32 = 65534;

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no argument and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A directory that is removed, with all in it, when this is dropped.
///
/// Its path is short: the name of a unix socket has at most 107 bytes.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one.
    pub fn new() -> Scratch {
        Scratch::at("/tmp")
    }

    /// Makes one in memory if possible, for thousands of files.
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
        // SAFETY: mkdtemp reads and rewrites a terminated string in place; `template` is one, ours,
        // and outlives the call.
        let made = unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) };
        assert!(
            !made.is_null(),
            "mkdtemp: {}",
            std::io::Error::last_os_error()
        );
        let name = std::str::from_utf8(&template[..template.len() - 1]).expect("plain letters");
        Scratch {
            path: PathBuf::from(name),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Gives the directory and everything in it to [`NOBODY`], if we may.
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
    // SAFETY: lchown reads a terminated string, which `name` is until the end of this function.
    unsafe { libc::lchown(name.as_ptr(), NOBODY, NOBODY) };
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            give_away(&entry.path());
        }
    }
}
