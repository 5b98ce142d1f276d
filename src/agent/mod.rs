//! The daemon: what it is asked on its command line, and the loop that serves.
#![forbid(unsafe_code)]

mod channel;
mod client;
mod dispatch;
mod init;
mod jobs;
mod options;
mod serve;

use crate::base::text::Digits;
use crate::commands::{TABLE, info::VERSION};
use crate::sys::args::Args;
use crate::sys::{log, process, stdio, stream};
use options::{Asked, HELP, Nonsense};

/// Exit status for a command line that makes no sense: qemu-ga's.
const MISUSED: i32 = 1;
/// Exit status for a fault in the agent itself.
const FAULT: i32 = 111;

/// Runs the agent; gives its exit status.
pub fn main(args: Args) -> i32 {
    stdio::secure();
    match options::read(args) {
        Asked::Serve(options) => serve::run(&options),
        Asked::Version => say(&[b"QEMU Guest Agent ", VERSION.as_bytes(), b"\n"]),
        Asked::Help => say(&[HELP.as_bytes()]),
        Asked::Commands => TABLE
            .iter()
            .map(|row| say(&[row.name.as_bytes(), b"\n"]))
            .max()
            .unwrap_or(0),
        // PID 1 gets its arguments from the kernel's command line, and may not end.
        Asked::Nonsense(nonsense) if process::is_init() => {
            complain(&nonsense);
            match options::read(core::iter::empty()) {
                Asked::Serve(options) => serve::run(&options),
                _ => MISUSED,
            }
        }
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

/// The end after a fault in the agent itself: one line, then out of the way, so that whoever started
/// the agent can start it again. PID 1, whose end would be the end of the guest, starts itself anew.
pub fn fail(file: &str, line: u32) -> ! {
    let line = Digits::unsigned(u64::from(line));
    log::last_words(&[b"fault at ", file.as_bytes(), b":", line.as_bytes()]);
    if process::is_init() {
        process::become_program(c"/proc/self/exe");
    }
    process::exit(FAULT)
}
