//! Replies: written straight into the outgoing bytes of a client, whole or not at all.
//!
//! A handler writes one value ([`Reply::value`]) or an error ([`Reply::error`]), at any moment: an
//! error first removes what was written of the reply, so half a reply can never leave. [`Failed`]
//! proves that an error was written; only [`ErrorWriter::end`] makes one.
//!
//! A value has a limit: [`REPLY_LIST_BYTES`], unless the command lifts it. Beyond it the reply
//! becomes an error that names the limit. Errors and the echoed `id` are as long as the client made
//! them, and have the limit of the store only.
//!
//! Text is what qemu-ga sends: `, ` and `: ` between tokens, ASCII only, one line feed at the end.
//! Difference from qemu-ga: members have the order in which the handler writes them, not the order
//! of a hash table.

use super::emit::{List, Object, Out, Value};
use super::frame::{Error, Position};
use super::json::{Json, Str};
use super::texts::Phrase;
use crate::base::errno;
use crate::base::limits::REPLY_LIST_BYTES;
use crate::base::packed::Text;
use crate::base::sink::ByteSink;
use crate::base::text::{Digits, cut};

/// The byte that guest-sync-delimited puts before its reply.
const DELIMITER: &[u8] = b"\xFF";

/// The error classes of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Any failure of a command.
    Generic,
    /// The command is unknown or not allowed. Clients treat it as unsupported and go on.
    CommandNotFound,
}

/// Proves that an error was written into the reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed(());

/// The reply to one request.
pub struct Reply<'a> {
    out: Out<'a>,
    /// Where in the store the reply begins.
    start: usize,
    /// Whether a value or an error was begun.
    begun: bool,
    /// The limit of a successful reply in bytes, without its `id`.
    most: usize,
    delimited: bool,
    id: Option<Json<'a>>,
}

impl<'a> Reply<'a> {
    /// A reply behind the bytes that `out` holds.
    pub fn new(out: &'a mut dyn ByteSink) -> Self {
        Self {
            start: out.bytes().len(),
            out: Out::new(out),
            begun: false,
            most: REPLY_LIST_BYTES,
            delimited: false,
            id: None,
        }
    }

    /// Makes the reply echo the `id` of the request, if there is one.
    pub(super) fn echo(&mut self, id: Option<Json<'a>>) {
        self.id = id;
    }

    /// Makes a successful reply begin with the delimiter.
    pub fn delimit(&mut self) {
        self.delimited = true;
    }

    /// Removes the limit of a successful reply.
    pub fn lift_limit(&mut self) {
        self.most = usize::MAX;
    }

    /// Begins a successful reply. The caller writes its value.
    #[inline(never)]
    pub fn value(&mut self) -> Value<'_, 'a> {
        self.begin(br#"{"return": "#);
        self.out.value()
    }

    /// Begins a successful reply whose value is an object.
    #[inline(never)]
    pub fn object(&mut self) -> Object<'_, 'a> {
        self.value().object()
    }

    /// Begins a successful reply whose value is a list.
    #[inline(never)]
    pub fn list(&mut self) -> List<'_, 'a> {
        self.value().list()
    }

    #[inline(never)]
    fn begin(&mut self, text: &[u8]) {
        self.rewind(self.most);
        if self.delimited {
            self.out.put(DELIMITER);
        }
        self.out.put(text);
        self.begun = true;
    }

    /// Removes everything written of this reply and sets its limit.
    fn rewind(&mut self, most: usize) {
        if self.begun {
            self.out.sink.truncate(self.start);
        }
        self.out.room = Some(most);
    }

    /// Continues a successful reply whose beginning the caller has put into the store itself, or
    /// sent already: an object whose last member is a string without its closing quote. Writes that
    /// quote.
    pub fn resume(&mut self) -> Object<'_, 'a> {
        self.begun = true;
        self.out.put(b"\"");
        Object::resumed(&mut self.out)
    }

    /// Begins an error in place of everything written so far.
    pub fn error(&mut self) -> ErrorWriter<'_, 'a> {
        self.error_as(ErrorClass::Generic)
    }

    /// As [`Reply::error`], of a given class.
    pub fn error_as(&mut self, class: ErrorClass) -> ErrorWriter<'_, 'a> {
        self.rewind(usize::MAX);
        // A handler that drops the `Failed` and returns `Ok` still replies with this error.
        self.begun = true;
        let class: &[u8] = match class {
            ErrorClass::Generic => b"GenericError",
            ErrorClass::CommandNotFound => b"CommandNotFound",
        };
        self.out.put(br#"{"error": {"class": ""#);
        self.out.put(class);
        self.out.put(br#"", "desc": ""#);
        ErrorWriter(&mut self.out)
    }

    /// Fails with a phrase.
    #[inline(never)]
    pub fn fail(&mut self, phrase: Phrase) -> Failed {
        self.fail_with(phrase, &[], 0)
    }

    /// Fails with a phrase that names `pieces`, and with the words of `errno` unless that is 0.
    #[inline(never)]
    pub fn fail_with(&mut self, phrase: Phrase, pieces: &[&[u8]], errno: i32) -> Failed {
        self.error().phrase(phrase, pieces).end_with(errno)
    }

    /// Fails with a phrase that names a number.
    #[inline(never)]
    pub fn fail_number(&mut self, phrase: Phrase, number: i64) -> Failed {
        self.fail_with(phrase, &[Digits::signed(number).as_bytes()], 0)
    }

    /// Fails with the framer's error about a message. `text` is what the framer stored of the
    /// message.
    #[inline(never)]
    pub fn fail_not_json(&mut self, error: &Error, text: &[u8]) -> Failed {
        // As in qemu-ga, an exceeded limit has no position.
        if let Phrase::TokenSizeLimit | Phrase::TokenLimit | Phrase::NestingLimit = error.phrase {
            return self.fail(error.phrase);
        }
        let Position { line, column } = error.position;
        let [line, column] = [line, column].map(|number| Digits::unsigned(number as u64));
        let shown = text.get(error.from..error.to).unwrap_or_default();
        let position = [line.as_bytes(), column.as_bytes()];
        let begun = self.error().phrase(Phrase::NotJson, &position);
        begun.phrase(error.phrase, &[shown]).end()
    }

    /// Ends the reply. Without a value or an error its value is the empty object.
    // Takes a reference, because passing a `Reply` by value copies it. Not inlined, to keep one copy
    // of the code.
    #[inline(never)]
    pub fn finish(&mut self, outcome: Result<(), Failed>) {
        let mut end: &[u8] = b"}\n";
        if outcome.is_ok() && !self.begun {
            if self.id.is_none() && !self.delimited {
                end = b"{\"return\": {}}\n";
            } else {
                self.begin(br#"{"return": {}"#);
            }
        }
        self.out.end_value();
        if self.out.room.is_none() {
            self.fail(Phrase::ListTooLong);
        }
        self.out.room = Some(usize::MAX);
        if let Some(id) = self.id {
            self.out.put(br#", "id": "#);
            self.out.value().json(id);
        }
        if self.out.sink.append(end).is_err() {
            self.end_too_long();
        }
    }

    /// Removes everything written: the client gets no reply.
    pub fn silence(self) {
        self.out.sink.truncate(self.start);
    }

    /// Replaces a reply that outgrew its store by an error, without the `id`, which may be the
    /// cause.
    fn end_too_long(&mut self) {
        self.fail(Phrase::ReplyTooLong);
        self.out.put(b"}\n");
    }
}

/// Writes the text of an error. Dropping it closes the error object.
///
/// Handlers call its methods in many places; `#[inline(never)]` keeps one copy of each.
#[must_use = "`end` gives the proof that a handler returns"]
pub struct ErrorWriter<'o, 's>(&'o mut Out<'s>);

impl ErrorWriter<'_, '_> {
    /// Adds fixed words.
    #[inline(never)]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds bytes of a path, a name, or the output of a program.
    #[inline(never)]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.0.escape(bytes);
        self
    }

    /// Adds a string of the request.
    #[inline(never)]
    pub fn string(self, string: Str<'_>) -> Self {
        self.0.escape_bytes(string.bytes());
        self
    }

    /// Adds a phrase with a string of the request in place of its `@`, and ends the error.
    #[inline(never)]
    pub fn about(self, phrase: Phrase, string: Str<'_>) -> Failed {
        let text = Text::from(phrase).unpack();
        let mut rest = &*text;
        let before = cut(&mut rest, b'@');
        self.bytes(before).string(string).bytes(rest).end()
    }

    /// Adds a number.
    pub fn number(self, value: i64) -> Self {
        self.bytes(Digits::signed(value).as_bytes())
    }

    /// Adds a phrase with one of `pieces` in place of each `@`; further pieces follow it.
    #[inline(never)]
    pub fn phrase(self, phrase: Phrase, pieces: &[&[u8]]) -> Self {
        Text::from(phrase).put(pieces, &mut |piece| self.0.escape(piece));
        self
    }

    /// Adds a colon, a blank, and the C library's words for an error number.
    pub fn errno(self, number: i32) -> Self {
        let text = errno::text(number);
        if text.is_empty() {
            let number = Digits::signed(number.into());
            return self.phrase(Phrase::UnknownNumber, &[number.as_bytes()]);
        }
        self.text(": ").bytes(&text)
    }

    /// Ends the error, with the words of `errno` unless that is 0.
    #[inline(never)]
    pub fn end_with(self, errno: i32) -> Failed {
        if errno == 0 { self } else { self.errno(errno) }.end()
    }

    /// Ends the error.
    #[inline(never)]
    pub fn end(self) -> Failed {
        Failed(())
    }
}

impl Drop for ErrorWriter<'_, '_> {
    fn drop(&mut self) {
        self.0.put(br#""}"#);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sink::testing::Heap;
    use crate::wire::receive::receive;

    /// The longest reply that the limit allows.
    fn longest(id: Option<Json<'_>>) -> Vec<u8> {
        let mut out = Heap(b"before".to_vec());
        let mut reply = Reply::new(&mut out);
        reply.echo(id);
        let frame = br#"{"return": """#.len();
        reply.value().text(&vec![b'x'; REPLY_LIST_BYTES - frame]);
        reply.finish(Ok(()));
        out.0.split_off(b"before".len())
    }

    const TOO_LONG: &[u8] =
        b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"the reply is larger than 10 MiB\"}";

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn replaces_reply_beyond_the_limit_by_an_error() {
        let whole = longest(None);
        assert!(whole.ends_with(b"xx\"}\n"));
        assert_eq!(whole.len(), REPLY_LIST_BYTES + 2);
        let mut out = Heap(Vec::new());
        let mut reply = Reply::new(&mut out);
        let mut list = reply.list();
        for _ in 0..REPLY_LIST_BYTES / 8 {
            list.item().text(b"12345678");
        }
        drop(list);
        reply.finish(Ok(()));
        assert_eq!(out.0, [TOO_LONG, b"}\n"].concat());
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn keeps_earlier_bytes_and_the_id_when_the_limit_is_exceeded() {
        let id = receive(b"[7]").unwrap();
        let mut out = Heap(b"before".to_vec());
        let mut reply = Reply::new(&mut out);
        reply.echo(Some(id));
        reply.value().base64(&[0; REPLY_LIST_BYTES]);
        reply.finish(Ok(()));
        assert_eq!(out.0, [b"before", TOO_LONG, b", \"id\": [7]}\n"].concat());
        let whole = longest(Some(id));
        assert!(whole.ends_with(b"xx\", \"id\": [7]}\n"));
    }

    #[test]
    fn value_that_is_dropped_is_null() {
        let id = receive(b"7").unwrap();
        let mut out = Heap(Vec::new());
        let mut reply = Reply::new(&mut out);
        reply.echo(Some(id));
        drop(reply.value());
        reply.finish(Ok(()));
        assert_eq!(out.0, b"{\"return\": null, \"id\": 7}\n");
        // An error leaves no trace of it.
        let mut out = Heap(Vec::new());
        let mut reply = Reply::new(&mut out);
        drop(reply.value());
        let failed = reply.error().text("x").end();
        reply.finish(Err(failed));
        let error = r#"{"error": {"class": "GenericError", "desc": "x"}}"#;
        assert_eq!(out.0, [error.as_bytes(), b"\n"].concat());
    }

    #[test]
    fn closes_error_without_a_call_of_end() {
        let mut out = Heap(Vec::new());
        let mut reply = Reply::new(&mut out);
        drop(reply.error().text("a reason"));
        reply.finish(Ok(()));
        let error = r#"{"error": {"class": "GenericError", "desc": "a reason"}}"#;
        assert_eq!(out.0, [error.as_bytes(), b"\n"].concat());
    }

    #[test]
    fn limits_neither_errors_nor_replies_whose_limit_was_lifted() {
        let mut out = Heap(Vec::new());
        let mut reply = Reply::new(&mut out);
        reply.lift_limit();
        reply.value().base64(&[0; REPLY_LIST_BYTES]);
        reply.finish(Ok(()));
        assert!(out.0.len() > REPLY_LIST_BYTES && out.0.ends_with(b"A\"}\n"));
        let mut out = Heap(Vec::new());
        let mut reply = Reply::new(&mut out);
        let failed = reply.fail_with(Phrase::NotFound, &[&[b'x'; REPLY_LIST_BYTES]], 0);
        reply.finish(Err(failed));
        assert!(out.0.len() > REPLY_LIST_BYTES && out.0.ends_with(b"not been found\"}}\n"));
    }
}
