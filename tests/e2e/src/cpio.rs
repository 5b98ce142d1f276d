//! Adds files to an image, as a cpio archive appended to it.
//!
//! The format is "newc", as the kernel's initramfs buffer format describes it. An initramfs may hold
//! several archives, one behind the other, each compressed or not. The kernel unpacks them in turn;
//! later files replace earlier ones.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::process::{program, run};
use crate::wait;

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Returns an image with an archive appended.
pub fn appended(image: &Path, archive: &[u8]) -> Vec<u8> {
    let mut bytes = std::fs::read(image).unwrap_or_else(|e| panic!("{}: {e}", image.display()));
    // Each archive begins at a multiple of four bytes.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(archive);
    bytes
}

/// An archive under construction.
#[derive(Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    files: u32,
}

impl Cpio {
    /// Begins an empty archive.
    pub fn new() -> Cpio {
        Cpio::default()
    }

    /// Adds a file and the directories above it.
    pub fn file(mut self, name: &str, mode: u32, content: &[u8]) -> Cpio {
        self.parents(name);
        self.entry(name, REGULAR | mode, content);
        self
    }

    /// Adds a copy of a file of this machine.
    pub fn copy(self, name: &str, from: &Path) -> Cpio {
        let content = std::fs::read(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        let metadata = std::fs::metadata(from).expect("it was just read");
        self.file(name, metadata.permissions().mode() & 0o777, &content)
    }

    /// Adds the content of a directory of this machine below `name`. All files belong to root.
    pub fn tree(mut self, name: &str, from: &Path) -> Cpio {
        let entries = std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            let last = path.file_name().and_then(|last| last.to_str());
            let name = format!("{name}/{}", last.expect("a plain name"));
            self = if let Ok(target) = path.read_link() {
                self.link(&name, target.to_str().expect("a plain path"))
            } else if path.is_dir() {
                self.directory(&name).tree(&name, &path)
            } else {
                self.copy(&name, &path)
            };
        }
        self
    }

    /// Adds an installed program under its own path, with its shared libraries.
    pub fn program(self, path: &Path) -> Cpio {
        let name = path.to_str().expect("a plain path");
        self.program_as(name.trim_start_matches('/'), path)
    }

    /// Adds a program under another path, with its shared libraries.
    pub fn program_as(mut self, name: &str, path: &Path) -> Cpio {
        let listed = run(
            Command::new(program("ldd", "libc-bin")).arg(path),
            wait::ANSWER,
        );
        for line in listed.lines() {
            // "NAME => PATH (ADDRESS)"; "PATH (ADDRESS)" for the interpreter.
            let word = line.split_whitespace().find(|word| word.starts_with('/'));
            if let Some(library) = word {
                self = self.copy(library.trim_start_matches('/'), Path::new(library));
            }
        }
        self.copy(name, path)
    }

    /// Adds a directory.
    pub fn directory(mut self, name: &str) -> Cpio {
        self.parents(name);
        self.entry(name, DIRECTORY | 0o755, b"");
        self
    }

    /// Adds a symbolic link.
    pub fn link(mut self, name: &str, to: &str) -> Cpio {
        self.parents(name);
        self.entry(name, LINK | 0o777, to.as_bytes());
        self
    }

    /// Returns the finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn parents(&mut self, name: &str) {
        for (at, _) in name.match_indices('/') {
            self.entry(&name[..at], DIRECTORY | 0o755, b"");
        }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        assert!(
            !name.starts_with('/'),
            "names in an image are relative: {name}"
        );
        self.files += 1;
        let size = u32::try_from(content.len()).expect("a file of less than 4 GB");
        let name_size = u32::try_from(name.len() + 1).expect("a short name");
        let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
        // inode, mode, uid, gid, links, mtime, size, major and minor of the file system's device, major
        // and minor of a device file, name size, checksum
        let fields = [
            self.files, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}
