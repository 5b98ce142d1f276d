//! A message as JSON: one pass that proves it well formed, and views that borrow from its text.
//!
//! The dialect and the error texts are qemu-ga's (protocol.md sections 1.2 and 1.4): either quote
//! around strings, U+0000 as the two bytes C0 80, no noncharacters, no duplicate keys at any depth.
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
use crate::base::limits::{REQUEST_DEPTH, REQUEST_OPEN_MEMBERS};
use crate::base::store::{Full, Store};
use serde_json_core::from_slice;

/// Longest text of a parser error after its prefix; qemu-ga cuts the rest off.
const MESSAGE_BYTES: usize = 1023;

/// A well-formed JSON value: its text, without blanks around it. Proven by [`check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            Some(b'-' | b'0'..=b'9') => match self.int() {
                Some(_) => Kind::Integer,
                None if self.literal::<u64>().is_some() => Kind::Unsigned,
                None => Kind::Double,
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
    pub fn int(self) -> Option<i64> {
        self.literal()
    }

    /// The number, if it is an integer literal that fits either sign; a negative one wraps around.
    pub fn uint(self) -> Option<u64> {
        self.literal::<u64>()
            .or_else(|| self.literal::<i64>().map(i64::cast_unsigned))
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

    fn literal<T: serde::Deserialize<'a>>(self) -> Option<T> {
        if !matches!(self.0.first(), Some(b'-' | b'0'..=b'9')) {
            return None;
        }
        from_slice(self.0)
            .ok()
            .filter(|(_, used)| *used == self.0.len())
            .map(|(value, _)| value)
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
#[derive(Clone, Copy)]
pub struct Items<'a>(Cursor<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.skip_item()
    }
}

/// A place in a text. The `skip` functions take well-formed text for granted, the `check` functions
/// do not.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The byte here; at the end a NUL, which may stand nowhere.
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn advance(&mut self, bytes: usize) {
        self.at = self.at.wrapping_add(bytes);
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn since(&self, from: usize) -> &'a [u8] {
        between(self.text, from, self.at)
    }

    /// Moves past blanks, and gives the byte there.
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
    fn enter_string(&mut self) -> Option<(u8, usize)> {
        let quote = self.peek();
        if !matches!(quote, b'"' | b'\'') {
            return None;
        }
        self.advance(1);
        Some((quote, self.at))
    }

    /// Checks the string here, if there is one.
    fn check_string(&mut self) -> Result<Option<Str<'a>>, ParseError<'a>> {
        let Some((quote, from)) = self.enter_string() else {
            return Ok(None);
        };
        let mut escaped = false;
        loop {
            self.advance(plain_run(self.rest(), quote));
            let rest = self.rest();
            match self.peek() {
                byte if byte == quote => break,
                b'\\' => {
                    escaped = true;
                    match escape(rest) {
                        Ok((_, len)) => self.advance(len),
                        Err(BadEscape::Unknown) => return Err(ParseError::InvalidEscape),
                        Err(BadEscape::NotUnicode(len)) => {
                            // It is shown with the closing quote, but not with what follows that.
                            let mut token = Self {
                                at: from.wrapping_sub(1),
                                ..*self
                            };
                            token.skip_string();
                            let shown = between(self.text, self.at, token.at);
                            return Err(ParseError::NotUnicode(shown.get(..len).unwrap_or(shown)));
                        }
                    }
                }
                0x80.. => self.advance(utf8_len(rest).ok_or(ParseError::InvalidUtf8)?),
                _ => return Err(self.unexpected(ParseError::Stray(rest))),
            }
        }
        let text = self.since(from);
        self.advance(1);
        Ok(Some(Str { text, escaped }))
    }

    /// Checks the string, number or keyword here.
    fn check_scalar(&mut self) -> Result<(), ParseError<'a>> {
        if self.check_string()?.is_some() {
            return Ok(());
        }
        if let b',' | b':' | b'}' | b']' = self.peek() {
            return Err(ParseError::ExpectingValue);
        }
        let from = self.at;
        let (len, complete) = scalar(self.rest());
        self.advance(len);
        match self.since(from) {
            [] => Err(ParseError::PrematureEnd),
            token if !complete => Err(ParseError::Stray(token)),
            b"true" | b"false" | b"null" => Ok(()),
            token @ [b'a'..=b'z', ..] => Err(ParseError::InvalidKeyword(token)),
            _ => Ok(()),
        }
    }

    /// The error, if it is not that the text ends here.
    fn unexpected(&self, error: ParseError<'a>) -> ParseError<'a> {
        if self.at < self.text.len() {
            error
        } else {
            ParseError::PrematureEnd
        }
    }
}

/// The raw text between the quotes of a string, proven well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Str<'a> {
    text: &'a [u8],
    /// There may be an escape in it. Long text is not searched for one until somebody asks.
    escaped: bool,
}

/// Longest string searched for escapes at once: every name of the protocol.
const NAME_BYTES: usize = 40;

impl<'a> Str<'a> {
    fn new(text: &'a [u8]) -> Self {
        let escaped = text.len() > NAME_BYTES || backslash(text) < text.len();
        Self { text, escaped }
    }

    /// Whether the string is `ascii`, which holds no backslash. Costs little where it is not.
    pub fn is(self, ascii: &str) -> bool {
        let name = ascii.as_bytes();
        // An escape is longer than what it stands for.
        if self.escaped && self.text.len() > name.len() {
            self.bytes().eq(name.iter().copied())
        } else {
            self.text == name
        }
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
#[inline(never)]
pub fn check(text: &[u8]) -> Result<Json<'_>, ParseError<'_>> {
    let mut cursor = Cursor::new(text);
    let mut open = Open::new();
    cursor.skip_blanks();
    let from = cursor.at;
    while open.check_value(&mut cursor)? {}
    let json = Json(cursor.since(from));
    match cursor.skip_blanks() {
        0 if cursor.at == text.len() => Ok(json),
        _ => Err(ParseError::Stray(cursor.rest())),
    }
}

/// The containers open at one point of the text.
struct Open {
    depth: usize,
    /// Which of them are objects, by depth.
    objects: [u64; REQUEST_DEPTH / 64],
    /// Hashes of the keys of all open objects; the lowest bit marks the first key of an object.
    keys: heapless::Vec<u64, REQUEST_OPEN_MEMBERS>,
    /// Depth inside the innermost container that stands where a key is due, 0 if none does. An outer
    /// one need not be remembered: the message ends in error with the inner one at the latest.
    as_key: usize,
    /// Depth inside the innermost object that the value being read is a duplicate member of,
    /// likewise.
    duplicate: usize,
}

impl Open {
    fn new() -> Self {
        Self {
            depth: 0,
            objects: [0; REQUEST_DEPTH / 64],
            keys: heapless::Vec::new(),
            as_key: 0,
            duplicate: 0,
        }
    }

    /// Checks the beginning of a value, the whole of it if it has no parts, and what may follow it
    /// up to the next value. Says whether there is one.
    fn check_value<'a>(&mut self, cursor: &mut Cursor<'a>) -> Result<bool, ParseError<'a>> {
        let byte = cursor.skip_blanks();
        match byte {
            b'{' | b'[' => {
                cursor.advance(1);
                self.begin(byte == b'{')?;
                // Two further in ASCII stands the bracket that closes it.
                if cursor.skip_blanks() == byte.wrapping_add(2) {
                    cursor.advance(1);
                    self.end_container()?;
                } else {
                    if byte == b'{' {
                        self.check_key(cursor, true)?;
                    }
                    return Ok(true);
                }
            }
            _ => cursor.check_scalar()?,
        }
        while self.depth != 0 {
            if self.duplicate == self.depth {
                return Err(ParseError::DuplicateKey);
            }
            let byte = cursor.skip_blanks();
            let in_object = self.in_object();
            cursor.advance(1);
            match byte {
                b',' => {
                    if in_object {
                        self.check_key(cursor, false)?;
                    }
                    return Ok(true);
                }
                b'}' if in_object => {
                    // The first key is the last to go.
                    while self.keys.pop().is_some_and(|key| key & 1 == 0) {}
                }
                b']' if !in_object => {}
                0 => return Err(ParseError::PrematureEnd),
                _ if in_object => return Err(ParseError::ExpectedSeparatorInDict),
                _ => return Err(ParseError::ExpectedSeparatorInList),
            }
            self.end_container()?;
        }
        Ok(false)
    }

    fn begin<'a>(&mut self, object: bool) -> Result<(), ParseError<'a>> {
        let word = self
            .objects
            .get_mut(self.depth >> 6)
            .ok_or(ParseError::TooDeep)?;
        let bit = 1u64.rotate_left(low_bits(self.depth));
        *word = if object { *word | bit } else { *word & !bit };
        self.depth = self.depth.wrapping_add(1);
        Ok(())
    }

    fn end_container<'a>(&mut self) -> Result<(), ParseError<'a>> {
        if self.as_key == self.depth {
            return Err(ParseError::KeyNotString);
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

    /// Checks the key that comes next and the colon after it. A container in its place is left where
    /// it is, to be checked as a value is: its end is the error.
    fn check_key<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
        first: bool,
    ) -> Result<(), ParseError<'a>> {
        if let b'{' | b'[' = cursor.skip_blanks() {
            self.as_key = self.depth.wrapping_add(1);
            return Ok(());
        }
        let Some(key) = cursor.check_string()? else {
            return cursor.check_scalar().and(Err(ParseError::KeyNotString));
        };
        self.add_key(key, first)?;
        if cursor.skip_blanks() != b':' {
            return Err(cursor.unexpected(ParseError::MissingColon));
        }
        cursor.advance(1);
        Ok(())
    }

    /// Notes the key of a member of the innermost object.
    fn add_key<'a>(&mut self, key: Str<'a>, first: bool) -> Result<(), ParseError<'a>> {
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
        self.keys
            .push(hash | u64::from(first))
            .map_err(|_| ParseError::TooManyMembers)
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

/// Length of the character that `text` begins with, whose first byte is no ASCII.
fn utf8_len(text: &[u8]) -> Option<usize> {
    let (&lead, rest) = text.split_first()?;
    let (more, mut code, least) = match lead {
        0xc0..=0xdf => (1, u32::from(lead & 0x1f), 0x80),
        0xe0..=0xef => (2, u32::from(lead & 0x0f), 0x800),
        0xf0..=0xf7 => (3, u32::from(lead & 0x07), 0x1_0000),
        _ => return None,
    };
    for byte in rest.get(..more)? {
        if byte & 0xc0 != 0x80 {
            return None;
        }
        code = code << 6 | u32::from(byte & 0x3f);
    }
    let nul = lead == 0xc0 && code == 0;
    (nul || code >= least && is_character(code)).then_some(more.wrapping_add(1))
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
