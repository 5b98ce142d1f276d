//! The daemon: what it is asked on its command line, and the loop that serves.
#![forbid(unsafe_code)]

mod by_hand;
mod channel;
mod client;
mod config;
mod context;
mod deliver;
mod dispatch;
mod event_loop;
mod fault;
mod fetch;
mod file_stream;
mod ids;
mod jobs;
mod options;
mod pid1;
mod port_peer;
mod restart;
mod worker;

use crate::base::texts::{HELP, LINES, Phrase, line};
use crate::commands::{PREFIX, all, info::VERSION};
use crate::state::log;
use crate::sys::args::Start;
use crate::sys::{process, stdio, stream};
pub use fault::panicked;
use options::{Options, Stop};

/// Runs the agent; gives its exit status, which for a command line that makes no sense is 1, as
/// qemu-ga has it. PID 1 serves whatever its command line says.
pub fn main(start: Start) -> i32 {
    fault::catch();
    let mut words = start.words;
    let name = words.next().unwrap_or_default();
    if by_hand::is_called(name) && !process::is_init() {
        return by_hand::run(name, words, start.environment);
    }
    let mut options = Options::new();
    if process::is_init() {
        options.read_as_init(words, start.environment);
    } else if let Err((stop, about)) = options.read(words) {
        if let Stop::Wrong(what) = stop {
            log::error(what, &[about]);
            log::error(Phrase::SeeHelp, &[]);
        }
        return print(stop);
    }
    event_loop::run(&mut options, start.environment)
}

/// Prints what is asked for instead of serving; gives the exit status.
fn print(what: Stop) -> i32 {
    let said = match what {
        Stop::Help => (HELP..LINES).all(|number| say(b"", &line(number))),
        Stop::Version => say(b"QEMU Guest Agent ", VERSION.as_bytes()),
        Stop::Commands => all().all(|row| say(PREFIX, row.name())),
        Stop::Wrong(_) => false,
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
