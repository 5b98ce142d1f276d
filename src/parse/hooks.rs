//! File names of freeze hooks, and the list of hooks that need a thaw.
//!
//! A file is not a hook if qemu-ga's own fsfreeze-hook script skips its name: backups of editors, files
//! that package managers leave behind, samples, and hidden files.
//!
//! The list holds paths, each with a NUL at its end, in the order in which the hooks were started. While
//! a hook runs, the last entry is its process: number and start time, as `123 456789`. A last entry
//! without NUL is incomplete, because its writer was killed before it started the hook: it is ignored.

use super::{split_once, words};
use crate::base::path::Path;
use crate::base::text::{parse_u32, parse_u64};

/// Suffix of the directory of hooks, after the path of the main hook.
pub const DIRECTORY: &[u8] = b".d";

/// Suffixes of files that are not hooks.
const SKIPPED: &[u8] = b"~ .bak .orig .sample .rpmnew .rpmorig .rpmsave .dpkg-old .dpkg-new \
    .dpkg-tmp .dpkg-dist .dpkg-bak .dpkg-backup .dpkg-remove";

/// Returns the path of the directory of hooks of a main hook.
pub fn directory_of(main: &[u8]) -> Path {
    Path::of(&[main, DIRECTORY])
}

/// Whether an executable file of this name in the directory of hooks is a hook.
pub fn is_hook(name: &[u8]) -> bool {
    let has_suffix = |suffix| name.ends_with(suffix);
    !name.starts_with(b".") && !words(SKIPPED).any(has_suffix)
}

/// Splits off the last complete entry. Returns it and the list before it.
pub fn split_last(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = list.iter().rposition(|byte| *byte == 0)?;
    let (list, _) = list.split_at_checked(end)?;
    let before = list.iter().rposition(|byte| *byte == 0);
    let start = before.map_or(0, |end| end.saturating_add(1));
    let (before, entry) = list.split_at_checked(start)?;
    Some((entry, before))
}

/// Parses an entry that is a process: number and start time. `None` for a path.
pub fn process(entry: &[u8]) -> Option<(u32, u64)> {
    let (pid, started) = split_once(entry, b' ')?;
    Some((parse_u32(pid)?, parse_u64(started)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    #[test]
    fn backups_samples_and_hidden_files_are_not_hooks() {
        for name in ["50-db", "50-db.sh", "a.bak.sh", "dpkg-old", "~a", "A"] {
            assert!(is_hook(name.as_bytes()), "{name}");
        }
        let ends = "~ .bak .orig .sample .rpmnew .rpmorig .rpmsave .dpkg-old .dpkg-new .dpkg-tmp \
                    .dpkg-dist .dpkg-bak .dpkg-backup .dpkg-remove";
        for end in ends.split(' ') {
            assert!(!is_hook(format!("50-db.sh{end}").as_bytes()), "{end}");
        }
        assert_eq!(ends.split(' ').count(), words(SKIPPED).count());
        assert!(!is_hook(b".hidden") && !is_hook(b".") && !is_hook(b".."));
    }

    #[test]
    fn entries_are_split_off_from_the_end() {
        let (path, list) = split_last(b"/a\0/b c\0/cut short").unwrap();
        assert_eq!((path, list), (&b"/b c"[..], &b"/a\0"[..]));
        let (path, list) = split_last(list).unwrap();
        assert_eq!((path, list), (&b"/a"[..], &b""[..]));
        assert_eq!(split_last(list), None);
        assert_eq!(split_last(b"/cut short"), None);
    }

    #[test]
    fn a_path_is_not_mistaken_for_a_process() {
        assert_eq!(process(b"123 456789"), Some((123, 456_789)));
        for path in ["/1 2", "/etc/a 1", "1/2 3", "", "12", "12 ", " 12", "1 2 3"] {
            assert_eq!(process(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn no_input_panics() {
        torture(b"/a/b\0\0/c\0/d", |bytes| {
            is_hook(bytes);
            process(bytes);
            let mut list = bytes;
            while let Some((path, before)) = split_last(list) {
                assert!(!path.contains(&0) && before.len() < list.len());
                list = before;
            }
        });
    }
}
