//! The sources of settings. Later ones win:
//! 1. the configuration file (`agent::config`);
//! 2. for PID 1 its environment, where the kernel puts words of its command line (`agent::command_line`);
//! 3. `gaunt.` words of the kernel's command line (`agent::kernel_line`);
//! 4. the command line (`agent::command_line`).
//!
//! An inherited socket replaces all channels. The name of the file is an option as well, so the other
//! sources are read twice: first for this one option, then after the file. What was not understood is
//! noted: see [`Options::fail_closed`].

use super::options::{Key, Options};
use super::texts::AgentPhrase;
use super::{command_line, config, kernel_line};
use crate::base::text;
use crate::sys::argv::{Start, Strings, variable};
use crate::sys::process;
use crate::sys::root::Root;

/// Reads all settings into `options`, which are the defaults.
// Not inlined: the caller keeps its stack for as long as the agent runs.
#[inline(never)]
pub(super) fn read(options: &mut Options, root: &Root, start: Start) {
    // The second reading reports what is wrong.
    read_words(options, root, start);
    let name = options.text(Key::Config);
    *options = Options::new();
    let in_environment = variable(start.environment, b"QGA_CONF");
    config::read(options, root, name, in_environment);
    options.channels.end_source();
    read_words(options, root, start);
    if process::is_init() {
        kernel_line::check_environment(options, root, start.environment);
    }
    match inherited_sockets(start.environment) {
        0 => {}
        1 => options.channels.inherit(),
        _ => options.fail_closed(AgentPhrase::OneSocketOnly, b""),
    }
    options.settle(process::is_init());
}

/// How many sockets the service manager has made for this process (sd_listen_fds(3)).
fn inherited_sockets(environment: Strings) -> u32 {
    let number = |name: &[u8]| variable(environment, name).and_then(text::parse_u32);
    let is_for_us = number(b"LISTEN_PID") == Some(process::own_pid().unsigned_abs());
    let count = number(b"LISTEN_FDS").filter(|_| is_for_us && !process::is_init());
    count.unwrap_or(0)
}

/// Reads all sources but the file.
// Not inlined, to keep one copy of the code.
#[inline(never)]
fn read_words(options: &mut Options, root: &Root, start: Start) {
    let mut words = start.words;
    // The name of the program.
    words.next();
    if process::is_init() {
        command_line::read_environment(options, start.environment);
    }
    options.channels.end_source();
    kernel_line::read(options, root);
    options.channels.end_source();
    if process::is_init() {
        command_line::read_as_init(options, words);
    } else {
        command_line::read(options, &mut words);
    }
}
