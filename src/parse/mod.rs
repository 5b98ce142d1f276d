//! One format a file: pure functions over bytes, borrowed results, no I/O.
//!
//! What does not parse is `None` or is skipped; nothing here panics, whatever the bytes, and nothing
//! takes longer than its input is long.
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
pub mod fstab;
pub mod hooks;
pub mod hostname;
pub mod inet;
pub mod modules;
pub mod mountinfo;
pub mod netlink;
pub mod nvme;
pub mod os_release;
pub mod posix_tz;
pub mod proc;
pub mod routes;
pub mod stats;
pub mod sysfs_disk;
pub mod tzfile;
pub mod udev;
pub mod utmp;

use crate::base::text::parse_u64;

/// The lines of a file, without their line feeds; an empty one follows a final line feed.
pub fn lines(file: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
}

/// The words of a line: what stands between blanks and tabs.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    core::iter::from_fn(move || next_word(&mut rest))
}

/// Takes the next word off a line.
#[inline(never)]
pub fn next_word<'a>(line: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = line.trim_ascii_start();
    let (word, rest) = span(start, |byte| !byte.is_ascii_whitespace());
    *line = rest;
    (!word.is_empty()).then_some(word)
}

/// The place of a word among those of a line, counted from 0.
#[inline(never)]
pub fn word_index(line: &[u8], word: &[u8]) -> Option<usize> {
    words(line).position(|other| other == word)
}

/// The last part of a path.
#[inline(never)]
pub fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// What stands before and after the first `byte`.
pub fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|other| *other == byte)?;
    let (before, after) = text.split_at_checked(at)?;
    Some((before, after.get(1..)?))
}

/// The longest start of `text` that `accept` takes, and the rest.
fn span(text: &[u8], accept: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !accept(*byte))
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// The decimal number `text` begins with, and the rest.
fn decimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = span(text, |byte| byte.is_ascii_digit());
    Some((parse_u64(digits)?, rest))
}

/// The `N` bytes at offset `at`.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Splits the first `len` bytes off the front of `bytes`.
#[inline(never)]
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(len)?;
    *bytes = tail;
    Some(head)
}

/// What stands before the first NUL, or everything.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    span(bytes, |byte| byte != 0).0
}

#[cfg(test)]
pub(crate) mod testing {
    //! Material that the tests of all formats share.

    /// The same bytes on every run: a xorshift generator.
    pub(crate) struct Random(u64);

    impl Random {
        /// A generator for this seed.
        pub(crate) fn new(seed: u64) -> Self {
            Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
        }

        /// The next number.
        pub(crate) fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        /// A number below `end`.
        pub(crate) fn below(&mut self, end: usize) -> usize {
            (self.next() >> 16) as usize % end
        }
    }

    /// Hands `look` every truncation of `sample`, the sample with bytes knocked over, and pieces of
    /// it strung together at random: `look` must only not panic and not hang.
    pub(crate) fn torture(sample: &[u8], look: impl Fn(&[u8])) {
        // Miri takes a thousand times as long.
        let (step, rounds) = match cfg!(miri) {
            true => (1 + sample.len() / 2, 1),
            false => (1, 600),
        };
        for end in (0..=sample.len()).step_by(step) {
            look(&sample[..end]);
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
            look(&bytes);
            bytes.clear();
            for _ in 0..random.below(12) {
                let start = random.below(sample.len());
                let end = start + random.below(sample.len() - start);
                bytes.extend_from_slice(&sample[start..end]);
                bytes.push(random.next() as u8);
            }
            look(&bytes);
            let len = random.below(200);
            bytes = (0..len).map(|_| random.next() as u8).collect();
            look(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_where_it_should_be() {
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
}
