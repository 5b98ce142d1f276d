//! Bytes to messages: finds where one request ends and the next begins, and what is wrong with one.
//!
//! The dialect, the recovery after a byte that fits nowhere, the limits and the positions are those
//! of qemu-ga 11.1, found by asking it, byte for byte. No I/O and no command names.
//!
//! A message is checked token by token (`wire::check`). The first error is reported where it is
//! found, and the rest of the message is skipped: up to where its brackets are balanced, or up to a
//! stray byte, which is then not reported. The store gets the text of tokens only, without the blanks
//! between them.
//!
//! Errors name the line and the column where their token begins. Lines are counted by line feeds,
//! columns by bytes. As in qemu-ga, a token has one column more where its first byte also ended
//! what precedes it: a number, a keyword, or skipped garbage.
//!
//! Differences from qemu-ga:
//! - Lines are counted for each client. qemu-ga counts on from one client to the next, whose line 1 it
//!   then calls by another number.
//! - A token that is both stray and too long to hold is reported as too long.
//! - A store that cannot grow is a limit like any other: the token that did not fit is too long.
//! - What follows a token that was given up as too long has a position of its own; with qemu-ga, that
//!   of the token given up.

use super::check::{Checker, Open, stray};
use super::json::Wrong;
use super::lex::{Scalar, Step, between, plain_end};
use crate::base::limits::{REQUEST_BYTES, REQUEST_DEPTH, REQUEST_TOKENS};
use crate::base::store::Store;
use crate::base::texts::Phrase;
use static_assertions::const_assert;

/// A token this long that still goes on is given up where it stands, and what follows is read as
/// another. One more than a message may have, as in qemu-ga.
const TOKEN_BYTES: usize = REQUEST_BYTES + 1;

/// [`REQUEST_DEPTH`] as the balances are counted.
const DEPTH: i32 = 1024;

const_assert!(DEPTH as usize == REQUEST_DEPTH);

/// What came of feeding bytes to a [`Framer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All input was taken; the message is not complete.
    NeedMore,
    /// The store holds one whole top-level value.
    Message,
    /// The message is no JSON, or too large: [`Framer::error`] says why.
    Error,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What the client is told.
    pub what: Phrase,
    /// What is shown in that: `store.bytes()[from..to]`.
    pub from: usize,
    /// See `from`.
    pub to: usize,
    /// Where the token begins that is wrong.
    pub position: Position,
}

/// Where a token begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// Where in a token the next byte falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    /// After a stray byte: everything is dropped up to a byte that may begin something.
    Recovery,
    /// In a string that this quote ends.
    String(u8),
    Escape(u8),
    Scalar(Scalar),
}

/// Splits a byte stream into messages. Holds no bytes itself.
pub struct Framer<'m> {
    state: State,
    /// Whether an error in this message was reported.
    wrong: bool,
    /// Whether the string being read is ASCII without escapes so far.
    plain: bool,
    /// Objects open; negative if one was closed that was not.
    objects: i32,
    /// Arrays open, likewise.
    arrays: i32,
    /// Complete tokens of this message.
    tokens: usize,
    /// Bytes of the tokens of this message, complete or not; [`BEYOND`] more once the store did not
    /// take some of them.
    bytes: usize,
    /// What `bytes` was where the latest token begins.
    token_start: usize,
    /// The line being read.
    line: usize,
    /// Offset of its first byte in all input since the start. Offsets may wrap around.
    line_start: usize,
    /// Offset of the first byte of the current input.
    input_start: usize,
    /// Number of the latest byte that ended a number, a keyword or skipped garbage, and was then read
    /// for itself.
    read_again: usize,
    checker: Checker<'m>,
    error: Error,
}

/// Lifts a message that the store cannot take above its limit, whatever its size.
const BEYOND: usize = 1 << 30;

const_assert!(BEYOND > REQUEST_BYTES);

impl<'m> Framer<'m> {
    /// A framer before the first byte.
    pub fn new(open: &'m mut Open) -> Self {
        Self {
            state: State::Between,
            wrong: false,
            plain: false,
            objects: 0,
            arrays: 0,
            tokens: 0,
            bytes: 0,
            token_start: 0,
            line: 1,
            line_start: 0,
            input_start: 0,
            read_again: usize::MAX,
            checker: Checker::new(open),
            error: Error {
                what: Phrase::ExpectingValue,
                from: 0,
                to: 0,
                position: Position { line: 1, column: 1 },
            },
        }
    }

    /// What the latest [`Event::Error`] was about.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Forgets a half message and counts lines from 1: what follows is another client's. The caller cuts
    /// the store back to nothing.
    pub fn reset(&mut self) {
        self.end_message();
        self.line = 1;
        self.line_start = self.input_start;
        self.read_again = usize::MAX;
    }

    /// Takes bytes from `input`; says how many, and what came of it.
    ///
    /// After any event but [`Event::NeedMore`] the caller handles it, cuts the store back to nothing
    /// and calls again with the rest, which may be all of `input`.
    // Not inlined: in a function of its own short instructions reach all of the framer.
    #[inline(never)]
    pub fn feed(&mut self, input: &[u8], store: &mut dyn Store) -> (usize, Event) {
        let mut input = Input {
            bytes: input,
            at: 0,
            kept: 0,
        };
        let event = loop {
            if let State::String(quote) = self.state {
                let end = plain_end(input.bytes, input.at, quote);
                let run = end.wrapping_sub(input.at).min(self.room());
                self.bytes = self.bytes.wrapping_add(run);
                input.at = input.at.wrapping_add(run);
            }
            let from = input.at;
            let Some(&byte) = input.bytes.get(from) else {
                self.keep(from, &mut input, store);
                break Event::NeedMore;
            };
            input.at = from.wrapping_add(1);
            let event = match self.state {
                State::Between => match byte {
                    b' ' | b'\t' | b'\n' | b'\r' => {
                        self.keep(from, &mut input, store);
                        input.skip();
                        self.count_line(byte, &input);
                        continue;
                    }
                    _ => self.begin_token(byte, &mut input, store),
                },
                State::Recovery => {
                    if matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b',')
                        || !matches!(byte, b'\t' | 0x20..0xfe)
                    {
                        self.state = State::Between;
                        input.at = from;
                        self.read_again = self.input_start.wrapping_add(from);
                    }
                    input.skip();
                    continue;
                }
                State::String(quote) if byte == quote => {
                    self.bytes = self.bytes.wrapping_add(1);
                    self.end_token(&mut input, store)
                }
                State::String(_) | State::Escape(_) if !matches!(byte, 0x20..0xfe) => {
                    self.stray(byte, &mut input, store)
                }
                State::String(quote) => {
                    self.plain = false;
                    let state = match byte {
                        b'\\' => State::Escape(quote),
                        _ => State::String(quote),
                    };
                    self.go_on(state, &mut input, store)
                }
                State::Escape(quote) => self.go_on(State::String(quote), &mut input, store),
                State::Scalar(scalar) => match scalar.step(byte) {
                    Step::Take(scalar) => self.go_on(State::Scalar(scalar), &mut input, store),
                    Step::Past => {
                        input.at = from;
                        let event = self.end_token(&mut input, store);
                        self.read_again = self.input_start.wrapping_add(from);
                        event
                    }
                    Step::Stray => self.stray(byte, &mut input, store),
                },
            };
            if event != Event::NeedMore {
                break event;
            }
        };
        self.input_start = self.input_start.wrapping_add(input.at);
        (input.at, event)
    }

    /// Begins a token with the byte before `input.at`; takes all of it if that is easy.
    #[inline(always)]
    fn begin_token(&mut self, byte: u8, input: &mut Input<'_>, store: &mut dyn Store) -> Event {
        self.token_start = self.bytes;
        let (objects, arrays) = match byte {
            b'"' | b'\'' => {
                self.plain = true;
                let end = plain_end(input.bytes, input.at, byte);
                let run = end.wrapping_sub(input.at);
                if run < REQUEST_BYTES && input.bytes.get(end) == Some(&byte) {
                    // All of it is here: most strings are short and plain.
                    input.at = end.wrapping_add(1);
                    self.bytes = self.bytes.wrapping_add(run).wrapping_add(2);
                    return self.end_token(input, store);
                }
                return self.go_on(State::String(byte), input, store);
            }
            b'{' => (1, 0),
            b'}' => (-1, 0),
            b'[' => (0, 1),
            b']' => (0, -1),
            b':' | b',' => (0, 0),
            _ => {
                return match Scalar::begin(byte) {
                    Some(scalar) => self.go_on(State::Scalar(scalar), input, store),
                    None => self.stray(byte, input, store),
                };
            }
        };
        self.bytes = self.bytes.wrapping_add(1);
        self.objects = self.objects.wrapping_add(objects);
        self.arrays = self.arrays.wrapping_add(arrays);
        self.end_token(input, store)
    }

    /// Takes a byte into the token; one that grows too long is given up.
    fn go_on(&mut self, state: State, input: &mut Input<'_>, store: &mut dyn Store) -> Event {
        self.state = state;
        self.bytes = self.bytes.wrapping_add(1);
        if self.token_len() <= TOKEN_BYTES {
            return Event::NeedMore;
        }
        self.state = State::Between;
        let event = self.report(Wrong::token(Phrase::TokenSizeLimit), input, store);
        if self.open() <= 0 {
            self.end_message();
        }
        event
    }

    /// How many bytes longer the token may grow without being given up.
    fn room(&self) -> usize {
        TOKEN_BYTES.saturating_sub(self.token_len())
    }

    fn token_len(&self) -> usize {
        self.bytes.wrapping_sub(self.token_start)
    }

    /// How many containers of the message are open; after its last token, none or less.
    fn open(&self) -> i32 {
        match self.objects | self.arrays {
            // One was closed that was not open.
            ..0 => -1,
            _ => self.objects.wrapping_add(self.arrays),
        }
    }

    /// Ends a token right before `input.at`, and with it the message if nothing is open any more.
    fn end_token(&mut self, input: &mut Input<'_>, store: &mut dyn Store) -> Event {
        self.state = State::Between;
        self.tokens = self.tokens.wrapping_add(1);
        let open = self.open();
        let mut event = Event::NeedMore;
        if !self.wrong {
            let mut checked = self.check_token(open, input, store);
            if open <= 0 && checked.is_ok() {
                self.keep(input.at, input, store);
                checked = self.check_size();
                event = Event::Message;
            }
            if let Err(wrong) = checked {
                event = self.report(wrong, input, store);
            }
        }
        if open <= 0 {
            input.skip();
            self.end_message();
        }
        event
    }

    /// Checks the token right before `input.at`, with which so many containers are open.
    fn check_token(
        &mut self,
        open: i32,
        input: &mut Input<'_>,
        store: &mut dyn Store,
    ) -> Result<(), Wrong> {
        let len = self.token_len();
        let in_input = len <= input.at.wrapping_sub(input.kept);
        if !in_input {
            // It began in an earlier input.
            self.keep(input.at, input, store);
        }
        self.check_size()?;
        if self.tokens > REQUEST_TOKENS {
            return Err(Wrong::token(Phrase::TokenLimit));
        }
        if open > DEPTH {
            return Err(Wrong::token(Phrase::NestingLimit));
        }
        let (text, end) = match in_input {
            true => (input.bytes, input.at),
            false => (store.bytes(), store.bytes().len()),
        };
        let token = text.get(end.wrapping_sub(len)..end).unwrap_or_default();
        self.checker.token(token, self.plain)
    }

    fn check_size(&self) -> Result<(), Wrong> {
        if self.bytes > REQUEST_BYTES {
            return Err(Wrong::token(Phrase::TokenSizeLimit));
        }
        Ok(())
    }

    /// Ends the message at its last byte, which fits nowhere.
    fn stray(&mut self, byte: u8, input: &mut Input<'_>, store: &mut dyn Store) -> Event {
        self.bytes = self.bytes.wrapping_add(1);
        self.keep(input.at, input, store);
        let text = store.bytes();
        let start = text.len().saturating_sub(self.token_len());
        let token = text.get(start..).unwrap_or_default();
        // qemu-ga ends its text at a NUL, which only the last byte can be.
        let wrong = stray(token.strip_suffix(b"\0").unwrap_or(token));
        let event = self.report(wrong, input, store);
        self.count_line(byte, input);
        self.end_message();
        self.state = State::Recovery;
        event
    }

    /// Reports what is wrong with the token right before `input.at`, unless an error of this message
    /// was reported before.
    fn report(&mut self, wrong: Wrong, input: &mut Input<'_>, store: &mut dyn Store) -> Event {
        // What is shown has to be in the store.
        self.keep(input.at, input, store);
        if self.wrong {
            return Event::NeedMore;
        }
        let wrong = self.check_size().err().unwrap_or(wrong);
        self.wrong = true;
        let len = self.token_len();
        let start = store.bytes().len().saturating_sub(len);
        let number = self.input_start.wrapping_add(input.at).wrapping_sub(len);
        let before = number.wrapping_sub(self.line_start);
        self.error = Error {
            what: wrong.what,
            from: start.wrapping_add(wrong.shown.start),
            to: start.wrapping_add(wrong.shown.end),
            position: Position {
                line: self.line,
                column: before.wrapping_add(if number == self.read_again { 2 } else { 1 }),
            },
        };
        Event::Error
    }

    /// Is ready for the next message.
    fn end_message(&mut self) {
        self.state = State::Between;
        self.wrong = false;
        self.objects = 0;
        self.arrays = 0;
        self.tokens = 0;
        self.bytes = 0;
        self.token_start = 0;
        self.checker.reset();
    }

    /// Counts a line if `byte`, which was just taken, ends one.
    fn count_line(&mut self, byte: u8, input: &Input<'_>) {
        if byte == b'\n' {
            self.line = self.line.wrapping_add(1);
            self.line_start = self.input_start.wrapping_add(input.at);
        }
    }

    /// Stores what of the input was not yet, up to `end`, unless what the message has so far is wrong or
    /// too much already.
    fn keep(&mut self, end: usize, input: &mut Input<'_>, store: &mut dyn Store) {
        if input.kept == end {
            return;
        }
        let text = between(input.bytes, input.kept, end);
        input.kept = end;
        if !self.wrong && self.bytes <= REQUEST_BYTES && store.append(text).is_err() {
            self.bytes = self.bytes.wrapping_add(BEYOND);
            self.token_start = self.token_start.wrapping_add(BEYOND);
        }
    }
}

/// Bytes being fed.
struct Input<'i> {
    bytes: &'i [u8],
    /// The next byte to look at.
    at: usize,
    /// The first byte that is neither stored nor dropped.
    kept: usize,
}

impl Input<'_> {
    /// Does not store what was looked at.
    fn skip(&mut self) {
        self.kept = self.at;
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::{Json, Kind};
    use super::super::receive::words;
    use super::*;
    use crate::base::store::testing::Heap;

    /// What a client would be told, a line an event; a good object as it is stored.
    fn tell(event: Event, framer: &Framer<'_>, text: &[u8]) -> String {
        match event {
            Event::NeedMore => unreachable!(),
            Event::Message if Json::of_message(text).kind() == Kind::Object => {
                String::from_utf8_lossy(text).into()
            }
            Event::Message => "no object".into(),
            Event::Error => words(framer.error(), text),
        }
    }

    /// Feeds `pieces` one after the other, with checks of what `feed` promises.
    fn told_in_pieces<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<String> {
        let mut keys = Open::new();
        let mut framer = Framer::new(&mut keys);
        let mut store = Heap::default();
        let mut told = Vec::new();
        for piece in pieces {
            let mut rest = piece;
            loop {
                let (taken, event) = framer.feed(rest, &mut store);
                rest = &rest[taken..];
                if event == Event::NeedMore {
                    assert!(rest.is_empty());
                    break;
                }
                told.push(tell(event, &framer, store.bytes()));
                store.truncate(0);
            }
        }
        told
    }

    fn told(stream: &[u8]) -> Vec<String> {
        told_in_pieces([stream].into_iter())
    }

    const PING: &str = r#"{"execute":"guest-ping"}"#;

    /// Streams, and what comes of them.
    const STREAMS: &[(&[u8], &[&str])] = &[
        (b"", &[]),
        (b" \t\r\n\n\r", &[]),
        (br#"{"execute":"guest-ping"}"#, &[PING]),
        (b" { \"execute\" :\r\n\t\"guest-ping\" } ", &[PING]),
        (
            br#"{"execute":"guest-ping"}{"execute":"guest-ping"}"#,
            &[PING, PING],
        ),
        // 0xFF resynchronises wherever it stands.
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
        // Control bytes; a NUL is not shown.
        (b"{}\0{}", &["{}", "1:3 stray ''", "{}"]),
        (b"\"ab\0{}", &["1:1 stray '\"ab'", "{}"]),
        (b"\x1b", &["1:1 stray '\u{1b}'"]),
        (b"\"a\tb\"\n{}", &["1:1 stray '\"a\t'", "{}"]),
        (b"'a\nb'\n{}", &["1:1 stray ''a\n'", "{}"]),
        (b"\"\x7f\"\x7f", &["no object", "1:4 stray '\u{7f}'"]),
        // Garbage is skipped up to a bracket, a separator or a control byte, but for TAB and DEL.
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
        // Where the stray byte goes.
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
        // Lines and columns: of bytes, and on over all messages.
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
        // One more behind what has no end of its own.
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
        // Only the first error of a message is told; up to its end, or a stray byte, the rest is skipped.
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
        // At once, whether the message ends or not.
        (b"[1 2 ", &["1:4 expected ',' or ']'"]),
        (b"{\"a\":1,\"a\":[]", &["1:13 duplicate key"]),
        (b"{nope ", &["1:2 expecting key"]),
        // Where a message ends.
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
    fn streams_give_the_replies_that_the_reference_gives() {
        for (stream, expected) in STREAMS {
            assert_eq!(told(stream), *expected, "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn where_a_stream_is_split_makes_no_difference() {
        for (stream, expected) in STREAMS {
            for middle in 0..=stream.len() {
                let (start, end) = stream.split_at(middle);
                let empty = stream.get(..0).unwrap();
                assert_eq!(told_in_pieces([start, empty, end].into_iter()), *expected);
            }
            assert_eq!(told_in_pieces(stream.chunks(1)), *expected);
        }
    }

    /// What is wrong, without the rest of an error.
    fn what(event: Event, framer: &Framer<'_>) -> Option<Phrase> {
        (event == Event::Error).then_some(framer.error().what)
    }

    #[test]
    fn the_store_holds_tokens_and_no_blanks() {
        let mut keys = Open::new();
        let mut framer = Framer::new(&mut keys);
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
            tell(event, &framer, store.bytes()),
            "3:2000015 expecting value"
        );
    }

    #[test]
    fn what_is_wrong_is_not_stored() {
        let mut keys = Open::new();
        let mut framer = Framer::new(&mut keys);
        let mut store = Heap::default();
        let (taken, event) = framer.feed(b"[1 2, 'abc', [[], {}]]{}", &mut store);
        assert_eq!(
            (taken, what(event, &framer)),
            (4, Some(Phrase::ExpectedInArray))
        );
        store.truncate(0);
        let (taken, event) = framer.feed(b", 'abc', [[], {}]]{}", &mut store);
        assert_eq!((taken, event), (20, Event::Message));
        assert_eq!(store.bytes(), b"{}");
    }

    #[test]
    fn a_stray_byte_is_shown_with_its_token_alone() {
        let mut keys = Open::new();
        let mut framer = Framer::new(&mut keys);
        let mut store = Heap::default();
        let (taken, event) = framer.feed(b"{\"key\" : 1.x}", &mut store);
        assert_eq!((taken, what(event, &framer)), (12, Some(Phrase::Stray)));
        assert_eq!(tell(event, &framer, store.bytes()), "1:10 stray '1.x'");
    }

    #[test]
    fn a_full_store_ends_the_message_at_the_end_of_the_token() {
        let mut keys = Open::new();
        let mut framer = Framer::new(&mut keys);
        let mut store = heapless::Vec::<u8, 8>::new();
        let input = b"{'abcdefghijkl':1}{}";
        let mut rest = input.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (taken, event) = framer.feed(&rest[..1], &mut store);
            rest = &rest[taken..];
            if event != Event::NeedMore {
                events.push((input.len() - rest.len(), what(event, &framer)));
                Store::truncate(&mut store, 0);
            }
        }
        assert_eq!(events, [(15, Some(Phrase::TokenSizeLimit)), (20, None)]);
    }

    #[test]
    fn what_fits_nowhere_and_not_into_the_store_is_too_long() {
        let mut keys = Open::new();
        let mut framer = Framer::new(&mut keys);
        let mut store = heapless::Vec::<u8, 8>::new();
        assert_eq!(framer.feed(b"'123456789", &mut store).1, Event::NeedMore);
        let (taken, event) = framer.feed(b"\n}", &mut store);
        assert_eq!(
            (taken, what(event, &framer)),
            (1, Some(Phrase::TokenSizeLimit))
        );
        let (_, event) = framer.feed(b"X}", &mut store);
        assert_eq!(
            tell(event, &framer, Store::bytes(&store)),
            "2:3 expecting value"
        );
    }

    #[test]
    fn a_reset_forgets_the_half_message_and_its_line() {
        let mut keys = Open::new();
        let mut framer = Framer::new(&mut keys);
        let mut store = Heap::default();
        for half in [b"\n\n[[ \n{\"a".as_slice(), b"\n[1", b"\n[1 2", b"\xff"] {
            framer.feed(half, &mut store);
            framer.reset();
            store.truncate(0);
            assert_eq!(framer.feed(b" {}", &mut store), (3, Event::Message));
            assert_eq!(store.bytes(), b"{}");
            store.truncate(0);
            let (_, event) = framer.feed(b"]", &mut store);
            assert_eq!(tell(event, &framer, store.bytes()), "1:4 expecting value");
            store.truncate(0);
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth], b"{}".to_vec()].concat();
        const LIMIT: &str = "JSON nesting depth limit exceeded";
        assert_eq!(told(&nested(REQUEST_DEPTH)), ["no object", "{}"]);
        assert_eq!(told(&nested(REQUEST_DEPTH + 1)), [LIMIT, "{}"]);
        assert_eq!(told(&nested(REQUEST_DEPTH + 6)), [LIMIT, "{}"]);
        // Before what else is wrong with the bracket.
        let deepest = [b"[".repeat(REQUEST_DEPTH), b"1[".to_vec()].concat();
        assert_eq!(told(&deepest), [LIMIT]);
    }

    #[test]
    fn tokens_end_at_the_limit() {
        const LIMIT: &str = "JSON token count limit exceeded";
        let list =
            |commas, end: &[u8]| told(&[b"[1".as_slice(), &b",1".repeat(commas), end].concat());
        let most = REQUEST_TOKENS / 2 - 1;
        assert_eq!(list(most - 1, b"]{}"), ["no object", "{}"]);
        assert_eq!(list(most, b"]{}"), [LIMIT, "{}"]);
        assert_eq!(list(most, b", [], 3 4]{}"), [LIMIT, "{}"]);
    }

    /// Feeds `start`, lets the token go on for so many bytes that it and what precedes it are one
    /// byte more than a token may have, less `missing`, and feeds `end`: the bytes of it that were
    /// taken up to the first event, and the replies to all.
    fn feed_long(start: &[u8], missing: usize, end: &[u8]) -> (usize, Vec<String>) {
        let mut keys = Open::new();
        let mut framer = Framer::new(&mut keys);
        let mut store = Heap::default();
        assert_eq!(framer.feed(start, &mut store).1, Event::NeedMore);
        framer.bytes = TOKEN_BYTES + 1 - missing;
        let (taken, mut event) = framer.feed(end, &mut store);
        let mut rest = &end[taken..];
        let mut told = Vec::new();
        while event != Event::NeedMore {
            told.push(tell(event, &framer, store.bytes()));
            store.truncate(0);
            let (taken, next) = framer.feed(rest, &mut store);
            (rest, event) = (&rest[taken..], next);
        }
        (taken, told)
    }

    #[test]
    fn text_ends_at_the_limit() {
        const WHOLE: &str = "no object";
        const LIMIT: &str = "JSON token size limit exceeded";
        for (start, missing, end, taken, told) in [
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
            // Stray, but far too long to be shown.
            (b"'", 1, b"\n", 1, &[LIMIT]),
            // What is given up goes on as another token, of the same message unless that was all of it.
            (b"'", 1, b"x{}", 1, &[LIMIT, "{}"]),
            (b"['", 2, b"xxx{}]{}'", 3, &[LIMIT, "{}"]),
            (b"['", 2, b"xxx'{}]{}'{}]", 3, &[LIMIT]),
        ] {
            let told = told.iter().map(|line| line.to_string()).collect();
            let case = (start.escape_ascii(), missing, end.escape_ascii());
            assert_eq!(feed_long(start, missing, end), (taken, told), "{case:?}");
        }
    }

    #[test]
    fn random_bytes_are_told_the_same_however_they_are_split() {
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
            let whole = told(&stream);
            assert_eq!(
                told_in_pieces(stream.chunks(1)),
                whole,
                "{}",
                stream.escape_ascii()
            );
            assert_eq!(told_in_pieces(stream.chunks(1 + next() % 5)), whole);
        }
    }
}
