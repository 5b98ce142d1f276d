//! A sorted list of names in borrowed memory: those of a directory, or any others.
//!
//! The kernel lists a directory in no particular order. Lists that promise an order sort the names
//! here.

use crate::base::index;
use crate::base::sink::{ByteSink, append_all};
use crate::base::text::{compare_until, cut};
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::root::{EntryType, Root};

/// A list of names, which contain no NUL.
pub struct NameList {
    /// The names, each ended by a NUL. [`NameList::sort`] appends the index.
    pub bytes: Buffer,
    /// The offset of the index.
    index: usize,
}

impl NameList {
    /// An empty list of at most `cap` bytes, the index included.
    pub fn new(cap: usize) -> Self {
        Self {
            bytes: Buffer::growing(cap),
            index: 0,
        }
    }

    /// Reads the names in a directory, except those of its subdirectories, and sorts them.
    ///
    /// # Errors
    /// The error of reading the directory; [`Errno::FBIG`] if its names do not fit.
    pub fn read(&mut self, root: &Root, directory: &[u8]) -> Result<(), Errno> {
        let bytes = &mut self.bytes;
        root.list_at(&[directory], &mut |name, kind| {
            if kind != EntryType::Directory {
                let _ = append_all(bytes, &[name, b"\0"]);
            }
            true
        })?;
        self.sort()
    }

    /// Sorts the names in `bytes`.
    ///
    /// # Errors
    /// [`Errno::FBIG`] if names or index do not fit.
    pub fn sort(&mut self) -> Result<(), Errno> {
        let Self { bytes, index } = self;
        let start = index::append(bytes, &mut |rest| {
            cut(rest, 0);
            true
        });
        bytes.whole()?;
        *index = start;
        let (names, offsets) = bytes.bytes_mut().split_at_mut(start);
        index::sort(offsets, &mut |one, other| {
            compare_until(&names[one..], &names[other..], 0)
        });
        Ok(())
    }

    /// The names, in the order of their bytes.
    pub fn sorted(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let (names, offsets) = self.bytes.bytes().split_at(self.index);
        index::offsets(offsets).map(|offset| name_at(names, offset))
    }

    /// Whether the list contains `name`.
    pub fn has(&self, name: &[u8]) -> bool {
        let (names, offsets) = self.bytes.bytes().split_at(self.index);
        !index::equal_range(offsets, &mut |offset| {
            compare_until(&names[offset..], name, 0)
        })
        .is_empty()
    }
}

fn name_at(names: &[u8], offset: usize) -> &[u8] {
    cut(&mut names.get(offset..).unwrap_or_default(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::DIRECTORY_BYTES;
    use crate::sys::testing::Tree;

    fn sorted(names: &NameList) -> Vec<String> {
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        names.sorted().map(text).collect()
    }

    #[test]
    fn sorts_names_and_skips_directories() {
        let long = "x".repeat(200);
        let files = [
            ("d/b", ""),
            ("d/a10", ""),
            ("d/a", "-> ../nowhere"),
            ("d/directory/file", ""),
            (&format!("d/{long}"), ""),
            ("empty/directory/file", ""),
        ];
        let tree = Tree::of(&files);
        let read = |name: &[u8]| {
            let mut names = NameList::new(DIRECTORY_BYTES);
            names.read(&tree.root, name).map(|()| names)
        };
        let names = read(b"d").unwrap();
        assert_eq!(sorted(&names), ["a", "a10", "b", &long]);
        assert_eq!(names.sorted().next_back(), Some(long.as_bytes()));
        assert!(sorted(&read(b"empty").unwrap()).is_empty());
        assert_eq!(read(b"none").err(), Some(Errno::NOENT));
    }

    #[test]
    fn lists_thousands_of_names() {
        let files: Vec<String> = (0..3000).map(|number| format!("d/{number}")).collect();
        let files: Vec<_> = files.iter().map(|name| (&name[..], "")).collect();
        let tree = Tree::of(&files);
        let mut names = NameList::new(DIRECTORY_BYTES);
        names.read(&tree.root, b"d").unwrap();
        let mut expected: Vec<String> = (0..3000).map(|number| number.to_string()).collect();
        expected.sort();
        assert_eq!(sorted(&names), expected);
        assert!(expected.iter().all(|name| names.has(name.as_bytes())));
    }

    #[test]
    fn finds_names() {
        let mut names = NameList::new(1 << 16);
        for name in ["/b", "", "/a/b", "/a", "/b"] {
            names.bytes.append(name.as_bytes()).unwrap();
            names.bytes.append(b"\0").unwrap();
        }
        names.sort().unwrap();
        assert_eq!(sorted(&names), ["", "/a", "/a/b", "/b", "/b"]);
        for (name, is_there) in [
            ("", true),
            ("/a", true),
            ("/b", true),
            ("/", false),
            ("/c", false),
        ] {
            assert_eq!(names.has(name.as_bytes()), is_there, "{name}");
        }
        let mut none = NameList::new(1);
        none.sort().unwrap();
        assert!(!none.has(b"") && none.sorted().next().is_none());
    }

    #[test]
    fn fails_without_room_for_the_index() {
        let mut names = NameList::new(4);
        names.bytes.append(b"a\0").unwrap();
        assert_eq!(names.sort(), Err(Errno::FBIG));
    }
}
