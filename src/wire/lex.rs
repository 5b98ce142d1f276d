//! Finds the ends of numbers, keywords and runs of plain text.
//!
//! Numbers follow RFC 8259. A keyword is any run of lower-case letters: `wire::check` rejects those
//! other than `true`, `false` and `null`.

/// The state after a part of a number or keyword: the name of the part read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Sign,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    Keyword,
}

/// The effect of the next byte on a number or keyword.
pub(super) enum ScalarStep {
    /// The byte belongs to it.
    Take(Scalar),
    /// The number or keyword was complete before the byte.
    End,
    /// The number is incomplete, and the byte cannot continue it.
    Stray,
}

impl Scalar {
    /// The state after the first byte of a number or keyword.
    pub(super) fn begin(byte: u8) -> Option<Self> {
        Some(match byte {
            b'a'..=b'z' => Self::Keyword,
            b'1'..=b'9' => Self::Digits,
            b'0' => Self::Zero,
            b'-' => Self::Sign,
            _ => return None,
        })
    }

    /// Reads one byte.
    pub(super) fn step(self, byte: u8) -> ScalarStep {
        ScalarStep::Take(match (self, byte) {
            (Self::Keyword, b'a'..=b'z') => Self::Keyword,
            (Self::Zero, b'0'..=b'9') => return ScalarStep::Stray,
            (Self::Sign, b'0') => Self::Zero,
            (Self::Sign | Self::Digits, b'0'..=b'9') => Self::Digits,
            (Self::Zero | Self::Digits, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Digits | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => {
                Self::ExponentDigits
            }
            _ if self.may_end() => return ScalarStep::End,
            _ => return ScalarStep::Stray,
        })
    }

    /// Whether the part read so far is a complete number or keyword.
    fn may_end(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Digits | Self::Fraction | Self::ExponentDigits | Self::Keyword
        )
    }
}

/// Returns the offset behind the number or keyword at `from`. Any other byte there counts as a
/// token of one byte.
pub(super) fn scalar_end(text: &[u8], from: usize) -> usize {
    let mut at = from.wrapping_add(1);
    let mut state = text.get(from).copied().and_then(Scalar::begin);
    while let (Some(scalar), Some(byte)) = (state, text.get(at)) {
        let ScalarStep::Take(next) = scalar.step(*byte) else {
            break;
        };
        state = Some(next);
        at = at.wrapping_add(1);
    }
    at.min(text.len())
}

/// The bytes `text[from..to]`; the bounds must be within `text`.
#[inline]
pub(super) fn slice(text: &[u8], from: usize, to: usize) -> &[u8] {
    text.get(from..to).unwrap_or_default()
}

/// Returns the end of the run of plain bytes that begins at `from`. Plain is ASCII from 0x20 on,
/// except `quote` and the backslash.
///
/// Reads eight bytes a step, because a request that writes a file is one string of megabytes.
pub(super) fn plain_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES << 7;
    let quotes = ONES.wrapping_mul(u64::from(quote));
    let backslashes = ONES.wrapping_mul(u64::from(b'\\'));
    let blanks = ONES.wrapping_mul(0x20);
    let is_plain = |byte: u8| matches!(byte, 0x20..0x80 if byte != quote && byte != b'\\');
    let mut rest = bytes.get(from..).unwrap_or_default();
    let run = loop {
        let Some((word, behind)) = rest.split_first_chunk() else {
            break rest.iter().take_while(|byte| is_plain(**byte)).count();
        };
        let word = u64::from_le_bytes(*word);
        // The top bit of a byte marks it as not plain. A subtraction that borrows out of a marked
        // byte may wrongly mark higher bytes, never lower ones, so the lowest mark is always right.
        let marks = (word ^ quotes).wrapping_sub(ONES)
            | (word ^ backslashes).wrapping_sub(ONES)
            | word.wrapping_sub(blanks)
            | word;
        let marks = marks & TOPS;
        if marks != 0 {
            break marks.trailing_zeros() as usize >> 3;
        }
        rest = behind;
    };
    bytes.len().wrapping_sub(rest.len()).wrapping_add(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_numbers_and_keywords() {
        for (text, end) in [
            ("", 0),
            ("}", 1),
            ("1", 1),
            ("-1.5e+30,", 8),
            ("0e1", 1),
            ("01", 1),
            ("1true", 1),
            ("true]", 4),
            ("truE", 3),
            ("-", 1),
        ] {
            assert_eq!(scalar_end(text.as_bytes(), 0), end, "{text}");
        }
        assert_eq!(scalar_end(b"[12]", 1), 3);
    }

    #[test]
    fn plain_runs_end_at_the_first_byte_that_is_not_plain() {
        let plain =
            |byte: u8, quote| (0x20..0x80).contains(&byte) && byte != quote && byte != b'\\';
        for quote in [b'"', b'\'', b'\\'] {
            for len in (0..=17).step_by(if cfg!(miri) { 17 } else { 1 }) {
                for place in 0..len {
                    for byte in (0..=255u8).step_by(if cfg!(miri) { 85 } else { 1 }) {
                        // The bytes behind `byte`, also the next one, must not matter.
                        for fill in [b'!', b']', 0x7f] {
                            let mut text = vec![fill; len];
                            text[place] = byte;
                            if let Some(next) = text.get_mut(place + 1) {
                                *next = byte ^ 1;
                            }
                            let end = text.iter().position(|byte| !plain(*byte, quote));
                            assert_eq!(plain_end(&text, 0, quote), end.unwrap_or(len));
                        }
                    }
                }
            }
        }
    }
}
