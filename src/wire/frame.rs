//! Bytes to messages: finds where one request ends and the next begins.
//!
//! The dialect, the recovery after a byte that fits nowhere and the limits are those of qemu-ga 10,
//! found by asking it, byte for byte. No I/O, no command names, and no judgement on structure:
//! escapes, UTF-8, keywords and commas are `wire::json`'s, once the message is whole.
//!
//! The store gets the text of tokens only. Blanks between tokens are dropped, and one space goes
//! between two numbers or keywords that follow each other, so that they stay two. It may hold more
//! than [`REQUEST_BYTES`] by these spaces alone.
//!
//! Differences from qemu-ga:
//! - A token that is both stray and too long to hold is reported as [`Event::TokenSize`], not with
//!   64 MiB of its text.
//! - A store that cannot grow is a limit like any other: the message ends with
//!   [`Event::TokenSize`] at the end of the token that did not fit.

use core::ops::Range;

use crate::base::limits::{REQUEST_BYTES, REQUEST_DEPTH, REQUEST_TOKENS};
use crate::base::store::Store;
use static_assertions::const_assert;

/// A token this long that still goes on is given up where it stands, and what follows is read as
/// new input. One more than a message may have, as in qemu-ga.
const TOKEN_BYTES: usize = REQUEST_BYTES + 1;

/// [`REQUEST_DEPTH`] as the balances are counted.
const DEPTH: i32 = 1024;

const_assert!(DEPTH as usize == REQUEST_DEPTH);

/// What came of feeding bytes to a [`Framer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All input was taken; the message is not complete.
    NeedMore,
    /// The store holds one whole top-level value: brackets balanced, or one closed that was never
    /// opened, or a scalar.
    Message,
    /// A byte cannot continue the token. The token with that byte is `store.bytes()[from..]`; a NUL
    /// is left out, because qemu-ga cuts its message there.
    Stray {
        /// Where in the store the token begins.
        from: usize,
    },
    /// The tokens of the message are too long together, or the store is full.
    TokenSize,
    /// The message has too many tokens.
    TokenCount,
    /// The message is nested too deeply.
    Nesting,
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
    Sign,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    Keyword,
}

/// What a byte is to the number or keyword it meets.
enum Step {
    /// Part of it.
    Take(State),
    /// Not part of it; it was complete.
    Past,
    /// Nothing that may stand here.
    Stray,
}

impl State {
    /// The state after the first byte of a number or keyword.
    fn of_scalar(byte: u8) -> Option<Self> {
        Some(match byte {
            b'a'..=b'z' => Self::Keyword,
            b'1'..=b'9' => Self::Digits,
            b'0' => Self::Zero,
            b'-' => Self::Sign,
            _ => return None,
        })
    }

    /// One byte further in a number or keyword.
    fn step(self, byte: u8) -> Step {
        Step::Take(match (self, byte) {
            (Self::Keyword, b'a'..=b'z') => Self::Keyword,
            (Self::Zero, b'0'..=b'9') => return Step::Stray,
            (Self::Sign, b'0') => Self::Zero,
            (Self::Sign | Self::Digits, b'0'..=b'9') => Self::Digits,
            (Self::Zero | Self::Digits, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Digits | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => {
                Self::ExponentDigits
            }
            _ if self.may_end() => return Step::Past,
            _ => return Step::Stray,
        })
    }

    /// Whether what was read so far is a whole number or keyword.
    fn may_end(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Digits | Self::Fraction | Self::ExponentDigits | Self::Keyword
        )
    }
}

/// Splits a byte stream into messages. Holds no bytes itself.
pub struct Framer {
    state: State,
    /// Objects open; negative if one was closed that was not.
    objects: i32,
    /// Arrays open, likewise.
    arrays: i32,
    /// Complete tokens of this message.
    tokens: usize,
    /// How many there were when the latest number or keyword was complete; at first, no such number.
    scalar_end: usize,
    /// Bytes of the tokens of this message, complete or not; [`BEYOND`] more once the store did not
    /// take some of them.
    bytes: usize,
    /// What `bytes` was where the token being read begins.
    token_start: usize,
}

/// Lifts a message that the store cannot take above its limit, whatever its size.
const BEYOND: usize = 1 << 30;

const_assert!(BEYOND > REQUEST_BYTES);

impl Framer {
    /// A framer before the first byte.
    pub const fn new() -> Self {
        Self {
            state: State::Between,
            objects: 0,
            arrays: 0,
            tokens: 0,
            scalar_end: usize::MAX,
            bytes: 0,
            token_start: 0,
        }
    }

    /// Forgets a half message; the caller cuts the store back to nothing.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Takes bytes from `input`; says how many, and what came of it.
    ///
    /// After any event but [`Event::NeedMore`] the caller handles it, cuts the store back to nothing
    /// and calls again with the rest, which may be all of `input`.
    pub fn feed(&mut self, input: &[u8], store: &mut dyn Store) -> (usize, Event) {
        let mut at = 0usize;
        // The first byte that is neither stored nor dropped.
        let mut kept = 0usize;
        let event = loop {
            if let State::String(quote) = self.state {
                let end = plain_end(input, at, quote);
                let run = end.wrapping_sub(at).min(self.room());
                self.bytes = self.bytes.wrapping_add(run);
                at = at.wrapping_add(run);
            }
            let from = at;
            let Some(&byte) = input.get(from) else {
                self.keep(input, kept..from, store);
                break Event::NeedMore;
            };
            at = from.wrapping_add(1);
            let on = match self.state {
                State::Between => match byte {
                    b'"' | b'\'' => {
                        self.token_start = self.bytes;
                        let end = plain_end(input, at, byte);
                        let run = end.wrapping_sub(at);
                        if run < REQUEST_BYTES && input.get(end) == Some(&byte) {
                            // All of it is here: most strings are short and plain.
                            at = end.wrapping_add(1);
                            self.bytes = self.bytes.wrapping_add(run).wrapping_add(2);
                            None
                        } else {
                            Some(State::String(byte))
                        }
                    }
                    b'{' => self.mark(1, 0),
                    b'}' => self.mark(-1, 0),
                    b'[' => self.mark(0, 1),
                    b']' => self.mark(0, -1),
                    b':' | b',' => self.mark(0, 0),
                    b' ' | b'\t' | b'\n' | b'\r' => {
                        self.keep(input, kept..from, store);
                        kept = at;
                        continue;
                    }
                    _ => {
                        self.token_start = self.bytes;
                        let Some(state) = State::of_scalar(byte) else {
                            break self.stray(between(input, kept, at), store);
                        };
                        if self.tokens == self.scalar_end {
                            self.keep(input, kept..from, store);
                            self.keep(b" ", 0..1, store);
                            kept = from;
                        }
                        Some(state)
                    }
                },
                State::Recovery => {
                    if matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b',')
                        || !matches!(byte, b'\t' | 0x20..0xfe)
                    {
                        self.state = State::Between;
                        at = from;
                    }
                    kept = at;
                    continue;
                }
                State::String(quote) if byte == quote => {
                    self.bytes = self.bytes.wrapping_add(1);
                    None
                }
                State::String(_) | State::Escape(_) if !matches!(byte, 0x20..0xfe) => {
                    break self.stray(between(input, kept, at), store);
                }
                State::String(quote) if byte == b'\\' => Some(State::Escape(quote)),
                State::String(quote) | State::Escape(quote) => Some(State::String(quote)),
                state => match state.step(byte) {
                    Step::Take(state) => Some(state),
                    Step::Past => {
                        at = from;
                        self.scalar_end = self.tokens.wrapping_add(1);
                        None
                    }
                    Step::Stray => break self.stray(between(input, kept, at), store),
                },
            };
            let event = match on {
                Some(state) => self.go_on(state),
                None => self.end_token(),
            };
            if event != Event::NeedMore {
                break self.end_message(event, between(input, kept, at), store);
            }
        };
        (at, event)
    }

    /// Takes a byte into the token.
    fn go_on(&mut self, state: State) -> Event {
        self.state = state;
        self.bytes = self.bytes.wrapping_add(1);
        if self.bytes.wrapping_sub(self.token_start) > TOKEN_BYTES {
            Event::TokenSize
        } else {
            Event::NeedMore
        }
    }

    /// How many bytes longer the token may grow without being given up.
    fn room(&self) -> usize {
        TOKEN_BYTES.saturating_sub(self.bytes.wrapping_sub(self.token_start))
    }

    /// Counts a token of one byte, and by how much it changes the balances.
    fn mark(&mut self, objects: i32, arrays: i32) -> Option<State> {
        self.bytes = self.bytes.wrapping_add(1);
        self.objects = self.objects.wrapping_add(objects);
        self.arrays = self.arrays.wrapping_add(arrays);
        None
    }

    /// Ends a token, and says what becomes of the message.
    fn end_token(&mut self) -> Event {
        self.state = State::Between;
        self.tokens = self.tokens.wrapping_add(1);
        let open = self.objects.wrapping_add(self.arrays);
        if self.bytes > REQUEST_BYTES {
            Event::TokenSize
        } else if self.tokens > REQUEST_TOKENS {
            Event::TokenCount
        } else if open > DEPTH {
            Event::Nesting
        } else if open == 0 || (self.objects | self.arrays) < 0 {
            Event::Message
        } else {
            Event::NeedMore
        }
    }

    /// Ends the message with the last of its text.
    fn end_message(&mut self, event: Event, text: &[u8], store: &mut dyn Store) -> Event {
        let mut event = event;
        if event == Event::Message {
            self.keep(text, 0..text.len(), store);
            if self.bytes > REQUEST_BYTES {
                event = Event::TokenSize;
            }
        }
        self.reset();
        event
    }

    /// Ends the message at the last byte of `text`, which fits nowhere.
    fn stray(&mut self, text: &[u8], store: &mut dyn Store) -> Event {
        let shown = text.strip_suffix(&[0]).unwrap_or(text);
        self.bytes = self
            .bytes
            .wrapping_add(usize::from(shown.len() == text.len()));
        self.keep(shown, 0..shown.len(), store);
        let token = self.bytes.wrapping_sub(self.token_start);
        let from = store.bytes().len().saturating_sub(token);
        let event = if self.bytes > REQUEST_BYTES {
            Event::TokenSize
        } else {
            Event::Stray { from }
        };
        self.reset();
        self.state = State::Recovery;
        event
    }

    /// Stores a part of `text`, unless what the message has so far is too much already.
    fn keep(&mut self, text: &[u8], part: Range<usize>, store: &mut dyn Store) {
        let text = between(text, part.start, part.end);
        if self.bytes <= REQUEST_BYTES && !text.is_empty() && store.append(text).is_err() {
            self.bytes = self.bytes.wrapping_add(BEYOND);
            self.token_start = self.token_start.wrapping_add(BEYOND);
        }
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the number or keyword at `from` ends, and whether it is one: if not, the end takes in the byte
/// that cannot continue it, as far as there is one.
pub(super) fn scalar(text: &[u8], from: usize) -> (usize, bool) {
    let mut at = from.wrapping_add(1);
    let Some(first) = text.get(from) else {
        return (from, false);
    };
    let Some(mut state) = State::of_scalar(*first) else {
        return (at, false);
    };
    while let Some(byte) = text.get(at) {
        match state.step(*byte) {
            Step::Take(next) => state = next,
            Step::Past => break,
            Step::Stray => return (at.wrapping_add(1), false),
        }
        at = at.wrapping_add(1);
    }
    (at, state.may_end())
}

/// The bytes of `text` in these bounds, which are in it.
#[inline(never)]
pub(super) fn between(text: &[u8], from: usize, to: usize) -> &[u8] {
    text.get(from..to).unwrap_or_default()
}

/// Where in `bytes` the run that begins at `from` ends: of printable ASCII, DEL taken along, other than
/// `quote` and backslash.
///
/// Eight bytes a step: requests that write files are one string of megabytes.
pub(super) fn plain_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES << 7;
    let quotes = ONES.wrapping_mul(u64::from(quote));
    let backslashes = ONES.wrapping_mul(u64::from(b'\\'));
    let blanks = ONES.wrapping_mul(0x20);
    let mut at = from;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        // A borrow out of a byte that matters may mark the bytes above it as well, never one below:
        // the lowest mark is always true.
        let marks = (word ^ quotes).wrapping_sub(ONES)
            | (word ^ backslashes).wrapping_sub(ONES)
            | word.wrapping_sub(blanks)
            | word;
        let plain = (marks & TOPS).trailing_zeros() as usize >> 3;
        at = at.wrapping_add(plain);
        if plain < 8 {
            return at;
        }
    }
    while let Some(byte) = bytes.get(at)
        && matches!(*byte, 0x20..0x80 if *byte != quote && *byte != b'\\')
    {
        at = at.wrapping_add(1);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::super::json::{self, Kind, ParseError};
    use super::*;
    use crate::base::store::testing::Heap;
    use crate::base::texts::Phrase;

    /// What a client would be told, a line an event; a good object is shown as it is.
    fn tell(event: Event, text: &[u8], told: &mut Vec<String>) {
        let error = match event {
            Event::Message => match json::check(text) {
                Ok(value) if value.kind() == Kind::Object => {
                    told.push(String::from_utf8_lossy(value.text()).into());
                    return;
                }
                Ok(_) => {
                    told.push("no object".into());
                    return;
                }
                Err(error) => error,
            },
            Event::Stray { from } => ParseError {
                what: Phrase::Stray,
                shown: &text[from..],
            },
            limit => {
                told.push(format!("{limit:?}"));
                return;
            }
        };
        let text = error.text();
        told.push(
            text.strip_prefix("JSON parse error, ")
                .unwrap_or(&text)
                .into(),
        );
    }

    /// Feeds `pieces` one after the other, with checks of what `feed` promises.
    fn told_in_pieces<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<String> {
        let mut framer = Framer::new();
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
                tell(event, store.bytes(), &mut told);
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
        (b"\xff", &["stray '\u{fffd}'"]),
        (b"\xff\n", &["stray '\u{fffd}'"]),
        (
            b"\xff{\"execute\":\"guest-ping\"}",
            &["stray '\u{fffd}'", PING],
        ),
        (
            b"\xff\xfe\xff{}",
            &[
                "stray '\u{fffd}'",
                "stray '\u{fffd}'",
                "stray '\u{fffd}'",
                "{}",
            ],
        ),
        (
            b"{\"execute\":\"gue\xff{}",
            &["stray '\"gue\u{fffd}'", "{}"],
        ),
        (b"{\"execute\":\xff{}", &["stray '\u{fffd}'", "{}"]),
        (b"{\"a\":\"\\\xff{}", &["stray '\"\\\u{fffd}'", "{}"]),
        (b"[1\xff{}", &["stray '\u{fffd}'", "{}"]),
        // Control bytes; a NUL is not shown.
        (b"{}\0{}", &["{}", "stray ''", "{}"]),
        (b"\"ab\0{}", &["stray '\"ab'", "{}"]),
        (b"\x1b", &["stray '\u{1b}'"]),
        (b"\"a\tb\"\n{}", &["stray '\"a\t'", "{}"]),
        (b"'a\nb'\n{}", &["stray ''a\n'", "{}"]),
        (b"\"\x7f\"\x7f", &["no object", "stray '\u{7f}'"]),
        // Garbage is skipped up to a bracket, a separator or a control byte, but for TAB and DEL.
        (b"garbage\n{}", &["invalid keyword 'garbage'", "{}"]),
        (b"GARBAGE\n{}", &["stray 'G'", "{}"]),
        (b"GARBAGE {}", &["stray 'G'", "{}"]),
        (
            b"G\"\t\x7f'\x80\xfd1 a\x0b{}",
            &["stray 'G'", "stray '\u{b}'", "{}"],
        ),
        (
            b"G]G:G,G\x01",
            &[
                "stray 'G'",
                "expecting value",
                "stray 'G'",
                "expecting value",
                "stray 'G'",
                "expecting value",
                "stray 'G'",
                "stray '\u{1}'",
            ],
        ),
        (b"\xef\xbb\xbf{}", &["stray '\u{fffd}'", "{}"]),
        (
            b"/* a, b */",
            &[
                "stray '/'",
                "expecting value",
                "invalid keyword 'b'",
                "stray '*'",
            ],
        ),
        (b"%s {}", &["stray '%'", "{}"]),
        // Where the stray byte goes.
        (br#"{"a":1.}"#, &["stray '1.}'"]),
        (br#"{"a":+1}"#, &["stray '+'", "expecting value"]),
        (b"[01]", &["stray '01'", "expecting value"]),
        (b"[-a]", &["stray '-a'", "expecting value"]),
        (b"[1e]", &["stray '1e]'"]),
        (b"[1e+]", &["stray '1e+]'"]),
        (b"[.5]", &["stray '.'", "expecting value"]),
        (b"1\xff", &["no object", "stray '\u{fffd}'"]),
        // Two tokens without a blank between them stay two.
        (b"0e1 ", &["no object", "invalid keyword 'e'", "no object"]),
        (b"[0e1]", &["expected separator in list"]),
        (b"[foo bar]", &["invalid keyword 'foo'"]),
        (b"[1 2]", &["expected separator in list"]),
        (b"{\"a\" : 1 2}", &["expected separator in dict"]),
        // Where a message ends.
        (b"]", &["expecting value"]),
        (b"}", &["expecting value"]),
        (b",", &["expecting value"]),
        (b":", &["expecting value"]),
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
                "expecting value",
            ],
        ),
        (b"{]}", &["expecting value", "expecting value"]),
        (b"[}]", &["expecting value", "expecting value"]),
        (b"[{]}{}", &["expecting value", "{}"]),
        (b"{\"a\":{}}]", &["{\"a\":{}}", "expecting value"]),
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

    #[test]
    fn the_store_holds_tokens_and_no_blanks() {
        let mut framer = Framer::new();
        let mut store = Heap::default();
        let input = b" [ 1 , 2\t3  true\nfalse \" x \" ] ";
        let (taken, event) = framer.feed(input, &mut store);
        assert_eq!((taken, event), (input.len() - 1, Event::Message));
        assert_eq!(store.bytes(), b"[1,2 3 true false\" x \"]");
        store.truncate(0);
        for _ in 0..1000 {
            assert_eq!(framer.feed(&[b' '; 1000], &mut store).1, Event::NeedMore);
        }
        assert!(store.bytes().is_empty());
    }

    #[test]
    fn a_stray_byte_is_shown_with_its_token_alone() {
        let mut framer = Framer::new();
        let mut store = Heap::default();
        let (taken, event) = framer.feed(b"{\"key\" : 1.x}", &mut store);
        assert_eq!((taken, event), (12, Event::Stray { from: 7 }));
        assert_eq!(&store.bytes()[7..], b"1.x");
    }

    #[test]
    fn a_full_store_ends_the_message_at_the_end_of_the_token() {
        let mut framer = Framer::new();
        let mut store = heapless::Vec::<u8, 8>::new();
        let input = b"{'abcdefghijkl':1}{}";
        let mut rest = input.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (taken, event) = framer.feed(&rest[..1], &mut store);
            rest = &rest[taken..];
            if event != Event::NeedMore {
                events.push((input.len() - rest.len(), event));
                Store::truncate(&mut store, 0);
            }
        }
        assert_eq!(events[0], (15, Event::TokenSize));
        // A `:` and a `}` that nothing precedes, then the number between them.
        assert_eq!(events.len(), 5);
        assert_eq!(events[4], (20, Event::Message));
    }

    #[test]
    fn what_fits_nowhere_and_not_into_the_store_is_too_long() {
        let mut framer = Framer::new();
        let mut store = heapless::Vec::<u8, 8>::new();
        assert_eq!(framer.feed(b"'123456789", &mut store).1, Event::NeedMore);
        assert_eq!(framer.feed(b"\n}", &mut store), (1, Event::TokenSize));
        assert_eq!(framer.feed(b"X}", &mut store).1, Event::Message);
    }

    #[test]
    fn a_reset_forgets_the_half_message() {
        let mut framer = Framer::new();
        let mut store = Heap::default();
        framer.feed(b"[[{\"a", &mut store);
        framer.reset();
        store.truncate(0);
        assert_eq!(framer.feed(b"{}", &mut store), (2, Event::Message));
        assert_eq!(store.bytes(), b"{}");
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert_eq!(told(&nested(REQUEST_DEPTH)), ["no object"]);
        let over = told(&nested(REQUEST_DEPTH + 1));
        assert_eq!(over.len(), REQUEST_DEPTH + 2);
        assert_eq!(over[..2], ["Nesting", "expecting value"]);
        let over = told(&nested(REQUEST_DEPTH + 6));
        assert_eq!(over[..2], ["Nesting", "no object"]);
    }

    #[test]
    fn tokens_end_at_the_limit() {
        let list = |commas: usize| {
            let text = [b"[1".as_slice(), &b",1".repeat(commas), b"]"].concat();
            let mut framer = Framer::new();
            framer.feed(&text, &mut Heap::default())
        };
        let most = REQUEST_TOKENS / 2 - 1;
        assert_eq!(list(most - 1), (2 * most + 1, Event::Message));
        assert_eq!(list(most), (2 * most + 3, Event::TokenCount));
    }

    /// Feeds `start`, lets the token go on for so many bytes that it and what precedes it are one
    /// byte more than a token may have, less `missing`, and feeds `end`.
    fn feed_long(start: &[u8], missing: usize, end: &[u8]) -> (usize, Event, Framer) {
        let mut framer = Framer::new();
        let mut store = Heap::default();
        assert_eq!(framer.feed(start, &mut store).1, Event::NeedMore);
        framer.bytes = TOKEN_BYTES + 1 - missing;
        let (taken, event) = framer.feed(end, &mut store);
        (taken, event, framer)
    }

    #[test]
    fn text_ends_at_the_limit() {
        for (start, missing, end, expected) in [
            (b"'".as_slice(), 3, b"'".as_slice(), (1, Event::Message)),
            (b"'", 2, b"'", (1, Event::TokenSize)),
            (b"'", 1, b"'", (1, Event::TokenSize)),
            (b"'", 3, b"xyz'", (3, Event::TokenSize)),
            (b"'", 1, b"x'", (1, Event::TokenSize)),
            (b"['", 4, b"']", (2, Event::Message)),
            (b"['", 3, b"']", (2, Event::TokenSize)),
            (b"['", 2, b"']", (1, Event::TokenSize)),
            (b"1", 2, b" ", (0, Event::Message)),
            (b"1", 2, b"1 ", (1, Event::TokenSize)),
            (b"1", 2, b"11 ", (2, Event::TokenSize)),
            // Stray, but far too long to be shown.
            (b"'", 1, b"\n", (1, Event::TokenSize)),
        ] {
            let (taken, event, _) = feed_long(start, missing, end);
            assert_eq!(
                (taken, event),
                expected,
                "{} {missing}",
                start.escape_ascii()
            );
        }
        // A string that is given up goes on as garbage.
        let (_, _, mut framer) = feed_long(b"'", 1, b"x");
        assert_eq!(
            framer.feed(b"{}'", &mut Heap::default()),
            (2, Event::Message)
        );
    }

    #[test]
    fn plain_runs_end_where_a_look_at_each_byte_ends_them() {
        let plain =
            |byte: u8, quote| (0x20..0x80).contains(&byte) && byte != quote && byte != b'\\';
        for quote in [b'"', b'\'', b'\\'] {
            for len in 0..=17 {
                for place in 0..len {
                    for byte in 0..=255u8 {
                        // What follows must not matter, what stands next to it neither.
                        for fill in [b'!', b']', 0x7f] {
                            let mut text = vec![fill; len];
                            text[place] = byte;
                            if let Some(next) = text.get_mut(place + 1) {
                                *next = byte ^ 1;
                            }
                            let end = text.iter().position(|byte| !plain(*byte, quote));
                            assert_eq!(plain_end(&text, 0, quote), end.unwrap_or(len));
                        }
                    }
                }
            }
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
