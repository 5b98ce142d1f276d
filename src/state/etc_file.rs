//! A file of /etc that is rewritten as a whole, where it really is.
//!
//! In an appliance such a file may be a symbolic link into a data partition: then the file that it leads
//! to is replaced, by rename, in its own directory. It may also be a mount point, or lie on a file system
//! that is read-only while the file itself is not: then it is overwritten in place. While it is
//! overwritten, a copy with [`COPY`] behind the name lies beside it, unless the directory is read-only.
//! If overwriting fails, the file gets its old content back. The copy is removed once the file has its
//! new or its old content on the disk.

use core::ffi::CStr;
use core::mem::ManuallyDrop;

use crate::base::path::Path;
use crate::state::target;
use crate::sys::file::{self, Access, Links};
use crate::sys::mem::Buffer;
use crate::sys::root::{OpenOptions, Root};
use crate::sys::status::Status;
use crate::sys::{Errno, OwnedFd};

/// Behind the name of a copy. shadow-utils has backups with a dash behind the name, which stay.
const COPY: &[u8] = b".gaunt";

/// A file, by its directory and its name there.
pub struct EtcFile {
    directory: Root,
    name: Path,
}

impl EtcFile {
    /// The file at `name` in `etc`, or the one that this symbolic link leads to.
    ///
    /// # Errors
    /// Those of [`target::follow`].
    pub fn find(root: &Root, etc: Root, name: &CStr) -> Result<Self, Errno> {
        let (directory, name) = target::follow(root, etc, name.to_bytes())?;
        Ok(Self { directory, name })
    }

    /// Appends the content to `room`, and returns the open file.
    ///
    /// # Errors
    /// [`Errno::OPNOTSUPP`] for a device, FIFO or socket: a link to /dev/null must not have it replaced.
    pub fn read(&self, room: &mut Buffer) -> Result<ManuallyDrop<OwnedFd>, Errno> {
        let name = self.checked_name()?;
        self.directory.read_named(name, Links::Refuse, room)
    }

    /// Replaces the content. `old` is what [`EtcFile::read`] has returned, and appended.
    pub fn rewrite(
        &self,
        old: (&OwnedFd, &[u8]),
        content: &[u8],
        unfinished: &CStr,
    ) -> Result<(), Errno> {
        let (file, old_content) = old;
        let name = self.name()?;
        match self
            .directory
            .replace(name, unfinished, content, Access::As(file))
        {
            Err(Errno::BUSY | Errno::ROFS) => self.overwrite(name, old_content, content),
            done => done,
        }
    }

    #[inline(never)]
    fn overwrite(&self, name: &CStr, old: &[u8], content: &[u8]) -> Result<(), Errno> {
        let file = self
            .directory
            .open_private(name.to_bytes(), OpenOptions::WRITE)?;
        let copy = Path::of(&[name.to_bytes(), COPY]);
        let copy = copy.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        match self.directory.make(copy, old) {
            Ok(copy) => file::write_out(&*copy)?,
            // There is no place for a copy.
            Err(Errno::ROFS) => {}
            Err(errno) => return Err(errno),
        }
        let done = file::overwrite(&file, content);
        if done.is_ok() || file::overwrite(&file, old).is_ok() {
            self.directory.remove_named(copy);
        }
        done
    }

    /// Whether [`EtcFile::read`] and [`EtcFile::rewrite`] would work. Opens and changes nothing.
    pub fn may_rewrite(&self, root: &Root) -> Result<(), Errno> {
        let name = self.checked_name()?;
        match self.directory.may_replace(root, name.to_bytes()) {
            Err(Errno::BUSY | Errno::ROFS) => self.directory.may_write(&[name.to_bytes()]),
            done => done,
        }
    }

    /// The name of a file that exists, and is neither device, FIFO nor socket.
    fn checked_name(&self) -> Result<&CStr, Errno> {
        let name = self.name()?;
        match Status::of_name(&self.directory, &[name.to_bytes()])?.is_special() {
            true => Err(Errno::OPNOTSUPP),
            false => Ok(name),
        }
    }

    fn name(&self) -> Result<&CStr, Errno> {
        // A link to a directory has no name of a file.
        match self.name.as_bytes() {
            [] | b"." | b".." => Err(Errno::ISDIR),
            _ => self.name.as_c_str().ok_or(Errno::NAMETOOLONG),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sink::ByteSink;
    use crate::sys::testing::Tree;
    use std::fs;

    fn find(tree: &Tree) -> Result<EtcFile, Errno> {
        let etc = tree.root.enter(b"/etc", Links::Follow)?;
        EtcFile::find(&tree.root, etc, c"shadow")
    }

    /// Appends a line to the file, by rename.
    fn append(tree: &Tree) -> Result<(), Errno> {
        let file = find(tree)?;
        let mut room = Buffer::growing(4096);
        let old = file.read(&mut room)?;
        let text = [room.bytes(), b"new\n"].concat();
        file.rewrite((&old, room.bytes()), &text, c".unfinished")
    }

    #[test]
    fn file_behind_links_is_replaced_where_it_is() {
        let tree = Tree::new();
        tree.directory("etc");
        for (link, real) in [
            ("/data/shadow", "data/shadow"),
            ("../data/b/shadow", "data/b/shadow"),
            ("shadow.real", "etc/shadow.real"),
            ("../link", "data/last"),
        ] {
            let real = tree.file(real, "old\n");
            let path = tree.link("etc/shadow", link);
            if link == "../link" {
                tree.link("link", "/data/last");
            }
            append(&tree).unwrap();
            assert_eq!(fs::read_to_string(real).unwrap(), "old\nnew\n", "{link}");
            assert!(path.is_symlink());
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_errors() {
        let tree = Tree::new();
        tree.directory("etc");
        for (link, errno) in [
            ("shadow", Errno::LOOP),
            ("nothing", Errno::NOENT),
            ("/none/shadow", Errno::NOENT),
            ("..", Errno::ISDIR),
            ("/", Errno::ISDIR),
        ] {
            let path = tree.link("etc/shadow", link);
            assert_eq!(append(&tree), Err(errno), "{link}");
            fs::remove_file(path).unwrap();
        }
        assert_eq!(append(&tree), Err(Errno::NOENT));
    }

    #[test]
    fn overwriting_leaves_no_rest_of_longer_content() {
        let tree = Tree::new();
        let path = tree.file("etc/shadow", "a longer line\n");
        let file = find(&tree).unwrap();
        file.overwrite(c"shadow", b"a longer line\n", b"short\n")
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "short\n");
        let names: Vec<_> = fs::read_dir(tree.path.join("etc")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
