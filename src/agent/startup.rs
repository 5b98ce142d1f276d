//! From the settings to the loop: becomes a daemon if it is to be one, takes over what an earlier run
//! has frozen, ends if a setting is wrong, and names the channels. If the agent is the init of the
//! machine, it sets the machine up before it reads its settings.

use super::channel::Channels;
use super::client;
use super::daemon::{Starter, hold_pid_file};
use super::event_loop::Server;
use super::ids::Token;
use super::options::{Key, Options};
use super::pid1;
use super::ready::ReadySignal;
use super::restart::{self, essential};
use super::texts::AgentPhrase;
use crate::base::limits::CLIENTS;
use crate::base::recent::RecentAnswers;
use crate::commands::{HAS_FREEZE, TABLE};
use crate::state::State;
use crate::state::environment::Environment;
use crate::state::files::Files;
use crate::state::freeze::Freeze;
use crate::state::guest::Guest;
use crate::state::initramfs::Initramfs;
use crate::state::log::{self, Level, Log};
use crate::state::marker::Marker;
use crate::state::pid_file::PidFile;
use crate::state::programs::{self, Programs};
use crate::sys::argv::{Strings, variable};
use crate::sys::clock::NEVER_MS;
use crate::sys::handles;
use crate::sys::mem::{self, Lent};
use crate::sys::poll::{Interest, Poll};
use crate::sys::root::Root;
use crate::sys::signal::Signals;
use crate::sys::{exec, process};

/// Large tables, most of whose pages are never touched.
// In this order, so that the memory of each client begins with a page.
#[repr(C)]
struct Memory {
    /// The buffers of the slots for clients.
    clients: [client::Memory; CLIENTS],
    /// The table of open files.
    files: handles::HandleTable,
    /// The table of programs.
    programs: programs::ProgramTable,
}

/// One value for all, because taking a [`Lent`] writes to its last page, and a page written to
/// stays resident.
static MEMORY: Lent<Memory> = Lent::new(Memory {
    clients: [client::Memory::EMPTY; CLIENTS],
    files: handles::EMPTY,
    programs: programs::EMPTY,
});

/// Serves until the agent is told to end.
pub(super) fn run(options: &Options, root: Root, log: Log, environment: Strings) -> ! {
    let mut server = set_up(options, root, log, environment);
    mem::release_stack();
    server.serve()
}

/// Makes the server, ready for its first turn.
// Not inlined: the caller never returns, and would keep this function's stack, several copies of
// the state.
#[inline(never)]
fn set_up(options: &Options, root: Root, log: Log, environment: Strings) -> Server {
    let starter = Starter::fork(options);
    let Memory {
        files,
        clients,
        programs,
    } = MEMORY.take();
    let marker = Marker::of(options.state_directory);
    let mut state = State {
        guest: Guest {
            root,
            initramfs: Initramfs::watch(),
            environment: Environment::of(environment),
            hooks: options.hooks,
            aborts_fuse: options.is_on(Key::AbortFuse),
            os_release: variable(environment, b"QGA_OS_RELEASE"),
            authorized_keys: options.text(Key::AuthorizedKeys),
            time_zone: variable(environment, b"TZ"),
            virtio_serials: RecentAnswers::new(),
            cpus: None,
            marker,
        },
        commands: TABLE,
        filter: options.filter,
        freeze: Freeze::new(marker, options.freeze_timeout_s),
        files: Files::new(files),
        going_down: None,
        down_ms: NEVER_MS,
        programs: Programs::new(programs),
        log,
        pid_file: PidFile::at(options.pid_file()),
    };
    take_over(&mut state, options);
    if !hold_pid_file(&mut state) {
        restart::end(1);
    }
    let signals = essential(AgentPhrase::CannotReadSignals, Signals::new());
    let poll = essential(AgentPhrase::CannotPoll, Poll::new());
    let added = poll.add(&signals, Token::Signals.number(), Interest::Read);
    essential(AgentPhrase::CannotPollSignals, added);
    let ready = ReadySignal::new(environment);
    let mut server = Server::new(channels(options), ready, state, poll, signals, clients);
    server.starter = starter;
    server
}

/// Sets up the machine, if this is its init.
pub(super) fn set_up_machine(root: &Root, log: &mut Log) {
    if process::is_init() {
        if Signals::were_taken() {
            exec::restore_name();
        } else {
            pid1::set_up(root, log);
        }
    }
}

/// Takes over what an earlier run has frozen. Ends the agent if a setting was not understood, unless
/// the agent must stay.
fn take_over(state: &mut State, options: &Options) {
    let log = &mut state.log;
    if options.is_on(Key::Verbose) {
        log.be_verbose();
    }
    // From here on the log may be held until a thaw, for which the agent must stay. A build without a
    // thaw takes nothing over.
    let is_frozen = HAS_FREEZE && state.freeze.take_over(log);
    let stays = is_frozen || process::is_init();
    if let Some(file) = options.text(Key::LogFile)
        && let Err(errno) = log.set_file(file)
    {
        log.failure(Level::Error, AgentPhrase::CannotOpenLog, b"", errno);
        if !stays {
            restart::end(1);
        }
    }
    options.report(stays, log);
    if options.has_errors() && !stays {
        log::error(AgentPhrase::SeeHelp, &[]);
        restart::end(1);
    }
}

/// The channels of the settings.
fn channels(options: &Options) -> Channels {
    let mut channels = Channels::new();
    channels.retries = options.is_on(Key::RetryPath);
    channels.vsock_peer = options.vsock_peer;
    for option in options.channels.list() {
        channels.add(option);
    }
    channels
}
