//! Replies: written straight into a client's outgoing bytes, whole or not at all.
//!
//! A handler either writes one value ([`Reply::value`]) or fails ([`Reply::fail`]), at any moment:
//! failing rewinds to where the reply began, so half a reply can never leave. [`Failed`] is the proof
//! that an error was written; nothing else makes one.
//!
//! A value has a limit ([`REPLY_LIST_BYTES`] unless the command has another), past which the reply is an
//! error that names it. Errors and the `id` that is echoed have none but the store's: they are as long as
//! the client made them.
//!
//! Text is what qemu-ga sends: `, ` and `: ` between tokens, ASCII only, one LF at the end. Members
//! come in the order they are written, not in qemu-ga's hash order.

use super::emit::{List, Object, Out, Value};
use super::frame::{Error, Position};
use super::json::{Json, Str};
use crate::base::errno;
use crate::base::limits::REPLY_LIST_BYTES;
use crate::base::store::Store;
use crate::base::text::{Digits, cut};
use crate::base::texts::{self, Phrase};

/// What guest-sync-delimited puts before its reply.
const DELIMITER: &[u8] = b"\xFF";

/// The kinds of error clients tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Anything that went wrong.
    Generic,
    /// The command is unknown or not allowed: clients take it for unsupported and go on.
    CommandNotFound,
}

/// An error has been written into the reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed(());

/// The reply to one request.
pub struct Reply<'a> {
    out: Out<'a>,
    start: usize,
    /// Whether the value was begun.
    begun: bool,
    /// How many bytes a successful reply may have, up to its `id`.
    most: usize,
    delimited: bool,
    id: Option<Json<'a>>,
}

impl<'a> Reply<'a> {
    /// A reply behind what `out` holds.
    pub fn new(out: &'a mut dyn Store) -> Self {
        Self {
            start: out.bytes().len(),
            out: Out::new(out),
            begun: false,
            most: REPLY_LIST_BYTES,
            delimited: false,
            id: None,
        }
    }

    /// Has the reply echo the `id` of the request, if it has one.
    pub(super) fn echo(&mut self, id: Option<Json<'a>>) {
        self.id = id;
    }

    /// Has a successful reply begin with the delimiter.
    pub fn delimit(&mut self) {
        self.delimited = true;
    }

    /// Lets a successful reply be as long as there is memory for.
    pub fn lift_limit(&mut self) {
        self.most = usize::MAX;
    }

    /// Begins the successful reply, whose value is then written.
    #[inline(never)]
    pub fn value(&mut self) -> Value<'_, 'a> {
        self.begin(br#"{"return": "#);
        Value::new(&mut self.out)
    }

    /// Begins the successful reply, which is an object.
    #[inline(never)]
    pub fn object(&mut self) -> Object<'_, 'a> {
        self.value().object()
    }

    /// Begins the successful reply, which is a list.
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

    /// Takes back what was written; from here on there may be so many bytes.
    fn rewind(&mut self, most: usize) {
        self.out.store.truncate(self.start);
        self.out.room = Some(most);
    }

    /// Goes on with a value whose beginning may have left already: an object, in whose last member
    /// a string is to be ended. Its other members follow.
    pub fn resume(&mut self) -> Object<'_, 'a> {
        self.begun = true;
        self.out.put(b"\"");
        Object::begun(&mut self.out)
    }

    /// Begins an error instead of whatever was written so far.
    pub fn fail(&mut self) -> Failure<'_, 'a> {
        self.fail_as(Class::Generic)
    }

    /// As [`Reply::fail`], of a given class.
    pub fn fail_as(&mut self, class: Class) -> Failure<'_, 'a> {
        self.rewind(usize::MAX);
        // A command that goes on as if all were well has this error for a reply.
        self.begun = true;
        let class: &[u8] = match class {
            Class::Generic => b"GenericError",
            Class::CommandNotFound => b"CommandNotFound",
        };
        self.out.put(br#"{"error": {"class": ""#);
        self.out.put(class);
        self.out.put(br#"", "desc": ""#);
        Failure(&mut self.out)
    }

    /// Fails with a phrase about these pieces, and the words for an error number unless it is 0.
    #[inline(never)]
    pub fn say(&mut self, phrase: Phrase, pieces: &[&[u8]], errno: i32) -> Failed {
        self.fail().phrase(phrase, pieces).end_with(errno)
    }

    /// Fails because of what is wrong with a message, of which `text` is stored.
    #[inline(never)]
    pub fn not_json(&mut self, error: &Error, text: &[u8]) -> Failed {
        // As with qemu-ga, limits have no position.
        if let Phrase::TokenSizeLimit | Phrase::TokenLimit | Phrase::NestingLimit = error.what {
            return self.say_only(error.what);
        }
        let Position { line, column } = error.position;
        let [line, column] = [line, column].map(|number| Digits::unsigned(number as u64));
        let shown = text.get(error.from..error.to).unwrap_or_default();
        let position = [line.as_bytes(), column.as_bytes()];
        let begun = self.fail().phrase(Phrase::NotJson, &position);
        begun.phrase(error.what, &[shown]).end()
    }

    /// Fails with a phrase that is about nothing in particular.
    #[inline(never)]
    pub fn say_only(&mut self, phrase: Phrase) -> Failed {
        self.say(phrase, &[], 0)
    }

    /// Fails with a phrase about a number.
    #[inline(never)]
    pub fn say_number(&mut self, phrase: Phrase, number: i64) -> Failed {
        self.say(phrase, &[Digits::signed(number).as_bytes()], 0)
    }

    /// Fails with these pieces, and the words for an error number unless it is 0.
    #[inline(never)]
    pub fn refuse(&mut self, pieces: &[&[u8]], errno: i32) -> Failed {
        let mut error = self.fail();
        for piece in pieces {
            error = error.bytes(piece);
        }
        error.end_with(errno)
    }

    /// Ends the reply. One whose value was never begun is the empty object.
    #[inline(always)]
    pub fn finish(mut self, outcome: Result<(), Failed>) {
        self.end(outcome);
    }

    // Of a reference, so that no reply is copied to be finished.
    #[inline(never)]
    fn end(&mut self, outcome: Result<(), Failed>) {
        if outcome.is_ok() && !self.begun {
            self.begin(br#"{"return": {}"#);
        }
        if self.out.room.is_none() {
            self.say_only(Phrase::ListTooLong);
        }
        self.out.room = Some(usize::MAX);
        if let Some(id) = self.id {
            self.out.put(br#", "id": "#);
            Value::new(&mut self.out).json(id);
        }
        if self.out.store.append(b"}\n").is_err() {
            self.give_up();
        }
    }

    /// Takes back whatever was written: silence is the reply.
    pub fn silence(self) {
        self.out.store.truncate(self.start);
    }

    /// The reply outgrew its store: says so instead, without the id, which may be what is too long.
    fn give_up(&mut self) {
        self.say_only(Phrase::ReplyTooLong);
        self.out.put(b"}\n");
    }
}

/// An error being worded. Dropping it closes the error object.
#[must_use = "`end` gives the proof that a handler returns"]
pub struct Failure<'o, 's>(&'o mut Out<'s>);

impl Failure<'_, '_> {
    /// Fixed words.
    #[inline(never)]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    // Out of line, because errors are worded in many places.
    /// Bytes of a path, a name, or the output of a program.
    #[inline(never)]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.0.escape(bytes);
        self
    }

    /// A string of the request.
    #[inline(never)]
    pub fn string(self, string: Str<'_>) -> Self {
        self.0.escape_bytes(string.bytes());
        self
    }

    /// A phrase about a string of the request, which stands for the `@` in it, and the end.
    #[inline(never)]
    pub fn about(self, phrase: Phrase, string: Str<'_>) -> Failed {
        let text = texts::phrase(phrase);
        let mut rest = &*text;
        let before = cut(&mut rest, b'@');
        self.bytes(before).string(string).bytes(rest).end()
    }

    /// A number.
    pub fn number(self, value: i64) -> Self {
        self.bytes(Digits::signed(value).as_bytes())
    }

    /// A phrase, each `@` in it being the next of these pieces; those that are left come last.
    #[inline(never)]
    pub fn phrase(self, phrase: Phrase, pieces: &[&[u8]]) -> Self {
        texts::put_phrase(phrase, pieces, &mut |piece| self.0.escape(piece));
        self
    }

    /// Colon, blank, and the C library's words for an error number.
    pub fn errno(self, number: i32) -> Self {
        let text = errno::text(number);
        if text.is_empty() {
            let number = Digits::signed(number.into());
            return self.phrase(Phrase::UnknownNumber, &[number.as_bytes()]);
        }
        self.text(": ").bytes(&text)
    }

    /// Ends the error, with the words for an error number unless it is 0.
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

impl Drop for Failure<'_, '_> {
    fn drop(&mut self) {
        self.0.put(br#""}"#);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::store::testing::Heap;
    use crate::wire::receive::receive;

    /// A reply that is as long as the limit allows.
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
    fn a_reply_past_the_limit_is_an_error_that_names_it() {
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
    fn what_came_before_and_the_id_stay() {
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
    fn an_error_is_whole_even_if_its_proof_is_not_taken() {
        let mut out = Heap(Vec::new());
        let mut reply = Reply::new(&mut out);
        drop(reply.fail().text("a reason"));
        reply.finish(Ok(()));
        let error = r#"{"error": {"class": "GenericError", "desc": "a reason"}}"#;
        assert_eq!(out.0, [error.as_bytes(), b"\n"].concat());
    }

    #[test]
    fn a_limit_can_be_lifted_and_errors_have_none() {
        let mut out = Heap(Vec::new());
        let mut reply = Reply::new(&mut out);
        reply.lift_limit();
        reply.value().base64(&[0; REPLY_LIST_BYTES]);
        reply.finish(Ok(()));
        assert!(out.0.len() > REPLY_LIST_BYTES && out.0.ends_with(b"A\"}\n"));
        let mut out = Heap(Vec::new());
        let mut reply = Reply::new(&mut out);
        let failed = reply.say(Phrase::NotFound, &[&[b'x'; REPLY_LIST_BYTES]], 0);
        reply.finish(Err(failed));
        assert!(out.0.len() > REPLY_LIST_BYTES && out.0.ends_with(b"not been found\"}}\n"));
    }
}
