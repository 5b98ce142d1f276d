//! The list of hooks that were started with `freeze` and not yet with `thaw`.
//!
//! The list is a file in the state directory (`--statedir`), which must be on a file system in
//! memory. A run that is killed leaves it to the next run. A hook is added before it starts, and
//! removed after its thaw: a hook on the list may need its thaw, any other hook does not. The file
//! is removed with its last hook. `parse::hooks` describes the format.
//!
//! A running hook has its process id at the end of the file, so that the next run can kill its
//! process group before its thaw.
//!
//! The process that runs hooks keeps the file locked. So the next run waits for a child of a killed
//! agent that has not ended yet.

use crate::base::limits::HOOK_LIST_BYTES;
use crate::base::sink::ByteSink;
use crate::base::text::{Digits, push_truncated};
use crate::parse::hooks::{process, split_last};
use crate::state::own_file::{OwnFile, Version, is_shared};
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::root::Root;

/// The name of the file.
const NAME: &[u8] = b"gaunt.hooks";

/// The list.
pub struct Ledger {
    /// The content of the file.
    list: Buffer,
    /// The file and its directory; `None` for a list that ends with this process.
    kept: Option<(OwnFile, Root)>,
}

impl Ledger {
    /// Whether there is a list. A directory where other users may make files never has one.
    pub fn exists(directory: &Root) -> bool {
        Self::version(directory).is_some()
    }

    /// The version of the list, if there is one.
    pub fn version(directory: &Root) -> Option<Version> {
        Version::of(directory, NAME).filter(|_| !is_shared(directory))
    }

    /// Whether [`Ledger::find`] could read the list, if there is one. Opens nothing.
    pub fn check(directory: &Root) -> Result<(), Errno> {
        match Self::exists(directory) {
            true => OwnFile::check(directory, NAME),
            false => Ok(()),
        }
    }

    /// An empty list in memory, which ends with this process.
    pub(in crate::state) fn new() -> Self {
        Self {
            list: Buffer::growing(HOOK_LIST_BYTES),
            kept: None,
        }
    }

    /// Reads the list in the state directory, if there is one. Returns process id and start time of
    /// the hook that was running.
    pub fn find(&mut self, directory: Root) -> Result<Option<(u32, u64)>, Errno> {
        let Some(file) = OwnFile::find(&directory, NAME)? else {
            return Ok(None);
        };
        file.read(&mut self.list)?;
        self.kept = Some((file, directory));
        let last = split_last(self.list.bytes());
        let found = last.and_then(|(entry, before)| Some((process(entry)?, before.len())));
        Ok(found.map(|(process, len)| {
            self.list.truncate(len);
            process
        }))
    }

    /// Keeps the list, which is empty, in a new file in the state directory.
    pub fn keep_in(&mut self, directory: Root) -> Result<(), Errno> {
        self.kept = Some((OwnFile::make(&directory, NAME)?, directory));
        Ok(())
    }

    /// Adds a hook.
    pub fn add(&mut self, hook: &[u8]) -> Result<(), Errno> {
        let len = self.list.len();
        let mut added = Ok(());
        for piece in &[hook, b"\0"] {
            let _ = self.list.append(piece);
            if let Some((file, _)) = &self.kept {
                added = added.and_then(|()| file.append(piece));
            }
        }
        added = added.and(self.list.whole());
        if added.is_err() {
            self.cut(len);
        }
        added
    }

    /// In the process that is about to execute a hook: adds its process id to the file.
    pub fn put_process(&self, pid: u32, started: u64) -> Result<(), Errno> {
        let Some((file, _)) = &self.kept else {
            return Ok(());
        };
        let (pid, started) = (Digits::unsigned(pid.into()), Digits::unsigned(started));
        let mut entry = heapless::Vec::<u8, 40>::new();
        push_truncated(
            &mut entry,
            &[pid.as_bytes(), b" ", started.as_bytes(), b"\0"],
        );
        file.append(&entry)
    }

    /// Removes the process id of a hook that has ended.
    pub fn remove_process(&mut self) {
        self.cut(self.list.len());
    }

    /// The last hook of the list.
    pub fn last(&self) -> Option<&[u8]> {
        split_last(self.list.bytes()).map(|(hook, _)| hook)
    }

    /// Removes the last hook.
    pub fn remove_last(&mut self) {
        if let Some((_, before)) = split_last(self.list.bytes()) {
            let len = before.len();
            self.cut(len);
        }
    }

    fn cut(&mut self, len: usize) {
        self.list.truncate(len);
        if let Some((file, _)) = &self.kept {
            // Does not fail on a file system in memory.
            let _ = file.cut(len);
        }
    }

    /// Closes the file, and removes it if the list is empty.
    pub fn close(&mut self) {
        if let Some((_, directory)) = self.kept.take()
            && self.last().is_none()
        {
            let _ = directory.remove_at(&[NAME]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    fn last(ledger: &Ledger) -> Option<String> {
        let last = ledger.last()?;
        Some(String::from_utf8(last.to_vec()).unwrap())
    }

    #[test]
    fn list_survives_its_process_and_is_emptied_in_reverse() {
        let tree = Tree::new();
        let file = tree.path.join("gaunt.hooks");
        let open = || {
            let mut ledger = Ledger::new();
            ledger.find(tree.open()).unwrap();
            ledger
        };
        assert!(!Ledger::exists(&tree.root) && last(&open()).is_none());
        let mut ledger = Ledger::new();
        ledger.keep_in(tree.open()).unwrap();
        ledger.add(b"/a").unwrap();
        ledger.add(b"/b c").unwrap();
        ledger.close();
        assert!(Ledger::exists(&tree.root));

        // The run was killed while it added a third hook.
        use std::io::Write;
        let appended = std::fs::OpenOptions::new().append(true).open(&file);
        appended.unwrap().write_all(b"/cut sho").unwrap();
        let mut ledger = open();
        assert_eq!(last(&ledger).as_deref(), Some("/b c"));
        ledger.remove_last();
        assert_eq!(std::fs::read(&file).unwrap(), b"/a\0");
        ledger.add(b"/d").unwrap();
        drop(ledger);
        let mut ledger = open();
        for hook in ["/d", "/a"] {
            assert_eq!(last(&ledger).as_deref(), Some(hook));
            ledger.remove_last();
        }
        assert_eq!(last(&ledger), None);
        ledger.close();
        assert!(!file.exists());
    }

    #[test]
    fn file_has_the_process_id_of_a_running_hook() {
        let tree = Tree::new();
        let file = tree.path.join("gaunt.hooks");
        let mut ledger = Ledger::new();
        ledger.keep_in(tree.open()).unwrap();
        ledger.add(b"/a").unwrap();
        ledger.put_process(u32::MAX, u64::MAX).unwrap();
        ledger.remove_process();
        ledger.add(b"/b").unwrap();
        ledger.put_process(77, 987_654).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"/a\0/b\x0077 987654\0");
        assert_eq!(last(&ledger).as_deref(), Some("/b"));
        drop(ledger);
        let mut ledger = Ledger::new();
        let found = ledger.find(tree.open()).unwrap();
        assert_eq!(found, Some((77, 987_654)));
        assert_eq!(last(&ledger).as_deref(), Some("/b"));
        ledger.remove_last();
        assert_eq!(std::fs::read(&file).unwrap(), b"/a\0");
        // A list in memory has no process id.
        Ledger::new().put_process(77, 987_654).unwrap();
    }

    #[test]
    fn full_list_takes_no_hook() {
        let mut ledger = Ledger::new();
        let hook = [b'x'; crate::base::limits::PATH_BYTES - 1];
        let mut count = 0;
        while ledger.add(&hook).is_ok() {
            count += 1;
        }
        assert_eq!(count, HOOK_LIST_BYTES / (hook.len() + 1));
        ledger.add(b"/short").unwrap_err();
        for _ in 0..count {
            assert_eq!(ledger.last().unwrap(), hook);
            ledger.remove_last();
        }
        assert!(ledger.last().is_none());
    }
}
