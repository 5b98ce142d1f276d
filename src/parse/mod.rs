//! Parsers, one format per file: pure functions over bytes that return borrowed values, without I/O.
//!
//! Input that does not parse yields `None` or is skipped. No input makes a parser panic, and its time is
//! linear in the length of the input unless its documentation says otherwise.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod accounts;
pub mod cmdline;
pub mod config;
pub mod cpu_list;
pub mod credential;
pub mod fstab;
pub mod hooks;
pub mod hostname;
pub mod inet;
pub mod keys_path;
pub mod modules;
pub mod mountinfo;
pub mod netlink;
pub mod nvme;
pub mod os_release;
pub mod posix_tz;
pub mod proc;
pub mod routes;
pub mod smbios;
pub mod stats;
pub mod superblock;
pub mod sysfs_disk;
pub mod tzfile;
pub mod udev;
pub mod utmp;

use crate::base::path::Path;
use crate::base::text::{cut, parse_u64};

/// Iterates over the lines of a file, without line feeds. After a final line feed comes one empty line.
pub fn lines(file: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
}

/// Iterates over the words of a line, which ASCII white space separates.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    core::iter::from_fn(move || next_word(&mut rest))
}

/// Splits the next word off the front of a line; `None` at its end.
pub fn next_word<'a>(line: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = line.trim_ascii_start();
    let (word, rest) = span(start, |byte| !byte.is_ascii_whitespace());
    *line = rest;
    (!word.is_empty()).then_some(word)
}

/// Returns the index of `word` among the words of `line`, counted from 0.
pub fn word_index(line: &[u8], word: &[u8]) -> Option<usize> {
    words(line).position(|other| other == word)
}

/// Returns the last component of a path.
pub fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Returns a path without its last component, with the slash before that; empty without a slash.
pub fn parent_of(path: &[u8]) -> &[u8] {
    path.strip_suffix(file_name(path)).unwrap_or_default()
}

/// Splits `text` at the first `byte`, which belongs to neither part.
// Out of line: one copy of the code is smaller.
#[inline(never)]
pub fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let mut after = text;
    let before = cut(&mut after, byte);
    (before.len() != text.len()).then_some((before, after))
}

/// Splits `text` before the first byte that `accept` refuses.
fn span(text: &[u8], accept: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !accept(*byte))
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// Parses the decimal number at the front of `text`. Returns it and the rest.
fn decimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = span(text, |byte| byte.is_ascii_digit());
    Some((parse_u64(digits)?, rest))
}

/// Returns the `N` bytes at offset `at`.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Splits the first `len` bytes off the front of `bytes`.
// Out of line: one copy of the code is smaller.
#[inline(never)]
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(len)?;
    *bytes = tail;
    Some(head)
}

/// Returns the bytes before the first NUL, or all bytes if there is none.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    span(bytes, |byte| byte != 0).0
}

/// Iterates over the bytes of a field with `\ooo` (first digit 0 to 3) and `\\` decoded. Any other
/// backslash stands for itself.
pub fn unescape(field: &[u8]) -> Unescape<'_> {
    Unescape { rest: field }
}

/// The iterator of [`unescape`].
#[derive(Clone, Debug)]
pub struct Unescape<'a> {
    rest: &'a [u8],
}

impl Iterator for Unescape<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = match self.rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                rest @ ..,
            ] => ((a & 3) << 6 | (b & 7) << 3 | (c & 7), rest),
            [b'\\', b'\\', rest @ ..] => (b'\\', rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        self.rest = rest;
        Some(byte)
    }
}

/// Returns the path in a field of the mount table or of /etc/fstab, with its escapes undone.
pub fn unescaped(field: &[u8]) -> Path {
    let mut path = Path::new();
    for byte in unescape(field) {
        path.push(&[byte]);
    }
    path
}

#[cfg(test)]
pub(crate) mod testing {
    //! Damaged input, which the tests of all formats share.

    /// A xorshift generator: the same numbers on every run.
    pub(crate) struct Random(u64);

    impl Random {
        /// Creates a generator from a seed.
        pub(crate) fn new(seed: u64) -> Self {
            Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
        }

        /// Returns the next number.
        pub(crate) fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        /// Returns a number below `end`.
        pub(crate) fn below(&mut self, end: usize) -> usize {
            (self.next() >> 16) as usize % end
        }
    }

    /// Calls `parse` with every truncation of `sample`, with copies of it in which bytes are replaced
    /// at random, with random pieces of it in a row, and with random bytes. It must not panic or hang.
    pub(crate) fn torture(sample: &[u8], parse: impl Fn(&[u8])) {
        // Miri is a thousand times slower.
        let (step, rounds) = match cfg!(miri) {
            true => (1 + sample.len() / 2, 1),
            false => (1, 600),
        };
        for end in (0..=sample.len()).step_by(step) {
            parse(&sample[..end]);
        }
        let mut random = Random::new(sample.len() as u64 + 1);
        for _ in 0..rounds {
            let mut bytes = sample.to_vec();
            for _ in 0..1 + random.below(4) {
                if let Some(at) = bytes
                    .len()
                    .checked_sub(1)
                    .map(|last| random.below(last + 1))
                {
                    bytes[at] = random.next() as u8;
                }
            }
            parse(&bytes);
            bytes.clear();
            for _ in 0..random.below(12) {
                let start = random.below(sample.len());
                let end = start + random.below(sample.len() - start);
                bytes.extend_from_slice(&sample[start..end]);
                bytes.push(random.next() as u8);
            }
            parse(&bytes);
            let len = random.below(200);
            bytes = (0..len).map(|_| random.next() as u8).collect();
            parse(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_at_bytes_numbers_and_blanks() {
        assert_eq!(split_once(b"a=b=c", b'='), Some((&b"a"[..], &b"b=c"[..])));
        assert_eq!(split_once(b"=", b'='), Some((&b""[..], &b""[..])));
        assert_eq!(split_once(b"abc", b'='), None);
        assert_eq!(decimal(b"12:3"), Some((12, &b":3"[..])));
        assert_eq!(decimal(b":3"), None);
        assert_eq!(array::<2>(b"abc", 1), Some(*b"bc"));
        assert_eq!(array::<2>(b"abc", 2), None);
        assert_eq!(array::<2>(b"abc", usize::MAX), None);
        assert!(words(b" a\t b ").eq([b"a", b"b"]));
    }

    #[test]
    fn path_is_split_behind_its_last_slash() {
        for (path, parent, name) in [
            ("/run/qemu-ga.pid", "/run/", "qemu-ga.pid"),
            ("a/a", "a/", "a"),
            ("/pid", "/", "pid"),
            ("pid", "", "pid"),
            ("run/", "run/", ""),
            ("", "", ""),
        ] {
            assert_eq!(parent_of(path.as_bytes()), parent.as_bytes(), "{path}");
            assert_eq!(file_name(path.as_bytes()), name.as_bytes(), "{path}");
        }
    }

    #[test]
    fn every_escaped_byte_is_decoded() {
        let all: Vec<u8> = (0..=255).collect();
        let escaped: String = all.iter().map(|byte| format!("\\{byte:03o}")).collect();
        assert_eq!(unescape(escaped.as_bytes()).collect::<Vec<_>>(), all);
    }
}
