//! The program: options, the event loop, channels, clients, children, and the duties of PID 1.
#![forbid(unsafe_code)]

mod by_hand;
mod channel;
mod channel_options;
mod child;
mod client;
mod command_line;
mod config;
mod context;
mod daemon;
mod deliver;
mod dispatch;
mod dump;
mod event_loop;
mod fault;
mod fetch;
mod file_stream;
mod ids;
mod jobs;
mod listener;
mod opener;
mod options;
mod pid1;
mod port;
mod port_peer;
mod ready;
mod restart;
mod self_check;
mod service;
mod settings;
mod startup;
#[cfg(test)]
mod testing;
mod texts;
mod worker;

use crate::base::limits::REPLY_BYTES;
use crate::base::sink::ByteSink;
use crate::commands::{HAS_FREEZE, PREFIX, all, info::VERSION};
use crate::state::log::Log;
use crate::sys::argv::Start;
use crate::sys::mem::Buffer;
use crate::sys::root::Root;
use crate::sys::{process, stdio, stream};
pub use fault::panicked;
use options::{Options, Stop, write_help};
use restart::essential;
use texts::AgentPhrase;

/// Runs the agent; returns its exit status. That is 1 after an error in a setting, as with qemu-ga.
/// PID 1 serves whatever its settings are.
pub fn main(start: Start) -> i32 {
    fault::catch();
    let mut words = start.words;
    let name = words.next().unwrap_or_default();
    if HAS_FREEZE && by_hand::is_called(name) && !process::is_init() {
        return by_hand::run(name, words, start.environment);
    }
    let root = essential(AgentPhrase::CannotOpenRoot, Root::open(c"/"));
    let mut log = Log::new();
    startup::set_up_machine(&root, &mut log);
    let mut options = Options::new();
    match settings::read(&mut options, &root, start) {
        Err(stop) if !process::is_init() => print(stop, &options, &root),
        _ => startup::run(&options, root, log, start.environment),
    }
}

/// Prints a text instead of serving; returns the exit status.
fn print(what: Stop, options: &Options, root: &Root) -> i32 {
    let said = match what {
        Stop::Help => write_help(&mut write),
        Stop::Version => write(&[b"QEMU Guest Agent ", VERSION.as_bytes(), b"\n"]),
        Stop::Commands => all().all(|row| write(&[PREFIX, row.name(), b"\n"])),
        Stop::Settings => print_settings(options),
        Stop::Check(format) if !complain(options) => return self_check::run(options, root, format),
        Stop::Check(_) => false,
        Stop::Wrong(_) => false,
    };
    (!said).into()
}

/// Prints the settings, or what is wrong with them; returns whether it printed settings.
fn print_settings(options: &Options) -> bool {
    if complain(options) {
        return false;
    }
    let mut file = Buffer::growing(REPLY_BYTES);
    dump::dump(options, &mut file).is_ok() && write(&[file.bytes()])
}

/// Logs what is wrong with the settings, and names in lists that no command has; returns whether anything
/// is wrong.
fn complain(options: &Options) -> bool {
    options.report(false, &mut Log::new());
    options.has_errors()
}

/// Prints these pieces; returns whether all were written.
fn write(pieces: &[&[u8]]) -> bool {
    let mut pieces = pieces.iter();
    pieces.all(|piece| stream::write_all(stdio::stdout(), piece).is_ok())
}
