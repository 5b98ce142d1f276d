//! The daemon: what it is asked on its command line, and the loop that serves.
#![forbid(unsafe_code)]

mod channel;
mod client;
mod dispatch;
mod host;
mod init;
mod jobs;
mod options;
mod reading;
mod serve;

use crate::base::texts::{ADVICE, COMPLAINTS, HELP, LINES, line};
use crate::commands::{PREFIX, all, info::VERSION};
use crate::sys::args::Strings;
use crate::sys::{fault, log, process, stdio, stream};
use options::{Options, Stop};

/// Runs the agent, given its command line, its own name included, and its environment; gives its
/// exit status, which for a command line that makes no sense is 1, as qemu-ga has it.
pub fn main(mut words: Strings, environment: Strings) -> i32 {
    stdio::secure();
    fault::catch();
    words.next();
    let mut options = Options::new();
    while let Err(stop) = options::read(&mut words, &mut options) {
        if stop < Stop::Help {
            log::last_words(&[&line(COMPLAINTS + stop as usize), options.about]);
            log::last_words(&[&line(ADVICE)]);
        }
        // PID 1 serves whatever it is told.
        if !process::is_init() {
            return print(stop);
        }
    }
    serve::run(&options, environment)
}

/// Prints what is asked for instead of serving; gives the exit status.
fn print(what: Stop) -> i32 {
    let said = match what {
        Stop::Help => (HELP..LINES).all(|number| say(b"", &line(number))),
        Stop::Version => say(b"QEMU Guest Agent ", VERSION.as_bytes()),
        Stop::Commands => all().all(|row| say(PREFIX, row.name())),
        _ => false,
    };
    (!said).into()
}

/// Prints a line of two pieces; gives whether that could be done.
#[inline(never)]
fn say(first: &[u8], rest: &[u8]) -> bool {
    let pieces: &[&[u8]] = &[first, rest, b"\n"];
    let mut pieces = pieces.iter();
    pieces.all(|piece| stream::write_all(stdio::stdout(), piece).is_ok())
}
