//! JSON values as qemu-ga prints them, written one after the other into a [`Store`].
//!
//! A [`Value`] is a place where exactly one value belongs. Lists of any length are written element by
//! element, objects member by member. A store that is full swallows the rest, and so does [`Out`] past
//! its limit; whoever owns the reply finds that out at its end.
//!
//! What members are called is a [`Name`], packed with all other texts in `base::texts`; a new one is a
//! line there.
//!
//! Doubles are never formatted (the core library's float printing would outweigh the agent): the few
//! fractional numbers of the protocol are exact decimals, see [`Value::decimal`].

use super::json::{ESCAPES, ILL_FORMED, Json, utf8};
use crate::base::base64;
use crate::base::store::Store;
use crate::base::text::{Digits, cut};
use crate::base::texts::{self, Name, Text, put_line};

/// What values are written into. All places in it are one pointer to it, so that they are handed
/// along in a register.
pub(super) struct Out<'s> {
    pub(super) store: &'s mut dyn Store,
    /// Whether what is innermost was just begun, so that no comma comes before what is next in it.
    is_fresh: bool,
    /// How many bytes more may be written; `None` once there was no room for all.
    pub(super) room: Option<usize>,
}

/// A place for one value.
#[must_use = "a value must be written"]
pub struct Value<'o, 's>(&'o mut Out<'s>);

/// An object being written, member by member.
///
/// Dropping it writes the closing brace, so an object can neither stay open nor close too early.
#[must_use = "dropping it closes the object"]
pub struct Object<'o, 's>(&'o mut Out<'s>);

/// A list being written, item by item.
///
/// Dropping it writes the closing bracket, so a list can neither stay open nor close too early.
#[must_use = "dropping it closes the list"]
pub struct List<'o, 's>(&'o mut Out<'s>);

impl<'s> Out<'s> {
    pub(super) fn new(store: &'s mut dyn Store) -> Self {
        Self {
            store,
            is_fresh: false,
            room: Some(usize::MAX),
        }
    }

    #[inline(never)]
    pub(super) fn put(&mut self, text: &[u8]) {
        if self.takes(text.len()) {
            // A full store is found out at the end of the reply.
            let _ = self.store.append(text);
        }
    }

    /// Whether there is room for so many bytes more, which are then taken as written.
    fn takes(&mut self, len: usize) -> bool {
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
        self.put(bracket);
        self.is_fresh = false;
    }

    /// What comes before an item or a member.
    #[inline(never)]
    fn part(&mut self) {
        if !core::mem::take(&mut self.is_fresh) {
            self.put(b", ");
        }
    }

    /// What comes before the value of a member.
    #[inline(never)]
    fn name(&mut self, name: &[u8], suffix: &[u8]) {
        let lead: &[u8] = match core::mem::take(&mut self.is_fresh) {
            true => b"\"",
            false => b", \"",
        };
        for piece in [lead, name, suffix, b"\": "] {
            self.put(piece);
        }
    }
}

impl<'o, 's> Value<'o, 's> {
    pub(super) fn new(out: &'o mut Out<'s>) -> Self {
        Self(out)
    }

    /// A signed integer.
    #[inline(never)]
    pub fn int(self, value: i64) {
        self.0.put(Digits::signed(value).as_bytes());
    }

    /// An unsigned integer.
    #[inline(never)]
    pub fn uint(self, value: u64) {
        self.0.put(Digits::unsigned(value).as_bytes());
    }

    /// `units` and `fraction` of them in `10^-digits`, without trailing zeros: 2, 500000, 6 is 2.5.
    pub fn decimal(self, units: i64, fraction: u64, digits: usize) {
        self.0.put(Digits::signed(units).as_bytes());
        if fraction != 0 {
            self.0.put(b".");
            let (mut places, mut count) = (fraction, digits);
            while places.is_multiple_of(10) {
                (places, count) = (places / 10, count.saturating_sub(1));
            }
            let places = Digits::unsigned(places);
            for _ in places.as_bytes().len()..count {
                self.0.put(b"0");
            }
            self.0.put(places.as_bytes());
        }
    }

    /// A boolean.
    #[inline(never)]
    pub fn bool(self, value: bool) {
        self.0.put(word(value));
    }

    /// A string.
    #[inline(never)]
    pub fn text(self, text: &[u8]) {
        self.text_in(&[text]);
    }

    /// A string in pieces, none of which ends within a character.
    #[inline(never)]
    pub fn text_in(self, pieces: &[&[u8]]) {
        self.0.put(b"\"");
        for piece in pieces {
            self.0.escape(piece);
        }
        self.0.put(b"\"");
    }

    /// A string that comes byte by byte.
    pub fn text_of(self, bytes: impl Iterator<Item = u8>) {
        self.0.put(b"\"");
        self.0.escape_bytes(bytes);
        self.0.put(b"\"");
    }

    /// A string that is bytes in base64.
    pub fn base64(self, bytes: &[u8]) {
        self.0.put(b"\"");
        if self.0.takes(base64::encoded_len(bytes.len())) {
            let _ = base64::encode(bytes, self.0.store);
        }
        self.0.put(b"\"");
    }

    /// A value whose text is known, in pieces that need no escapes.
    pub fn known(self, pieces: &[&[u8]]) {
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

    /// A value of the request, in the reply's own spelling. Numbers stay as the client wrote them,
    /// but for the minus of -0: a double is thus echoed exactly, and never as `inf`.
    #[inline(never)]
    pub fn json(self, json: Json<'_>) {
        let mut rest = json.text();
        while let Some(&byte) = rest.first() {
            let (token, behind) = rest.split_at_checked(Json::token(rest)).unwrap_or_default();
            rest = behind;
            if let Some(string) = Json(token).string() {
                Value(self.0).text_of(string.bytes());
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
    /// An object that has members already.
    pub(super) fn begun(out: &'o mut Out<'s>) -> Self {
        Self(out)
    }
}

impl<'s> Object<'_, 's> {
    /// The place for the value of member `name`.
    #[inline(always)]
    pub fn member(&mut self, name: Name) -> Value<'_, 's> {
        self.0.member(name);
        Value(self.0)
    }

    /// As [`Object::member`], of a name that is not among those of the agent.
    #[inline(always)]
    pub fn named(&mut self, name: &[u8]) -> Value<'_, 's> {
        self.0.name(name, b"");
        Value(self.0)
    }

    /// A member that is a string.
    #[inline(always)]
    pub fn text(&mut self, name: Name, text: &[u8]) {
        self.0.text(name, text);
    }

    /// A member that is a boolean.
    #[inline(always)]
    pub fn bool(&mut self, name: Name, value: bool) {
        self.0.bool(name, value);
    }

    /// A member that is a signed integer.
    #[inline(always)]
    pub fn int(&mut self, name: Name, value: i64) {
        self.0.int(name, value);
    }

    /// A member that is an unsigned integer.
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

    /// Members of these `names`, parted by blanks, whose values are these: as many as there are
    /// values, passing over those where the name is missing.
    ///
    /// One call and a few bytes of text a member, where a struct or a call for each takes dozens.
    #[inline(always)]
    pub fn numbers(&mut self, names: Name, values: &[u64]) {
        self.0.numbers(names, values);
    }

    /// As [`Object::numbers`], each name with `suffix` behind it, and of signed numbers if `signed`
    /// says so.
    #[inline(always)]
    pub fn numbers_as(&mut self, names: Name, suffix: &str, signed: bool, values: &[u64]) {
        self.0.numbers_as(names, suffix.as_bytes(), signed, values);
    }
}

impl Drop for Object<'_, '_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.end_object();
    }
}

impl<'s> List<'_, 's> {
    /// The place for the next item.
    #[inline(always)]
    pub fn item(&mut self) -> Value<'_, 's> {
        self.0.part();
        Value(self.0)
    }

    /// Begins the next item, which is an object.
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

// What many places call: out of line, and of the one pointer, not of where a place holds it.
impl Out<'_> {
    #[inline(never)]
    fn text(&mut self, name: Name, text: &[u8]) {
        self.member(name);
        Value(self).text(text);
    }

    #[inline(never)]
    fn member(&mut self, name: Name) {
        let mut text = Text::new();
        put_line(name as usize, &mut text);
        self.name(&text, b"");
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
        self.part();
        self.begin(b"{");
    }

    #[inline(never)]
    fn numbers(&mut self, names: Name, values: &[u64]) {
        self.numbers_as(names, b"", false, values);
    }

    #[inline(never)]
    fn numbers_as(&mut self, names: Name, suffix: &[u8], signed: bool, values: &[u64]) {
        let names = texts::name(names);
        let mut names = &*names;
        for value in values {
            let name = cut(&mut names, b' ');
            if name.is_empty() {
                continue;
            }
            self.name(name, suffix);
            if signed {
                Value(self).int(value.cast_signed());
            } else {
                Value(self).uint(*value);
            }
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

    /// Writes `bytes` as the inside of a string. Ill-formed UTF-8 becomes U+FFFD, one for each maximal
    /// part, and the two bytes C0 80 become U+0000, as which they came in.
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

    /// As [`Out::escape`], for bytes that come one by one: they are gathered into runs that do not cut
    /// a character in two.
    pub(super) fn escape_bytes(&mut self, mut bytes: impl Iterator<Item = u8>) {
        self.escape_each(&mut || bytes.next());
    }

    /// One for all kinds of bytes.
    fn escape_each(&mut self, next: &mut dyn FnMut() -> Option<u8>) {
        let mut run = heapless::Vec::<u8, 64>::new();
        while let Some(byte) = next() {
            // Runs are cut before a byte that begins a character, so never inside one; a character
            // takes at most four bytes, and what is none at most six.
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

/// The keyword of a boolean.
pub fn word(value: bool) -> &'static [u8] {
    if value { b"true" } else { b"false" }
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x7F).contains(&byte) && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod tests {
    use super::super::receive::receive;
    use super::*;

    fn written(write: impl FnOnce(Value<'_, '_>)) -> String {
        let mut out = heapless::Vec::<u8, 4096>::new();
        write(Value::new(&mut Out::new(&mut out)));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn strings_are_ascii_and_escaped_as_qemu_does() {
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
    fn objects_and_lists_close_where_they_are_dropped() {
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
    fn numbers_are_named_in_a_row() {
        let text = written(|value| {
            let mut object = value.object();
            object.numbers_as(Name::TrimmedMinimum, "", true, &[u64::MAX, 2]);
            object.numbers_as(Name::SmartCounters, "-lo", false, &[u64::MAX, 1, 0, 7]);
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
    fn a_string_in_pieces_is_escaped_as_a_whole() {
        for lead in 0..70 {
            let mut text = vec![b'x'; lead];
            text.extend("é\u{1F600}\u{20AC}".repeat(20).bytes());
            text.extend(b"\xC0\x80\xFF");
            let whole = written(|value| value.text(&text));
            assert_eq!(written(|value| value.text_of(text.iter().copied())), whole);
        }
    }

    #[test]
    fn decimals_have_no_trailing_zeros() {
        assert_eq!(written(|value| value.decimal(2, 500_000, 6)), "2.5");
        assert_eq!(written(|value| value.decimal(-1, 0, 6)), "-1");
        assert_eq!(written(|value| value.decimal(7, 1, 6)), "7.000001");
        assert_eq!(written(|value| value.decimal(7, 420, 6)), "7.00042");
    }

    #[test]
    fn values_of_the_request_are_respelled() {
        let text = br#"{ "a" :[1,-0 ,'it\'s "\u00e9"',{}, 1e999,0.1,true ,null]}"#;
        let json = receive(text).unwrap();
        assert_eq!(
            written(|value| value.json(json)),
            r#"{"a": [1, 0, "it's \"\u00E9\"", {}, 1e999, 0.1, true, null]}"#
        );
    }
}
