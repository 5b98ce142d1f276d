//! JSON values as qemu-ga prints them, written straight into a [`ByteSink`].
//!
//! [`Value`] writes exactly one value: `null` if it is dropped without one. [`Object`] and [`List`]
//! write members and items one by one, so a list may have any length, and close themselves when they
//! are dropped. Nothing here returns
//! an error: past the limit of [`Out`], or in a full sink, further bytes are dropped, and
//! `wire::reply` checks for both when the reply ends.
//!
//! Member names are [`Name`]s: the packed texts of `wire::texts`.
//!
//! Text is ASCII only. Other characters become `\uXXXX`, ill-formed UTF-8 becomes U+FFFD.
//!
//! There is no formatting of doubles: the float printing of the core library takes too much code.
//! The few fractional numbers of the protocol are exact decimals, see [`Value::decimal`].
//!
//! Handlers call these functions in hundreds of places. `#[inline(never)]` keeps one copy of each,
//! and `#[inline(always)]` makes a method of [`Object`] or [`List`] a bare call of that copy.

use super::json::{ESCAPES, ILL_FORMED, Json, utf8};
use super::texts::Name;
use crate::base::base64;
use crate::base::packed::Text;
use crate::base::sink::ByteSink;
use crate::base::text::{Digits, cut};

/// The output of a reply: a sink, a limit, and whether a comma or a value is due.
///
/// [`Value`], [`Object`] and [`List`] are one pointer to it, which is passed in a register.
pub struct Out<'s> {
    pub(super) sink: &'s mut dyn ByteSink,
    /// Whether the innermost object or list is empty so far: no comma before its first element.
    is_fresh: bool,
    /// Whether a value was begun and nothing of it is written yet.
    owes_value: bool,
    /// Bytes that may still be written; `None` once the limit was exceeded.
    pub(super) room: Option<usize>,
}

/// Writes one value.
///
/// After a drop without one, whatever comes next writes `null` first: the reply stays well formed.
#[must_use = "a value must be written"]
pub struct Value<'o, 's>(&'o mut Out<'s>);

/// Writes an object, member by member.
///
/// Dropping it writes the closing brace, so an object can neither stay open nor close too early.
#[must_use = "dropping it closes the object"]
pub struct Object<'o, 's>(&'o mut Out<'s>);

/// Writes a list, item by item.
///
/// Dropping it writes the closing bracket, so a list can neither stay open nor close too early.
#[must_use = "dropping it closes the list"]
pub struct List<'o, 's>(&'o mut Out<'s>);

impl<'s> Out<'s> {
    /// Writes to `sink`.
    pub fn new(sink: &'s mut dyn ByteSink) -> Self {
        Self {
            sink,
            is_fresh: false,
            owes_value: false,
            room: Some(usize::MAX),
        }
    }

    /// Begins a value. What is put next is its beginning.
    pub fn value(&mut self) -> Value<'_, 's> {
        self.owes_value = true;
        Value(self)
    }

    /// Ends the value that was begun last, if that was dropped without being written.
    #[inline(never)]
    pub(super) fn end_value(&mut self) {
        if self.owes_value {
            self.put(b"null");
        }
    }

    #[inline(never)]
    pub(super) fn put(&mut self, text: &[u8]) {
        self.owes_value = false;
        if self.reserve(text.len()) {
            // The end of the reply detects a full sink.
            let _ = self.sink.append(text);
        }
    }

    /// Subtracts `len` bytes from the room. Returns false if there is less.
    fn reserve(&mut self, len: usize) -> bool {
        self.room = self.room.and_then(|room| room.checked_sub(len));
        self.room.is_some()
    }

    #[inline(never)]
    fn begin(&mut self, bracket: &[u8]) {
        self.put(bracket);
        self.is_fresh = true;
    }

    #[inline(never)]
    fn end(&mut self, bracket: &[u8]) {
        self.end_value();
        self.put(bracket);
        self.is_fresh = false;
    }

    /// Writes the comma before an item, except the first.
    #[inline(never)]
    fn separate(&mut self) {
        self.end_value();
        if !core::mem::take(&mut self.is_fresh) {
            self.put(b", ");
        }
        self.owes_value = true;
    }

    /// Writes the name of a member, with the comma before it and the colon behind it.
    #[inline(never)]
    fn put_name(&mut self, name: &[u8], suffix: &[u8]) {
        self.end_value();
        let lead: &[u8] = match core::mem::take(&mut self.is_fresh) {
            true => b"\"",
            false => b", \"",
        };
        for piece in [lead, name, suffix, b"\": "] {
            self.put(piece);
        }
        self.owes_value = true;
    }
}

impl<'o, 's> Value<'o, 's> {
    /// Writes a signed integer.
    #[inline(never)]
    pub fn int(self, value: i64) {
        self.0.put(Digits::signed(value).as_bytes());
    }

    /// Writes an unsigned integer.
    #[inline(never)]
    pub fn uint(self, value: u64) {
        self.0.put(Digits::unsigned(value).as_bytes());
    }

    /// Writes `units + fraction / 10^digits` without trailing zeros: 2, 500000, 6 is 2.5.
    pub fn decimal(self, units: i64, fraction: u64, digits: usize) {
        self.0.put(Digits::signed(units).as_bytes());
        if fraction != 0 {
            self.0.put(b".");
            let (mut decimals, mut count) = (fraction, digits);
            while decimals.is_multiple_of(10) {
                (decimals, count) = (decimals / 10, count.saturating_sub(1));
            }
            let decimals = Digits::unsigned(decimals);
            for _ in decimals.as_bytes().len()..count {
                self.0.put(b"0");
            }
            self.0.put(decimals.as_bytes());
        }
    }

    /// Writes a boolean.
    #[inline(never)]
    pub fn bool(self, value: bool) {
        self.0.put(keyword(value));
    }

    /// Writes a string.
    #[inline(never)]
    pub fn text(self, text: &[u8]) {
        self.text_pieces(&[text]);
    }

    /// Writes the pieces as one string. No piece may end within a character.
    #[inline(never)]
    pub fn text_pieces(self, pieces: &[&[u8]]) {
        self.0.put(b"\"");
        for piece in pieces {
            self.0.escape(piece);
        }
        self.0.put(b"\"");
    }

    /// Writes the bytes of an iterator as one string.
    pub fn text_iter(self, bytes: impl Iterator<Item = u8>) {
        self.0.put(b"\"");
        self.0.escape_bytes(bytes);
        self.0.put(b"\"");
    }

    /// Writes a string: the bytes in base64.
    pub fn base64(self, bytes: &[u8]) {
        self.0.put(b"\"");
        if self.0.reserve(base64::encoded_len(bytes.len())) {
            let _ = base64::encode(bytes, self.0.sink);
        }
        self.0.put(b"\"");
    }

    /// Writes a value that is JSON already, in pieces, as it is.
    pub fn verbatim(self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.0.put(piece);
        }
    }

    /// Begins an object.
    #[inline(never)]
    pub fn object(self) -> Object<'o, 's> {
        self.0.begin(b"{");
        Object(self.0)
    }

    /// Begins a list.
    #[inline(never)]
    pub fn list(self) -> List<'o, 's> {
        self.0.begin(b"[");
        List(self.0)
    }

    /// Writes a value of the request, in the spacing and escapes of a reply. Numbers keep the
    /// digits of the request, so a double is echoed exactly and never as `inf`; only -0 becomes 0.
    #[inline(never)]
    pub fn json(self, json: Json<'_>) {
        let mut rest = json.text();
        while let Some(&byte) = rest.first() {
            let (token, behind) = rest
                .split_at_checked(Json::token_len(rest))
                .unwrap_or_default();
            rest = behind;
            if let Some(string) = Json(token).string() {
                Value(self.0).text_iter(string.bytes());
            } else if byte > b' ' {
                self.0.put(if token == b"-0" { b"0" } else { token });
            }
            if let b',' | b':' = byte {
                self.0.put(b" ");
            }
        }
    }
}

impl<'o, 's> Object<'o, 's> {
    /// Continues an object that has members already.
    pub(super) fn resumed(out: &'o mut Out<'s>) -> Self {
        Self(out)
    }
}

impl<'s> Object<'_, 's> {
    /// Writes the name of a member. The caller writes the value.
    #[inline(always)]
    pub fn member(&mut self, name: Name) -> Value<'_, 's> {
        self.0.member(name);
        Value(self.0)
    }

    /// As [`Object::member`], for a name that is not a [`Name`].
    #[inline(always)]
    pub fn member_named(&mut self, name: &[u8]) -> Value<'_, 's> {
        self.0.put_name(name, b"");
        Value(self.0)
    }

    /// Writes a member that is a string.
    #[inline(always)]
    pub fn text(&mut self, name: Name, text: &[u8]) {
        self.0.text(name, text);
    }

    /// Writes a member that is a boolean.
    #[inline(always)]
    pub fn bool(&mut self, name: Name, value: bool) {
        self.0.bool(name, value);
    }

    /// Writes a member that is a signed integer.
    #[inline(always)]
    pub fn int(&mut self, name: Name, value: i64) {
        self.0.int(name, value);
    }

    /// Writes a member that is an unsigned integer.
    #[inline(always)]
    pub fn uint(&mut self, name: Name, value: u64) {
        self.0.uint(name, value);
    }

    /// Begins a member that is an object.
    #[inline(always)]
    pub fn object(&mut self, name: Name) -> Object<'_, 's> {
        self.0.object(name);
        Object(self.0)
    }

    /// Begins a member that is a list.
    #[inline(always)]
    pub fn list(&mut self, name: Name) -> List<'_, 's> {
        self.0.list(name);
        List(self.0)
    }

    /// Writes one member for each value. `names` is a text of several names, with a blank between
    /// two. A value whose name is empty is skipped; names beyond the last value are ignored.
    ///
    /// Takes a few bytes of text for each member, where a call for each takes dozens.
    #[inline(always)]
    pub fn numbers(&mut self, names: Name, values: &[u64]) {
        self.0.numbers(names, values);
    }

    /// As [`Object::numbers`], with `suffix` behind each name.
    #[inline(always)]
    pub fn numbers_with_suffix(&mut self, names: Name, suffix: &str, values: &[u64]) {
        let put = |value: Value<'_, '_>, number| value.uint(number);
        self.0.numbers_as(names, suffix.as_bytes(), put, values);
    }

    /// As [`Object::numbers`], with the bits of each value read as a signed number.
    #[inline(always)]
    pub fn signed_numbers(&mut self, names: Name, values: &[u64]) {
        self.0.signed_numbers(names, values);
    }
}

impl Drop for Object<'_, '_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.end_object();
    }
}

impl<'s> List<'_, 's> {
    /// Begins the next item. The caller writes its value.
    #[inline(always)]
    pub fn item(&mut self) -> Value<'_, 's> {
        self.0.separate();
        Value(self.0)
    }

    /// Begins the next item, an object.
    #[inline(always)]
    pub fn object(&mut self) -> Object<'_, 's> {
        self.0.next_object();
        Object(self.0)
    }
}

impl Drop for List<'_, '_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.end_list();
    }
}

// The bodies of the methods above. They take the `Out` itself rather than a reference to an
// `Object`, so that no caller has to sink that pointer in memory.
impl Out<'_> {
    #[inline(never)]
    fn text(&mut self, name: Name, text: &[u8]) {
        self.member(name);
        Value(self).text(text);
    }

    #[inline(never)]
    fn member(&mut self, name: Name) {
        self.put_name(&Text::from(name).unpack(), b"");
    }

    #[inline(never)]
    fn bool(&mut self, name: Name, value: bool) {
        self.member(name);
        Value(self).bool(value);
    }

    #[inline(never)]
    fn int(&mut self, name: Name, value: i64) {
        self.member(name);
        Value(self).int(value);
    }

    #[inline(never)]
    fn uint(&mut self, name: Name, value: u64) {
        self.member(name);
        Value(self).uint(value);
    }

    #[inline(never)]
    fn object(&mut self, name: Name) {
        self.member(name);
        self.begin(b"{");
    }

    #[inline(never)]
    fn list(&mut self, name: Name) {
        self.member(name);
        self.begin(b"[");
    }

    #[inline(never)]
    fn next_object(&mut self) {
        self.separate();
        self.begin(b"{");
    }

    #[inline(never)]
    fn numbers(&mut self, names: Name, values: &[u64]) {
        let put = |value: Value<'_, '_>, number| value.uint(number);
        self.numbers_as(names, b"", put, values);
    }

    #[inline(never)]
    fn signed_numbers(&mut self, names: Name, values: &[u64]) {
        let put = |value: Value<'_, '_>, number: u64| value.int(number.cast_signed());
        self.numbers_as(names, b"", put, values);
    }

    #[inline(never)]
    fn numbers_as(
        &mut self,
        names: Name,
        suffix: &[u8],
        put: fn(Value<'_, '_>, u64),
        values: &[u64],
    ) {
        let names = Text::from(names).unpack();
        let mut names = &*names;
        for value in values {
            let name = cut(&mut names, b' ');
            if name.is_empty() {
                continue;
            }
            self.put_name(name, suffix);
            put(Value(self), *value);
        }
    }

    #[inline(never)]
    fn end_object(&mut self) {
        self.end(b"}");
    }

    #[inline(never)]
    fn end_list(&mut self) {
        self.end(b"]");
    }

    /// Writes `bytes` as the inside of a string. Each maximal ill-formed part of UTF-8 becomes one
    /// U+FFFD. The bytes C0 80, as which a request's U+0000 is stored, become U+0000.
    #[inline(never)]
    pub(super) fn escape(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let plain = rest.iter().take_while(|byte| is_plain(**byte)).count();
            let (run, behind) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
            self.put(run);
            let Some(byte) = behind.first() else {
                break;
            };
            let (code, len) = match byte {
                0x80.. => utf8(behind),
                _ => (u32::from(*byte), 1),
            };
            self.escape_char(if code == ILL_FORMED { 0xFFFD } else { code });
            rest = behind.get(len..).unwrap_or_default();
        }
    }

    /// As [`Out::escape`], for the bytes of an iterator.
    pub(super) fn escape_bytes(&mut self, mut bytes: impl Iterator<Item = u8>) {
        self.escape_each(&mut || bytes.next());
    }

    /// The body of [`Out::escape_bytes`]. Not generic, to keep one copy of the code.
    fn escape_each(&mut self, next: &mut dyn FnMut() -> Option<u8>) {
        let mut run = heapless::Vec::<u8, 64>::new();
        while let Some(byte) = next() {
            // A run ends only before the first byte of a character. A well-formed character has at
            // most four bytes, an ill-formed one at most six, so 58 leaves room for one more.
            let begins = byte & 0xC0 != 0x80;
            if (run.len() >= 58 && begins) || run.is_full() {
                self.escape(&run);
                run.clear();
            }
            let _ = run.push(byte);
        }
        self.escape(&run);
    }

    fn escape_char(&mut self, code: u32) {
        let [written @ .., _, _] = ESCAPES;
        for [byte, letter] in written {
            if u32::from(*byte) == code {
                return self.put(&[b'\\', *letter]);
            }
        }
        let mut unit = code;
        if code > 0xFFFF {
            self.escape_char((code >> 10).wrapping_add(0xD7C0));
            unit = code & 0x3FF | 0xDC00;
        }
        let mut text = *b"\\u0000";
        for byte in text.iter_mut().skip(2).rev() {
            *byte = match (unit & 0xF) as u8 {
                nibble @ 0..10 => nibble.wrapping_add(b'0'),
                nibble => nibble.wrapping_add(b'A').wrapping_sub(10),
            };
            unit >>= 4;
        }
        self.put(&text);
    }
}

/// The JSON text of a boolean.
pub fn keyword(value: bool) -> &'static [u8] {
    if value { b"true" } else { b"false" }
}

/// Whether a byte stands for itself in a string.
fn is_plain(byte: u8) -> bool {
    (0x20..0x7F).contains(&byte) && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod tests {
    use super::super::receive::receive;
    use super::*;

    fn written(write: impl FnOnce(Value<'_, '_>)) -> String {
        let mut out = heapless::Vec::<u8, 4096>::new();
        write(Out::new(&mut out).value());
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn escapes_strings_as_qemu_ga_does_in_ascii_only() {
        let text = "a\"\\/'\u{8}\u{c}\n\r\t\u{1}\u{7f}é\u{1F600}".as_bytes();
        assert_eq!(
            written(|value| value.text(text)),
            r#""a\"\\/'\b\f\n\r\t\u0001\u007F\u00E9\uD83D\uDE00""#
        );
        assert_eq!(
            written(|value| value.text(b"\xFFx\xE2\x82y\xC0\x80")),
            r#""\uFFFDx\uFFFDy\u0000""#
        );
    }

    #[test]
    fn closes_objects_and_lists_when_they_are_dropped() {
        let text = written(|value| {
            let mut object = value.object();
            let mut list = object.list(Name::Disk);
            list.object().text(Name::Type, b"x");
            drop(list.object());
            drop(list);
            object.object(Name::Stats).uint(Name::Size, 1);
        });
        assert_eq!(
            text,
            r#"{"disk": [{"type": "x"}, {}], "stats": {"size": 1}}"#
        );
    }

    #[test]
    fn writes_null_for_a_value_that_is_dropped() {
        let text = written(|value| {
            let mut object = value.object();
            drop(object.member(Name::Size));
            drop(object.member_named(b"other"));
            let mut list = object.list(Name::Disk);
            drop(list.item());
            list.item().uint(1);
            drop(list.item());
            drop(list);
            drop(object.member(Name::Type));
        });
        assert_eq!(
            text,
            r#"{"size": null, "other": null, "disk": [null, 1, null], "type": null}"#
        );
    }

    #[test]
    fn writes_numbers_under_the_names_of_one_text() {
        let text = written(|value| {
            let mut object = value.object();
            object.signed_numbers(Name::TrimmedMinimum, &[u64::MAX, 2]);
            object.numbers_with_suffix(Name::SmartCounters, "-lo", &[u64::MAX, 1, 0, 7]);
        });
        assert_eq!(
            text,
            concat!(
                r#"{"trimmed": -1, "minimum": 2, "#,
                r#""data-units-read-lo": 18446744073709551615, "data-units-written-lo": 0}"#
            )
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn escapes_bytes_of_an_iterator_like_a_slice() {
        for lead in 0..70 {
            let mut text = vec![b'x'; lead];
            text.extend("é\u{1F600}\u{20AC}".repeat(20).bytes());
            text.extend(b"\xC0\x80\xFF");
            let whole = written(|value| value.text(&text));
            assert_eq!(
                written(|value| value.text_iter(text.iter().copied())),
                whole
            );
        }
    }

    #[test]
    fn writes_decimals_without_trailing_zeros() {
        assert_eq!(written(|value| value.decimal(2, 500_000, 6)), "2.5");
        assert_eq!(written(|value| value.decimal(-1, 0, 6)), "-1");
        assert_eq!(written(|value| value.decimal(7, 1, 6)), "7.000001");
        assert_eq!(written(|value| value.decimal(7, 420, 6)), "7.00042");
    }

    #[test]
    fn echoes_values_in_the_spelling_of_replies() {
        let text = br#"{ "a" :[1,-0 ,'it\'s "\u00e9"',{}, 1e999,0.1,true ,null]}"#;
        let json = receive(text).unwrap();
        assert_eq!(
            written(|value| value.json(json)),
            r#"{"a": [1, 0, "it's \"\u00E9\"", {}, 1e999, 0.1, true, null]}"#
        );
    }
}
