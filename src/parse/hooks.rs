//! Names of hooks, and the list of hooks that are to be thawed.
//!
//! Which names count is what qemu-ga's own fsfreeze-hook script passes over: backups of editors, what
//! package managers leave behind, samples, and hidden files.
//!
//! The list holds paths, each ended by a NUL, in the order in which their hooks were started. While a
//! hook runs its process comes last: its number and start time, as `123 456789`. An entry without its
//! NUL was being written when its writer was killed; the hook was not started.

use super::{split_once, words};
use crate::base::path::Path;
use crate::base::text::{parse_u32, parse_u64};

/// What the directory of hooks has behind the path of the main hook.
pub const DIRECTORY: &[u8] = b".d";

/// Endings of files that are no hooks.
const PASSED_OVER: &[u8] = b"~ .bak .orig .sample .rpmnew .rpmorig .rpmsave .dpkg-old .dpkg-new \
    .dpkg-tmp .dpkg-dist .dpkg-bak .dpkg-backup .dpkg-remove";

/// The directory beside a main hook.
pub fn directory_of(main: &[u8]) -> Path {
    Path::of(&[main, DIRECTORY])
}

/// Whether a file of this name in the directory of hooks is one, if it is executable.
pub fn is_hook(name: &[u8]) -> bool {
    let passed_over = |ending| name.ends_with(ending);
    !name.starts_with(b".") && !words(PASSED_OVER).any(passed_over)
}

/// The last entry of a list that is whole, and the list before it.
pub fn split_last(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = list.iter().rposition(|byte| *byte == 0)?;
    let (list, _) = list.split_at_checked(end)?;
    let before = list.iter().rposition(|byte| *byte == 0);
    let start = before.map_or(0, |end| end.saturating_add(1));
    let (before, entry) = list.split_at_checked(start)?;
    Some((entry, before))
}

/// The number and the start time of the process that an entry names; `None` for a path.
pub fn process(entry: &[u8]) -> Option<(u32, u64)> {
    let (pid, started) = split_once(entry, b' ')?;
    Some((parse_u32(pid)?, parse_u64(started)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    #[test]
    fn backups_samples_and_hidden_files_are_no_hooks() {
        for name in ["50-db", "50-db.sh", "a.bak.sh", "dpkg-old", "~a", "A"] {
            assert!(is_hook(name.as_bytes()), "{name}");
        }
        let ends = "~ .bak .orig .sample .rpmnew .rpmorig .rpmsave .dpkg-old .dpkg-new .dpkg-tmp \
                    .dpkg-dist .dpkg-bak .dpkg-backup .dpkg-remove";
        for end in ends.split(' ') {
            assert!(!is_hook(format!("50-db.sh{end}").as_bytes()), "{end}");
        }
        assert_eq!(ends.split(' ').count(), words(PASSED_OVER).count());
        assert!(!is_hook(b".hidden") && !is_hook(b".") && !is_hook(b".."));
    }

    #[test]
    fn the_list_is_read_from_its_end() {
        let (path, list) = split_last(b"/a\0/b c\0/cut short").unwrap();
        assert_eq!((path, list), (&b"/b c"[..], &b"/a\0"[..]));
        let (path, list) = split_last(list).unwrap();
        assert_eq!((path, list), (&b"/a"[..], &b""[..]));
        assert_eq!(split_last(list), None);
        assert_eq!(split_last(b"/cut short"), None);
    }

    #[test]
    fn a_process_is_not_taken_for_a_path() {
        assert_eq!(process(b"123 456789"), Some((123, 456_789)));
        for path in ["/1 2", "/etc/a 1", "1/2 3", "", "12", "12 ", " 12", "1 2 3"] {
            assert_eq!(process(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
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
