//! The names in a directory, read once into borrowed memory and sorted.
//!
//! A kernel lists a directory in whatever order it likes. Where a list promises one, its names come
//! from here.

use crate::base::index;
use crate::base::limits::DIRECTORY_BYTES;
use crate::base::path::Path;
use crate::base::store::Store;
use crate::base::text::{compare, cut};
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::root::{Entry, Root};

/// The names in a directory.
pub struct Names {
    /// The names, each ended by a NUL, then the index of them.
    bytes: Buffer,
    /// Where the index begins.
    index: usize,
}

impl Names {
    /// The names in a directory, but for those of directories in it.
    ///
    /// # Errors
    /// That of reading the directory; [`Errno::FBIG`] if it has more names than
    /// [`DIRECTORY_BYTES`] have room for.
    #[inline(never)]
    pub fn read(root: &Root, directory: &Path) -> Result<Self, Errno> {
        let mut bytes = Buffer::growing(DIRECTORY_BYTES);
        let mut count = 0;
        root.list(directory, &mut |name, kind| {
            if kind != Entry::Directory {
                let _ = bytes.append(name);
                let _ = bytes.append(b"\0");
                count += 1;
            }
            true
        })?;
        let index = bytes.len();
        let mut start = 0;
        for _ in 0..count {
            let len = name_at(bytes.bytes(), start).len();
            let _ = index::push(&mut bytes, start);
            start += len + 1;
        }
        bytes.whole()?;
        let (names, offsets) = bytes.bytes_mut().split_at_mut(index);
        index::sort(offsets, &mut |one, other| {
            compare(&names[one..], &names[other..], 0)
        });
        Ok(Self { bytes, index })
    }

    /// The names in the order of their bytes.
    pub fn sorted(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let (names, offsets) = self.bytes.bytes().split_at(self.index);
        index::offsets(offsets).map(|offset| name_at(names, offset))
    }
}

fn name_at(names: &[u8], offset: usize) -> &[u8] {
    cut(&mut names.get(offset..).unwrap_or_default(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::block::testing::Tree;

    fn sorted(names: &Names) -> Vec<String> {
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        names.sorted().map(text).collect()
    }

    #[test]
    fn names_are_sorted_and_directories_left_out() {
        let long = "x".repeat(200);
        let files = [
            ("d/b", ""),
            ("d/a10", ""),
            ("d/a", "-> ../nowhere"),
            ("d/directory/file", ""),
            (&format!("d/{long}"), ""),
            ("empty/directory/file", ""),
        ];
        let tree = Tree::new("names", &files);
        let read = |name: &[u8]| Names::read(&tree.root, &Path::of(&[name]));
        let names = read(b"d").unwrap();
        assert_eq!(sorted(&names), ["a", "a10", "b", &long]);
        assert_eq!(names.sorted().next_back(), Some(long.as_bytes()));
        assert!(sorted(&read(b"empty").unwrap()).is_empty());
        assert_eq!(read(b"none").err(), Some(Errno::NOENT));
    }

    #[test]
    fn thousands_of_names_are_all_there() {
        let files: Vec<String> = (0..3000).map(|number| format!("d/{number}")).collect();
        let files: Vec<_> = files.iter().map(|name| (&name[..], "")).collect();
        let tree = Tree::new("names-many", &files);
        let names = Names::read(&tree.root, &Path::of(&[b"d"])).unwrap();
        let mut expected: Vec<String> = (0..3000).map(|number| number.to_string()).collect();
        expected.sort();
        assert_eq!(sorted(&names), expected);
    }
}
