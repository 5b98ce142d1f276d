//! Checks that a message is well-formed JSON, token by token as they arrive.
//!
//! Dialect and error texts are those of qemu-ga 11.1, measured on its replies. An error is reported
//! at the token that causes it, except a duplicate key, which is reported at the end of its value.
//! Nothing recurses: the kinds of the open containers are in a fixed array, and keys are kept as
//! hashes of 63 bits.
//!
//! Differences from qemu-ga:
//! - The open objects together have at most [`REQUEST_OPEN_MEMBERS`] members. One more is the error
//!   for too many tokens ([`Phrase::TokenLimit`]).
//! - Two different keys with the same hash count as duplicates, and a key with the hash of `execute`
//!   counts as that. Only keys that were made to have such a hash meet this.

use core::mem::MaybeUninit;

use static_assertions::const_assert;

use super::json::{Str, TokenError, check_string};
use super::message::{Finder, Members, NameHash};
use super::texts::Phrase;
use crate::base::limits::{REQUEST_DEPTH, REQUEST_OPEN_MEMBERS};

/// qemu-ga cuts an error text at this many bytes, not counting `JSON parse error, ` before it.
const TEXT_BYTES: usize = 1023;

/// Memory of a [`Checker`]: the containers that are open.
// In this order, so that most messages touch one page: most of the keys are never used.
#[repr(C)]
pub struct Open {
    /// For each depth, the set of kinds that follows a value in the container there.
    next: [u8; REQUEST_DEPTH],
    /// Hashes of the keys of all open objects. The lowest bit marks the first key of an object.
    keys: heapless::Vec<u64, ROOM>,
}

/// Room for the keys. It is larger than [`REQUEST_OPEN_MEMBERS`], so that [`Open`] ends with a page and
/// all its pages but the first can be given back.
const ROOM: usize = ((20 << 10) - REQUEST_DEPTH) / size_of::<u64>() - 1;

const_assert!(ROOM >= REQUEST_OPEN_MEMBERS);

impl Open {
    /// No open container.
    pub const fn new() -> Self {
        Self {
            next: [0; REQUEST_DEPTH],
            keys: heapless::Vec::new(),
        }
    }
}

impl Default for Open {
    fn default() -> Self {
        Self::new()
    }
}

/// The kinds of tokens. A set of kinds is the sum of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    String = 1,
    /// A number or keyword.
    Scalar = 2,
    BeginObject = 4,
    EndObject = 8,
    BeginArray = 16,
    EndArray = 32,
    Colon = 64,
    Comma = 128,
}

/// For each byte the kind of the token that begins with it, except of numbers and keywords.
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "at compile time"
)]
static KINDS: [Option<Kind>; 256] = {
    let mut kinds = [None; 256];
    let mut byte = 0;
    while byte < kinds.len() {
        kinds[byte] = match byte as u8 {
            b'"' | b'\'' => Some(Kind::String),
            b'{' => Some(Kind::BeginObject),
            b'}' => Some(Kind::EndObject),
            b'[' => Some(Kind::BeginArray),
            b']' => Some(Kind::EndArray),
            b':' => Some(Kind::Colon),
            b',' => Some(Kind::Comma),
            _ => None,
        };
        byte += 1;
    }
    kinds
};

impl Kind {
    /// The kind of a token that begins with `byte`; `None` if it is a number, a keyword or no token.
    pub(super) fn begun_by(byte: u8) -> Option<Self> {
        KINDS.get(usize::from(byte)).copied().flatten()
    }

    const fn is_in(self, kinds: u8) -> bool {
        kinds & self as u8 != 0
    }
}

// Sets of kinds.
const BEGIN: u8 = Kind::BeginObject as u8 | Kind::BeginArray as u8;
const END: u8 = Kind::EndObject as u8 | Kind::EndArray as u8;
const COMMA: u8 = Kind::Comma as u8;

// The sets of kinds that may come next.
const VALUE: u8 = Kind::String as u8 | Kind::Scalar as u8 | BEGIN;
/// A value, or the end of the array that was just begun.
const FIRST_VALUE: u8 = VALUE | Kind::EndArray as u8;
const KEY: u8 = Kind::String as u8;
/// A key, or the end of the object that was just begun.
const FIRST_KEY: u8 = KEY | Kind::EndObject as u8;
const COLON: u8 = Kind::Colon as u8;
/// What follows a member.
const NEXT_MEMBER: u8 = COMMA | Kind::EndObject as u8;
/// What follows an item.
const NEXT_ITEM: u8 = COMMA | Kind::EndArray as u8;

/// No container is that deep.
const NO_DEPTH: usize = usize::MAX;

/// Checks the tokens of one message after the other.
pub(super) struct Checker<'m> {
    /// The kinds of tokens that may come next.
    expected: u8,
    /// The number of open containers.
    depth: usize,
    open: &'m mut Open,
    /// The depth within the innermost object in which the value being read has a duplicate key;
    /// [`NO_DEPTH`] without one. One in an outer object need not be kept: the inner one ends first and
    /// is reported.
    duplicate: usize,
    /// Finds the members of the outer object.
    finder: Finder,
}

impl<'m> Checker<'m> {
    /// A checker before the first token of a message. `open` must be as [`Open::new`] makes it.
    pub(super) fn new(open: &'m mut Open) -> Self {
        // Does not write to `open`: that would make a page resident for each client that may ever
        // come.
        Self {
            expected: VALUE,
            depth: 0,
            open,
            duplicate: NO_DEPTH,
            finder: Finder::new(),
        }
    }

    /// Starts over with another message.
    pub(super) fn reset(&mut self) {
        self.expected = VALUE;
        self.depth = 0;
        self.duplicate = NO_DEPTH;
        self.finder = Finder::new();
        self.open.keys.clear();
    }

    /// The members of the message, which ends at `end`.
    pub(super) fn members(&mut self, end: usize) -> Members {
        self.finder.finish(end)
    }

    /// The memory for further keys.
    pub(super) fn free_memory(&mut self) -> &mut [MaybeUninit<u64>] {
        self.open.keys.spare_capacity_mut()
    }

    /// Checks the next token, which ends at `end` in the message. `text` is needed of strings and
    /// scalars. `is_plain` means that a string is ASCII without escapes.
    // Inlined into its only caller, which runs for every token.
    #[inline(always)]
    pub(super) fn token(
        &mut self,
        kind: Kind,
        text: &[u8],
        is_plain: bool,
        end: usize,
    ) -> Result<(), TokenError> {
        let expected = self.expected;
        if !kind.is_in(expected) {
            return Err(TokenError::new(match expected {
                // This limit comes before any other error at a bracket.
                _ if kind.is_in(BEGIN) && self.depth >= REQUEST_DEPTH => Phrase::NestingLimit,
                KEY | FIRST_KEY => Phrase::ExpectingKey,
                COLON => Phrase::ExpectingColon,
                NEXT_MEMBER => Phrase::ExpectedInObject,
                NEXT_ITEM => Phrase::ExpectedInArray,
                _ => Phrase::ExpectingValue,
            }));
        }
        if kind.is_in(COLON | COMMA) {
            // A comma in an object is followed by a key.
            self.expected = if expected == NEXT_MEMBER { KEY } else { VALUE };
            return Ok(());
        }
        let mut depth = self.depth;
        if kind.is_in(BEGIN) {
            let Some(next) = self.open.next.get_mut(depth) else {
                return Err(TokenError::new(Phrase::NestingLimit));
            };
            (*next, self.expected) = match kind {
                Kind::BeginObject => (NEXT_MEMBER, FIRST_KEY),
                _ => (NEXT_ITEM, FIRST_VALUE),
            };
            self.depth = depth.wrapping_add(1);
            return Ok(());
        }
        if kind.is_in(END) {
            if expected == NEXT_MEMBER {
                // Removes the keys of the object, the first one last.
                while self.open.keys.pop().is_some_and(|key| key & 1 == 0) {}
            }
            depth = depth.wrapping_sub(1);
        } else if kind == Kind::Scalar {
            check_scalar(text)?;
        } else {
            if !is_plain {
                check_string(text)?;
            }
            // Where no number may be, a string is a key.
            if !Kind::Scalar.is_in(expected) {
                return self.key(text, is_plain, end);
            }
        }
        // A value ends, in the innermost of `depth` containers.
        if self.duplicate == depth {
            return Err(TokenError::new(Phrase::DuplicateKey));
        }
        self.depth = depth;
        let container = depth.wrapping_sub(1);
        self.expected = self.open.next.get(container).copied().unwrap_or_default();
        Ok(())
    }

    /// Checks the key of a member.
    fn key(&mut self, text: &[u8], is_plain: bool, end: usize) -> Result<(), TokenError> {
        let key = Str::inside(text);
        let hash = match is_plain {
            true => NameHash::of(key.raw()),
            false => NameHash::of_str(key),
        };
        self.note_key(hash)?;
        if self.depth == 1 {
            self.finder.name(hash, end.wrapping_sub(text.len()), end);
        }
        self.expected = COLON;
        Ok(())
    }

    /// Whether a container is open, so that the message goes on.
    pub(super) fn is_open(&self) -> bool {
        self.depth != 0
    }

    /// The numbers of open objects and of open arrays.
    pub(super) fn open_containers(&self) -> [i32; 2] {
        let mut count = [0i32; 2];
        for next in self.open.next.iter().take(self.depth) {
            let [objects, arrays] = &mut count;
            let kind = match *next {
                NEXT_MEMBER => objects,
                _ => arrays,
            };
            *kind = kind.wrapping_add(1);
        }
        count
    }

    /// Adds the key of a member of the innermost object, and compares it with the other keys there.
    fn note_key(&mut self, hash: u64) -> Result<(), TokenError> {
        let is_first = self.expected == FIRST_KEY;
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
        let keys = &mut self.open.keys;
        let fits =
            keys.len() < REQUEST_OPEN_MEMBERS && keys.push(hash | u64::from(is_first)).is_ok();
        fits.then_some(())
            .ok_or(TokenError::new(Phrase::TokenLimit))
    }
}

/// Checks a number or keyword. Numbers have been checked byte by byte (`wire::lex`).
fn check_scalar(token: &[u8]) -> Result<(), TokenError> {
    const KEYWORDS: &[u8] = b"true false null";
    let is_keyword = token.first().is_some_and(u8::is_ascii_lowercase);
    if !is_keyword || Str::ascii(token).word_index(KEYWORDS).is_some() {
        return Ok(());
    }
    Err(show_cut(
        token,
        "invalid keyword ''",
        [Phrase::InvalidKeyword, Phrase::InvalidKeywordCut],
    ))
}

/// An error that shows its token: the phrase `whole`, or the phrase `cut` if the error text would
/// be longer than qemu-ga's. `text` is the text around the token.
fn show_cut(token: &[u8], text: &str, [whole, cut]: [Phrase; 2]) -> TokenError {
    let room = TEXT_BYTES.saturating_sub(text.len());
    if token.len() <= room {
        let shown = 0..token.len();
        let phrase = whole;
        return TokenError { phrase, shown };
    }
    // One byte more: the closing quote is cut off.
    let shown = 0..room.wrapping_add(1);
    let phrase = cut;
    TokenError { phrase, shown }
}

/// The error of a token whose last byte cannot continue it.
pub(super) fn stray(token: &[u8]) -> TokenError {
    show_cut(token, "stray ''", [Phrase::Stray, Phrase::StrayCut])
}

#[cfg(test)]
mod tests {
    use super::super::json::{Json, JsonType};
    use super::super::receive::receive;
    use super::*;

    fn error(text: &[u8]) -> String {
        receive(text).unwrap_err()
    }

    fn value(text: &str) -> Json<'static> {
        receive(text.as_bytes()).unwrap()
    }

    #[test]
    fn error_texts_are_those_of_qemu_ga() {
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
            assert_eq!(error(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn finds_duplicate_keys_in_any_spelling() {
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
            assert_eq!(error(text.as_bytes()), expected, "{text}");
        }
        for text in [
            r#"{"a":{"a":{"a":1},"b":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
            r#"{"a":1,"A":2,"a ":3,"":4}"#,
            r#"{"a":{"b":1},"b":{"a":1},"c":{}}"#,
            r#"{"a":{"b":{}},"c":[{}],"b":1}"#,
        ] {
            assert_eq!(value(text).kind(), JsonType::Object, "{text}");
        }
        // An error within the value comes before the duplicate key, an error behind it does not.
        assert_eq!(error(b"{'a':1,'a':[}"), "1:13 expecting value");
        assert_eq!(error(b"{'a':1,'a' 2}"), "1:12 expecting ':'");
        assert_eq!(error(b"{'a':1,'a':2 3}"), "1:12 duplicate key");
        assert_eq!(error(b"{'a':1,'a':{'b':1,'b':2 3}"), "1:23 duplicate key");
    }

    #[test]
    fn limits_the_members_of_open_objects() {
        let object = |members: usize| {
            let members: Vec<_> = (0..members).map(|member| format!("'{member}':0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(
            value(&object(REQUEST_OPEN_MEMBERS)).members().count(),
            REQUEST_OPEN_MEMBERS
        );
        let over = object(REQUEST_OPEN_MEMBERS + 1);
        assert_eq!(error(over.as_bytes()), "JSON token count limit exceeded");
        // Members of closed objects do not count.
        value(&format!("[{0},{0},{0}]", object(REQUEST_OPEN_MEMBERS)));
        let half = object(REQUEST_OPEN_MEMBERS / 2);
        value(&format!("{{'a':{half},'b':{half},'c':{{'a':{half}}}}}"));
    }

    #[test]
    fn accepts_nesting_up_to_the_limit() {
        let nested = |depth: usize| format!("{}{{}}{}", "{'a':".repeat(depth), "}".repeat(depth));
        assert_eq!(value(&nested(REQUEST_DEPTH - 1)).kind(), JsonType::Object);
        let over = nested(REQUEST_DEPTH);
        assert_eq!(error(over.as_bytes()), "JSON nesting depth limit exceeded");
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
    fn cuts_long_tokens_where_qemu_ga_does() {
        for (length, shown, quote) in [(1005, 1005, "'"), (1006, 1006, ""), (3000, 1006, "")] {
            let word = "z".repeat(length);
            let expected = format!("1:1 invalid keyword '{}{quote}", &word[..shown]);
            assert_eq!(error(word.as_bytes()), expected);
        }
        // The token includes its opening quote and the stray byte.
        for (length, shown, quote) in [(1015, 1015, "'"), (1016, 1016, ""), (3000, 1016, "")] {
            let token = format!("\"{}\u{1}", "s".repeat(length - 2));
            let expected = format!("1:1 stray '{}{quote}", &token[..shown]);
            assert_eq!(error(token.as_bytes()), expected);
        }
    }
}
