//! A message as JSON: one pass that proves it well formed, and views that borrow from its text.
//!
//! The dialect and the error texts are those of qemu-ga 10, found by asking it: either quote around
//! strings, U+0000 as the two bytes C0 80, no noncharacters, no duplicate keys at any depth.
//! The first error in the order of the text wins; only a duplicate key is reported as late as the
//! end of its value.
//!
//! Nothing is decoded or copied until asked for, and nothing recurses: open containers are bits in
//! a fixed set, keys are remembered as 63-bit hashes.
//!
//! Differences from qemu-ga:
//! - An object, together with all those around it, has at most [`REQUEST_OPEN_MEMBERS`] members
//!   where the next one is read; beyond that the message has too many tokens
//!   ([`ParseError::TooManyMembers`]).
//! - Two keys of an object that differ but have the same hash count as duplicates. By accident this
//!   does not happen.
//!
//! Text that never went through `wire::frame` is safe to check as well; [`ParseError::PrematureEnd`],
//! [`ParseError::Stray`] and [`ParseError::TooDeep`] come from such text alone.

use super::frame::{between, plain_run, scalar};
use crate::base::base64::{Fault, decode_within};
use crate::base::limits::{REQUEST_DEPTH, REQUEST_OPEN_MEMBERS};
use crate::base::store::{Full, Store};
use serde_json_core::from_slice;

/// Longest text of a parser error after its prefix; qemu-ga cuts the rest off.
const MESSAGE_BYTES: usize = 1023;

/// Longest string searched for escapes at once: every name of a member or a command.
const NAME_BYTES: usize = 40;

/// A well-formed JSON value: its text, without blanks around it. Proven by [`check`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<'a>(&'a [u8]);

/// What a value is. Numbers are told apart by what holds them without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{}`
    Object,
    /// `[]`
    Array,
    /// `""` or `''`
    String,
    /// An integer literal that an `i64` holds.
    Integer,
    /// An integer literal that only a `u64` holds.
    Unsigned,
    /// Any other number.
    Double,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

impl<'a> Json<'a> {
    /// What the value is.
    pub fn kind(self) -> Kind {
        match self.0.first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"' | b'\'') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'-' | b'0'..=b'9') => match self.integer() {
                Some(_) if self.int().is_some() => Kind::Integer,
                Some((false, _)) => Kind::Unsigned,
                _ => Kind::Double,
            },
            _ => Kind::Null,
        }
    }

    /// The members of an object, in order; of anything else, none.
    pub fn members(self) -> Members<'a> {
        Members(Cursor::new(self.0.strip_prefix(b"{").unwrap_or_default()))
    }

    /// The elements of an array, in order; of anything else, none.
    pub fn items(self) -> Items<'a> {
        Items(Cursor::new(self.0.strip_prefix(b"[").unwrap_or_default()))
    }

    /// The string, if the value is one.
    pub fn string(self) -> Option<Str<'a>> {
        let (quote, rest) = self.0.split_first()?;
        let (end, inside) = rest.split_last()?;
        (matches!(quote, b'"' | b'\'') && end == quote).then(|| Str::new(inside))
    }

    /// The number, if it is an integer literal that fits.
    #[inline(never)]
    pub fn int(self) -> Option<i64> {
        let (negative, magnitude) = self.integer()?;
        let number = magnitude.cast_signed();
        if negative {
            // One more fits below zero than above.
            (magnitude <= 1 << 63).then_some(number.wrapping_neg())
        } else {
            (number >= 0).then_some(number)
        }
    }

    /// The number, if it is an integer literal that fits either sign; a negative one wraps around.
    pub fn uint(self) -> Option<u64> {
        match self.integer()? {
            (false, magnitude) => Some(magnitude),
            (true, _) => self.int().map(i64::cast_unsigned),
        }
    }

    /// The truth value, if the value is one.
    pub fn bool(self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The string that `text`, the end of some value's text, begins with, and what follows it.
    pub fn leading_string(text: &'a [u8]) -> Option<(Str<'a>, &'a [u8])> {
        let mut cursor = Cursor::new(text);
        let string = cursor.skip_string()?;
        Some((string, cursor.rest()))
    }

    /// The text itself.
    pub fn text(self) -> &'a [u8] {
        self.0
    }

    /// Whether an integer literal is negative, and how far from zero, if that fits.
    #[inline(never)]
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
        self.0.skip_separator();
        let key = self.0.skip_string()?;
        Some((key, self.0.skip_item()?))
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

/// A place in a text. The `skip` functions take well-formed text for granted, the `check` functions
/// do not.
#[derive(Clone, Copy, Default)]
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The byte here; at the end a NUL, which may stand nowhere.
    #[inline(always)]
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn advance(&mut self, bytes: usize) {
        self.at = self.at.wrapping_add(bytes);
    }

    #[inline(always)]
    fn rest(&self) -> &'a [u8] {
        between(self.text, self.at, self.text.len())
    }

    #[inline(always)]
    fn since(&self, from: usize) -> &'a [u8] {
        between(self.text, from, self.at)
    }

    /// Moves past blanks, and gives the byte there.
    #[inline(never)]
    fn skip_blanks(&mut self) -> u8 {
        loop {
            match self.peek() {
                b' ' | b'\t' | b'\n' | b'\r' => self.advance(1),
                byte => return byte,
            }
        }
    }

    /// Moves past blanks, commas and colons, and gives the byte there.
    fn skip_separator(&mut self) -> u8 {
        loop {
            match self.skip_blanks() {
                b',' | b':' => self.advance(1),
                byte => return byte,
            }
        }
    }

    /// Moves past the next value inside a container, if there is one more.
    fn skip_item(&mut self) -> Option<Json<'a>> {
        if let 0 | b'}' | b']' = self.skip_separator() {
            return None;
        }
        let from = self.at;
        let mut open = 0usize;
        loop {
            match self.peek() {
                0 => break,
                b'"' | b'\'' => {
                    self.skip_string();
                }
                b'-' | b'0'..=b'9' | b'a'..=b'z' => self.advance(scalar(self.rest()).0),
                byte => {
                    open = match byte {
                        b'{' | b'[' => open.wrapping_add(1),
                        b'}' | b']' => open.wrapping_sub(1),
                        _ => open,
                    };
                    self.advance(1);
                }
            }
            if open == 0 {
                break;
            }
        }
        Some(Json(self.since(from)))
    }

    /// Moves past the string here.
    fn skip_string(&mut self) -> Option<Str<'a>> {
        let (quote, from) = self.enter_string()?;
        let mut escaped = false;
        loop {
            self.advance(plain_run(self.rest(), quote));
            match self.peek() {
                b'\\' => {
                    escaped = true;
                    self.advance(2);
                }
                byte if byte == quote || byte == 0 => break,
                _ => self.advance(1),
            }
        }
        let text = self.since(from);
        self.advance(1);
        Some(Str { text, escaped })
    }

    /// Moves past the quote here.
    #[inline(always)]
    fn enter_string(&mut self) -> Option<(u8, usize)> {
        let quote = self.peek();
        if !matches!(quote, b'"' | b'\'') {
            return None;
        }
        self.advance(1);
        Some((quote, self.at))
    }
}

/// The raw text between the quotes of a string, proven well formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Str<'a> {
    text: &'a [u8],
    /// There may be an escape in it. Long text is not searched for one until somebody asks.
    escaped: bool,
}

impl<'a> Str<'a> {
    fn new(text: &'a [u8]) -> Self {
        let escaped = text.len() > NAME_BYTES || backslash(text) < text.len();
        Self { text, escaped }
    }

    /// The string of these bytes, which hold no backslash.
    pub(super) fn ascii(text: &'a [u8]) -> Self {
        Self {
            text,
            escaped: false,
        }
    }

    /// What follows `prefix`, if the string begins with that: ASCII that holds no backslash.
    pub fn behind(self, prefix: &[u8]) -> Option<Self> {
        if let Some(text) = self.text.strip_prefix(prefix) {
            return Some(Self { text, ..self });
        }
        let mut bytes = self.bytes();
        for byte in prefix {
            if bytes.next() != Some(*byte) {
                return None;
            }
        }
        Some(Self {
            text: bytes.rest,
            ..self
        })
    }

    /// Whether the string is `ascii`, which holds no backslash. Costs little where it is not.
    pub fn is(self, ascii: &str) -> bool {
        self.is_named(ascii.as_bytes())
    }

    /// As [`Str::is`].
    #[inline(never)]
    pub fn is_named(self, name: &[u8]) -> bool {
        // An escape is longer than what it stands for.
        if self.escaped && self.text.len() > name.len() {
            self.stands_for(name)
        } else {
            self.text == name
        }
    }

    /// Whether the string stands for these bytes.
    pub fn stands_for(self, bytes: &[u8]) -> bool {
        self.bytes().eq(bytes.iter().copied())
    }

    /// The bytes it stands for: UTF-8, with U+0000 as C0 80.
    pub fn bytes(self) -> StrBytes<'a> {
        StrBytes {
            rest: self.text,
            pending: 0,
        }
    }

    /// The text as it was written.
    pub fn raw(self) -> &'a [u8] {
        self.text
    }

    /// The bytes it stands for, if they are the text as it was written.
    pub fn plain(self) -> Option<&'a [u8]> {
        (!self.escaped || backslash(self.text) == self.text.len()).then_some(self.text)
    }

    /// Appends the bytes that it stands for in base64.
    #[inline(never)]
    pub fn base64(self, out: &mut dyn Store) -> Result<(), Fault> {
        let start = out.bytes().len();
        self.decode(out).map_err(|Full| Fault::Full)?;
        let text = out.bytes_mut().get_mut(start..).unwrap_or_default();
        let len = decode_within(text).ok_or(Fault::Invalid)?;
        out.truncate(start.wrapping_add(len));
        Ok(())
    }

    /// Appends the bytes it stands for.
    ///
    /// # Errors
    /// [`Full`] if `out` is; what came before is then in it.
    pub fn decode(self, out: &mut dyn Store) -> Result<(), Full> {
        let mut rest = self.text;
        loop {
            let (run, escaped) = rest.split_at_checked(backslash(rest)).unwrap_or_default();
            out.append(run)?;
            let Ok((code, len)) = escape(escaped) else {
                return Ok(());
            };
            let bytes = packed_utf8(code).to_le_bytes();
            let used = bytes.iter().take_while(|byte| **byte != 0).count();
            out.append(between(&bytes, 0, used))?;
            rest = escaped.get(len..).unwrap_or_default();
        }
    }
}

/// How many bytes come before the first backslash.
fn backslash(text: &[u8]) -> usize {
    let mut at = 0usize;
    loop {
        at = at.wrapping_add(plain_run(between(text, at, text.len()), b'\\'));
        match text.get(at) {
            None | Some(b'\\') => return at,
            Some(_) => at = at.wrapping_add(1),
        }
    }
}

/// The bytes a string stands for. See [`Str::bytes`].
#[derive(Clone)]
pub struct StrBytes<'a> {
    rest: &'a [u8],
    /// What is left of an escape, first byte lowest.
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
            let (code, len) = escape(self.rest).ok()?;
            self.rest = self.rest.get(len..).unwrap_or_default();
            self.pending = packed_utf8(code);
        }
        let [byte, ..] = self.pending.to_le_bytes();
        self.pending >>= 8;
        Some(byte)
    }
}

/// Why a message is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError<'a> {
    /// Something stands where a value is due.
    ExpectingValue,
    /// Neither comma nor closing brace after a member.
    ExpectedSeparatorInDict,
    /// Neither comma nor closing bracket after an element.
    ExpectedSeparatorInList,
    /// No colon after a key.
    MissingColon,
    /// A key that is a value, but no string.
    KeyNotString,
    /// Two members of one object have the same key.
    DuplicateKey,
    /// A word that is none of the three.
    InvalidKeyword(&'a [u8]),
    /// A backslash before a byte that makes no escape.
    InvalidEscape,
    /// An escape of digits that names no character: its text.
    NotUnicode(&'a [u8]),
    /// A string is not UTF-8, or holds a noncharacter.
    InvalidUtf8,
    /// The text ends before the value does.
    PrematureEnd,
    /// A byte cannot continue the token, given up to and with that byte.
    Stray(&'a [u8]),
    /// More members than there is room to tell duplicates among.
    TooManyMembers,
    /// Nested too deeply.
    TooDeep,
}

impl<'a> ParseError<'a> {
    /// What the message for the client begins with; [`ParseError::pieces`] follow.
    pub fn prefix(&self) -> &'static str {
        match self {
            Self::TooManyMembers | Self::TooDeep => "JSON ",
            _ => "JSON parse error, ",
        }
    }

    /// The text of the error, cut where qemu-ga cuts it: what comes before the piece of the
    /// message that it shows, that piece, and what comes after.
    pub fn pieces(&self) -> (&'static str, &'a [u8], &'static str) {
        let whole = |text| (text, [].as_slice(), "");
        match *self {
            Self::ExpectingValue => whole("expecting value"),
            Self::ExpectedSeparatorInDict => whole("expected separator in dict"),
            Self::ExpectedSeparatorInList => whole("expected separator in list"),
            Self::MissingColon => whole("missing : in object pair"),
            Self::KeyNotString => whole("key is not a string in object"),
            Self::DuplicateKey => whole("duplicate key"),
            Self::InvalidKeyword(word) => {
                const BEFORE: &str = "invalid keyword '";
                let room = MESSAGE_BYTES.saturating_sub(BEFORE.len());
                match word.get(..room) {
                    Some(cut) => (BEFORE, cut, ""),
                    None => (BEFORE, word, "'"),
                }
            }
            Self::InvalidEscape => whole("invalid escape sequence in string"),
            Self::NotUnicode(text) => ("", text, " is not a valid Unicode character"),
            Self::InvalidUtf8 => whole("invalid UTF-8 sequence in string"),
            Self::PrematureEnd => whole("premature EOI"),
            Self::Stray(token) => ("stray '", token, "'"),
            Self::TooManyMembers => whole("token count limit exceeded"),
            Self::TooDeep => whole("nesting depth limit exceeded"),
        }
    }
}

/// Proves that `text` is one well-formed value.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(text: &[u8]) -> Result<Json<'_>, ParseError<'_>> {
    let mut keys = heapless::Vec::new();
    let mut objects = heapless::Vec::new();
    let mut check = Check {
        cursor: Cursor::new(text),
        error: ParseError::PrematureEnd,
        depth: 0,
        objects: &mut objects,
        keys: &mut keys,
        as_key: 0,
        duplicate: 0,
    };
    check.whole().map_err(|Wrong| check.error)
}

/// Something is wrong, and [`Check::error`] says what: it is noted once and not handed up level by level.
struct Wrong;

/// What is known of a text up to one point of it.
struct Check<'k, 'a> {
    cursor: Cursor<'a>,
    /// What is wrong, if something is.
    error: ParseError<'a>,
    /// How many containers are open.
    depth: usize,
    /// Which of them are objects, by depth.
    objects: &'k mut heapless::Vec<u64, { REQUEST_DEPTH / 64 }>,
    /// Hashes of the keys of all open objects; the lowest bit marks the first key of an object.
    keys: &'k mut heapless::Vec<u64, REQUEST_OPEN_MEMBERS>,
    /// Depth inside the innermost container that stands where a key is due, 0 if none does. An outer
    /// one need not be remembered: the message ends in error with the inner one at the latest.
    as_key: usize,
    /// Depth inside the innermost object that the value being read is a duplicate member of,
    /// likewise.
    duplicate: usize,
}

impl<'a> Check<'_, 'a> {
    /// Checks all of the text.
    fn whole(&mut self) -> Result<Json<'a>, Wrong> {
        self.cursor.skip_blanks();
        let from = self.cursor.at;
        while self.value()? {}
        let json = Json(self.cursor.since(from));
        match self.cursor.skip_blanks() {
            0 if self.cursor.at == self.cursor.text.len() => Ok(json),
            _ => self.wrong(ParseError::Stray(self.cursor.rest())),
        }
    }

    /// Notes what is wrong.
    fn wrong<T>(&mut self, error: ParseError<'a>) -> Result<T, Wrong> {
        self.error = error;
        Err(Wrong)
    }

    /// Notes what is wrong, if it is not that the text ends here.
    fn unexpected<T>(&mut self, error: ParseError<'a>) -> Result<T, Wrong> {
        self.wrong(if self.cursor.at < self.cursor.text.len() {
            error
        } else {
            ParseError::PrematureEnd
        })
    }

    /// Checks the beginning of a value, the whole of it if it has no parts, and what may follow it
    /// up to the next value. Says whether there is one.
    fn value(&mut self) -> Result<bool, Wrong> {
        let byte = self.cursor.skip_blanks();
        match byte {
            b'{' | b'[' => {
                self.cursor.advance(1);
                self.begin(byte == b'{')?;
                // Two further in ASCII stands the bracket that closes it.
                if self.cursor.skip_blanks() == byte.wrapping_add(2) {
                    self.cursor.advance(1);
                    self.end_container()?;
                } else {
                    if byte == b'{' {
                        self.key(true)?;
                    }
                    return Ok(true);
                }
            }
            _ => self.scalar()?,
        }
        while self.depth != 0 {
            if self.duplicate == self.depth {
                return self.wrong(ParseError::DuplicateKey);
            }
            let byte = self.cursor.skip_blanks();
            let in_object = self.in_object();
            self.cursor.advance(1);
            match byte {
                b',' => {
                    if in_object {
                        self.key(false)?;
                    }
                    return Ok(true);
                }
                b'}' if in_object => {
                    // The first key is the last to go.
                    while self.keys.pop().is_some_and(|key| key & 1 == 0) {}
                }
                b']' if !in_object => {}
                0 => return self.wrong(ParseError::PrematureEnd),
                _ if in_object => return self.wrong(ParseError::ExpectedSeparatorInDict),
                _ => return self.wrong(ParseError::ExpectedSeparatorInList),
            }
            self.end_container()?;
        }
        Ok(false)
    }

    fn begin(&mut self, object: bool) -> Result<(), Wrong> {
        let at = self.depth >> 6;
        if self.objects.len() == at {
            // Where there is no room, there is no word either.
            let _ = self.objects.push(0);
        }
        let Some(word) = self.objects.get_mut(at) else {
            return self.wrong(ParseError::TooDeep);
        };
        let bit = 1u64.rotate_left(low_bits(self.depth));
        *word = if object { *word | bit } else { *word & !bit };
        self.depth = self.depth.wrapping_add(1);
        Ok(())
    }

    fn end_container(&mut self) -> Result<(), Wrong> {
        if self.as_key == self.depth {
            return self.wrong(ParseError::KeyNotString);
        }
        self.depth = self.depth.wrapping_sub(1);
        Ok(())
    }

    /// Whether the innermost container is an object.
    fn in_object(&self) -> bool {
        let at = self.depth.wrapping_sub(1);
        self.objects
            .get(at >> 6)
            .is_some_and(|word| word.rotate_right(low_bits(at)) & 1 != 0)
    }

    /// Checks a key and its colon, or notes that a container begins where one is due.
    fn key(&mut self, first: bool) -> Result<(), Wrong> {
        if let b'{' | b'[' = self.cursor.skip_blanks() {
            // Whatever is wrong in the container comes first.
            self.as_key = self.depth.wrapping_add(1);
            return Ok(());
        }
        let Some(key) = self.string()? else {
            self.scalar()?;
            return self.wrong(ParseError::KeyNotString);
        };
        self.note_key(key, first)?;
        if self.cursor.skip_blanks() != b':' {
            return self.unexpected(ParseError::MissingColon);
        }
        self.cursor.advance(1);
        Ok(())
    }

    /// Notes the key of a member of the innermost object.
    fn note_key(&mut self, key: Str<'a>, first: bool) -> Result<(), Wrong> {
        let hash = if key.escaped {
            hash(key.bytes())
        } else {
            hash(key.text.iter().copied())
        };
        let hash = hash & !1;
        if !first {
            for other in self.keys.iter().rev() {
                if other & !1 == hash {
                    self.duplicate = self.depth;
                }
                if other & 1 != 0 {
                    break;
                }
            }
        }
        match self.keys.push(hash | u64::from(first)) {
            Ok(()) => Ok(()),
            Err(_) => self.wrong(ParseError::TooManyMembers),
        }
    }

    /// Checks the string here, if there is one.
    fn string(&mut self) -> Result<Option<Str<'a>>, Wrong> {
        let Some((quote, from)) = self.cursor.enter_string() else {
            return Ok(None);
        };
        let mut escaped = false;
        loop {
            let run = plain_run(self.cursor.rest(), quote);
            self.cursor.advance(run);
            let rest = self.cursor.rest();
            match self.cursor.peek() {
                byte if byte == quote => break,
                b'\\' => {
                    escaped = true;
                    match escape(rest) {
                        Ok((_, len)) => self.cursor.advance(len),
                        Err(BadEscape::Unknown) => return self.wrong(ParseError::InvalidEscape),
                        Err(BadEscape::NotUnicode(len)) => {
                            // It is shown with the closing quote, but not with what follows that.
                            let at = self.cursor.at;
                            self.cursor.at = from.wrapping_sub(1);
                            self.cursor.skip_string();
                            let shown = between(self.cursor.text, at, self.cursor.at);
                            let shown = shown.get(..len).unwrap_or(shown);
                            return self.wrong(ParseError::NotUnicode(shown));
                        }
                    }
                }
                0x80.. => {
                    let (code, len) = utf8(rest);
                    if !is_character(code) {
                        return self.wrong(ParseError::InvalidUtf8);
                    }
                    self.cursor.advance(len);
                }
                _ => return self.unexpected(ParseError::Stray(rest)),
            }
        }
        let text = self.cursor.since(from);
        self.cursor.advance(1);
        Ok(Some(Str { text, escaped }))
    }

    /// Checks the string, number or keyword here.
    fn scalar(&mut self) -> Result<(), Wrong> {
        if self.string()?.is_some() {
            return Ok(());
        }
        if let b',' | b':' | b'}' | b']' = self.cursor.peek() {
            return self.wrong(ParseError::ExpectingValue);
        }
        let from = self.cursor.at;
        let (len, complete) = scalar(self.cursor.rest());
        self.cursor.advance(len);
        match self.cursor.since(from) {
            [] => self.wrong(ParseError::PrematureEnd),
            token if !complete => self.wrong(ParseError::Stray(token)),
            b"true" | b"false" | b"null" => Ok(()),
            token @ [b'a'..=b'z', ..] => self.wrong(ParseError::InvalidKeyword(token)),
            _ => Ok(()),
        }
    }
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

/// Why an escape is none.
enum BadEscape {
    Unknown,
    /// Its digits, or two of them together, make no character; they are this long.
    NotUnicode(usize),
}

/// The code point of the escape at the start of `text`, and the length of the escape.
fn escape(text: &[u8]) -> Result<(u32, usize), BadEscape> {
    let byte = match text {
        [b'\\', b'u', ..] => return escape_digits(text),
        [b'\\', byte, ..] => *byte,
        _ => return Err(BadEscape::Unknown),
    };
    let code = match byte {
        b'"' | b'\'' | b'\\' | b'/' => byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return Err(BadEscape::Unknown),
    };
    Ok((u32::from(code), 2))
}

/// Likewise for digits, or a surrogate pair of them.
fn escape_digits(text: &[u8]) -> Result<(u32, usize), BadEscape> {
    let (high, after) = code_unit(text).ok_or(BadEscape::NotUnicode(6))?;
    let (code, len) = match (high, code_unit(after)) {
        (0xd800..=0xdbff, Some((low @ 0xdc00..=0xdfff, _))) => (
            ((high & 0x3ff) << 10 | low & 0x3ff).wrapping_add(0x1_0000),
            12,
        ),
        _ => (high, 6),
    };
    if is_character(code) {
        Ok((code, len))
    } else {
        Err(BadEscape::NotUnicode(len))
    }
}

/// The four digits after `\u`, and what follows them.
fn code_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, after) = text.strip_prefix(br"\u")?.split_first_chunk::<4>()?;
    let mut unit = 0;
    for digit in digits {
        unit = unit << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((unit, after))
}

/// Stands for ill-formed UTF-8.
pub(super) const ILL_FORMED: u32 = u32::MAX;

/// The character that `text` begins with, whose first byte is no ASCII, and its length: of what is ill
/// formed, that of a maximal part. C0 80 is U+0000.
pub(super) fn utf8(text: &[u8]) -> (u32, usize) {
    let mut bytes = text.iter().copied();
    let lead = bytes.next().unwrap_or(0);
    let (last, mut code) = match lead {
        0xc0..=0xdf => (1usize, lead & 0x1f),
        0xe0..=0xef => (2, lead & 0x0f),
        0xf0..=0xf4 => (3, lead & 0x07),
        _ => return (ILL_FORMED, 1),
    };
    let mut len = 1usize;
    let mut value = u32::from(code);
    while len <= last {
        code = bytes.next().unwrap_or(0);
        if code & 0xc0 != 0x80 {
            return (ILL_FORMED, len);
        }
        value = value << 6 | u32::from(code & 0x3f);
        // The second byte already tells what is too long, a surrogate or beyond the last.
        let is_right = len > 1
            || match last {
                1 => value == 0 || value >= 0x80,
                2 => value >= 0x20 && value >> 5 != 0x1b,
                _ => matches!(value, 0x10..0x110),
            };
        if !is_right {
            return (ILL_FORMED, 1);
        }
        len = len.wrapping_add(1);
    }
    (value, len)
}

/// Whether the code point may stand in a string: no surrogate, no noncharacter.
fn is_character(code: u32) -> bool {
    let noncharacter = matches!(code, 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe;
    char::from_u32(code).is_some() && !noncharacter
}

/// The UTF-8 of a character, first byte lowest, and no byte zero: U+0000 is C0 80.
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
    use super::*;

    fn value(text: &str) -> Json<'_> {
        check(text.as_bytes()).unwrap()
    }

    /// The error of `text` as the client reads it, after the prefix.
    fn error(text: &[u8]) -> String {
        let (start, middle, end) = check(text).unwrap_err().pieces();
        format!("{start}{}{end}", String::from_utf8_lossy(middle))
    }

    fn decoded(text: &[u8]) -> Vec<u8> {
        check(text).unwrap().string().unwrap().bytes().collect()
    }

    #[test]
    fn values_are_told_apart() {
        for (text, kind) in [
            ("{}", Kind::Object),
            (" [ ] ", Kind::Array),
            ("''", Kind::String),
            ("\"'\"", Kind::String),
            ("true", Kind::Bool),
            ("false", Kind::Bool),
            ("null", Kind::Null),
            ("0", Kind::Integer),
            ("-0", Kind::Integer),
            ("9223372036854775807", Kind::Integer),
            ("9223372036854775808", Kind::Unsigned),
            ("18446744073709551615", Kind::Unsigned),
            ("18446744073709551616", Kind::Double),
            ("-9223372036854775808", Kind::Integer),
            ("-9223372036854775809", Kind::Double),
            ("100000000000000000000", Kind::Double),
            ("1.0", Kind::Double),
            ("0.5e1", Kind::Double),
            ("1E+2", Kind::Double),
            ("1e3", Kind::Double),
            ("-0.0", Kind::Double),
        ] {
            assert_eq!(value(text).kind(), kind, "{text}");
            assert_eq!(value(text).text(), text.trim().as_bytes());
        }
    }

    #[test]
    fn numbers_are_read_if_they_are_integers_that_fit() {
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
    fn members_and_items_come_whole_and_in_order() {
        let text = r#" { "a" : 1 , 'b}"':[ 1,[2,"]"] , {"x":{}} ],"c":{"d":"\"}"},"e":true } "#;
        let members: Vec<_> = value(text)
            .members()
            .map(|(name, value)| (name.raw(), str::from_utf8(value.text()).unwrap()))
            .collect();
        let expected: [(&[u8], &str); 4] = [
            (b"a", "1"),
            (b"b}\"", r#"[ 1,[2,"]"] , {"x":{}} ]"#),
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
    fn strings_are_decoded() {
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
            let string = check(text).unwrap().string().unwrap();
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
    fn a_string_is_a_name_however_it_is_written() {
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
        let (string, rest) = Json::leading_string(br"'a\'b':1}").unwrap();
        assert_eq!(
            (string.raw(), rest),
            (br"a\'b".as_slice(), b":1}".as_slice())
        );
        assert_eq!(Json::leading_string(b"1"), None);
    }

    #[test]
    fn errors_are_worded_as_the_reference_words_them() {
        for (text, expected) in [
            (b"}".as_slice(), "expecting value"),
            (b"]", "expecting value"),
            (b",", "expecting value"),
            (b"[,1]", "expecting value"),
            (b"[1,]", "expecting value"),
            (b"{,}", "expecting value"),
            (b"{'a':}", "expecting value"),
            (b"{'a':1,}", "expecting value"),
            (b"{]", "expecting value"),
            (b"[}", "expecting value"),
            (b"{:1}", "expecting value"),
            (b"{'a':1 'b':2}", "expected separator in dict"),
            (b"{'a':1]", "expected separator in dict"),
            (b"[1 2]", "expected separator in list"),
            (b"[1}", "expected separator in list"),
            (b"['a':1]", "expected separator in list"),
            (b"{'a' 1}", "missing : in object pair"),
            (b"{'a'}", "missing : in object pair"),
            (b"{'a',1}", "missing : in object pair"),
            (b"{1:2}", "key is not a string in object"),
            (b"{true:2}", "key is not a string in object"),
            (b"{{}:2}", "key is not a string in object"),
            (b"{[1,{'a':[]}]:2}", "key is not a string in object"),
            (b"{'a':1,{}:2}", "key is not a string in object"),
            // The first error wins, and what stands for a key is looked at whole.
            (b"{[1 2]:3}", "expected separator in list"),
            (b"{{{}:1}:1}", "key is not a string in object"),
            (b"{nope:1}", "invalid keyword 'nope'"),
            (b"['\\x',nope]", "invalid escape sequence in string"),
            (b"[nope,'\\x']", "invalid keyword 'nope'"),
            (b"{'a' '\\x'}", "missing : in object pair"),
            (b"True", "stray 'T'"),
            (b"nul", "invalid keyword 'nul'"),
            (b"nulls", "invalid keyword 'nulls'"),
            (b"'\\x'", "invalid escape sequence in string"),
            (b"'\\\xc3'", "invalid escape sequence in string"),
            (b"'\\U0041'", "invalid escape sequence in string"),
            (b"'ab\\ud800 c'", "\\ud800 is not a valid Unicode character"),
            (
                b"'\\ud800\\u0041'",
                "\\ud800 is not a valid Unicode character",
            ),
            (
                b"'\\ud800\\uzzzz'",
                "\\ud800 is not a valid Unicode character",
            ),
            (
                b"'\\udc00\\ud800'",
                "\\udc00 is not a valid Unicode character",
            ),
            (b"'\\uZZZZ'", "\\uZZZZ is not a valid Unicode character"),
            (b"'\\ufffe'", "\\ufffe is not a valid Unicode character"),
            (b"'\\ufdd0'", "\\ufdd0 is not a valid Unicode character"),
            (
                b"'\\uD83F\\uDFFE'",
                "\\uD83F\\uDFFE is not a valid Unicode character",
            ),
            // Digits may be missing; then the end of the string is shown.
            (b"'\\u12' ", "\\u12' is not a valid Unicode character"),
            (b"['\\u',1234567]", "\\u' is not a valid Unicode character"),
            (
                b"'\\u1\\'5678'",
                "\\u1\\'5 is not a valid Unicode character",
            ),
            (b"'\x80'", "invalid UTF-8 sequence in string"),
            (b"'\xc1\xbf'", "invalid UTF-8 sequence in string"),
            (b"'\xc0\x81'", "invalid UTF-8 sequence in string"),
            (b"'\xe0\x80\x80'", "invalid UTF-8 sequence in string"),
            (b"'\xed\xa0\x80'", "invalid UTF-8 sequence in string"),
            (b"'\xef\xb7\x90'", "invalid UTF-8 sequence in string"),
            (b"'\xef\xbf\xbe'", "invalid UTF-8 sequence in string"),
            (b"'\xf0\x80\x80\x80'", "invalid UTF-8 sequence in string"),
            (b"'\xf0\x9f\xbf\xbf'", "invalid UTF-8 sequence in string"),
            (b"'\xf4\x90\x80\x80'", "invalid UTF-8 sequence in string"),
            (
                b"'\xf8\x88\x80\x80\x80'",
                "invalid UTF-8 sequence in string",
            ),
            (b"'\xe2\x82'", "invalid UTF-8 sequence in string"),
            (b"'a\xc3'", "invalid UTF-8 sequence in string"),
        ] {
            assert_eq!(error(text), expected, "{}", text.escape_ascii());
            assert_eq!(check(text).unwrap_err().prefix(), "JSON parse error, ");
        }
    }

    #[test]
    fn duplicate_keys_are_found_however_they_are_written() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,'a':2}"#,
            r#"{"a":1,"b":{},"\u0061":2}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"[{"id":[{"x":{"y":1},"z":2,"x":3}]}]"#,
            r#"{"a":1,"b":{"c":[{"d":1}]},"b":2}"#,
            r#"{"":1,'':2}"#,
            r#"{"a":1,"a":{"b":2}}"#,
        ] {
            assert_eq!(error(text.as_bytes()), "duplicate key", "{text}");
        }
        for text in [
            r#"{"a":{"a":{"a":1},"b":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
            r#"{"a":1,"A":2,"a ":3,"":4}"#,
            r#"{"a":{"b":1},"b":{"a":1},"c":{}}"#,
        ] {
            assert_eq!(
                check(text.as_bytes()).map(Json::kind),
                Ok(Kind::Object),
                "{text}"
            );
        }
        // An error in the value comes first, one after it does not.
        assert_eq!(error(b"{'a':1,'a':[}"), "expecting value");
        assert_eq!(error(b"{'a':1,'a' 2}"), "missing : in object pair");
        assert_eq!(error(b"{'a':1,'a':2 3}"), "duplicate key");
        assert_eq!(error(b"{'a':1,'a':{'b':1,'b':2 3}"), "duplicate key");
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
        let over = check(over.as_bytes()).unwrap_err();
        assert_eq!(over, ParseError::TooManyMembers);
        assert_eq!(
            (over.prefix(), over.pieces().0),
            ("JSON ", "token count limit exceeded")
        );
        // Those of closed objects do not count.
        value(&format!("[{0},{0},{0}]", object(REQUEST_OPEN_MEMBERS)));
        let half = object(REQUEST_OPEN_MEMBERS / 2);
        value(&format!("{{'a':{half},'b':{half},'c':{{'a':{half}}}}}"));
    }

    #[test]
    fn nesting_goes_to_the_limit_of_the_framer() {
        let nested = |depth: usize| format!("{}{{}}{}", "{'a':".repeat(depth), "}".repeat(depth));
        assert_eq!(value(&nested(REQUEST_DEPTH - 1)).kind(), Kind::Object);
        let over = nested(REQUEST_DEPTH);
        assert_eq!(check(over.as_bytes()), Err(ParseError::TooDeep));
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
    fn long_messages_are_cut_where_the_reference_cuts_them() {
        for (length, shown, quote) in [(1005, 1005, "'"), (1006, 1006, ""), (3000, 1006, "")] {
            let word = "z".repeat(length);
            let error = check(word.as_bytes()).unwrap_err();
            assert_eq!(
                error.pieces(),
                ("invalid keyword '", &word.as_bytes()[..shown], quote)
            );
        }
    }

    #[test]
    fn text_that_ends_early_or_late_is_no_value() {
        let text = r#"{"ab":[1.5e+3,true,{"c":"d\n\u00e9"},"é"],'e':null}"#.as_bytes();
        assert!(check(text).is_ok());
        for end in 0..text.len() {
            assert!(check(&text[..end]).is_err(), "{end}");
        }
        assert_eq!(check(b""), Err(ParseError::PrematureEnd));
        assert_eq!(check(b" [ "), Err(ParseError::PrematureEnd));
        assert_eq!(check(b"{'a'"), Err(ParseError::PrematureEnd));
        assert_eq!(check(b"'abc"), Err(ParseError::PrematureEnd));
        assert_eq!(check(b"1 2"), Err(ParseError::Stray(b"2")));
        assert_eq!(check(b"[\0]"), Err(ParseError::Stray(b"\0")));
        assert_eq!(check(b"[1]\0"), Err(ParseError::Stray(b"\0")));
        assert_eq!(check(b"01"), Err(ParseError::Stray(b"01")));
    }

    #[test]
    fn random_text_is_refused_or_can_be_walked() {
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
        for _ in 0..20_000 {
            let mut text = seeds[next() % seeds.len()].to_vec();
            for _ in 0..1 + next() % 3 {
                let place = next() % text.len();
                match next() % 3 {
                    0 => text[place] = next().to_le_bytes()[0],
                    1 => text.insert(place, b"{}[]:,\"'\\u01-.e \xff\0"[next() % 18]),
                    _ => text.truncate(place + 1),
                }
            }
            if let Ok(value) = check(&text) {
                walked += usize::from(walk(value) > 0);
            }
            // Whatever the text, the views of it end and do not panic.
            walk(Json(&text));
        }
        assert!(walked > 500, "{walked}");
    }
}
