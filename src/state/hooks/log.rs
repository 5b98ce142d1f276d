//! The log of hooks: when each hook began, its output, and how it ended.
//!
//! The file is the one that administrators of qemu-ga know: /var/log/qemu-ga/fsfreeze-hook.log, or
//! /var/log/qga-fsfreeze-hook.log on Debian's layout. A line has the time in UTC, the hook's
//! argument and its path. Control bytes are escaped, so that no output can forge a line. A log of
//! [`HOOK_LOG_BYTES`] is renamed to `.1`, and a new one begins.
//!
//! The file is opened for each line, so that it is closed while file systems are frozen; hooks have
//! few lines. On a file system that another program has frozen, a write waits for the thaw. If the
//! file cannot be written, lines go to the agent's own log.

use super::call::Call;
use crate::base::civil::date_of;
use crate::base::limits::HOOK_LOG_BYTES;
use crate::base::packed::Text;
use crate::base::text::{Digits, hex_digit, push_truncated};
use crate::state::log::{Level, Log};
use crate::state::own_file::OwnFile;
use crate::state::texts::LogPhrase;
use crate::sys::root::{Root, relative};
use crate::sys::{Errno, clock, stdio, stream};

/// The log on Red Hat's layout.
const RED_HAT: &[u8] = b"/var/log/qemu-ga/fsfreeze-hook.log";
/// The log on Debian's layout, where hooks are below [`DEBIAN_HOOKS`].
const DEBIAN: &[u8] = b"/var/log/qga-fsfreeze-hook.log";
/// The directory of hooks on Debian's layout.
const DEBIAN_HOOKS: &[u8] = b"/etc/qemu/";

/// The longest line, in bytes; the rest of a longer one is cut off.
const LINE: usize = 2048;

/// The log.
pub(super) struct HookLog<'a> {
    root: &'a Root,
    /// Whether lines are also written to standard output.
    echo: bool,
    /// Whether the agent's log says that the file cannot be written.
    reported: bool,
}

impl<'a> HookLog<'a> {
    /// A log that is also written to standard output with `echo`.
    pub(super) fn new(root: &'a Root, echo: bool) -> Self {
        Self {
            root,
            echo,
            reported: false,
        }
    }

    /// Writes a line about a hook.
    pub(super) fn line(&mut self, call: &Call<'_>, what: LogPhrase, about: &[&[u8]]) {
        let mut line = heapless::Vec::<u8, LINE>::new();
        put_time(&mut line, clock::realtime_s());
        push_truncated(&mut line, &[b" ", call.word, b" "]);
        put_escaped(&mut line, call.hook);
        push_truncated(&mut line, &[b": "]);
        Text::from(what).put(about, &mut |piece| put_escaped(&mut line, piece));
        // The last byte is for the line feed.
        line.truncate(LINE - 1);
        let _ = line.push(b'\n');
        if self.echo {
            let _ = stream::write_all(stdio::stdout(), &line);
        }
        let path = if call.hook.starts_with(DEBIAN_HOOKS) {
            DEBIAN
        } else {
            RED_HAT
        };
        let file = open(self.root, path);
        if let Err(errno) = file.and_then(|file| file.append(&line)) {
            let mut log = Log::new();
            if !self.reported {
                self.reported = true;
                log.failure(Level::Error, LogPhrase::CannotWriteLog, path, errno);
            }
            if !self.echo {
                log.say(Level::Notice, LogPhrase::HookLine, &[line.trim_ascii_end()]);
            }
        }
    }
}

/// Opens a log. Makes the file and its directories if they are missing.
fn open(root: &Root, path: &[u8]) -> Result<OwnFile, Errno> {
    let name = relative(path);
    root.make_directories_above(name);
    loop {
        let file = OwnFile::to_append(root, name)?;
        if file.len() < HOOK_LOG_BYTES {
            return Ok(file);
        }
        root.rename(&[name], &[name, b".1"])?;
    }
}

/// Appends a Unix time as text: `2026-11-28T07:01:02Z`.
fn put_time(line: &mut heapless::VecView<u8>, unix_s: i64) {
    let (day, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let (year, month, date) = date_of(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let numbers = [year, month, date, hour, minute, second];
    for (&number, &end) in numbers.iter().zip(b"--T::Z") {
        let zero: &[u8] = if number < 10 { b"0" } else { b"" };
        push_truncated(line, &[zero, Digits::signed(number).as_bytes(), &[end]]);
    }
}

/// Appends bytes as far as there is room, control bytes escaped like `\x1b`.
fn put_escaped(line: &mut heapless::VecView<u8>, bytes: &[u8]) {
    for byte in bytes {
        if byte.is_ascii_control() {
            let (high, low) = (hex_digit(byte >> 4), hex_digit(byte & 15));
            push_truncated(line, &[b"\\x", &[high, low]]);
        } else {
            let _ = line.push(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs;

    const HOOK: &[u8] = b"/etc/qemu-ga/fsfreeze-hook.d/50-db";

    #[test]
    fn line_has_time_argument_and_hook_in_the_file_of_the_layout() {
        let tree = Tree::new();
        let root = &tree.root;
        let mut log = HookLog::new(root, false);
        log.line(&Call::freeze(HOOK), LogPhrase::HookSays, &[b"a\x1b[1m\nb"]);
        log.line(&Call::thaw(HOOK), LogPhrase::HookBegins, &[]);
        log.line(&Call::thaw(HOOK), LogPhrase::HookSays, &[&[b'x'; 3 * LINE]]);
        let text = fs::read_to_string(tree.path.join("var/log/qemu-ga/fsfreeze-hook.log")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let (time, rest) = lines[0].split_at(20);
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        let hook = str::from_utf8(HOOK).unwrap();
        assert_eq!(rest, format!(" freeze {hook}: | a\\x1b[1m\\x0ab"));
        assert!(lines[1].ends_with(&format!(" thaw {hook}: begins")));
        assert_eq!((lines.len(), lines[2].len()), (3, LINE - 1));

        let mut log = HookLog::new(root, false);
        log.line(
            &Call::freeze(b"/etc/qemu/fsfreeze-hook"),
            LogPhrase::HookBegins,
            &[],
        );
        let text = fs::read_to_string(tree.path.join("var/log/qga-fsfreeze-hook.log")).unwrap();
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn long_log_is_renamed() {
        let tree = Tree::new();
        let root = &tree.root;
        let name = "var/log/qemu-ga/fsfreeze-hook.log";
        let file = tree.file(name, vec![b'\n'; HOOK_LOG_BYTES as usize]);
        tree.file(format!("{name}.1"), "older");
        let mut log = HookLog::new(root, false);
        log.line(&Call::freeze(HOOK), LogPhrase::HookBegins, &[]);
        log.line(&Call::freeze(HOOK), LogPhrase::HookDone, &[]);
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
        let kept = fs::metadata(file.with_extension("log.1")).unwrap();
        assert_eq!(kept.len(), HOOK_LOG_BYTES);
    }

    #[test]
    fn times_are_utc() {
        let time = |unix_s| {
            let mut line = heapless::Vec::<u8, 40>::new();
            put_time(&mut line, unix_s);
            String::from_utf8(line.to_vec()).unwrap()
        };
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_795_849_262), "2026-11-28T07:01:02Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59Z");
    }
}
