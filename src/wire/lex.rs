//! Numbers, keywords and runs of plain text, byte by byte.

/// Where in a number or keyword the next byte falls.
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

/// What a byte is to the number or keyword it meets.
pub(super) enum Step {
    /// Part of it.
    Take(Scalar),
    /// Not part of it; it was complete.
    Past,
    /// Nothing that may stand here.
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

    /// One byte further.
    pub(super) fn step(self, byte: u8) -> Step {
        Step::Take(match (self, byte) {
            (Self::Keyword, b'a'..=b'z') => Self::Keyword,
            (Self::Zero, b'0'..=b'9') => return Step::Stray,
            (Self::Sign, b'0') => Self::Zero,
            (Self::Sign | Self::Digits, b'0'..=b'9') => Self::Digits,
            (Self::Zero | Self::Digits, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Digits | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => {
                Self::ExponentDigits
            }
            _ if self.may_end() => return Step::Past,
            _ => return Step::Stray,
        })
    }

    /// Whether what was read so far is a whole number or keyword.
    fn may_end(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Digits | Self::Fraction | Self::ExponentDigits | Self::Keyword
        )
    }
}

/// Where the number or keyword at `from` ends. What is none counts as one byte.
pub(super) fn scalar_end(text: &[u8], from: usize) -> usize {
    let mut at = from.wrapping_add(1);
    let mut state = text.get(from).copied().and_then(Scalar::begin);
    while let (Some(scalar), Some(byte)) = (state, text.get(at)) {
        let Step::Take(next) = scalar.step(*byte) else {
            break;
        };
        state = Some(next);
        at = at.wrapping_add(1);
    }
    at.min(text.len())
}

/// The bytes of `text` in these bounds, which are in it.
#[inline]
pub(super) fn between(text: &[u8], from: usize, to: usize) -> &[u8] {
    text.get(from..to).unwrap_or_default()
}

/// Where in `bytes` the run that begins at `from` ends: of printable ASCII, DEL taken along, other than
/// `quote` and backslash.
///
/// Eight bytes a step: requests that write files are one string of megabytes.
pub(super) fn plain_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES << 7;
    let quotes = ONES.wrapping_mul(u64::from(quote));
    let backslashes = ONES.wrapping_mul(u64::from(b'\\'));
    let blanks = ONES.wrapping_mul(0x20);
    let mut at = from;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        // A borrow out of a byte that matters may mark the bytes above it as well, never one below:
        // the lowest mark is always true.
        let marks = (word ^ quotes).wrapping_sub(ONES)
            | (word ^ backslashes).wrapping_sub(ONES)
            | word.wrapping_sub(blanks)
            | word;
        let plain = (marks & TOPS).trailing_zeros() as usize >> 3;
        at = at.wrapping_add(plain);
        if plain < 8 {
            return at;
        }
    }
    while let Some(byte) = bytes.get(at)
        && matches!(*byte, 0x20..0x80 if *byte != quote && *byte != b'\\')
    {
        at = at.wrapping_add(1);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_end_where_they_cannot_go_on() {
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
    fn plain_runs_end_where_a_look_at_each_byte_ends_them() {
        let plain =
            |byte: u8, quote| (0x20..0x80).contains(&byte) && byte != quote && byte != b'\\';
        for quote in [b'"', b'\'', b'\\'] {
            for len in (0..=17).step_by(if cfg!(miri) { 17 } else { 1 }) {
                for place in 0..len {
                    for byte in (0..=255u8).step_by(if cfg!(miri) { 85 } else { 1 }) {
                        // What follows must not matter, what stands next to it neither.
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
