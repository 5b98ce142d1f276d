//! The log: one event, one line on standard error, never while a file system is frozen.
//!
//! Standard error of an appliance is often a file, so while frozen, lines are held in a fixed buffer
//! and written after the thaw. What did not fit is counted, and the count is written too. Control
//! bytes are replaced, so that nothing a host or guest sends can forge a line. Arguments of
//! requests, environments, passwords and keys are never logged.

use core::sync::atomic::{AtomicBool, Ordering};

use super::poll::{self, Interest};
use super::{Errno, words};
use crate::base::text::Digits;
use crate::base::texts::{Phrase, put_phrase};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error,
    /// The guest was changed: frozen, thawed, shut down.
    Notice,
    /// For people looking for a fault; only with `--verbose`.
    Detail,
}

/// The longest line, in bytes; the rest of a longer one is cut off.
const LINE: usize = 512;
/// Bytes of lines held while frozen: about ten lines, where a freeze and its thaw write three.
const HELD: usize = 1024;

/// Whether the log is being held; known here too, for those who have no [`Log`] at hand.
static HOLDING: AtomicBool = AtomicBool::new(false);

/// The log of this process.
pub struct Log {
    threshold: Level,
    holding: bool,
    held: heapless::Vec<u8, HELD>,
    dropped: u64,
}

impl Log {
    /// A log that writes errors and notices.
    pub const fn new() -> Self {
        Self {
            threshold: Level::Notice,
            holding: false,
            held: heapless::Vec::new(),
            dropped: 0,
        }
    }

    /// Writes details too.
    pub fn be_verbose(&mut self) {
        self.threshold = Level::Detail;
    }

    /// Writes one line, or holds it: a phrase about these pieces.
    #[inline(never)]
    pub fn say(&mut self, level: Level, phrase: Phrase, about: &[&[u8]]) {
        if level > self.threshold {
            return;
        }
        let mut line = heapless::Vec::<u8, LINE>::new();
        let _ = line.extend_from_slice(b"gaunt: ");
        put_phrase(phrase, about, &mut |piece| {
            for byte in piece {
                let byte = if byte.is_ascii_control() { b'?' } else { *byte };
                // The last place is the line end's.
                if line.len() < LINE - 1 {
                    let _ = line.push(byte);
                }
            }
        });
        let _ = line.push(b'\n');
        if !self.holding {
            put(&line);
        } else if self.held.extend_from_slice(&line).is_err() {
            self.dropped += 1;
        }
    }

    /// Writes one line of what failed, the name that it is about, and the words for an error.
    #[inline(never)]
    pub fn failure(&mut self, level: Level, what: Phrase, name: &[u8], errno: Errno) {
        self.say(level, what, &[name, b": ", &words(errno)]);
    }

    /// Holds all lines from now on.
    pub fn hold(&mut self) {
        self.holding = true;
        HOLDING.store(true, Ordering::Relaxed);
    }

    /// Writes what was held, and everything from now on.
    pub fn release(&mut self) {
        if !self.holding {
            return;
        }
        self.holding = false;
        HOLDING.store(false, Ordering::Relaxed);
        put(&self.held);
        self.held.clear();
        if self.dropped != 0 {
            let count = Digits::unsigned(self.dropped);
            self.say(Level::Error, Phrase::LinesDropped, &[count.as_bytes()]);
            self.dropped = 0;
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes to standard error, once, and only if that takes it now: a terminal that was stopped, or a
/// pipe that nobody reads, must not stop the agent. There is nobody to tell of it.
fn put(text: &[u8]) {
    let stderr = super::stdio::stderr();
    if poll::is_ready(stderr, Interest::Write, 0) && !text.is_empty() {
        let _ = rustix::io::write(stderr, text);
    }
}

/// A line of a process that has no [`Log`]: not yet, or because it found a fault in itself. Lost
/// while the log is held.
#[inline(never)]
pub fn last_words(phrase: Phrase, about: &[&[u8]]) {
    if !HOLDING.load(Ordering::Relaxed) {
        Log::new().say(Level::Error, phrase, about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_held_and_what_does_not_fit_is_counted() {
        let mut log = Log::new();
        log.hold();
        log.say(Level::Detail, Phrase::PortGone, &[]);
        assert!(log.held.is_empty());
        log.say(Level::Error, Phrase::PortOpen, &[b"a\nb\x1b", b"c"]);
        assert_eq!(&log.held[..], b"gaunt: port open: a?b?c\n");
        for _ in 0..3 {
            log.say(Level::Error, Phrase::PortOpen, &[&[b'x'; 600]]);
        }
        assert_eq!(log.held.len(), 24 + LINE);
        assert_eq!(log.dropped, 2);
        log.release();
        assert!(log.held.is_empty() && log.dropped == 0);
    }
}
