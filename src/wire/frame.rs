//! Cuts the bytes of a client into messages, and checks them.
//!
//! The dialect, the recovery after a stray byte, the limits and the positions in errors are those
//! of qemu-ga 11.1, measured on its replies byte for byte. No I/O, no command names.
//!
//! A message is one JSON value. `wire::check` checks it token by token. The framer reports the
//! first error at once and skips the rest of the message: up to the byte where its brackets
//! balance, or up to a stray byte, which is not reported again. The store receives the tokens,
//! without the blanks between them.
//!
//! An error names the line and the column of its token. Lines are counted by line feeds, columns by
//! bytes. As in qemu-ga, the column is one too high if the first byte of the token also ended what
//! precedes it: a number, a keyword, or skipped garbage.
//!
//! Differences from qemu-ga:
//! - Each client begins at line 1. qemu-ga goes on counting from one client to the next.
//! - A stray byte in a token that is too long is reported as the size limit.
//! - A full store counts as the size limit, for the token that did not fit.
//! - The rest of a token that exceeded the size limit has a position of its own. In qemu-ga it has
//!   the position of the whole token.

use core::mem::MaybeUninit;

use super::check::{Checker, Kind, Open, stray};
use super::json::TokenError;
use super::lex::{Scalar, ScalarStep, plain_end, slice};
use super::message::{Members, Message};
use super::texts::Phrase;
use crate::base::limits::{REQUEST_BYTES, REQUEST_TOKENS};
use crate::base::sink::ByteSink;
use static_assertions::const_assert;

/// The longest token. The bytes behind it are read as another token. One more than a message may
/// have, as in qemu-ga.
const TOKEN_BYTES: usize = REQUEST_BYTES + 1;

/// The result of [`Framer::feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All input was read, and the message is incomplete.
    NeedMore,
    /// The store holds one complete message.
    Message,
    /// The message is not JSON, or too large. [`Framer::error`] has the reason.
    Error,
}

/// An error in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The text for the client.
    pub phrase: Phrase,
    /// The text shows the bytes `from..to` of the store.
    pub from: usize,
    /// See `from`.
    pub to: usize,
    /// The beginning of the token with the error.
    pub position: Position,
}

/// A position in the input of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first line is 1.
    pub line: usize,
    /// The first column is 1.
    pub column: usize,
}

/// The context of the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two tokens.
    Between,
    /// After a stray byte: bytes are dropped up to a bracket, a separator or a control byte.
    Recovery,
    /// In a string that ends with this quote.
    String(u8),
    /// Behind a backslash in such a string.
    Escape(u8),
    /// In a number or keyword.
    Scalar(Scalar),
}

/// The effect of reading on.
enum Step {
    /// The token, or the garbage, goes on.
    More,
    /// A blank between tokens.
    Blank(u8),
    /// A token is complete.
    Token(Kind),
    /// The token got too long.
    TooLong,
    /// No token can contain this byte here.
    Stray(u8),
}

/// The open containers of a message that is skipped. Negative after a bracket too many.
#[derive(Clone, Copy)]
struct Unclosed {
    objects: i32,
    arrays: i32,
}

impl Unclosed {
    /// Counts a token.
    fn count(&mut self, kind: Kind) {
        let (objects, arrays) = match kind {
            Kind::BeginObject => (1, 0),
            Kind::EndObject => (-1, 0),
            Kind::BeginArray => (0, 1),
            Kind::EndArray => (0, -1),
            _ => (0, 0),
        };
        self.objects = self.objects.wrapping_add(objects);
        self.arrays = self.arrays.wrapping_add(arrays);
    }

    /// Whether the message is over: nothing is open, or there was a bracket too many.
    fn is_over(self) -> bool {
        self.objects | self.arrays <= 0
    }
}

/// Splits the bytes of a client into messages. Holds no bytes itself.
///
/// Offsets are into the current input. Those of earlier input are negative: they wrap around.
pub struct Framer<'m> {
    state: State,
    /// Whether the string being read is ASCII without escapes so far.
    is_plain: bool,
    /// Set once an error in this message was reported: the rest of it is skipped.
    skipping: Option<Unclosed>,
    /// Complete tokens of this message.
    tokens: usize,
    /// The first byte that was neither stored nor skipped.
    kept: usize,
    /// Where the message would begin if it had no blanks between its tokens. Less by [`BEYOND`] once
    /// the store is full.
    start: usize,
    /// The beginning of the latest token.
    token_start: usize,
    /// The line being read.
    line: usize,
    /// The beginning of that line.
    line_start: usize,
    /// The latest byte that ended a number, a keyword or skipped garbage, and was then read once more
    /// as the beginning of a token.
    read_again: usize,
    checker: Checker<'m>,
    members: Members,
    error: Error,
}

/// Added to the size of a message that the store cannot hold: puts it above any limit.
const BEYOND: usize = 1 << 30;

const_assert!(BEYOND > REQUEST_BYTES);

impl<'m> Framer<'m> {
    /// A framer before the first byte.
    pub fn new(open: &'m mut Open) -> Self {
        Self {
            state: State::Between,
            is_plain: false,
            skipping: None,
            tokens: 0,
            kept: 0,
            start: 0,
            token_start: 0,
            line: 1,
            line_start: 0,
            // No token begins before the first line.
            read_again: usize::MAX,
            checker: Checker::new(open),
            members: Members::NONE,
            error: Error {
                phrase: Phrase::ExpectingValue,
                from: 0,
                to: 0,
                position: Position { line: 1, column: 1 },
            },
        }
    }

    /// The latest error.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The latest message, whose text is in the store.
    pub fn message<'a>(&'a self, text: &'a [u8]) -> Message<'a> {
        let members = &self.members;
        Message { text, members }
    }

    /// Starts over for another client: drops an incomplete message and counts lines from 1. The
    /// caller empties the store.
    pub fn reset(&mut self) {
        self.end_message(0);
        self.line = 1;
        self.line_start = 0;
        self.read_again = usize::MAX;
    }

    /// Its memory that holds nothing, and may have any content.
    pub fn free_memory(&mut self) -> &mut [MaybeUninit<u64>] {
        self.checker.free_memory()
    }

    /// Reads bytes from `input`. Returns how many, and the event that they lead to. A line feed right
    /// behind a message is read with it, which saves most clients another call.
    ///
    /// After [`Event::Message`] or [`Event::Error`] the caller handles the event, empties the store
    /// and calls again with the rest of the input, which may be all of it.
    // Not inlined into its only caller: that takes 250 bytes more.
    #[inline(never)]
    pub fn feed(&mut self, input: &[u8], store: &mut dyn ByteSink) -> (usize, Event) {
        let mut at = 0;
        self.kept = 0;
        let event = loop {
            let Some(step) = self.read(input, &mut at) else {
                self.keep(input, at, store);
                break Event::NeedMore;
            };
            let event = match step {
                Step::More => continue,
                Step::Blank(byte) => {
                    self.keep(input, at.wrapping_sub(1), store);
                    self.skip(at);
                    self.count_line(byte, at);
                    continue;
                }
                Step::Token(kind) => {
                    let event = self.end_token(kind, input, at, store);
                    if kind == Kind::Scalar {
                        // The byte behind it has ended it.
                        self.read_again = at;
                    }
                    event
                }
                Step::TooLong => {
                    let error = TokenError::new(Phrase::TokenSizeLimit);
                    let event = self.report(error, input, at, store);
                    self.end_if_over(at);
                    event
                }
                Step::Stray(byte) => self.stray(byte, input, at, store),
            };
            if event != Event::NeedMore {
                break event;
            }
        };
        if event == Event::Message && input.get(at) == Some(&b'\n') {
            at = at.wrapping_add(1);
            self.skip(at);
            self.count_line(b'\n', at);
        }
        // Offsets are into the next input from here on.
        self.start = self.start.wrapping_sub(at);
        self.token_start = self.token_start.wrapping_sub(at);
        self.line_start = self.line_start.wrapping_sub(at);
        self.read_again = self.read_again.wrapping_sub(at);
        (at, event)
    }

    /// Reads the byte at `at`, or the next few; `None` at the end of the input.
    // Inlined into its only caller, the loop over all bytes.
    #[inline(always)]
    fn read(&mut self, input: &[u8], at: &mut usize) -> Option<Step> {
        if let State::String(quote) = self.state {
            let longest = self.token_start.wrapping_add(TOKEN_BYTES);
            *at = plain_end(input, *at, quote).min(longest);
        }
        let from = *at;
        let byte = *input.get(from)?;
        *at = from.wrapping_add(1);
        Some(match self.state {
            State::Between => self.begin_token(byte, from),
            State::Recovery => {
                if matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b',')
                    || !matches!(byte, b'\t' | 0x20..0xfe)
                {
                    self.state = State::Between;
                    *at = from;
                    self.read_again = from;
                }
                self.skip(*at);
                Step::More
            }
            State::String(quote) if byte == quote => {
                self.state = State::Between;
                Step::Token(Kind::String)
            }
            State::String(_) | State::Escape(_) if !matches!(byte, 0x20..0xfe) => Step::Stray(byte),
            State::String(quote) => {
                self.is_plain = false;
                let state = match byte {
                    b'\\' => State::Escape(quote),
                    _ => State::String(quote),
                };
                self.go_on(state, *at)
            }
            State::Escape(quote) => self.go_on(State::String(quote), *at),
            State::Scalar(scalar) => match scalar.step(byte) {
                ScalarStep::Take(scalar) => self.go_on(State::Scalar(scalar), *at),
                ScalarStep::End => {
                    self.state = State::Between;
                    *at = from;
                    Step::Token(Kind::Scalar)
                }
                ScalarStep::Stray => Step::Stray(byte),
            },
        })
    }

    /// Begins a token with `byte`, the one at `from`.
    // Inlined into its only caller, the loop over all bytes.
    #[inline(always)]
    fn begin_token(&mut self, byte: u8, from: usize) -> Step {
        self.token_start = from;
        self.state = match Kind::begun_by(byte) {
            Some(Kind::String) => {
                self.is_plain = true;
                State::String(byte)
            }
            Some(kind) => return Step::Token(kind),
            None => match byte {
                b' ' | b'\t' | b'\n' | b'\r' => return Step::Blank(byte),
                _ => match Scalar::begin(byte) {
                    Some(scalar) => State::Scalar(scalar),
                    None => return Step::Stray(byte),
                },
            },
        };
        Step::More
    }

    /// Goes on in `state`, if the token that reaches up to `at` may become longer.
    fn go_on(&mut self, state: State, at: usize) -> Step {
        self.state = state;
        if at.wrapping_sub(self.token_start) <= TOKEN_BYTES {
            return Step::More;
        }
        self.state = State::Between;
        Step::TooLong
    }

    /// Ends the token before `at`, and the message as well if no container is open.
    // Inlined into its only caller, the loop over all bytes.
    #[inline(always)]
    fn end_token(
        &mut self,
        kind: Kind,
        input: &[u8],
        at: usize,
        store: &mut dyn ByteSink,
    ) -> Event {
        let mut event = Event::NeedMore;
        if self.skipping.is_none() {
            let mut checked = self.check_token(kind, input, at, store);
            if checked.is_ok() {
                if self.checker.is_open() {
                    return Event::NeedMore;
                }
                self.keep(input, at, store);
                checked = self.check_size(at);
            }
            let Err(error) = checked else {
                self.members = self.checker.members(at.wrapping_sub(self.start));
                self.end_message(at);
                return Event::Message;
            };
            event = self.report(error, input, at, store);
        }
        if let Some(unclosed) = &mut self.skipping {
            unclosed.count(kind);
        }
        self.skip(at);
        self.end_if_over(at);
        event
    }

    /// Ends the message that is skipped if no container is open.
    fn end_if_over(&mut self, at: usize) {
        if self.skipping.is_some_and(Unclosed::is_over) {
            self.end_message(at);
        }
    }

    /// Checks the token before `at`.
    fn check_token(
        &mut self,
        kind: Kind,
        input: &[u8],
        at: usize,
        store: &mut dyn ByteSink,
    ) -> Result<(), TokenError> {
        let mut text: &[u8] = b"";
        if let Kind::String | Kind::Scalar = kind {
            text = match input.get(self.token_start..at) {
                Some(text) => text,
                None => {
                    // The token began in an earlier input: completes it in the store.
                    self.keep(input, at, store);
                    self.stored_token(at, store)
                }
            };
        }
        self.tokens = self.tokens.wrapping_add(1);
        let end = at.wrapping_sub(self.start);
        // A message has at least as many bytes as tokens.
        if end > REQUEST_TOKENS {
            self.check_size(at)?;
            if self.tokens > REQUEST_TOKENS {
                return Err(TokenError::new(Phrase::TokenLimit));
            }
        }
        self.checker.token(kind, text, self.is_plain, end)
    }

    /// Checks the size of the message up to `at`.
    fn check_size(&self, at: usize) -> Result<(), TokenError> {
        if at.wrapping_sub(self.start) > REQUEST_BYTES {
            return Err(TokenError::new(Phrase::TokenSizeLimit));
        }
        Ok(())
    }

    /// The token that reaches up to `at`, all of which is stored.
    fn stored_token<'s>(&self, at: usize, store: &'s dyn ByteSink) -> &'s [u8] {
        let text = store.bytes();
        let len = at.wrapping_sub(self.token_start);
        text.get(text.len().saturating_sub(len)..)
            .unwrap_or_default()
    }

    /// Reports `byte`, the one before `at`, which no token can contain here, and ends the message with
    /// it.
    fn stray(&mut self, byte: u8, input: &[u8], at: usize, store: &mut dyn ByteSink) -> Event {
        self.keep(input, at, store);
        let token = self.stored_token(at, store);
        // qemu-ga ends the text of the error at a NUL. Only the last byte can be one.
        let error = stray(token.strip_suffix(b"\0").unwrap_or(token));
        let event = self.report(error, input, at, store);
        self.count_line(byte, at);
        self.end_message(at);
        self.state = State::Recovery;
        event
    }

    /// Reports an error in the token before `at`, unless an error in this message was reported before.
    /// The rest of the message is skipped.
    fn report(
        &mut self,
        error: TokenError,
        input: &[u8],
        at: usize,
        store: &mut dyn ByteSink,
    ) -> Event {
        // The error shows bytes of the store.
        self.keep(input, at, store);
        if self.skipping.is_some() {
            return Event::NeedMore;
        }
        let [objects, arrays] = self.checker.open_containers();
        self.skipping = Some(Unclosed { objects, arrays });
        let error = self.check_size(at).err().unwrap_or(error);
        let len = at.wrapping_sub(self.token_start);
        let start = store.bytes().len().saturating_sub(len);
        let before = self.token_start.wrapping_sub(self.line_start);
        let first = if self.token_start == self.read_again {
            2
        } else {
            1
        };
        self.error = Error {
            phrase: error.phrase,
            from: start.wrapping_add(error.shown.start),
            to: start.wrapping_add(error.shown.end),
            position: Position {
                line: self.line,
                column: before.wrapping_add(first),
            },
        };
        Event::Error
    }

    /// Prepares for the next message, which begins at `at`.
    fn end_message(&mut self, at: usize) {
        self.state = State::Between;
        self.skipping = None;
        self.tokens = 0;
        self.start = at;
        self.checker.reset();
    }

    /// Counts a line if `byte`, the one before `at`, ends it.
    fn count_line(&mut self, byte: u8, at: usize) {
        if byte == b'\n' {
            self.line = self.line.wrapping_add(1);
            self.line_start = at;
        }
    }

    /// Skips what was not kept of the bytes before `at`: they are no part of the message.
    fn skip(&mut self, at: usize) {
        let skipped = at.wrapping_sub(self.kept);
        self.start = self.start.wrapping_add(skipped);
        self.kept = at;
    }

    /// Stores the input up to `end`, except bytes that were stored or skipped before. Stores
    /// nothing once an error was reported or the message is too large.
    fn keep(&mut self, input: &[u8], end: usize, store: &mut dyn ByteSink) {
        if self.kept == end {
            return;
        }
        let text = slice(input, self.kept, end);
        self.kept = end;
        if self.skipping.is_none() && self.check_size(end).is_ok() && store.append(text).is_err() {
            self.start = self.start.wrapping_sub(BEYOND);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::{Json, JsonType};
    use super::super::receive::words;
    use super::*;
    use crate::base::limits::REQUEST_DEPTH;
    use crate::base::sink::testing::Heap;

    /// The reply to an event, shortened: the text of an error, or the stored object.
    fn reply_to(event: Event, framer: &Framer<'_>, text: &[u8]) -> String {
        match event {
            Event::NeedMore => unreachable!(),
            Event::Message if Json(text).kind() == JsonType::Object => {
                String::from_utf8_lossy(text).into()
            }
            Event::Message => "no object".into(),
            Event::Error => words(framer.error(), text),
        }
    }

    /// Feeds `pieces` one after the other, and returns the replies to all events.
    fn replies_to_pieces<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<String> {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut store = Heap::default();
        let mut replies = Vec::new();
        for piece in pieces {
            let mut rest = piece;
            loop {
                let (taken, event) = framer.feed(rest, &mut store);
                rest = &rest[taken..];
                if event == Event::NeedMore {
                    assert!(rest.is_empty());
                    break;
                }
                replies.push(reply_to(event, &framer, store.bytes()));
                store.truncate(0);
            }
        }
        replies
    }

    fn replies(stream: &[u8]) -> Vec<String> {
        replies_to_pieces([stream].into_iter())
    }

    const PING: &str = r#"{"execute":"guest-ping"}"#;

    /// Streams, and the replies to them.
    const STREAMS: &[(&[u8], &[&str])] = &[
        (b"", &[]),
        (b" \t\r\n\n\r", &[]),
        (br#"{"execute":"guest-ping"}"#, &[PING]),
        (b" { \"execute\" :\r\n\t\"guest-ping\" } ", &[PING]),
        (
            br#"{"execute":"guest-ping"}{"execute":"guest-ping"}"#,
            &[PING, PING],
        ),
        // 0xFF resynchronises anywhere.
        (b"\xff", &["1:1 stray '\u{fffd}'"]),
        (b"\xff\n", &["1:1 stray '\u{fffd}'"]),
        (
            b"\xff{\"execute\":\"guest-ping\"}",
            &["1:1 stray '\u{fffd}'", PING],
        ),
        (
            b"\xff\xfe\xff{}",
            &[
                "1:1 stray '\u{fffd}'",
                "1:3 stray '\u{fffd}'",
                "1:4 stray '\u{fffd}'",
                "{}",
            ],
        ),
        (
            b"{\"execute\":\"gue\xff{}",
            &["1:12 stray '\"gue\u{fffd}'", "{}"],
        ),
        (b"{\"execute\":\xff{}", &["1:12 stray '\u{fffd}'", "{}"]),
        (b"{\"a\":\"\\\xff{}", &["1:6 stray '\"\\\u{fffd}'", "{}"]),
        (b"[1\xff{}", &["1:4 stray '\u{fffd}'", "{}"]),
        // Control bytes. A NUL is not shown.
        (b"{}\0{}", &["{}", "1:3 stray ''", "{}"]),
        (b"\"ab\0{}", &["1:1 stray '\"ab'", "{}"]),
        (b"\x1b", &["1:1 stray '\u{1b}'"]),
        (b"\"a\tb\"\n{}", &["1:1 stray '\"a\t'", "{}"]),
        (b"'a\nb'\n{}", &["1:1 stray ''a\n'", "{}"]),
        (b"\"\x7f\"\x7f", &["no object", "1:4 stray '\u{7f}'"]),
        // Garbage is skipped up to a bracket, a separator, or a control byte other than TAB and
        // DEL.
        (b"garbage\n{}", &["1:1 invalid keyword 'garbage'", "{}"]),
        (b"GARBAGE\n{}", &["1:1 stray 'G'", "{}"]),
        (b"GARBAGE {}", &["1:1 stray 'G'", "{}"]),
        (
            b"G\"\t\x7f'\x80\xfd1 a\x0b{}",
            &["1:1 stray 'G'", "1:12 stray '\u{b}'", "{}"],
        ),
        (
            b"G]G:G,G\x01",
            &[
                "1:1 stray 'G'",
                "1:3 expecting value",
                "1:3 stray 'G'",
                "1:5 expecting value",
                "1:5 stray 'G'",
                "1:7 expecting value",
                "1:7 stray 'G'",
                "1:9 stray '\u{1}'",
            ],
        ),
        (b"\xef\xbb\xbf{}", &["1:1 stray '\u{fffd}'", "{}"]),
        (
            b"/* a, b */",
            &[
                "1:1 stray '/'",
                "1:6 expecting value",
                "1:7 invalid keyword 'b'",
                "1:9 stray '*'",
            ],
        ),
        (b"%s {}", &["1:1 stray '%'", "{}"]),
        // A stray byte belongs to the token that it ends.
        (br#"{"a":1.}"#, &["1:6 stray '1.}'"]),
        (br#"{"a":+1}"#, &["1:6 stray '+'", "1:9 expecting value"]),
        (b"[01]", &["1:2 stray '01'", "1:5 expecting value"]),
        (b"[-a]", &["1:2 stray '-a'", "1:5 expecting value"]),
        (b"[1e]", &["1:2 stray '1e]'"]),
        (b"[1e+]", &["1:2 stray '1e+]'"]),
        (b"[.5]", &["1:2 stray '.'", "1:5 expecting value"]),
        (b"1\xff", &["no object", "1:3 stray '\u{fffd}'"]),
        // Two tokens without a blank between them stay two.
        (
            b"0e1 ",
            &["no object", "1:3 invalid keyword 'e'", "no object"],
        ),
        (b"[0e1]", &["1:4 expected ',' or ']'"]),
        (b"[foo bar]", &["1:2 invalid keyword 'foo'"]),
        (b"[1 2]", &["1:4 expected ',' or ']'"]),
        (b"{\"a\" : 1 2}", &["1:10 expected ',' or '}'"]),
        // Columns count bytes, and lines go on from message to message.
        (b"\n\n  x ", &["3:3 invalid keyword 'x'"]),
        (b"{\"a\":1,}", &["1:8 expecting key"]),
        (b"{\"a\":1,\n\n ,}", &["3:2 expecting key"]),
        (b"{\"a\"\n:\t}", &["2:3 expecting value"]),
        (b"{\"a\":\"b\n", &["1:6 stray '\"b\n'"]),
        (
            b"{\"a\":\"\\q\"}",
            &["1:6 invalid escape sequence in string"],
        ),
        (b"{\"a\":1,\"a\":2}", &["1:12 duplicate key"]),
        (b"{\"a\":1,\"a\":\n[1, 2\n ]}", &["3:2 duplicate key"]),
        (b"[[[\xff", &["1:4 stray '\u{fffd}'"]),
        (
            b"{\"execute\":\"guest-ping\"}\n}",
            &[PING, "2:1 expecting value"],
        ),
        (b"{}}", &["{}", "1:3 expecting value"]),
        (
            b"{\"\xc3\xa9\" : '\\' \\\\' 1}",
            &["1:17 expected ',' or '}'"],
        ),
        (b"{}\r\r\n\r]", &["{}", "2:2 expecting value"]),
        // The column is one too high behind a number, a keyword or garbage.
        (b"[1}", &["1:4 expected ',' or ']'"]),
        (b"[1 }", &["1:4 expected ',' or ']'"]),
        (b"[1\n}", &["2:1 expected ',' or ']'"]),
        (b"[true{}]", &["1:7 expected ',' or ']'"]),
        (b"[1\"abc\x01", &["1:4 stray '\"abc\u{1}'"]),
        (b"[\"1\"}", &["1:5 expected ',' or ']'"]),
        (b"5]", &["no object", "1:3 expecting value"]),
        (
            b"\xff]]",
            &[
                "1:1 stray '\u{fffd}'",
                "1:3 expecting value",
                "1:3 expecting value",
            ],
        ),
        (b"\x1b[A", &["1:1 stray '\u{1b}'", "1:3 stray 'A'"]),
        (
            b"{\"a\":\"b\n}",
            &["1:6 stray '\"b\n'", "2:2 expecting value"],
        ),
        (b"-\n ]", &["1:1 stray '-\n'", "2:3 expecting value"]),
        // The first error of a message is reported, the rest skipped up to its end or a stray byte.
        (b"[1 2 [3, nope]]{}", &["1:4 expected ',' or ']'", "{}"]),
        (b"[1 2 }{}", &["1:4 expected ',' or ']'", "{}"]),
        (
            b"[1 2 ]]{}",
            &["1:4 expected ',' or ']'", "1:7 expecting value", "{}"],
        ),
        (
            b"[1 2 {]}{}]",
            &["1:4 expected ',' or ']'", "{}", "1:11 expecting value"],
        ),
        (b"{[}]{}", &["1:2 expecting key", "{}"]),
        (b"{[}{}", &["1:2 expecting key"]),
        (
            b"[1 2 \xff]{}",
            &["1:4 expected ',' or ']'", "1:8 expecting value", "{}"],
        ),
        (
            b"[1 2 G]{}",
            &["1:4 expected ',' or ']'", "1:8 expecting value", "{}"],
        ),
        (
            b"{\"a\":nulL}",
            &["1:6 invalid keyword 'nul'", "1:11 expecting value"],
        ),
        (
            b"[nope, \x01]",
            &["1:2 invalid keyword 'nope'", "1:10 expecting value"],
        ),
        (b"{1:2, \"a\":{}, \"a\":[]}{}", &["1:2 expecting key", "{}"]),
        (b"[1 2 \"x]\" ]{}", &["1:4 expected ',' or ']'", "{}"]),
        // Errors are reported before the message ends.
        (b"[1 2 ", &["1:4 expected ',' or ']'"]),
        (b"{\"a\":1,\"a\":[]", &["1:13 duplicate key"]),
        (b"{nope ", &["1:2 expecting key"]),
        // The end of a message.
        (b"]", &["1:1 expecting value"]),
        (b"}", &["1:1 expecting value"]),
        (b",", &["1:1 expecting value"]),
        (b":", &["1:1 expecting value"]),
        (b"[1]", &["no object"]),
        (b"'x'", &["no object"]),
        (b"5", &[]),
        (
            b"5 null true\n-0.5E+1,",
            &[
                "no object",
                "no object",
                "no object",
                "no object",
                "2:9 expecting value",
            ],
        ),
        (b"{]}", &["1:2 expecting key", "1:3 expecting value"]),
        (b"[}]", &["1:2 expecting value", "1:3 expecting value"]),
        (b"[{]}{}", &["1:3 expecting key", "{}"]),
        (b"{\"a\":{}}]", &["{\"a\":{}}", "1:9 expecting value"]),
        (b"'a\"\\'\\\\'\"b'\\\"\"", &["no object", "no object"]),
    ];

    #[test]
    fn replies_are_those_of_qemu_ga() {
        for (stream, expected) in STREAMS {
            assert_eq!(replies(stream), *expected, "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn splitting_a_stream_changes_no_reply() {
        for (stream, expected) in STREAMS {
            for middle in 0..=stream.len() {
                let (start, end) = stream.split_at(middle);
                let empty = stream.get(..0).unwrap();
                assert_eq!(
                    replies_to_pieces([start, empty, end].into_iter()),
                    *expected
                );
            }
            assert_eq!(replies_to_pieces(stream.chunks(1)), *expected);
        }
    }

    /// The phrase of an error event.
    fn phrase_of(event: Event, framer: &Framer<'_>) -> Option<Phrase> {
        (event == Event::Error).then_some(framer.error().phrase)
    }

    #[test]
    fn stores_tokens_without_blanks() {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut store = Heap::default();
        let input = b" [ 1 , 2\t,3 \n,\r\n true,\" x \" ] ";
        let (taken, event) = framer.feed(input, &mut store);
        assert_eq!((taken, event), (input.len() - 1, Event::Message));
        assert_eq!(store.bytes(), b"[1,2,3,true,\" x \"]");
        store.truncate(0);
        for place in [b"".as_slice(), b"["] {
            assert_eq!(framer.feed(place, &mut store).1, Event::NeedMore);
            for _ in 0..1000 {
                assert_eq!(framer.feed(&[b' '; 1000], &mut store).1, Event::NeedMore);
            }
            assert_eq!(store.bytes(), place);
        }
        let (_, event) = framer.feed(b"}", &mut store);
        assert_eq!(
            reply_to(event, &framer, store.bytes()),
            "3:2000015 expecting value"
        );
    }

    #[test]
    fn line_feed_behind_a_message_is_read_with_it() {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut store = Heap::default();
        let (taken, event) = framer.feed(b"{}\n\n]", &mut store);
        assert_eq!((taken, event), (3, Event::Message));
        assert_eq!(store.bytes(), b"{}");
        store.truncate(0);
        let (taken, event) = framer.feed(b"\n]", &mut store);
        assert_eq!(taken, 2);
        assert_eq!(
            reply_to(event, &framer, store.bytes()),
            "3:1 expecting value"
        );
    }

    #[test]
    fn stores_nothing_after_an_error() {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut store = Heap::default();
        let (taken, event) = framer.feed(b"[1 2, 'abc', [[], {}]]{}", &mut store);
        assert_eq!(
            (taken, phrase_of(event, &framer)),
            (4, Some(Phrase::ExpectedInArray))
        );
        store.truncate(0);
        let (taken, event) = framer.feed(b", 'abc', [[], {}]]{}", &mut store);
        assert_eq!((taken, event), (20, Event::Message));
        assert_eq!(store.bytes(), b"{}");
    }

    #[test]
    fn shows_a_stray_byte_with_its_token_only() {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut store = Heap::default();
        let (taken, event) = framer.feed(b"{\"key\" : 1.x}", &mut store);
        assert_eq!(
            (taken, phrase_of(event, &framer)),
            (12, Some(Phrase::Stray))
        );
        assert_eq!(reply_to(event, &framer, store.bytes()), "1:10 stray '1.x'");
    }

    #[test]
    fn full_store_is_reported_at_the_end_of_the_token() {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut store = heapless::Vec::<u8, 8>::new();
        let input = b"{'abcdefghijkl':1}{}";
        let mut rest = input.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (taken, event) = framer.feed(&rest[..1], &mut store);
            rest = &rest[taken..];
            if event != Event::NeedMore {
                events.push((input.len() - rest.len(), phrase_of(event, &framer)));
                ByteSink::truncate(&mut store, 0);
            }
        }
        assert_eq!(events, [(15, Some(Phrase::TokenSizeLimit)), (20, None)]);
    }

    #[test]
    fn stray_byte_in_a_full_store_is_reported_as_size_limit() {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut store = heapless::Vec::<u8, 8>::new();
        assert_eq!(framer.feed(b"'123456789", &mut store).1, Event::NeedMore);
        let (taken, event) = framer.feed(b"\n}", &mut store);
        assert_eq!(
            (taken, phrase_of(event, &framer)),
            (1, Some(Phrase::TokenSizeLimit))
        );
        let (_, event) = framer.feed(b"X}", &mut store);
        assert_eq!(
            reply_to(event, &framer, ByteSink::bytes(&store)),
            "2:3 expecting value"
        );
    }

    #[test]
    fn reset_drops_the_incomplete_message_and_the_line_count() {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut store = Heap::default();
        for half in [b"\n\n[[ \n{\"a".as_slice(), b"\n[1", b"\n[1 2", b"\xff"] {
            framer.feed(half, &mut store);
            framer.reset();
            store.truncate(0);
            assert_eq!(framer.feed(b" {}", &mut store), (3, Event::Message));
            assert_eq!(store.bytes(), b"{}");
            store.truncate(0);
            let (_, event) = framer.feed(b"]", &mut store);
            assert_eq!(
                reply_to(event, &framer, store.bytes()),
                "1:4 expecting value"
            );
            store.truncate(0);
        }
    }

    #[test]
    fn limits_nesting() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth], b"{}".to_vec()].concat();
        const LIMIT: &str = "JSON nesting depth limit exceeded";
        assert_eq!(replies(&nested(REQUEST_DEPTH)), ["no object", "{}"]);
        assert_eq!(replies(&nested(REQUEST_DEPTH + 1)), [LIMIT, "{}"]);
        assert_eq!(replies(&nested(REQUEST_DEPTH + 6)), [LIMIT, "{}"]);
        // The limit comes before another error at the same bracket.
        let deepest = [b"[".repeat(REQUEST_DEPTH), b"1[".to_vec()].concat();
        assert_eq!(replies(&deepest), [LIMIT]);
    }

    #[test]
    fn limits_the_number_of_tokens() {
        const LIMIT: &str = "JSON token count limit exceeded";
        let list =
            |commas, end: &[u8]| replies(&[b"[1".as_slice(), &b",1".repeat(commas), end].concat());
        let most = REQUEST_TOKENS / 2 - 1;
        assert_eq!(list(most - 1, b"]{}"), ["no object", "{}"]);
        assert_eq!(list(most, b"]{}"), [LIMIT, "{}"]);
        assert_eq!(list(most, b", [], 3 4]{}"), [LIMIT, "{}"]);
    }

    /// Feeds `start`, then pretends that the message has grown to `missing` bytes less than one
    /// more than a token may have, then feeds `end`. Returns how many bytes of `end` were read up
    /// to the first event, and the replies to all events.
    fn feed_long(start: &[u8], missing: usize, end: &[u8]) -> (usize, Vec<String>) {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut store = Heap::default();
        assert_eq!(framer.feed(start, &mut store).1, Event::NeedMore);
        let grown = (TOKEN_BYTES + 1 - missing).wrapping_add(framer.start);
        framer.start = framer.start.wrapping_sub(grown);
        framer.token_start = framer.token_start.wrapping_sub(grown);
        let (taken, mut event) = framer.feed(end, &mut store);
        let mut rest = &end[taken..];
        let mut replies = Vec::new();
        while event != Event::NeedMore {
            replies.push(reply_to(event, &framer, store.bytes()));
            store.truncate(0);
            let (taken, next) = framer.feed(rest, &mut store);
            (rest, event) = (&rest[taken..], next);
        }
        (taken, replies)
    }

    #[test]
    fn limits_the_size_of_a_message() {
        const WHOLE: &str = "no object";
        const LIMIT: &str = "JSON token size limit exceeded";
        for (start, missing, end, taken, replies) in [
            (b"'".as_slice(), 3, b"'".as_slice(), 1, [WHOLE].as_slice()),
            (b"'", 2, b"'", 1, &[LIMIT]),
            (b"'", 1, b"'", 1, &[LIMIT]),
            (b"'", 3, b"xyz", 3, &[LIMIT]),
            (b"['", 4, b"']", 2, &[WHOLE]),
            (b"['", 3, b"']{}", 2, &[LIMIT, "{}"]),
            (b"['", 2, b"',1, nope, []]{}", 1, &[LIMIT, "{}"]),
            (b"1", 2, b" ", 0, &[WHOLE]),
            (b"1", 2, b"1 ", 1, &[LIMIT]),
            (b"1", 2, b"11 ", 2, &[LIMIT]),
            // Stray, but too long to be shown.
            (b"'", 1, b"\n", 1, &[LIMIT]),
            // The rest of a token that is too long is another token, of the same message if a
            // container is open.
            (b"'", 1, b"x{}", 1, &[LIMIT, "{}"]),
            (b"['", 2, b"xxx{}]{}'", 3, &[LIMIT, "{}"]),
            (b"['", 2, b"xxx'{}]{}'{}]", 3, &[LIMIT]),
        ] {
            let replies = replies.iter().map(|line| line.to_string()).collect();
            let case = (start.escape_ascii(), missing, end.escape_ascii());
            assert_eq!(feed_long(start, missing, end), (taken, replies), "{case:?}");
        }
    }

    #[test]
    fn splitting_random_bytes_changes_no_reply() {
        let atoms: [&[u8]; 32] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b",",
            b"\"",
            b"'",
            b" ",
            b"\n",
            b"\\",
            b"\\u",
            b"\"a\"",
            b"1",
            b"0",
            b"-",
            b".",
            b"e",
            b"true",
            b"nope",
            b"\"b\":",
            b"\xff",
            b"\0",
            b"\x7f",
            b"\xc3\xa9",
            b"\xed\xa0\x80",
            b"\\ud83d",
            b"\\ude00",
            b"{}",
            b"9223372036854775808",
            b"G",
            b"\t",
        ];
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 33).unwrap()
        };
        for _ in 0..3000 {
            let mut stream = Vec::new();
            for _ in 0..next() % 12 {
                match next() % 8 {
                    0 => stream.push(next().to_le_bytes()[0]),
                    _ => stream.extend_from_slice(atoms[next() % atoms.len()]),
                }
            }
            let whole = replies(&stream);
            assert_eq!(
                replies_to_pieces(stream.chunks(1)),
                whole,
                "{}",
                stream.escape_ascii()
            );
            assert_eq!(replies_to_pieces(stream.chunks(1 + next() % 5)), whole);
        }
    }
}
