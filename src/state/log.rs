//! The log: one line on standard error for each event, and none while a file system is frozen.
//!
//! A log file, if there is one, becomes standard error. Its lines begin with the time. A line for a
//! syslog daemon or the kernel's log begins with a priority (RFC 3164, facility daemon). Until a syslog
//! daemon has made its socket, lines go to standard error. A FIFO without a reader keeps lines until
//! somebody reads it. The agent makes no file directly in /dev, where it would be in the way of a socket.
//!
//! The standard error of an appliance is often a file. So lines are held in a fixed buffer during a
//! freeze and written after the thaw. Lines that do not fit there, or into a pipe that nobody reads, are
//! dropped and counted; the count is logged before the next line. Control bytes are replaced, so that no
//! host and no guest can forge a line. Arguments of requests, environments, passwords and keys are never
//! logged.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::texts::LogPhrase;
use crate::base::packed::Text;
use crate::base::text::Digits;
use crate::parse::parent_of;
use crate::state::target;
use crate::sys::poll::{self, Interest};
use crate::sys::root::Root;
use crate::sys::status::{FileType, Status};
use crate::sys::stdio::LogKind;
use crate::sys::{Errno, clock, stdio, stream, words};

/// The importance of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error,
    /// The guest was changed: frozen, thawed, shut down.
    Notice,
    /// Helps to find a fault; logged only with `--verbose`.
    Detail,
}

/// The longest line, in bytes; the rest of a longer one is cut off.
const LINE: usize = 512;
/// Bytes of lines held while frozen: about ten lines, where a freeze and its thaw write three.
const HELD: usize = 1024;

/// Whether the log of this process is held, for [`error`], which has no [`Log`].
static HOLDING: AtomicBool = AtomicBool::new(false);

/// What a line begins with: nothing, a priority, or the time. For [`error`] as well.
static BEGINNING: AtomicU8 = AtomicU8::new(PLAIN);
const PLAIN: u8 = 0;
const PRIORITY: u8 = 1;
const TIME: u8 = 2;

/// The log of this process.
pub struct Log {
    /// The log file, if there is one.
    file: Option<&'static [u8]>,
    /// Whether the file is to be opened before the next line that is written.
    must_open: bool,
    threshold: Level,
    holding: bool,
    held: heapless::Vec<u8, HELD>,
    dropped: u64,
}

impl Log {
    /// A log that writes errors and notices.
    pub const fn new() -> Self {
        Self {
            file: None,
            must_open: false,
            threshold: Level::Notice,
            holding: false,
            held: heapless::Vec::new(),
            dropped: 0,
        }
    }

    /// Logs details too.
    pub fn be_verbose(&mut self) {
        self.threshold = Level::Detail;
    }

    /// Writes or holds one line: a phrase with these pieces in it.
    pub fn say(&mut self, level: Level, phrase: impl Into<Text>, about: &[&[u8]]) {
        self.put(level, phrase.into(), about);
    }

    // Not inlined: a line on the stack of every caller would cost memory.
    #[inline(never)]
    fn put(&mut self, level: Level, phrase: Text, about: &[&[u8]]) {
        if level > self.threshold {
            return;
        }
        if !self.holding {
            self.report_dropped();
        }
        let mut line = heapless::Vec::<u8, LINE>::new();
        begin(&mut line, level);
        let _ = line.extend_from_slice(b"gaunt: ");
        phrase.put(about, &mut |piece| {
            for byte in piece {
                let byte = if byte.is_ascii_control() { b'?' } else { *byte };
                // Leaves room for the line feed.
                if line.len() < LINE - 1 {
                    let _ = line.push(byte);
                }
            }
        });
        let _ = line.push(b'\n');
        if !self.holding {
            self.write(&line);
        } else if self.held.extend_from_slice(&line).is_err() {
            self.dropped += 1;
        }
    }

    /// Writes or holds one line about a failure: the phrase, the name, and the words for the error.
    pub fn failure(&mut self, level: Level, what: impl Into<Text>, name: &[u8], errno: Errno) {
        self.put_failure(level, what.into(), name, errno);
    }

    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    fn put_failure(&mut self, level: Level, what: Text, name: &[u8], errno: Errno) {
        self.put(level, what, &[name, b": ", &words(errno)]);
    }

    /// Writes to the file at `path` from now on; while lines are held, from [`Log::release`] on.
    pub fn set_file(&mut self, path: &'static [u8]) -> Result<(), Errno> {
        self.file = Some(path);
        self.open()
    }

    /// Opens the log file, if there is one: anew, if it is open.
    pub fn open(&mut self) -> Result<(), Errno> {
        let Some(path) = self.file else {
            return Ok(());
        };
        // It may be on a file system that is frozen.
        self.must_open = self.holding;
        if !self.must_open {
            // Of a syslog daemon that has ended the socket may be missing: a file in its place would be
            // in its way, and take all lines from then on.
            let may_create = BEGINNING.load(Ordering::Relaxed) != PRIORITY && !is_device(path);
            let beginning = match stdio::log_to(path, may_create) {
                Ok(LogKind::File) => TIME,
                Ok(LogKind::Records) => PRIORITY,
                Err(errno) if may_come(path, errno) => {
                    self.must_open = true;
                    return Ok(());
                }
                Err(errno) => return Err(errno),
            };
            BEGINNING.store(beginning, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes a line, or counts it as dropped. A syslog daemon that has started anew has another socket.
    fn write(&mut self, line: &[u8]) {
        if self.must_open {
            let _ = self.open();
        }
        let mut written = write(line);
        if written.is_err() && self.open().is_ok() {
            written = write(line);
        }
        if !matches!(written, Ok(1..)) {
            self.dropped += 1;
        }
    }

    /// Writes how many lines were dropped, if any were.
    fn report_dropped(&mut self) {
        let dropped = core::mem::take(&mut self.dropped);
        if dropped != 0 {
            let count = Digits::unsigned(dropped);
            self.say(Level::Error, LogPhrase::LinesDropped, &[count.as_bytes()]);
            if self.dropped != 0 {
                self.dropped = dropped;
            }
        }
    }

    /// Holds all lines until [`Log::release`].
    pub fn hold(&mut self) {
        self.holding = true;
        HOLDING.store(true, Ordering::Relaxed);
    }

    /// Writes the held lines, and holds no more.
    pub fn release(&mut self) {
        if !self.holding {
            return;
        }
        self.holding = false;
        HOLDING.store(false, Ordering::Relaxed);
        let held = core::mem::take(&mut self.held);
        for line in held.split_inclusive(|byte| *byte == b'\n') {
            self.write(line);
        }
        self.report_dropped();
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a path is directly in /dev, where files are devices and sockets. /dev/shm has others.
// Not inlined, to keep one copy of the code.
#[inline(never)]
fn is_device(path: &[u8]) -> bool {
    parent_of(path) == b"/dev/"
}

/// Whether a log that cannot be opened is waited for: a device or socket that is missing, or the socket
/// of a daemon that has ended.
pub fn may_come(path: &[u8], errno: Errno) -> bool {
    is_device(path) && matches!(errno, Errno::NOENT | Errno::CONNREFUSED)
}

/// The number of /dev/tty, the terminal of this process, which it may lack.
const OWN_TERMINAL: (u32, u32) = (5, 0);

/// Whether [`Log::set_file`] could have this path. Makes no file, and opens none but [`OWN_TERMINAL`].
///
/// # Errors
/// Those of [`Log::set_file`], and those that it waits for.
pub fn check(root: &Root, path: &[u8]) -> Result<(), Errno> {
    if path.ends_with(b"/") {
        return Err(Errno::ISDIR);
    }
    let here = Root::open(c".")?;
    let status = match Status::at(&here, &[path]) {
        Err(Errno::NOENT) if !path.is_empty() && !is_device(path) => {
            let (directory, name) = target::split(path)?;
            let (directory, _) = target::follow(root, directory, name)?;
            return directory.may_write(&[b"."]);
        }
        found => found?,
    };
    match status.kind {
        FileType::Directory => Err(Errno::ISDIR),
        // A syslog daemon does not notice that.
        FileType::Socket => stream::connect_datagram(path).map(drop),
        // Whether it has a reader is not known, so the agent may have to be one.
        FileType::Fifo => here.may_open(&[path]),
        FileType::CharacterDevice if status.number == OWN_TERMINAL => {
            here.for_writing(&[path]).map(drop)
        }
        _ => here.may_write(&[path]),
    }
}

/// Writes to standard error if it takes bytes now: a stopped terminal, or a pipe that nobody reads,
/// must not stop the agent. Returns the number of bytes written.
fn write(text: &[u8]) -> Result<usize, Errno> {
    let stderr = stdio::stderr();
    // A log file never waits, and /dev/kmsg is never reported as ready.
    let is_log_file = BEGINNING.load(Ordering::Relaxed) != PLAIN;
    if is_log_file || poll::is_ready(stderr, Interest::Write, 0) {
        return stream::write(stderr, text);
    }
    Ok(0)
}

/// Begins a line as the log has it.
fn begin(line: &mut heapless::Vec<u8, LINE>, level: Level) {
    let mut put = |bytes: &[u8]| drop(line.extend_from_slice(bytes));
    match BEGINNING.load(Ordering::Relaxed) {
        PRIORITY => put(match level {
            Level::Error => b"<27>",
            Level::Notice => b"<29>",
            Level::Detail => b"<31>",
        }),
        TIME => {
            let now_ms = clock::realtime_ns().unsigned_abs() / 1_000_000;
            let now = Digits::unsigned(now_ms);
            let now = now.as_bytes();
            let (seconds, ms) = now.split_at(now.len().saturating_sub(3));
            [seconds, b".", ms, b" "].into_iter().for_each(put);
        }
        _ => {}
    }
}

/// Writes one line about an error from code that has no [`Log`]: before there is one, or in the
/// handler of a fault. The line is lost while the log is held.
pub fn error(phrase: impl Into<Text>, about: &[&[u8]]) {
    put_error(phrase.into(), about);
}

// Not inlined, as [`Log::put`].
#[inline(never)]
fn put_error(phrase: Text, about: &[&[u8]]) {
    if !HOLDING.load(Ordering::Relaxed) {
        Log::new().put(Level::Error, phrase, about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn check_is_as_opening_a_log_and_makes_nothing() {
        let tree = Tree::new();
        tree.file("file", "");
        tree.directory("directory");
        tree.fifo(c"fifo");
        for (link, target) in [
            ("to-new", "new"),
            ("to-none", "none/new"),
            ("to-absolute", "/none/new"),
            ("to-link", "to-none"),
            ("loop", "loop"),
        ] {
            tree.link(link, target);
        }
        let socket = UnixDatagram::bind(tree.path.join("socket")).unwrap();
        let root = Root::open(c"/").unwrap();
        for (name, checked) in [
            ("file", Ok(())),
            ("socket", Ok(())),
            ("fifo", Ok(())),
            ("new", Ok(())),
            ("to-new", Ok(())),
            ("to-none", Err(Errno::NOENT)),
            ("to-absolute", Err(Errno::NOENT)),
            ("to-link", Err(Errno::NOENT)),
            ("loop", Err(Errno::LOOP)),
            ("directory", Err(Errno::ISDIR)),
            ("new/", Err(Errno::ISDIR)),
            ("none/new", Err(Errno::NOENT)),
            ("file/new", Err(Errno::NOTDIR)),
        ] {
            let path = tree.path.join(name);
            let path = path.to_str().unwrap().as_bytes();
            assert_eq!(check(&root, path), checked, "{name}");
        }
        drop(socket);
        let left = tree.path.join("socket");
        let left = left.to_str().unwrap().as_bytes();
        assert_eq!(check(&root, left), Err(Errno::CONNREFUSED));
        assert!(!tree.path.join("new").exists());
        assert_eq!(check(&root, b""), Err(Errno::NOENT));
    }

    #[test]
    fn log_that_is_missing_in_dev_is_waited_for() {
        let mut log = Log::new();
        let path = b"/dev/no-such-log";
        assert_eq!(log.set_file(path), Ok(()));
        assert!(log.must_open);
        log.say(Level::Error, LogPhrase::HookLine, &[]);
        assert!(log.must_open);
        let root = Root::open(c"/").unwrap();
        assert_eq!(check(&root, path), Err(Errno::NOENT));
        assert!(may_come(path, Errno::NOENT) && may_come(path, Errno::CONNREFUSED));
        assert!(!may_come(path, Errno::ISDIR) && !may_come(b"/none/log", Errno::NOENT));
        for path in [&b"/none/log"[..], b"/dev/none/log"] {
            assert_eq!(log.set_file(path), Err(Errno::NOENT));
        }
    }

    #[test]
    fn holds_lines_and_counts_those_that_do_not_fit() {
        let mut log = Log::new();
        log.hold();
        log.say(Level::Detail, LogPhrase::HookLine, &[]);
        assert!(log.held.is_empty());
        log.say(Level::Error, LogPhrase::HookLine, &[b"a\nb\x1b", b"c"]);
        assert_eq!(&log.held[..], b"gaunt: hooks: a?b?c\n");
        for _ in 0..3 {
            log.say(Level::Error, LogPhrase::HookLine, &[&[b'x'; 600]]);
        }
        assert_eq!(log.held.len(), 20 + LINE);
        assert_eq!(log.dropped, 2);
        log.release();
        assert!(log.held.is_empty() && log.dropped == 0);
    }
}
