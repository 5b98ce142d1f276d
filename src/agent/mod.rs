//! The daemon: what it is asked on its command line, and the loop that serves.
#![forbid(unsafe_code)]

mod channel;
mod client;
mod dispatch;
mod host;
mod init;
mod jobs;
mod options;
mod serve;

use crate::commands::{TABLE, info::VERSION};
use crate::sys::args::Strings;
use crate::sys::{fault, log, process, stdio, stream};
use options::{Asked, HELP, Nonsense};

/// Exit status for a command line that makes no sense: qemu-ga's.
const MISUSED: i32 = 1;

/// Runs the agent, given its command line, its own name included, and its environment; gives its
/// exit status.
pub fn main(mut words: Strings, environment: Strings) -> i32 {
    stdio::secure();
    fault::catch();
    words.next();
    if process::is_init() {
        let options = options::read_as_init(words, &mut |nonsense| complain(nonsense));
        serve::run(&options, environment);
    }
    match options::read(words) {
        Asked::Serve(options) => serve::run(&options, environment),
        Asked::Version => say(&[b"QEMU Guest Agent ", VERSION.as_bytes(), b"\n"]),
        Asked::Help => say(&[HELP.as_bytes()]),
        Asked::Commands => TABLE
            .iter()
            .map(|row| say(&[row.name.as_bytes(), b"\n"]))
            .max()
            .unwrap_or(0),
        Asked::Nonsense(nonsense) => {
            complain(&nonsense);
            MISUSED
        }
    }
}

fn say(pieces: &[&[u8]]) -> i32 {
    for piece in pieces {
        if stream::write_all(stdio::stdout(), piece).is_err() {
            return MISUSED;
        }
    }
    0
}

fn complain(nonsense: &Nonsense) {
    let (what, about): (&[u8], &[u8]) = match nonsense {
        Nonsense::Unknown(option) => (b"unknown option: ", option),
        Nonsense::Ambiguous(option) => (b"option could be several: ", option),
        Nonsense::NoValue(option) => (b"option needs a value: ", option),
        Nonsense::Value(option) => (b"option takes no value: ", option),
        Nonsense::Method(method) => (b"unsupported channel method/type: ", method),
        Nonsense::Seconds(seconds) => (b"not a number of seconds: ", seconds),
        Nonsense::NoPath => (b"must specify a path for this channel", b""),
    };
    log::last_words(&[what, about]);
    log::last_words(&[b"try 'gaunt --help' for more information"]);
}
