//! Numbers as text, and text split and compared, without `core::fmt`, to save its code size.

use core::cmp::Ordering;

/// The decimal digits of a number, in a buffer of fixed size.
pub struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    /// Formats an unsigned number.
    pub fn unsigned(mut value: u64) -> Self {
        let mut digits = Self {
            bytes: [b'0'; 20],
            start: 20,
        };
        loop {
            digits.push_front(b'0' + (value % 10) as u8);
            value /= 10;
            if value == 0 {
                return digits;
            }
        }
    }

    /// Formats a signed number.
    pub fn signed(value: i64) -> Self {
        let mut digits = Self::unsigned(value.unsigned_abs());
        if value < 0 {
            digits.push_front(b'-');
        }
        digits
    }

    fn push_front(&mut self, byte: u8) {
        if let Some(slot) = self.start.checked_sub(1) {
            self.start = slot;
            self.bytes[slot] = byte;
        }
    }

    /// Returns the text.
    // Out of line: one copy of the code is smaller.
    #[inline(never)]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Parses a decimal number without sign; `None` if there is any other character or it does not fit.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Parses a decimal number without sign; `None` if there is any other character or it does not fit.
pub fn parse_u32(text: &[u8]) -> Option<u32> {
    parse_u64(text).and_then(|value| u32::try_from(value).ok())
}

/// Parses a hexadecimal number without sign and prefix; `None` if there is any other character or it has
/// more than 16 digits.
pub fn parse_hex(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

/// Appends pieces to `text`, and drops the bytes that do not fit.
// Out of line: one copy of the code is smaller.
#[inline(never)]
pub fn push_truncated(text: &mut heapless::VecView<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        for byte in *piece {
            let _ = text.push(*byte);
        }
    }
}

/// Splits the text before the first `byte` off the front of `rest`, and removes that byte too. Without
/// one, takes all of `rest`.
// Not generic and out of line: one copy of the code is smaller.
#[inline(never)]
pub fn cut<'a>(rest: &mut &'a [u8], byte: u8) -> &'a [u8] {
    let text = *rest;
    let len = text.iter().take_while(|other| **other != byte).count();
    let (part, behind) = text.split_at_checked(len).unwrap_or((text, &[]));
    *rest = behind.get(1..).unwrap_or_default();
    part
}

/// Compares two texts up to the first `end` in each. Stops at the first difference.
// Out of line: one copy of the code is smaller.
#[inline(never)]
pub fn compare_until(one: &[u8], other: &[u8], end: u8) -> Ordering {
    let mut at = 0;
    loop {
        let [one, other] = [one, other].map(|text| text.get(at).filter(|byte| **byte != end));
        if one != other || one.is_none() {
            return one.cmp(&other);
        }
        at += 1;
    }
}

/// Returns the value of `key` in a file of `Key:\tvalue` lines, such as /proc/PID/status.
pub fn value_of_key<'a>(file: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut rest = file;
    while !rest.is_empty() {
        let line = cut(&mut rest, b'\n');
        let mut value = line;
        let name = cut(&mut value, b':');
        if name == key && name.len() < line.len() {
            return Some(value.trim_ascii());
        }
    }
    None
}

/// Returns the lower-case hexadecimal digit of a number below 16.
pub fn hex_digit(value: u8) -> u8 {
    if value < 10 {
        b'0'.wrapping_add(value)
    } else {
        (b'a' - 10).wrapping_add(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_the_smallest_and_largest_numbers() {
        assert_eq!(Digits::unsigned(0).as_bytes(), b"0");
        assert_eq!(
            Digits::unsigned(u64::MAX).as_bytes(),
            b"18446744073709551615"
        );
        assert_eq!(Digits::signed(i64::MIN).as_bytes(), b"-9223372036854775808");
    }

    #[test]
    fn compare_until_ignores_what_follows_the_end() {
        let compare =
            |one: &str, other: &str| compare_until(one.as_bytes(), other.as_bytes(), b'\n');
        assert_eq!(compare("a\nb", "a\nc"), Ordering::Equal);
        assert_eq!(compare("a", "a\nc"), Ordering::Equal);
        assert_eq!(compare("\nz", "a"), Ordering::Less);
        assert_eq!(compare("ab\n", "a\nz"), Ordering::Greater);
    }

    #[test]
    fn rejects_numbers_that_do_not_fit() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b""), None);
        assert_eq!(parse_u64(b"-1"), None);
        assert_eq!(parse_u32(b"4294967296"), None);
        assert_eq!(parse_hex(b"fF"), Some(255));
        assert_eq!(parse_hex(b"12345678901234567"), None);
    }
}
