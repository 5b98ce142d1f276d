//! Whether a message is well-formed JSON, token by token as they come.
//!
//! The error texts are those of qemu-ga 11.1, found by asking it. An error is about the token that is
//! wrong; only a duplicate key is reported at the end of its value. Nothing recurses: open containers
//! are bits in a fixed set, keys are remembered as 63-bit hashes.
//!
//! Differences from qemu-ga:
//! - An object, together with all those around it, has at most [`REQUEST_OPEN_MEMBERS`] members
//!   where the next one is read; beyond that the message has too many tokens
//!   ([`Phrase::TokenLimit`]).
//! - Two keys of an object that differ but have the same hash count as duplicates. By accident this
//!   does not happen.

use super::json::{Json, Str, Wrong, check_string};
use crate::base::limits::{REQUEST_DEPTH, REQUEST_OPEN_MEMBERS};
use crate::base::texts::Phrase;

/// qemu-ga cuts off an error's text, counted from behind `JSON parse error, `, that is longer.
const TEXT_BYTES: usize = 1023;

/// Memory for what is known of open containers.
pub struct Open {
    /// Hashes of the keys of all objects; the lowest bit marks the first key of an object.
    keys: heapless::Vec<u64, REQUEST_OPEN_MEMBERS>,
    /// Which containers are objects, by depth.
    objects: [u64; REQUEST_DEPTH / 64],
}

impl Open {
    /// None is open.
    pub const fn new() -> Self {
        Self {
            keys: heapless::Vec::new(),
            objects: [0; REQUEST_DEPTH / 64],
        }
    }
}

impl Default for Open {
    fn default() -> Self {
        Self::new()
    }
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Value,
    /// Or the end of the array that was just begun.
    FirstValue,
    Key,
    /// Or the end of the object that was just begun.
    FirstKey,
    Colon,
    /// Or the end of the container.
    Separator,
}

/// What is known of a message up to one of its tokens.
pub(super) struct Checker<'m> {
    due: Due,
    /// How many containers are open.
    depth: usize,
    open: &'m mut Open,
    /// Depth inside the innermost object that the value being read is a duplicate member of, 0 if it is
    /// none. An outer one need not be remembered: the inner one is reported first.
    duplicate: usize,
}

impl<'m> Checker<'m> {
    /// Before the first token of a message, with memory for [`Open::new`].
    pub(super) fn new(open: &'m mut Open) -> Self {
        // Not cleared: that would take a page of memory for each client there may once be.
        Self {
            due: Due::Value,
            depth: 0,
            open,
            duplicate: 0,
        }
    }

    /// Forgets all tokens.
    pub(super) fn reset(&mut self) {
        self.due = Due::Value;
        self.depth = 0;
        self.duplicate = 0;
        self.open.keys.clear();
    }

    /// Checks the next token; `is_plain` says of a string that it is known to be ASCII without escapes.
    pub(super) fn token(&mut self, token: &[u8], is_plain: bool) -> Result<(), Wrong> {
        let first = token.first().copied().unwrap_or(0);
        match self.due {
            Due::FirstValue if first == b']' => self.end_container(),
            Due::FirstKey if first == b'}' => self.end_container(),
            Due::Value | Due::FirstValue => self.value(first, token, is_plain),
            Due::Key | Due::FirstKey => self.key(token, is_plain),
            Due::Colon if first == b':' => {
                self.due = Due::Value;
                Ok(())
            }
            Due::Colon => Err(Wrong::token(Phrase::ExpectingColon)),
            Due::Separator => self.separator(first),
        }
    }

    /// Checks a value, or the bracket that it begins with.
    #[inline(always)]
    fn value(&mut self, first: u8, token: &[u8], is_plain: bool) -> Result<(), Wrong> {
        match first {
            b'"' | b'\'' if is_plain => {}
            b'"' | b'\'' => check_string(token)?,
            b'{' | b'[' => return self.begin_container(first),
            b',' | b':' | b'}' | b']' => return Err(Wrong::token(Phrase::ExpectingValue)),
            _ => check_scalar(token)?,
        }
        self.end_value()
    }

    #[inline(always)]
    fn key(&mut self, token: &[u8], is_plain: bool) -> Result<(), Wrong> {
        let Some(key) = Json(token).string() else {
            return Err(Wrong::token(Phrase::ExpectingKey));
        };
        let hash = if is_plain {
            hash(key.raw().iter().copied())
        } else {
            check_string(token)?;
            hash(key.bytes())
        };
        self.note_key(hash)?;
        self.due = Due::Colon;
        Ok(())
    }

    fn separator(&mut self, byte: u8) -> Result<(), Wrong> {
        let in_object = self.in_object();
        match byte {
            b',' => self.due = if in_object { Due::Key } else { Due::Value },
            b'}' if in_object => {
                // The first key is the last to go.
                while self.open.keys.pop().is_some_and(|key| key & 1 == 0) {}
                return self.end_container();
            }
            b']' if !in_object => return self.end_container(),
            _ if in_object => return Err(Wrong::token(Phrase::ExpectedInObject)),
            _ => return Err(Wrong::token(Phrase::ExpectedInArray)),
        }
        Ok(())
    }

    fn begin_container(&mut self, bracket: u8) -> Result<(), Wrong> {
        let is_object = bracket == b'{';
        let Some(word) = self.open.objects.get_mut(self.depth >> 6) else {
            return Err(Wrong::token(Phrase::NestingLimit));
        };
        let bit = 1u64.rotate_left(low_bits(self.depth));
        *word = if is_object { *word | bit } else { *word & !bit };
        self.depth = self.depth.wrapping_add(1);
        self.due = if is_object {
            Due::FirstKey
        } else {
            Due::FirstValue
        };
        Ok(())
    }

    fn end_container(&mut self) -> Result<(), Wrong> {
        self.depth = self.depth.wrapping_sub(1);
        self.end_value()
    }

    fn end_value(&mut self) -> Result<(), Wrong> {
        self.due = Due::Separator;
        if self.duplicate != 0 && self.duplicate == self.depth {
            return Err(Wrong::token(Phrase::DuplicateKey));
        }
        Ok(())
    }

    /// Whether the innermost container is an object.
    fn in_object(&self) -> bool {
        let at = self.depth.wrapping_sub(1);
        self.open
            .objects
            .get(at >> 6)
            .is_some_and(|word| word.rotate_right(low_bits(at)) & 1 != 0)
    }

    /// Notes the key of a member of the innermost object.
    fn note_key(&mut self, hash: u64) -> Result<(), Wrong> {
        let is_first = self.due == Due::FirstKey;
        let hash = hash & !1;
        if !is_first {
            for other in self.open.keys.iter().rev() {
                if other & !1 == hash {
                    self.duplicate = self.depth;
                }
                if other & 1 != 0 {
                    break;
                }
            }
        }
        self.open
            .keys
            .push(hash | u64::from(is_first))
            .map_err(|_| Wrong::token(Phrase::TokenLimit))
    }
}

/// Proves that a number or keyword is one that may be.
fn check_scalar(token: &[u8]) -> Result<(), Wrong> {
    const KEYWORDS: &[u8] = b"true false null";
    let is_keyword = token.first().is_some_and(u8::is_ascii_lowercase);
    if !is_keyword || Str::ascii(token).place_in(KEYWORDS).is_some() {
        return Ok(());
    }
    Err(show_cut(
        token,
        "invalid keyword ''",
        [Phrase::InvalidKeyword, Phrase::InvalidKeywordCut],
    ))
}

/// What is wrong with a token that is shown whole, as the first phrase says it, or cut, as the second
/// does. `text` is all that stands around it.
fn show_cut(token: &[u8], text: &str, [whole, cut]: [Phrase; 2]) -> Wrong {
    let room = TEXT_BYTES.saturating_sub(text.len());
    if token.len() <= room {
        let shown = 0..token.len();
        return Wrong { what: whole, shown };
    }
    // Room for the quote as well, which does not follow.
    let shown = 0..room.wrapping_add(1);
    Wrong { what: cut, shown }
}

/// What is wrong with a token that cannot go on with its last byte.
pub(super) fn stray(token: &[u8]) -> Wrong {
    show_cut(token, "stray ''", [Phrase::Stray, Phrase::StrayCut])
}

/// FNV-1a, its better bits folded into the worse.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash ^ hash >> 32
}

fn low_bits(depth: usize) -> u32 {
    u32::try_from(depth & 63).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::json::{Json, Kind};
    use super::super::receive::receive;
    use super::*;

    fn wrong(text: &[u8]) -> String {
        receive(text).unwrap_err()
    }

    fn value(text: &str) -> Json<'static> {
        receive(text.as_bytes()).unwrap()
    }

    #[test]
    fn errors_are_worded_as_the_reference_words_them() {
        for (text, expected) in [
            (b"}".as_slice(), "1:1 expecting value"),
            (b"]", "1:1 expecting value"),
            (b",", "1:1 expecting value"),
            (b"[,1]", "1:2 expecting value"),
            (b"[1,]", "1:4 expecting value"),
            (b"{'a':}", "1:6 expecting value"),
            (b"[}", "1:2 expecting value"),
            (b"{,}", "1:2 expecting key"),
            (b"{'a':1,}", "1:8 expecting key"),
            (b"{]", "1:2 expecting key"),
            (b"{:1}", "1:2 expecting key"),
            (b"{1:2}", "1:2 expecting key"),
            (b"{true:2}", "1:2 expecting key"),
            (b"{nope:1}", "1:2 expecting key"),
            (b"{{}:2}", "1:2 expecting key"),
            (b"{'a':1,{}:2}", "1:8 expecting key"),
            (b"{[1 2]:3}", "1:2 expecting key"),
            (b"{'a':1 'b':2}", "1:8 expected ',' or '}'"),
            (b"{'a':1]", "1:8 expected ',' or '}'"),
            (b"[1 2]", "1:4 expected ',' or ']'"),
            (b"[1}", "1:4 expected ',' or ']'"),
            (b"['a':1]", "1:5 expected ',' or ']'"),
            (b"[[1] 2]", "1:6 expected ',' or ']'"),
            (b"{'a' 1}", "1:6 expecting ':'"),
            (b"{'a'}", "1:5 expecting ':'"),
            (b"{'a',1}", "1:5 expecting ':'"),
            (b"{'a' '\\x'}", "1:6 expecting ':'"),
            (b"[ 1, nope ]", "1:6 invalid keyword 'nope'"),
            (b"['\\x',nope]", "1:2 invalid escape sequence in string"),
            (b"[nope,'\\x']", "1:2 invalid keyword 'nope'"),
            (b"[True]", "1:2 stray 'T'"),
            (b"nul", "1:1 invalid keyword 'nul'"),
            (b"nulls", "1:1 invalid keyword 'nulls'"),
            (b"'\\x'", "1:1 invalid escape sequence in string"),
            (b"'\\\xc3'", "1:1 invalid escape sequence in string"),
            (b"'\\U0041'", "1:1 invalid escape sequence in string"),
            (b"{'\\q':1}", "1:2 invalid escape sequence in string"),
            (b"{'a': 'b\\q'}", "1:7 invalid escape sequence in string"),
            (
                b"'ab\\ud800 c'",
                "1:1 \\ud800 is not a valid Unicode character",
            ),
            (
                b"'\\ud800\\u0041'",
                "1:1 \\ud800 is not a valid Unicode character",
            ),
            (
                b"'\\ud800\\uzzzz'",
                "1:1 \\ud800 is not a valid Unicode character",
            ),
            (
                b"'\\udc00\\ud800'",
                "1:1 \\udc00 is not a valid Unicode character",
            ),
            (b"'\\uZZZZ'", "1:1 \\uZZZZ is not a valid Unicode character"),
            (b"'\\ufffe'", "1:1 \\ufffe is not a valid Unicode character"),
            (b"'\\ufdd0'", "1:1 \\ufdd0 is not a valid Unicode character"),
            (
                b"'\\uD83F\\uDFFE'",
                "1:1 \\uD83F\\uDFFE is not a valid Unicode character",
            ),
            (b"'\\u12' ", "1:1 \\u12' is not a valid Unicode character"),
            (
                b"['\\u',1234567]",
                "1:2 \\u' is not a valid Unicode character",
            ),
            (
                b"'\\u1\\'5678'",
                "1:1 \\u1\\'5 is not a valid Unicode character",
            ),
            (b"'\x80'", "1:1 invalid UTF-8 sequence in string"),
            (b"'\xc1\xbf'", "1:1 invalid UTF-8 sequence in string"),
            (b"'\xc0\x81'", "1:1 invalid UTF-8 sequence in string"),
            (b"'\xe0\x80\x80'", "1:1 invalid UTF-8 sequence in string"),
            (b"'\xed\xa0\x80'", "1:1 invalid UTF-8 sequence in string"),
            (b"'\xef\xb7\x90'", "1:1 invalid UTF-8 sequence in string"),
            (b"'\xef\xbf\xbe'", "1:1 invalid UTF-8 sequence in string"),
            (
                b"'\xf0\x80\x80\x80'",
                "1:1 invalid UTF-8 sequence in string",
            ),
            (
                b"'\xf0\x9f\xbf\xbf'",
                "1:1 invalid UTF-8 sequence in string",
            ),
            (
                b"'\xf4\x90\x80\x80'",
                "1:1 invalid UTF-8 sequence in string",
            ),
            (
                b"'\xf8\x88\x80\x80\x80'",
                "1:1 invalid UTF-8 sequence in string",
            ),
            (b"'\xe2\x82'", "1:1 invalid UTF-8 sequence in string"),
            (b"'a\xc3'", "1:1 invalid UTF-8 sequence in string"),
            (b"[1 2 \xff", "1:4 expected ',' or ']'"),
            (b"[nopeX", "1:2 invalid keyword 'nope'"),
            (b"{'a':1 [1,]", "1:8 expected ',' or '}'"),
            (b"{'a':1,'a':2 \x01", "1:12 duplicate key"),
        ] {
            assert_eq!(wrong(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn duplicate_keys_are_found_however_they_are_written() {
        for (text, position) in [
            (r#"{"a":1,"a":2}"#, "1:12"),
            (r#"{"a":1,'a':2}"#, "1:12"),
            (r#"{"a":1,"b":{},"\u0061":2}"#, "1:24"),
            (r#"{"a":{"b":1,"b":2}}"#, "1:17"),
            (r#"[{"id":[{"x":{"y":1},"z":2,"x":3}]}]"#, "1:32"),
            (r#"{"a":1,"b":{"c":[{"d":1}]},"b":2}"#, "1:32"),
            (r#"{"":1,'':2}"#, "1:10"),
            (r#"{"a":1,"a":{"b":2}}"#, "1:19"),
            (r#"{"a":1,"a":[1, [2] ] }"#, "1:20"),
            (r#"{"a":1,"a" : {}}"#, "1:15"),
        ] {
            let expected = format!("{position} duplicate key");
            assert_eq!(wrong(text.as_bytes()), expected, "{text}");
        }
        for text in [
            r#"{"a":{"a":{"a":1},"b":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
            r#"{"a":1,"A":2,"a ":3,"":4}"#,
            r#"{"a":{"b":1},"b":{"a":1},"c":{}}"#,
            r#"{"a":{"b":{}},"c":[{}],"b":1}"#,
        ] {
            assert_eq!(value(text).kind(), Kind::Object, "{text}");
        }
        // An error in the value comes first, one after it does not.
        assert_eq!(wrong(b"{'a':1,'a':[}"), "1:13 expecting value");
        assert_eq!(wrong(b"{'a':1,'a' 2}"), "1:12 expecting ':'");
        assert_eq!(wrong(b"{'a':1,'a':2 3}"), "1:12 duplicate key");
        assert_eq!(wrong(b"{'a':1,'a':{'b':1,'b':2 3}"), "1:23 duplicate key");
    }

    #[test]
    fn as_many_members_may_be_open_as_there_is_room_to_compare() {
        let object = |members: usize| {
            let members: Vec<_> = (0..members).map(|member| format!("'{member}':0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(
            value(&object(REQUEST_OPEN_MEMBERS)).members().count(),
            REQUEST_OPEN_MEMBERS
        );
        let over = object(REQUEST_OPEN_MEMBERS + 1);
        assert_eq!(wrong(over.as_bytes()), "JSON token count limit exceeded");
        // Those of closed objects do not count.
        value(&format!("[{0},{0},{0}]", object(REQUEST_OPEN_MEMBERS)));
        let half = object(REQUEST_OPEN_MEMBERS / 2);
        value(&format!("{{'a':{half},'b':{half},'c':{{'a':{half}}}}}"));
    }

    #[test]
    fn nesting_goes_to_its_limit() {
        let nested = |depth: usize| format!("{}{{}}{}", "{'a':".repeat(depth), "}".repeat(depth));
        assert_eq!(value(&nested(REQUEST_DEPTH - 1)).kind(), Kind::Object);
        let over = nested(REQUEST_DEPTH);
        assert_eq!(wrong(over.as_bytes()), "JSON nesting depth limit exceeded");
        let mixed = format!(
            "{}{}",
            "[{'a':".repeat(512),
            "0}]".repeat(512).replace("]0", "]")
        );
        let items: Vec<_> = value(&mixed).items().collect();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].members().count(), 1);
    }

    #[test]
    fn long_tokens_are_cut_where_the_reference_cuts_them() {
        for (length, shown, quote) in [(1005, 1005, "'"), (1006, 1006, ""), (3000, 1006, "")] {
            let word = "z".repeat(length);
            let expected = format!("1:1 invalid keyword '{}{quote}", &word[..shown]);
            assert_eq!(wrong(word.as_bytes()), expected);
        }
        // With its quote, and with the byte that does not belong there.
        for (length, shown, quote) in [(1015, 1015, "'"), (1016, 1016, ""), (3000, 1016, "")] {
            let token = format!("\"{}\u{1}", "s".repeat(length - 2));
            let expected = format!("1:1 stray '{}{quote}", &token[..shown]);
            assert_eq!(wrong(token.as_bytes()), expected);
        }
    }
}
