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
mod kernel_line;
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
use crate::base::sink::{ByteSink, append_all};
use crate::commands::{HAS_FREEZE, PREFIX, all, info::VERSION};
use crate::state::log::Log;
use crate::sys::argv::Start;
use crate::sys::mem::Buffer;
use crate::sys::root::Root;
use crate::sys::{process, stdio, stream};
pub use fault::panicked;
use options::{Options, Printout, put_help};
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
    settings::read(&mut options, &root, start);
    match options.printout {
        Some(what) if !process::is_init() => print(what, &options, &root, &mut log),
        _ => startup::run(&options, root, log, start.environment),
    }
}

/// Prints what was asked for, or what is wrong with the settings; returns the exit status.
fn print(what: Printout, options: &Options, root: &Root, log: &mut Log) -> i32 {
    if matches!(what, Printout::Settings | Printout::Check(_)) {
        options.report(false, log);
        if options.has_errors() {
            return 1;
        }
    }
    let mut text = Buffer::growing(REPLY_BYTES);
    let done = match what {
        Printout::Help => put_help(&mut text),
        Printout::Version => append_all(
            &mut text,
            &[b"QEMU Guest Agent ", VERSION.as_bytes(), b"\n"],
        ),
        Printout::Commands => {
            all().try_for_each(|row| append_all(&mut text, &[PREFIX, row.name(), b"\n"]))
        }
        Printout::Settings => dump::dump(options, &mut text),
        Printout::Check(format) => return self_check::run(options, root, format),
    };
    let is_printed = done.is_ok() && stream::write_all(stdio::stdout(), text.bytes()).is_ok();
    (!is_printed).into()
}
