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

use super::check::{Checker, Kind, Open, stray};
use super::json::TokenError;
use super::lex::{Scalar, ScalarStep, plain_end, slice};
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
pub struct Framer<'m> {
    state: State,
    /// Whether the string being read is ASCII without escapes so far.
    is_plain: bool,
    /// Set once an error in this message was reported: the rest of it is skipped.
    skipping: Option<Unclosed>,
    /// Complete tokens of this message.
    tokens: usize,
    /// Bytes of the tokens of this message, complete or not. [`BEYOND`] is added once the store is
    /// full.
    bytes: usize,
    /// The value of `bytes` at the beginning of the latest token.
    token_start: usize,
    /// The line being read.
    line: usize,
    // Offsets are into all input since the framer was made, and may wrap around.
    /// Offset of the first byte of the line.
    line_start: usize,
    /// Offset of the first byte of the current input.
    input_start: usize,
    /// Offset of the latest byte that ended a number, a keyword or skipped garbage, and was then
    /// read once more as the beginning of a token.
    read_again: usize,
    checker: Checker<'m>,
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
            bytes: 0,
            token_start: 0,
            line: 1,
            line_start: 0,
            input_start: 0,
            read_again: usize::MAX,
            checker: Checker::new(open),
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

    /// Starts over for another client: drops an incomplete message and counts lines from 1. The
    /// caller empties the store.
    pub fn reset(&mut self) {
        self.end_message();
        self.line = 1;
        self.line_start = self.input_start;
        self.read_again = usize::MAX;
    }

    /// Reads bytes from `input`. Returns how many, and the event that they lead to. A line feed right
    /// behind a message is read with it, which saves most clients another call.
    ///
    /// After [`Event::Message`] or [`Event::Error`] the caller handles the event, empties the store
    /// and calls again with the rest of the input, which may be all of it.
    // Not inlined into its only caller: that takes 250 bytes more.
    #[inline(never)]
    pub fn feed(&mut self, input: &[u8], store: &mut dyn ByteSink) -> (usize, Event) {
        let mut input = Input {
            bytes: input,
            at: 0,
            kept: 0,
        };
        let event = loop {
            let Some(step) = self.read(&mut input) else {
                self.keep(input.at, &mut input, store);
                break Event::NeedMore;
            };
            let event = match step {
                Step::More => continue,
                Step::Blank(byte) => {
                    self.keep(input.at.wrapping_sub(1), &mut input, store);
                    input.skip();
                    self.count_line(byte, &input);
                    continue;
                }
                Step::Token(kind) => {
                    let event = self.end_token(kind, &mut input, store);
                    if kind == Kind::Scalar {
                        // The byte behind it has ended it.
                        self.read_again = self.input_start.wrapping_add(input.at);
                    }
                    event
                }
                Step::TooLong => {
                    let error = TokenError::new(Phrase::TokenSizeLimit);
                    let event = self.report(error, &mut input, store);
                    self.end_if_over();
                    event
                }
                Step::Stray(byte) => self.stray(byte, &mut input, store),
            };
            if event != Event::NeedMore {
                break event;
            }
        };
        if event == Event::Message && input.bytes.get(input.at) == Some(&b'\n') {
            input.at = input.at.wrapping_add(1);
            self.count_line(b'\n', &input);
        }
        self.input_start = self.input_start.wrapping_add(input.at);
        (input.at, event)
    }

    /// Reads the next byte, or the next few; `None` at the end of the input.
    // Inlined into its only caller, the loop over all bytes.
    #[inline(always)]
    fn read(&mut self, input: &mut Input<'_>) -> Option<Step> {
        if let State::String(quote) = self.state {
            self.add_plain_run(quote, input);
        }
        let from = input.at;
        let byte = *input.bytes.get(from)?;
        input.at = from.wrapping_add(1);
        Some(match self.state {
            State::Between => self.begin_token(byte, input),
            State::Recovery => {
                if matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b',')
                    || !matches!(byte, b'\t' | 0x20..0xfe)
                {
                    self.state = State::Between;
                    input.at = from;
                    self.read_again = self.input_start.wrapping_add(from);
                }
                input.skip();
                Step::More
            }
            State::String(quote) if byte == quote => {
                self.bytes = self.bytes.wrapping_add(1);
                Step::Token(Kind::String)
            }
            State::String(_) | State::Escape(_) if !matches!(byte, 0x20..0xfe) => Step::Stray(byte),
            State::String(quote) => {
                self.is_plain = false;
                self.add_byte(match byte {
                    b'\\' => State::Escape(quote),
                    _ => State::String(quote),
                })
            }
            State::Escape(quote) => self.add_byte(State::String(quote)),
            State::Scalar(scalar) => match scalar.step(byte) {
                ScalarStep::Take(scalar) => self.add_byte(State::Scalar(scalar)),
                ScalarStep::End => {
                    input.at = from;
                    Step::Token(Kind::Scalar)
                }
                ScalarStep::Stray => Step::Stray(byte),
            },
        })
    }

    /// Begins a token with `byte`, which is the one before `input.at`. Reads brackets, separators
    /// and short plain strings to their end.
    // Inlined into its only caller, the loop over all bytes.
    #[inline(always)]
    fn begin_token(&mut self, byte: u8, input: &mut Input<'_>) -> Step {
        self.token_start = self.bytes;
        let kind = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => return Step::Blank(byte),
            b'"' | b'\'' => {
                self.is_plain = true;
                let end = plain_end(input.bytes, input.at, byte);
                let run = end.wrapping_sub(input.at);
                if run >= REQUEST_BYTES || input.bytes.get(end) != Some(&byte) {
                    return self.add_byte(State::String(byte));
                }
                // The input has all of the string. Most strings are short and plain.
                input.at = end.wrapping_add(1);
                self.bytes = self.bytes.wrapping_add(run).wrapping_add(1);
                Kind::String
            }
            b'{' => Kind::BeginObject,
            b'}' => Kind::EndObject,
            b'[' => Kind::BeginArray,
            b']' => Kind::EndArray,
            b':' => Kind::Colon,
            b',' => Kind::Comma,
            _ => {
                return match Scalar::begin(byte) {
                    Some(scalar) => self.add_byte(State::Scalar(scalar)),
                    None => Step::Stray(byte),
                };
            }
        };
        self.bytes = self.bytes.wrapping_add(1);
        Step::Token(kind)
    }

    /// Adds the plain bytes at `input.at` to the string that ends with `quote`.
    fn add_plain_run(&mut self, quote: u8, input: &mut Input<'_>) {
        let end = plain_end(input.bytes, input.at, quote);
        let run = end.wrapping_sub(input.at).min(self.room());
        self.bytes = self.bytes.wrapping_add(run);
        input.at = input.at.wrapping_add(run);
    }

    /// Adds a byte to the token and goes on in `state`.
    fn add_byte(&mut self, state: State) -> Step {
        self.state = state;
        self.bytes = self.bytes.wrapping_add(1);
        if self.token_len() <= TOKEN_BYTES {
            return Step::More;
        }
        self.state = State::Between;
        Step::TooLong
    }

    /// The number of bytes that the token may still grow by.
    fn room(&self) -> usize {
        TOKEN_BYTES.saturating_sub(self.token_len())
    }

    fn token_len(&self) -> usize {
        self.bytes.wrapping_sub(self.token_start)
    }

    /// Ends a token right before `input.at`, and the message as well if no container is open.
    // Inlined into its only caller, the loop over all bytes.
    #[inline(always)]
    fn end_token(&mut self, kind: Kind, input: &mut Input<'_>, store: &mut dyn ByteSink) -> Event {
        self.state = State::Between;
        self.tokens = self.tokens.wrapping_add(1);
        let mut event = Event::NeedMore;
        if self.skipping.is_none() {
            let mut checked = self.check_token(kind, input, store);
            if checked.is_ok() {
                if self.checker.is_open() {
                    return Event::NeedMore;
                }
                self.keep(input.at, input, store);
                checked = self.check_size();
            }
            let Err(error) = checked else {
                self.end_message();
                return Event::Message;
            };
            event = self.report(error, input, store);
        }
        if let Some(unclosed) = &mut self.skipping {
            unclosed.count(kind);
        }
        input.skip();
        self.end_if_over();
        event
    }

    /// Ends the message that is skipped if no container is open.
    fn end_if_over(&mut self) {
        if self.skipping.is_some_and(Unclosed::is_over) {
            self.end_message();
        }
    }

    /// Checks the token right before `input.at`.
    fn check_token(
        &mut self,
        kind: Kind,
        input: &mut Input<'_>,
        store: &mut dyn ByteSink,
    ) -> Result<(), TokenError> {
        let mut text: &[u8] = b"";
        if let Kind::String | Kind::Scalar = kind {
            let len = self.token_len();
            let mut end = input.at;
            text = input.bytes;
            if len > end.wrapping_sub(input.kept) {
                // The token began in an earlier input: completes it in the store.
                self.keep(end, input, store);
                text = store.bytes();
                end = text.len();
            }
            text = slice(text, end.wrapping_sub(len), end);
        }
        self.check_size()?;
        if self.tokens > REQUEST_TOKENS {
            return Err(TokenError::new(Phrase::TokenLimit));
        }
        self.checker.token(kind, text, self.is_plain)
    }

    fn check_size(&self) -> Result<(), TokenError> {
        if self.bytes > REQUEST_BYTES {
            return Err(TokenError::new(Phrase::TokenSizeLimit));
        }
        Ok(())
    }

    /// Reports `byte`, which no token can contain here, and ends the message with it.
    fn stray(&mut self, byte: u8, input: &mut Input<'_>, store: &mut dyn ByteSink) -> Event {
        self.bytes = self.bytes.wrapping_add(1);
        self.keep(input.at, input, store);
        let text = store.bytes();
        let start = text.len().saturating_sub(self.token_len());
        let token = text.get(start..).unwrap_or_default();
        // qemu-ga ends the text of the error at a NUL. Only the last byte can be one.
        let error = stray(token.strip_suffix(b"\0").unwrap_or(token));
        let event = self.report(error, input, store);
        self.count_line(byte, input);
        self.end_message();
        self.state = State::Recovery;
        event
    }

    /// Reports an error in the token right before `input.at`, unless an error in this message was
    /// reported before. The rest of the message is skipped.
    fn report(
        &mut self,
        error: TokenError,
        input: &mut Input<'_>,
        store: &mut dyn ByteSink,
    ) -> Event {
        // The error shows bytes of the store.
        self.keep(input.at, input, store);
        if self.skipping.is_some() {
            return Event::NeedMore;
        }
        let [objects, arrays] = self.checker.open_containers();
        self.skipping = Some(Unclosed { objects, arrays });
        let error = self.check_size().err().unwrap_or(error);
        let len = self.token_len();
        let start = store.bytes().len().saturating_sub(len);
        let number = self.input_start.wrapping_add(input.at).wrapping_sub(len);
        let before = number.wrapping_sub(self.line_start);
        self.error = Error {
            phrase: error.phrase,
            from: start.wrapping_add(error.shown.start),
            to: start.wrapping_add(error.shown.end),
            position: Position {
                line: self.line,
                column: before.wrapping_add(if number == self.read_again { 2 } else { 1 }),
            },
        };
        Event::Error
    }

    /// Prepares for the next message.
    fn end_message(&mut self) {
        self.state = State::Between;
        self.skipping = None;
        self.tokens = 0;
        self.bytes = 0;
        self.token_start = 0;
        self.checker.reset();
    }

    /// Counts a line if `byte`, the one before `input.at`, ends it.
    fn count_line(&mut self, byte: u8, input: &Input<'_>) {
        if byte == b'\n' {
            self.line = self.line.wrapping_add(1);
            self.line_start = self.input_start.wrapping_add(input.at);
        }
    }

    /// Stores the input up to `end`, except bytes that were stored or skipped before. Stores
    /// nothing once an error was reported or the message is too large.
    fn keep(&mut self, end: usize, input: &mut Input<'_>, store: &mut dyn ByteSink) {
        if input.kept == end {
            return;
        }
        let text = slice(input.bytes, input.kept, end);
        input.kept = end;
        if self.skipping.is_none() && self.bytes <= REQUEST_BYTES && store.append(text).is_err() {
            self.bytes = self.bytes.wrapping_add(BEYOND);
            self.token_start = self.token_start.wrapping_add(BEYOND);
        }
    }
}

/// The input of one call of [`Framer::feed`].
struct Input<'i> {
    bytes: &'i [u8],
    /// The next byte to read.
    at: usize,
    /// The first byte that was neither stored nor skipped.
    kept: usize,
}

impl Input<'_> {
    /// Skips the bytes read so far: they are not stored.
    fn skip(&mut self) {
        self.kept = self.at;
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
            Event::Message if Json::of_message(text).kind() == JsonType::Object => {
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
        framer.bytes = TOKEN_BYTES + 1 - missing;
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
