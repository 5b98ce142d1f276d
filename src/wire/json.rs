//! Values of a message: views that borrow from its text; and the characters of strings.
//!
//! `wire::check` has checked the text, and `wire::frame` has stored it without the blanks between
//! tokens. A view decodes and copies nothing until its caller asks for it, and nothing recurses. On
//! text that is not well formed the views return meaningless values, but never panic or loop.
//!
//! The dialect is that of qemu-ga 11.1, measured on its replies: single or double quotes around
//! strings, U+0000 decoded as the two bytes C0 80, noncharacters rejected.

use super::lex::{plain_end, scalar_end, slice};
use super::texts::Phrase;
use crate::base::base64::{DecodeError, decode_in_place};
use crate::base::sink::{ByteSink, Full};
use crate::base::text::{cut, parse_hex};
use core::cmp::Ordering;
use core::ops::Range;
use serde_json_core::from_slice;

/// A JSON value: its text, which is well formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<'a>(pub(super) &'a [u8]);

/// The type of a value. For a number, the smallest type that holds it without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    /// `{}`
    Object,
    /// `[]`
    Array,
    /// `""` or `''`
    String,
    /// An integer that an `i64` holds.
    Integer,
    /// An integer that only a `u64` holds.
    Unsigned,
    /// Any other number.
    Double,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

impl<'a> Json<'a> {
    /// The type of the value.
    pub fn kind(self) -> JsonType {
        match self.0.first() {
            Some(b'{') => JsonType::Object,
            Some(b'[') => JsonType::Array,
            Some(b'"' | b'\'') => JsonType::String,
            Some(b't' | b'f') => JsonType::Bool,
            Some(b'-' | b'0'..=b'9') => match self.integer() {
                Some(_) if self.int().is_some() => JsonType::Integer,
                Some((false, _)) => JsonType::Unsigned,
                _ => JsonType::Double,
            },
            _ => JsonType::Null,
        }
    }

    /// The members of an object, in order. No members if the value is no object.
    pub fn members(self) -> Members<'a> {
        Members(Cursor::new(self.0.strip_prefix(b"{").unwrap_or_default()))
    }

    /// The elements of an array, in order. No elements if the value is no array.
    pub fn items(self) -> Items<'a> {
        Items(Cursor::new(self.0.strip_prefix(b"[").unwrap_or_default()))
    }

    /// The string, if the value is one.
    pub fn string(self) -> Option<Str<'a>> {
        let (quote, rest) = self.0.split_first()?;
        let (end, inside) = rest.split_last()?;
        (matches!(quote, b'"' | b'\'') && end == quote).then_some(Str(inside))
    }

    /// The number, if it is an integer that fits.
    pub fn int(self) -> Option<i64> {
        let (negative, magnitude) = self.integer()?;
        let number = magnitude.cast_signed();
        if negative {
            // The magnitude of `i64::MIN` is one more than `i64::MAX`.
            (magnitude <= 1 << 63).then_some(number.wrapping_neg())
        } else {
            (number >= 0).then_some(number)
        }
    }

    /// The number, if it is an integer that fits a `u64` or an `i64`. A negative number wraps, as
    /// in QAPI.
    pub fn uint(self) -> Option<u64> {
        match self.integer()? {
            (false, magnitude) => Some(magnitude),
            (true, _) => self.int().map(i64::cast_unsigned),
        }
    }

    /// The boolean, if the value is one.
    pub fn bool(self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The length of the first token in `text`, the rest of a value: a string, a number, a keyword,
    /// or one byte.
    pub(super) fn token_len(text: &[u8]) -> usize {
        let mut cursor = Cursor::new(text);
        match cursor.skip_string() {
            Some(_) => cursor.at,
            None => scalar_end(text, 0),
        }
    }

    /// The text of the value, as the framer stored it.
    pub fn text(self) -> &'a [u8] {
        self.0
    }

    /// Whether an integer is negative, and its magnitude, if that fits a `u64`.
    fn integer(self) -> Option<(bool, u64)> {
        let digits = self.0.strip_prefix(b"-");
        let text = digits.unwrap_or(self.0);
        let (magnitude, used) = from_slice(text).ok()?;
        (used == text.len()).then_some((digits.is_some(), magnitude))
    }
}

/// The members of an object. See [`Json::members`].
#[derive(Clone, Copy)]
pub struct Members<'a>(Cursor<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Str<'a>, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.skip_string()?;
        // The colon.
        self.0.advance(1);
        Some((name, self.0.skip_item()?))
    }
}

/// The elements of an array. See [`Json::items`].
#[derive(Clone, Copy, Default)]
pub struct Items<'a>(Cursor<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.skip_item()
    }
}

/// A position in a well-formed text.
#[derive(Clone, Copy, Default)]
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    // These three are inlined because they are shorter than a call.

    /// The byte at the position; NUL, which no message contains, at the end.
    #[inline(always)]
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn advance(&mut self, bytes: usize) {
        self.at = self.at.wrapping_add(bytes);
    }

    #[inline(always)]
    fn since(&self, from: usize) -> Option<&'a [u8]> {
        self.text.get(from..self.at)
    }

    /// Skips the next value within a container, and the comma or the bracket behind it; `None` at the
    /// end of the container.
    fn skip_item(&mut self) -> Option<Json<'a>> {
        let from = self.at;
        let mut open = 0usize;
        loop {
            match self.peek() {
                b'"' | b'\'' => {
                    self.skip_string()?;
                }
                b'-' | b'0'..=b'9' | b'a'..=b'z' => self.at = scalar_end(self.text, self.at),
                byte => {
                    open = match byte {
                        b'{' | b'[' => open.wrapping_add(1),
                        b'}' | b']' => open.checked_sub(1)?,
                        0 => return None,
                        _ => open,
                    };
                    self.advance(1);
                }
            }
            if open == 0 {
                break;
            }
        }
        let value = self.since(from)?;
        self.advance(1);
        Some(Json(value))
    }

    /// Skips the string at the position, if there is one.
    // Called in several places: keeps one copy of the code.
    #[inline(never)]
    fn skip_string(&mut self) -> Option<Str<'a>> {
        let quote = self.peek();
        if !is_quote(quote) {
            return None;
        }
        let from = self.at.wrapping_add(1);
        self.at = from;
        loop {
            self.at = plain_end(self.text, self.at, quote);
            match self.peek() {
                byte if byte == quote => break,
                // The byte behind a backslash does not end the string.
                b'\\' => self.advance(2),
                0x80.. => self.advance(1),
                _ => return None,
            }
        }
        let text = self.since(from)?;
        self.advance(1);
        Some(Str(text))
    }
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'')
}

/// An error in a token of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenError {
    /// The text of the error.
    pub(super) phrase: Phrase,
    /// The part of the token that the text shows.
    pub(super) shown: Range<usize>,
}

impl TokenError {
    /// An error whose text shows nothing of the token.
    pub(super) fn new(phrase: Phrase) -> Self {
        let shown = 0..0;
        Self { phrase, shown }
    }
}

/// Checks that all escapes and bytes of a string are characters. `token` includes its quotes.
pub(super) fn check_string(token: &[u8]) -> Result<(), TokenError> {
    let quote = token.first().copied().unwrap_or(0);
    let mut at = 1;
    loop {
        at = plain_end(token, at, quote);
        let rest = token.get(at..).unwrap_or_default();
        let (code, len) = match rest {
            [b'\\', ..] => escape(rest),
            [0x80..=0xff, ..] => utf8(rest),
            _ => return Ok(()),
        };
        if !is_character(code) {
            return Err(match rest {
                [b'\\', ..] if len == 0 => TokenError::new(Phrase::InvalidEscape),
                [b'\\', ..] => {
                    let len = shown_len(rest, len, quote);
                    TokenError {
                        phrase: Phrase::NotUnicode,
                        shown: at..at.wrapping_add(len),
                    }
                }
                _ => TokenError::new(Phrase::InvalidUtf8),
            });
        }
        at = at.wrapping_add(len);
    }
}

/// The number of bytes that an error shows of an invalid escape of length `len`. It ends behind the
/// closing quote of the string, if that comes within the escape.
fn shown_len(text: &[u8], len: usize, quote: u8) -> usize {
    let mut end = 0usize;
    while end < len
        && let Some(byte) = text.get(end)
    {
        end = end.wrapping_add(1);
        if *byte == quote {
            break;
        }
        end = end.wrapping_add(usize::from(*byte == b'\\'));
    }
    end.min(len).min(text.len())
}

/// A string of a message: the text between its quotes, escapes included, which is well formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Str<'a>(&'a [u8]);

impl<'a> Str<'a> {
    /// A string of ASCII bytes without a backslash.
    pub fn ascii(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The string in a token, which has quotes around it.
    pub(super) fn inside(token: &'a [u8]) -> Self {
        Self(slice(token, 1, token.len().wrapping_sub(1)))
    }

    /// The string behind `prefix`, if it begins with that. `prefix` is ASCII without a backslash.
    pub fn strip_prefix<const N: usize>(self, prefix: &[u8; N]) -> Option<Self> {
        if let Some((first, rest)) = self.0.split_first_chunk()
            && first == prefix
        {
            return Some(Self(rest));
        }
        let mut bytes = self.bytes();
        for byte in prefix {
            if bytes.next() != Some(*byte) {
                return None;
            }
        }
        Some(Self(bytes.rest))
    }

    /// Whether the string is `ascii`, which contains no backslash.
    pub fn is(self, ascii: &str) -> bool {
        self.is_named(ascii.as_bytes())
    }

    /// As [`Str::is`], for bytes.
    // Called in several places: keeps one copy of the code.
    #[inline(never)]
    pub fn is_named(self, name: &[u8]) -> bool {
        match self.0.len().cmp(&name.len()) {
            Ordering::Equal => self.0 == name,
            // An escape is longer than its character.
            Ordering::Greater => self.decodes_to(name),
            Ordering::Less => false,
        }
    }

    // Not inlined, so that most comparisons need no stack.
    #[inline(never)]
    fn decodes_to(self, name: &[u8]) -> bool {
        self.bytes().eq(name.iter().copied())
    }

    /// The index of the string in `words`, which have a blank between two; `None` if it is no word.
    // Called in several places: keeps one copy of the code.
    #[inline(never)]
    pub fn word_index(self, words: &[u8]) -> Option<usize> {
        let (mut rest, mut index) = (words, 0usize);
        while !rest.is_empty() {
            if self.is_named(cut(&mut rest, b' ')) {
                return Some(index);
            }
            index = index.wrapping_add(1);
        }
        None
    }

    /// The decoded bytes: UTF-8, with U+0000 as C0 80.
    pub fn bytes(self) -> StrBytes<'a> {
        StrBytes {
            rest: self.0,
            pending: 0,
        }
    }

    /// The text as the client wrote it, escapes included.
    pub fn raw(self) -> &'a [u8] {
        self.0
    }

    /// The decoded bytes, if the text contains no escape.
    pub fn plain(self) -> Option<&'a [u8]> {
        (backslash(self.0) == self.0.len()).then_some(self.0)
    }

    /// Appends the bytes that the string encodes in base64.
    pub fn base64(self, out: &mut dyn ByteSink) -> Result<(), DecodeError> {
        let start = out.bytes().len();
        self.decode(out).map_err(|Full| DecodeError::Full)?;
        let text = out.bytes_mut().get_mut(start..).unwrap_or_default();
        let len = decode_in_place(text).ok_or(DecodeError::Invalid)?;
        out.truncate(start.wrapping_add(len));
        Ok(())
    }

    /// Appends the decoded bytes.
    ///
    /// # Errors
    /// [`Full`] if there is not enough room in `out`, which then holds a part of the string.
    pub fn decode(self, out: &mut dyn ByteSink) -> Result<(), Full> {
        let mut rest = self.0;
        loop {
            let (run, escaped) = rest.split_at_checked(backslash(rest)).unwrap_or_default();
            out.append(run)?;
            let (code, len) = escape(escaped);
            if len == 0 {
                return Ok(());
            }
            let bytes = packed_utf8(code).to_le_bytes();
            let used = bytes.iter().take_while(|byte| **byte != 0).count();
            out.append(slice(&bytes, 0, used))?;
            rest = escaped.get(len..).unwrap_or_default();
        }
    }
}

/// The number of bytes before the first backslash.
fn backslash(text: &[u8]) -> usize {
    let mut at = 0usize;
    loop {
        at = plain_end(text, at, b'\\');
        match text.get(at) {
            None | Some(b'\\') => return at,
            Some(_) => at = at.wrapping_add(1),
        }
    }
}

/// The decoded bytes of a string. See [`Str::bytes`].
#[derive(Clone)]
pub struct StrBytes<'a> {
    rest: &'a [u8],
    /// The rest of a decoded escape, the next byte lowest.
    pending: u32,
}

impl Iterator for StrBytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.pending == 0 {
            let (byte, after) = self.rest.split_first()?;
            if *byte != b'\\' {
                self.rest = after;
                return Some(*byte);
            }
            let (code, len) = escape(self.rest);
            if len == 0 {
                return None;
            }
            self.rest = self.rest.get(len..).unwrap_or_default();
            self.pending = packed_utf8(code);
        }
        let [byte, ..] = self.pending.to_le_bytes();
        self.pending >>= 8;
        Some(byte)
    }
}

/// Bytes with an escape of one letter, and that letter. Replies do not use the last two escapes.
pub(super) const ESCAPES: &[[u8; 2]; 9] = &[
    *b"\"\"", *b"\\\\", *b"\x08b", *b"\x0Cf", *b"\nn", *b"\rr", *b"\tt", *b"''", *b"//",
];

/// The code point of the escape that `text` begins with, and the length of the escape: 0 without a
/// valid letter, 6 for `\u` also without four digits behind it.
fn escape(text: &[u8]) -> (u32, usize) {
    let letter = match text {
        [b'\\', b'u', ..] => return escape_digits(text),
        [b'\\', letter, ..] => *letter,
        _ => 0,
    };
    for [byte, other] in ESCAPES {
        if *other == letter {
            return (u32::from(*byte), 2);
        }
    }
    (ILL_FORMED, 0)
}

/// As [`escape`], for `\u` and digits, or a surrogate pair of two such escapes.
fn escape_digits(text: &[u8]) -> (u32, usize) {
    let high = code_unit(text);
    if high & !0x3ff == 0xd800 {
        let low = code_unit(text.get(6..).unwrap_or_default());
        if low & !0x3ff == 0xdc00 {
            return (
                ((high & 0x3ff) << 10 | low & 0x3ff).wrapping_add(0x1_0000),
                12,
            );
        }
    }
    (high, 6)
}

/// The number in the four digits behind `\u`.
fn code_unit(text: &[u8]) -> u32 {
    let unit = match text.first_chunk() {
        Some([b'\\', b'u', a, b, c, d]) => parse_hex(&[*a, *b, *c, *d]),
        _ => None,
    };
    unit.map_or(ILL_FORMED, |unit| unit as u32)
}

/// In place of a code point: ill-formed UTF-8, or an invalid escape.
pub(super) const ILL_FORMED: u32 = u32::MAX;

/// The character that `text` begins with, and its length. Its first byte is not ASCII.
///
/// For ill-formed UTF-8 the length is the one that the first byte announces, or ends before the
/// first byte that cannot continue the character. C0 80 is U+0000.
pub(super) fn utf8(text: &[u8]) -> (u32, usize) {
    let mut bytes = text.iter().copied();
    let lead = bytes.next().unwrap_or(0);
    // The number of further bytes, and the least code point that needs them. RFC 2279 had
    // characters of five and six bytes; none is valid today, so no code point reaches their least.
    let (more, least) = match lead {
        0xc0..=0xdf => (1, 0x80),
        0xe0..=0xef => (2, 0x800),
        0xf0..=0xf7 => (3, 0x1_0000),
        0xf8..=0xfb => (4, u32::MAX),
        0xfc..=0xfd => (5, u32::MAX),
        _ => return (ILL_FORMED, 1),
    };
    // The bits of the code point in the first byte are those below its first zero.
    let mut value = u32::from(lead) & 0x3fu32.wrapping_shr(more);
    let (mut len, mut left) = (1usize, more);
    while left > 0 {
        let byte = bytes.next().unwrap_or(0);
        if byte & 0xc0 != 0x80 {
            return (ILL_FORMED, len);
        }
        value = value.wrapping_shl(6) | u32::from(byte & 0x3f);
        len = len.wrapping_add(1);
        left = left.wrapping_sub(1);
    }
    let is_long = value < least && (value, more) != (0, 1);
    if is_long || !is_character(value) {
        value = ILL_FORMED;
    }
    (value, len)
}

/// Whether a text is UTF-8, of characters that a string may contain.
pub fn is_utf8(mut text: &[u8]) -> bool {
    while let [first, rest @ ..] = text {
        text = match first {
            0..0x80 => rest,
            _ => match utf8(text) {
                // No character but C0 80 is U+0000 here.
                (0 | ILL_FORMED, _) => return false,
                (_, len) => text.get(len..).unwrap_or_default(),
            },
        };
    }
    true
}

/// Whether a string may contain the code point: no surrogate, no noncharacter.
// Called in two places: keeps one copy of the code.
#[inline(never)]
fn is_character(code: u32) -> bool {
    let noncharacter = matches!(code, 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe;
    char::from_u32(code).is_some() && !noncharacter
}

/// The UTF-8 of a character, its first byte lowest. No byte is zero: U+0000 is C0 80.
fn packed_utf8(code: u32) -> u32 {
    let lead = |shift: u32, mark: u32| code.wrapping_shr(shift) | mark;
    let trail = |shift: u32| code.wrapping_shr(shift) & 0x3f | 0x80;
    match code {
        0x01..=0x7f => code,
        0..=0x7ff => lead(6, 0xc0) | trail(0) << 8,
        0x800..=0xffff => lead(12, 0xe0) | trail(6) << 8 | trail(0) << 16,
        _ => lead(18, 0xf0) | trail(12) << 8 | trail(6) << 16 | trail(0) << 24,
    }
}

#[cfg(test)]
mod tests {
    use super::super::receive::receive;
    use super::*;

    fn value(text: &str) -> Json<'static> {
        receive(text.as_bytes()).unwrap()
    }

    fn decoded(text: &[u8]) -> Vec<u8> {
        receive(text).unwrap().string().unwrap().bytes().collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn text_is_utf_8_as_the_standard_library_has_it_but_for_noncharacters() {
        assert!(is_utf8("a\0ä€\u{10fffd}".as_bytes()) && is_utf8(b""));
        assert!(!is_utf8("\u{fffe}".as_bytes()));
        // All pairs of bytes behind each first byte of a longer character, and alone.
        for first in [
            &b""[..],
            b"\xe0",
            b"\xe1",
            b"\xed",
            b"\xf0\x90",
            b"\xf4\x8f",
            b"\xf5",
        ] {
            for pair in 0..=u16::MAX {
                let text = [first, &pair.to_be_bytes()].concat();
                let is_noncharacter = match str::from_utf8(&text) {
                    Ok(text) => text.chars().any(|char| !is_character(char.into())),
                    Err(_) => false,
                };
                let expected = str::from_utf8(&text).is_ok() && !is_noncharacter;
                assert_eq!(is_utf8(&text), expected, "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn knows_the_type_of_each_value() {
        for (text, kind) in [
            ("{}", JsonType::Object),
            (" [ ] ", JsonType::Array),
            ("''", JsonType::String),
            ("\"'\"", JsonType::String),
            ("true", JsonType::Bool),
            ("false", JsonType::Bool),
            ("null", JsonType::Null),
            ("0", JsonType::Integer),
            ("-0", JsonType::Integer),
            ("9223372036854775807", JsonType::Integer),
            ("9223372036854775808", JsonType::Unsigned),
            ("18446744073709551615", JsonType::Unsigned),
            ("18446744073709551616", JsonType::Double),
            ("-9223372036854775808", JsonType::Integer),
            ("-9223372036854775809", JsonType::Double),
            ("100000000000000000000", JsonType::Double),
            ("1.0", JsonType::Double),
            ("0.5e1", JsonType::Double),
            ("1E+2", JsonType::Double),
            ("1e3", JsonType::Double),
            ("-0.0", JsonType::Double),
        ] {
            assert_eq!(value(text).kind(), kind, "{text}");
            assert_eq!(value(text).text(), text.replace(' ', "").as_bytes());
        }
    }

    #[test]
    fn reads_numbers_that_are_integers_and_fit() {
        assert_eq!(value("-0").int(), Some(0));
        assert_eq!(value("-0").uint(), Some(0));
        assert_eq!(value("-1").int(), Some(-1));
        assert_eq!(value("-1").uint(), Some(u64::MAX));
        assert_eq!(value("-9223372036854775808").int(), Some(i64::MIN));
        assert_eq!(value("-9223372036854775808").uint(), Some(1 << 63));
        assert_eq!(value("9223372036854775808").int(), None);
        assert_eq!(value("9223372036854775808").uint(), Some(1 << 63));
        assert_eq!(value("18446744073709551615").uint(), Some(u64::MAX));
        for text in [
            "18446744073709551616",
            "-9223372036854775809",
            "1.0",
            "1e3",
            "'1'",
            "true",
            "[]",
        ] {
            assert_eq!(
                (value(text).int(), value(text).uint()),
                (None, None),
                "{text}"
            );
        }
        assert_eq!(value("true").bool(), Some(true));
        assert_eq!(value("false").bool(), Some(false));
        assert_eq!(value("null").bool(), None);
        assert_eq!(value("'true'").bool(), None);
    }

    #[test]
    fn lists_members_and_items_whole_and_in_order() {
        let text = r#" { "a" : 1 , 'b}"':[ 1,[2,"]"] , {"x":{}} ],"c":{"d":"\"}"},"e":true } "#;
        let members: Vec<_> = value(text)
            .members()
            .map(|(name, value)| (name.raw(), str::from_utf8(value.text()).unwrap()))
            .collect();
        let expected: [(&[u8], &str); 4] = [
            (b"a", "1"),
            (b"b}\"", r#"[1,[2,"]"],{"x":{}}]"#),
            (b"c", r#"{"d":"\"}"}"#),
            (b"e", "true"),
        ];
        assert_eq!(members, expected);
        let items = value("[ 0 , -1.5e3,null ,'\\'',\"[\",{},[[]]]").items();
        let texts: Vec<_> = items
            .map(|item| str::from_utf8(item.text()).unwrap())
            .collect();
        assert_eq!(
            texts,
            ["0", "-1.5e3", "null", "'\\''", "\"[\"", "{}", "[[]]"]
        );
        assert_eq!(
            value("[]").items().count() + value("{ }").members().count(),
            0
        );
        assert_eq!(
            value("{'a':1}").items().count() + value("['a',1]").members().count(),
            0
        );
        assert_eq!(
            value("'{'").members().count() + value("5").items().count(),
            0
        );
    }

    #[test]
    fn decodes_strings() {
        for (text, bytes) in [
            (r#""""#.as_bytes(), b"".as_slice()),
            (br#"'a"b'"#, b"a\"b"),
            (br#""\"\'\\\/\b\f\n\r\t""#, b"\"'\\/\x08\x0c\n\r\t"),
            (
                br#""\u0041\u00e9\u20AC\uD83D\uDE00""#,
                "A\u{e9}\u{20ac}\u{1f600}".as_bytes(),
            ),
            (br#""\u0000""#, b"\xc0\x80"),
            (b"'\xc0\x80'", b"\xc0\x80"),
            (b"'\x7f\xc2\x80\xdf\xbf'", b"\x7f\xc2\x80\xdf\xbf"),
            (
                b"'\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd'",
                b"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd",
            ),
            (
                b"'\xf0\x90\x80\x80\xf4\x8f\xbf\xbd'",
                b"\xf0\x90\x80\x80\xf4\x8f\xbf\xbd",
            ),
            (
                br#""\u007f\u0080\u07ff\u0800\uffFD\udbff\udffd""#,
                b"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbd\xf4\x8f\xbf\xbd",
            ),
        ] {
            assert_eq!(decoded(text), bytes, "{}", text.escape_ascii());
            let string = receive(text).unwrap().string().unwrap();
            let mut store = heapless::Vec::<u8, 64>::new();
            string.decode(&mut store).unwrap();
            assert_eq!(store.as_slice(), bytes);
            assert_eq!(string.plain(), (!text.contains(&b'\\')).then_some(bytes));
            assert_eq!(string.raw(), &text[1..text.len() - 1]);
        }
        assert_eq!(value("5").string(), None);
        let mut full = heapless::Vec::<u8, 3>::new();
        assert_eq!(
            value(r"'ab\u00e9'").string().unwrap().decode(&mut full),
            Err(Full)
        );
    }

    #[test]
    fn compares_strings_with_names_in_any_spelling() {
        for (text, name, same) in [
            ("'execute'", "execute", true),
            (r"'\u0065xecut\u0065'", "execute", true),
            ("'Execute'", "execute", false),
            ("'execut'", "execute", false),
            ("'execute '", "execute", false),
            (r"'\u0065xecute '", "execute", false),
            (r"'\/'", "/", true),
            ("''", "", true),
            (r"'\u0000'", "", false),
        ] {
            assert_eq!(value(text).string().unwrap().is(name), same, "{text}");
        }
        let long = format!("'{}\\u0061'", "a".repeat(100));
        assert!(value(&long).string().unwrap().is(&"a".repeat(101)));
        assert_eq!(value(&long).string().unwrap().plain(), None);
        assert_eq!(Json::token_len(br"'a\'b':1}"), 6);
        assert_eq!(Json::token_len(b"-1.5}"), 4);
        assert_eq!(Json::token_len(b":1}"), 1);
    }

    #[test]
    fn rejects_random_text_or_reads_all_of_its_values() {
        fn walk(value: Json<'_>) -> usize {
            let parts: usize = value.items().map(walk).sum();
            let members = value
                .members()
                .map(|(name, value)| name.bytes().count() + walk(value));
            parts
                + members.sum::<usize>()
                + value.string().map_or(1, |string| string.bytes().count())
        }
        let seeds: [&[u8]; 3] = [
            br#"{"execute":"guest-ping","id":{"a":[1,2.5,-3e10,true,null],'b':{"c":"\ud83d\ude00"}}}"#,
            b"[[[{'a':{'b':[]}}],'\xf0\x9f\x98\x80\xc0\x80\\u0000'],-0,0.5]",
            br#"{"a":{"x":1,"y":2},"b":1,"c":{"x":[1,2,{"z":1,"w":2}]}}"#,
        ];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).unwrap()
        };
        let mut walked = 0;
        let rounds = if cfg!(miri) { 40 } else { 20_000 };
        for _ in 0..rounds {
            let mut text = seeds[next() % seeds.len()].to_vec();
            for _ in 0..1 + next() % 3 {
                let place = next() % text.len();
                match next() % 3 {
                    0 => text[place] = next().to_le_bytes()[0],
                    1 => text.insert(place, b"{}[]:,\"'\\u01-.e \xff\0"[next() % 18]),
                    _ => text.truncate(place + 1),
                }
            }
            if let Ok(value) = receive(&text) {
                walked += usize::from(walk(value) > 0);
            }
            // Views of any text end and do not panic.
            walk(Json(&text));
        }
        assert!(walked > rounds / 40, "{walked}");
    }
}
