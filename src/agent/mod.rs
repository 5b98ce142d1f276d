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

use crate::commands::{PREFIX, all, info::VERSION};
use crate::sys::args::Strings;
use crate::sys::{fault, log, process, stdio, stream};
use options::{HELP, Nonsense, Options, Stop};

/// Exit status for a command line that makes no sense: qemu-ga's.
const MISUSED: i32 = 1;

/// Runs the agent, given its command line, its own name included, and its environment; gives its
/// exit status.
pub fn main(mut words: Strings, environment: Strings) -> i32 {
    stdio::secure();
    fault::catch();
    words.next();
    let is_init = process::is_init();
    let mut options = Options::new();
    while let Err(stop) = options::read(&mut words, &mut options) {
        match stop {
            Stop::Nonsense(what, about) => complain(what, about),
            // PID 1 serves whatever it is told.
            _ if is_init => continue,
            Stop::Version => return say(&[b"QEMU Guest Agent ", VERSION.as_bytes(), b"\n"]),
            Stop::Help => return say(&[HELP.as_bytes()]),
            Stop::Commands => {
                let mut names = all();
                let said = names.try_for_each(|row| match say(&[PREFIX, row.name(), b"\n"]) {
                    0 => Ok(()),
                    failed => Err(failed),
                });
                return said.err().unwrap_or(0);
            }
        }
        if !is_init {
            return MISUSED;
        }
    }
    serve::run(&options, environment)
}

fn say(pieces: &[&[u8]]) -> i32 {
    for piece in pieces {
        if stream::write_all(stdio::stdout(), piece).is_err() {
            return MISUSED;
        }
    }
    0
}

fn complain(what: Nonsense, about: &[u8]) {
    let what: &[u8] = match what {
        Nonsense::Unknown => b"unknown option: ",
        Nonsense::Ambiguous => b"option could be several: ",
        Nonsense::NoValue => b"option needs a value: ",
        Nonsense::Value => b"option takes no value: ",
        Nonsense::Method => b"unsupported channel method/type: ",
        Nonsense::Seconds => b"not a number of seconds: ",
        Nonsense::NoPath => b"must specify a path for this channel",
    };
    log::last_words(&[what, about]);
    log::last_words(&[b"try 'gaunt --help' for more information"]);
}
