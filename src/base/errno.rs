//! Error numbers as the C library words them: clients show these texts to people.
//!
//! Numbers are Linux's generic ones (x86, Arm, RISC-V, s390 and most others); the texts are glibc's
//! English ones, which is what every reply of qemu-ga in the C locale holds.
//!
//! The texts themselves are in [`texts`](super::texts).

use super::texts::{ERRORS, UNKNOWN, line};

pub use super::texts::Text;

/// A line that is empty: that of a number which Linux does not use.
const NOTHING: usize = ERRORS + 41;

/// The text of error number `errno` (positive), as glibc's English strerror.
///
/// Empty for a number Linux does not use; glibc then says `Unknown error N`.
pub fn text(errno: i32) -> Text {
    let number = errno.cast_unsigned() as usize;
    line(if number < UNKNOWN - ERRORS {
        ERRORS + number
    } else {
        NOTHING
    })
}

/// The text of error number `errno` for people who will not look any closer.
pub fn text_or_unknown(errno: i32) -> Text {
    let text = text(errno);
    if text.is_empty() { line(UNKNOWN) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::texts::TEXTS;

    fn text(errno: i32) -> Option<&'static str> {
        let text = String::from_utf8(super::text(errno).to_vec()).unwrap();
        (!text.is_empty()).then(|| &*text.leak())
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn all_texts_come_whole() {
        assert_eq!(text_or_unknown(134), b"unknown error");
        assert_eq!(text_or_unknown(135), b"unknown error");
        assert_eq!(text_or_unknown(-1), b"unknown error");
        assert_eq!(text_or_unknown(41), b"unknown error");
        assert_eq!(text_or_unknown(1), b"Operation not permitted");
        for (errno, line) in TEXTS.lines().skip(ERRORS).enumerate().take(134) {
            let expected = (!line.is_empty()).then_some(line);
            assert_eq!(text(errno as i32), expected, "{errno}");
        }
    }

    #[test]
    fn texts_stand_at_their_numbers() {
        assert_eq!(text(0), Some("Success"));
        assert_eq!(text(2), Some("No such file or directory"));
        assert_eq!(text(11), Some("Resource temporarily unavailable"));
        assert_eq!(text(22), Some("Invalid argument"));
        assert_eq!(text(95), Some("Operation not supported"));
        assert_eq!(text(133), Some("Memory page has hardware error"));
    }

    #[test]
    fn unused_numbers_have_no_text() {
        for errno in [i32::MIN, -1, 41, 58, 134, 999, i32::MAX] {
            assert_eq!(text(errno), None, "{errno}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has words of its own")]
    fn the_host_library_agrees() {
        for errno in 1..134 {
            let host = std::io::Error::from_raw_os_error(errno).to_string();
            if let Some(text) = text(errno).filter(|_| cfg!(target_env = "gnu")) {
                assert_eq!(host, format!("{text} (os error {errno})"));
            }
        }
    }
}
