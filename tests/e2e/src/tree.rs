//! Made-up directories, such as /sys, that hide the machine's own for one agent: [`Agent::in_tree`].
//!
//! [`Agent::in_tree`]: crate::agent::Agent::in_tree

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::scratch::Scratch;

/// A tree of files. Dropping it removes the files. Paths are relative to its top, which stands for `/`.
pub struct Tree {
    scratch: Scratch,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// Makes an empty tree.
    pub fn new() -> Tree {
        Tree {
            scratch: Scratch::in_memory(),
        }
    }

    /// Adds a directory.
    pub fn directory(&self, path: &str) {
        let path = self.scratch.join(path);
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Adds a file and the directories above it.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.place(path);
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Adds a symbolic link and the directories above it.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.place(path);
        symlink(target, &path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Adds the directories above `path`. Returns the path on this machine.
    fn place(&self, path: &str) -> PathBuf {
        if let Some((directory, _)) = path.rsplit_once('/') {
            self.directory(directory);
        }
        self.scratch.join(path)
    }

    /// Makes the agents' account the owner of everything in the tree.
    pub fn give_away(&self) {
        self.scratch.give_away();
    }

    /// Returns the directory that holds the tree.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Returns the names at its top.
    pub fn top(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).expect("a directory of ours");
        entries
            .map(|entry| {
                let name = entry.expect("an entry").file_name();
                name.into_string().expect("a plain name")
            })
            .collect()
    }
}
