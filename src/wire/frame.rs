//! Bytes to messages: finds where one request ends and the next begins.
//!
//! The dialect, the recovery after a byte that fits nowhere and the limits are qemu-ga's, as
//! protocol.md sections 1.2, 1.3 and 1.5 record them. No I/O, no command names, and no judgement on
//! structure: escapes, UTF-8, keywords and commas are `wire::json`'s, once the message is whole.
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
    /// How many there were when the latest number or keyword was complete.
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
            scalar_end: 0,
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
    #[inline(never)]
    pub fn feed(&mut self, input: &[u8], store: &mut dyn Store) -> (usize, Event) {
        let mut at = 0usize;
        // The first byte that is neither stored nor dropped.
        let mut kept = 0usize;
        let event = loop {
            if let State::String(quote) = self.state {
                let run = plain_run(between(input, at, input.len()), quote).min(self.room());
                self.bytes = self.bytes.wrapping_add(run);
                at = at.wrapping_add(run);
            }
            let from = at;
            let Some(&byte) = input.get(from) else {
                self.keep(between(input, kept, from), store);
                break Event::NeedMore;
            };
            at = from.wrapping_add(1);
            let on = match self.state {
                State::Between => match byte {
                    b'"' | b'\'' => {
                        self.token_start = self.bytes;
                        Some(State::String(byte))
                    }
                    b'{' | b'}' | b'[' | b']' | b':' | b',' => {
                        self.count_mark(byte);
                        None
                    }
                    b' ' | b'\t' | b'\n' | b'\r' => {
                        self.keep(between(input, kept, from), store);
                        kept = at;
                        continue;
                    }
                    _ => {
                        self.token_start = self.bytes;
                        let Some(state) = State::of_scalar(byte) else {
                            break self.stray(between(input, kept, at), store);
                        };
                        if self.tokens != 0 && self.tokens == self.scalar_end {
                            self.keep(between(input, kept, from), store);
                            self.keep(b" ", store);
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

    /// Counts a token of one byte.
    fn count_mark(&mut self, byte: u8) {
        self.bytes = self.bytes.wrapping_add(1);
        match byte {
            b'{' => self.objects = self.objects.wrapping_add(1),
            b'}' => self.objects = self.objects.wrapping_sub(1),
            b'[' => self.arrays = self.arrays.wrapping_add(1),
            b']' => self.arrays = self.arrays.wrapping_sub(1),
            _ => {}
        }
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
            self.keep(text, store);
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
        self.keep(shown, store);
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

    /// Stores text, unless what the message has so far is too much already.
    fn keep(&mut self, text: &[u8], store: &mut dyn Store) {
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

/// Length of the number or keyword that `text` begins with, and whether it is one: if not, the
/// length takes in the byte that cannot continue it, as far as there is one.
pub(super) fn scalar(text: &[u8]) -> (usize, bool) {
    let Some(mut state) = text.first().and_then(|byte| State::of_scalar(*byte)) else {
        return (text.len().min(1), false);
    };
    let mut at = 1usize;
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
pub(super) fn between(text: &[u8], from: usize, to: usize) -> &[u8] {
    text.get(from..to).unwrap_or_default()
}

/// How many bytes at the start of `bytes` are printable ASCII, DEL taken along, other than `quote`
/// and backslash.
///
/// Eight bytes a step: requests that write files are one string of megabytes.
pub(super) fn plain_run(bytes: &[u8], quote: u8) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES << 7;
    let quotes = ONES.wrapping_mul(u64::from(quote));
    let backslashes = ONES.wrapping_mul(u64::from(b'\\'));
    let blanks = ONES.wrapping_mul(0x20);
    let Some(last) = bytes.len().checked_sub(8) else {
        let plain = |byte: &&u8| matches!(**byte, 0x20..0x80 if **byte != quote && **byte != b'\\');
        return bytes.iter().take_while(plain).count();
    };
    let mut at = 0usize;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        // A borrow out of a byte that matters may mark the bytes above it as well, never one below:
        // the lowest mark is always true.
        let marks = (word ^ quotes).wrapping_sub(ONES)
            | (word ^ backslashes).wrapping_sub(ONES)
            | word.wrapping_sub(blanks)
            | word;
        let plain = (marks & TOPS).trailing_zeros() as usize >> 3;
        if plain < 8 {
            return at.wrapping_add(plain);
        }
        if at == last {
            break;
        }
        // The last step looks at some bytes a second time.
        at = at.wrapping_add(8).min(last);
    }
    bytes.len()
}
