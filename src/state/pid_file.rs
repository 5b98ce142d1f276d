//! The pid file of a daemon, as qemu-ga has it: the number of the process and a line feed, in a file
//! of mode 0600 that the agent holds locked as long as it runs, and removes at its end.
//!
//! Its lock keeps a second agent from starting, gaunt or qemu-ga. After a crash the file stays, without
//! the lock, and the next agent takes it over.
//!
//! The file may be on a disk: it is neither made nor removed while a file system is frozen, and closed
//! before a shutdown.
//!
//! Differences from qemu-ga: the lock does not end when a host opens and closes the file. The file is a
//! regular file of the agent's own user, and no symbolic link. An agent that could not start, or only
//! prints its settings, does not remove the file of one that runs.

use super::own_file::OwnFile;
use crate::base::text::Digits;
use crate::state::target;
use crate::sys::root::Root;
use crate::sys::{Errno, process};

/// A pid file, or none.
#[derive(Default)]
pub struct PidFile {
    /// Its path, until it is made.
    path: Option<&'static [u8]>,
    /// Its directory, its name, and the file.
    held: Option<(Root, &'static [u8], OwnFile)>,
}

impl PidFile {
    /// The file at `path`, which [`PidFile::make`] makes.
    pub fn at(path: Option<&'static [u8]>) -> Self {
        Self { path, held: None }
    }

    /// Makes and locks the file, if there is one that was not made before. On an error returns its
    /// path as well.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] if another process holds it.
    pub fn make(&mut self) -> Result<(), (&'static [u8], Errno)> {
        let Some(path) = self.path.take() else {
            return Ok(());
        };
        self.held = Some(hold(path).map_err(|errno| (path, errno))?);
        Ok(())
    }

    /// Removes the file, if this process has made one, and if its name was not given to another since.
    pub fn remove(&mut self) {
        if let Some((directory, name, file)) = self.held.take()
            && file.has_name(&directory, name)
        {
            let _ = directory.remove_at(&[name]);
        }
    }
}

/// Whether [`PidFile::make`] could make the file at `path`, unless another process holds it. Opens and
/// makes nothing.
pub fn check(path: &[u8]) -> Result<(), Errno> {
    let (directory, name) = target::split(path)?;
    OwnFile::check(&directory, name)
}

fn hold(path: &'static [u8]) -> Result<(Root, &'static [u8], OwnFile), Errno> {
    let (directory, name) = target::split(path)?;
    let file = OwnFile::hold(&directory, name)?;
    file.cut(0)?;
    file.append(Digits::signed(process::own_pid().into()).as_bytes())?;
    file.append(b"\n")?;
    Ok((directory, name, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs;

    /// A path that lasts.
    fn lasting(path: &std::path::Path) -> &'static [u8] {
        let path = path.to_str().unwrap().to_owned();
        path.leak().as_bytes()
    }

    #[test]
    fn holds_a_file_with_the_number_of_the_process_until_it_removes_it() {
        let tree = Tree::new();
        // What an agent has left that was killed.
        let file = tree.path.join("pid");
        let path = lasting(&file);
        assert_eq!(check(path), Ok(()));
        assert!(!file.exists());
        tree.file("pid", "a longer content\n");
        assert_eq!(check(path), Ok(()));
        let mut pid_file = PidFile::at(Some(path));
        pid_file.make().unwrap();
        let number = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&file).unwrap(), number);
        // A host that looks at it does not end the lock.
        drop(fs::File::open(&file).unwrap());
        let mut second = PidFile::at(Some(path));
        assert_eq!(second.make(), Err((path, Errno::AGAIN)));
        // A check does not look at the lock.
        assert_eq!(check(path), Ok(()));
        second.remove();
        assert_eq!(fs::read_to_string(&file).unwrap(), number);
        // It is made once.
        fs::write(&file, "").unwrap();
        pid_file.make().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
        pid_file.remove();
        assert!(!file.exists());
        pid_file.remove();
        // Somebody has moved the file away, and another agent has made one.
        let mut moved = PidFile::at(Some(path));
        moved.make().unwrap();
        fs::rename(&file, file.with_extension("old")).unwrap();
        let mut third = PidFile::at(Some(path));
        third.make().unwrap();
        moved.remove();
        assert_eq!(fs::read_to_string(&file).unwrap(), number);
        third.remove();
        assert!(!file.exists());
    }

    #[test]
    fn file_that_cannot_be_made_is_an_error() {
        let tree = Tree::new();
        tree.directory("directory");
        tree.file("file", "");
        tree.link("link", "file");
        for (name, errno) in [
            ("none/pid", Errno::NOENT),
            ("file/pid", Errno::NOTDIR),
            ("directory", Errno::ISDIR),
            ("link", Errno::LOOP),
            ("directory/", Errno::NOENT),
        ] {
            let path = lasting(&tree.path.join(name));
            assert_eq!(check(path), Err(errno), "{name}");
            let made = PidFile::at(Some(path)).make();
            assert_eq!(made, Err((path, errno)), "{name}");
        }
        assert!(PidFile::default().make().is_ok());
    }
}
