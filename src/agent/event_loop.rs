//! The loop.
//!
//! One set of descriptors is waited for: signals, the channel, its clients, the sockets of
//! children, pipes of programs, and, while a port is missing, the kernel's device events. Nothing in it ever waits for
//! one of them alone, and nothing wakes it but news or a deadline: with no host connected it sleeps
//! for good.

use core::array;

use super::channel;
use super::client::{self, Busy, Client, Filled, Kind};
use super::command_line;
use super::config::{self, Found};
use super::context::Context;
use super::deliver::deliver;
use super::dispatch;
use super::file_stream;
use super::ids::{ClientId, Token};
use super::jobs::{self, Jobs};
use super::options::{Method, Options};
use super::pid1;
use super::restart;
use crate::base::limits::{CHILDREN, CLIENTS, PROGRAMS as MOST_PROGRAMS, REAP_TURN_US};
use crate::base::store::Discard;
use crate::base::text::Digits;
use crate::base::texts::Phrase;
use crate::commands::{self, BY_FORCE, LATE_THAW, REBOOT, TABLE, Task};
use crate::state::State;
use crate::state::environment::Environment;
use crate::state::files::Files;
use crate::state::freeze::{Freeze, Phase};
use crate::state::guest::Guest;
use crate::state::initramfs::Initramfs;
use crate::state::log::{self, Level, Log};
use crate::state::marker::Marker;
use crate::state::programs::{self, Programs};
use crate::sys::args::{Strings, variable};
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::handles;
use crate::sys::mem::{self, Lent};
use crate::sys::netlink::Uevents;
use crate::sys::poll::{Interest, News, Poll, Ready};
use crate::sys::root::Root;
use crate::sys::signal::Signals;
use crate::sys::{Errno, OwnedFd, process, stream, words};
use crate::wire::args::Args;
use crate::wire::frame::Event;
use crate::wire::reply::Reply;

/// What is large and seldom used.
struct Memory {
    /// What all open files are kept in.
    files: handles::Table,
    /// What all clients rest in.
    clients: [client::Memory; CLIENTS],
    /// What all programs that were started are kept in.
    programs: programs::Table,
}

/// Lent at once: a mark of its own for each would be written at the start, and take a page of memory
/// for what may never be used.
static MEMORY: Lent<Memory> = Lent::new(Memory {
    files: handles::EMPTY,
    clients: [client::Memory::EMPTY; CLIENTS],
    programs: programs::EMPTY,
});

/// Reads of one client before others are looked at.
const READS: usize = 16;

/// How long after a port that is there could not be opened it is tried again. Another agent that
/// holds it says nothing when it ends.
const RETRY_MS: u64 = 10_000;

/// How long nothing more is said of strangers that are turned away.
const STRANGERS_MS: u64 = 60_000;

/// How long after a port broke it is looked for again.
const REOPEN_MS: u64 = 200;

/// Ends the agent, which cannot go on.
fn give_up(what: Phrase, errno: Errno) -> ! {
    log::error(what, &[b": ", &words(errno)]);
    restart::end(1)
}

/// Whether a user may connect to the socket: root, and the user of the agent.
fn may_connect(uid: u32) -> bool {
    uid == 0 || uid == process::effective_user()
}

/// Returns the value, or logs the error and exits.
fn essential<T>(what: Phrase, result: Result<T, Errno>) -> T {
    result.unwrap_or_else(|errno| give_up(what, errno))
}

struct Server {
    signals: Signals,
    /// Whether children may have ended that are not buried yet.
    burying: bool,
    /// Whether the agent was told to end, and does so as soon as nothing is frozen.
    ending: bool,
    /// Whether the listener is waited for: not while all places are taken.
    listening: bool,
    /// Whether it was said that the port does not work.
    complained: bool,
    /// When the log may say again that a stranger was turned away.
    strangers_ms: u64,
    /// The socket that clients come from, if it is not the port.
    listener: Option<OwnedFd>,
    /// While the port is not there: the kernel tells when to look again.
    uevents: Option<Uevents>,
    /// When to look for it without being told.
    look_ms: u64,
    /// The port.
    path: &'static [u8],
    context: Context,
    clients: [Client; CLIENTS],
}

/// Serves until told to end.
pub(super) fn run(options: &mut Options, environment: Strings) -> ! {
    let Memory {
        files,
        clients,
        programs,
    } = MEMORY.take();
    let marker = Marker::of(options.state_directory);
    let mut state = State {
        guest: Guest {
            root: essential(Phrase::CannotOpenRoot, Root::open(c"/")),
            initramfs: Initramfs::watch(),
            environment: Environment::of(environment),
            hooks: options.hooks,
            marker,
        },
        commands: TABLE,
        filter: options.filter,
        freeze: Freeze::new(marker, options.freeze_timeout_s),
        files: Files::new(files),
        going_down: None,
        down_ms: NEVER_MS,
        programs: Programs::new(programs),
        os_release: variable(environment, b"QGA_OS_RELEASE"),
        time_zone: variable(environment, b"TZ"),
        log: Log::new(),
    };
    prepare(&mut state, options, environment);
    let signals = essential(Phrase::CannotReadSignals, Signals::new());
    let poll = essential(Phrase::CannotPoll, Poll::new());
    let added = poll.add(&signals, Token::Signals.number(), Interest::Read);
    essential(Phrase::CannotPollSignals, added);
    let mut clients = clients.iter_mut();
    let mut server = Server {
        context: Context {
            state,
            jobs: Jobs::new(),
            poll,
        },
        signals,
        // PID 1 may have children of an earlier run.
        burying: process::is_init(),
        ending: false,
        clients: array::from_fn(|place| match clients.next() {
            Some(memory) => Client::new(place as u32, memory),
            None => unreachable!("there is memory for each client"),
        }),
        listener: None,
        listening: true,
        path: options.path(),
        look_ms: 0,
        uevents: None,
        complained: false,
        strangers_ms: 0,
    };
    if options.method == Method::UnixListen {
        server.listen();
    }
    mem::release_stack();
    server.serve()
}

/// Sees to the machine, if this is its init, and to what an earlier run has left. Then the filter is
/// what it stays.
// Not inlined: the function that calls this never returns, and would keep its stack.
#[inline(never)]
fn prepare(state: &mut State, options: &mut Options, environment: Strings) {
    let State { guest, log, .. } = state;
    let root = &guest.root;
    if options.verbose {
        log.be_verbose();
    }
    let is_init = process::is_init();
    if is_init {
        if Signals::were_taken() {
            process::restore_name();
        } else {
            pid1::set_up(root, log);
        }
        command_line::check_kernel_words(options, root, environment);
    }
    // What is said from here on may have to wait for a thaw.
    let frozen = state.freeze.take_over(log);
    options.report(log);
    if config::look(root, environment, log) == Found::Policy {
        // Frozen file systems must be thawed by somebody.
        if !(is_init || frozen) {
            restart::end(1);
        }
        options.filter.restrict(commands::FAIL_CLOSED);
    }
    state.filter = options.filter;
}

impl Server {
    /// Serves until told to end. Nothing is taken apart then: the kernel closes what is open.
    fn serve(&mut self) -> ! {
        let mut news = News::none();
        loop {
            self.run_timers();
            self.service_clients();
            // The reply of the thaw has left.
            if self.ending && !self.context.state.freeze.is_frozen() {
                restart::end(0);
            }
            let mut left_ms = self.deadline_ms();
            if self.burying {
                left_ms = 0;
            } else if left_ms != NEVER_MS {
                left_ms = left_ms.saturating_sub(clock::boottime_ms());
            }
            essential(
                Phrase::CannotWait,
                self.context.poll.wait(&mut news, left_ms),
            );
            news.each().for_each(|ready| self.handle_event(ready));
            if self.burying {
                self.burying = self.bury();
            }
        }
    }

    fn handle_event(&mut self, ready: Ready) {
        match Token::of(ready.token) {
            Token::Signals => self.read_signal(),
            Token::Uevents => {
                // What they are is seen by looking.
                if let Some(uevents) = &self.uevents {
                    uevents.skip();
                    self.look_ms = 0;
                }
            }
            Token::Listener => self.accept(),
            Token::Program(number) => self.context.state.programs.pump(number),
            Token::Job(place) => {
                let Context { jobs, state, .. } = &mut self.context;
                let clients = &mut self.clients;
                jobs.receive(place, state, &mut |id, event| deliver(id, event, clients));
            }
            Token::Client(place) => {
                if let Some(client) = self.clients.get_mut(place) {
                    if ready.hung_up {
                        client.hang_up();
                    } else {
                        client.arrive();
                    }
                    client.news = true;
                    client.readable = true;
                }
            }
        }
    }

    #[inline(never)]
    fn read_signal(&mut self) {
        let state = &self.context.state;
        match self.signals.read() {
            Some(process::CHLD) => self.burying = true,
            Some(process::INT) if process::is_init() => {
                self.start_own(REBOOT);
            }
            // PID 1 is not to be ended, and a frozen guest needs its agent: it ends after the thaw. An
            // agent that takes the guest down by its own hand ends all others; an init that does it
            // instead may end the agent too, and would wait long for one that does not.
            Some(process::TERM | process::QUIT | process::INT) => {
                let going_down = state.going_down.is_some() && state.down_ms == NEVER_MS;
                self.ending = !(process::is_init() || going_down);
            }
            // SIGHUP too: the agent is a daemon, whether or not it was started from a terminal.
            _ => {}
        }
    }

    /// Buries children that have ended, for one turn of the loop; gives whether more may have ended.
    ///
    /// PID 1 has the orphans of all others, which may end faster than they are buried. When the turn is
    /// over, the agent's own children, which clients wait for, are asked for by their numbers.
    fn bury(&mut self) -> bool {
        let Context { jobs, state, .. } = &mut self.context;
        let clients = &mut self.clients;
        let mut hear = |id, event: jobs::Event<'_>| deliver(id, event, clients);
        let mut end_us = None;
        for buried in 1.. {
            let Some((pid, ended, executed)) = process::reap() else {
                return false;
            };
            jobs.note(pid, executed, state, &mut hear);
            state.programs.note(pid, ended);
            // Most turns bury one child and need no clock.
            if buried > 1 {
                let now_us = clock::boottime_us();
                if now_us >= *end_us.get_or_insert(now_us + REAP_TURN_US) {
                    break;
                }
            }
        }
        let mut own = heapless::Vec::<i32, { CHILDREN + MOST_PROGRAMS }>::new();
        own.extend(jobs.running());
        own.extend(state.programs.running());
        for &pid in &own {
            if let Some((ended, executed)) = process::reap_child(pid) {
                jobs.note(pid, executed, state, &mut hear);
                state.programs.note(pid, ended);
            }
        }
        true
    }

    fn complain(&mut self, level: Level, what: Phrase, errno: Errno) {
        let log = &mut self.context.state.log;
        log.failure(level, what, b"", errno);
    }

    // Clients.

    /// Listens for clients at the path given; an init of the machine that cannot goes on without.
    // Not inlined, for the same reason as `prepare`.
    #[inline(never)]
    fn listen(&mut self) {
        let opened = stream::listen_unix(self.path).and_then(|socket| {
            let poll = &self.context.poll;
            poll.add(&socket, Token::Listener.number(), Interest::Read)?;
            Ok(socket)
        });
        let log = &mut self.context.state.log;
        match opened {
            Ok(socket) => {
                self.listener = Some(socket);
                self.look_ms = NEVER_MS;
                return;
            }
            Err(Errno::NOTSOCK) => log.say(Level::Error, Phrase::NotSocket, &[self.path]),
            Err(errno) => {
                let what = Phrase::CannotOpenChannel;
                log.failure(Level::Error, what, self.path, errno);
            }
        }
        if !process::is_init() {
            restart::end(1);
        }
        self.path = channel::DEFAULT_PORT;
    }

    fn accept(&mut self) {
        // The kernel tells again of those that are left, so that a flood of them does not hold up
        // anybody else.
        for _ in 0..CLIENTS {
            let Some(listener) = &self.listener else {
                return;
            };
            let Some(place) = self.clients.iter().position(Client::is_free) else {
                return self.listen_for(Interest::Nothing);
            };
            match stream::accept(listener) {
                Ok(fd) => match stream::peer_user(&fd) {
                    uid if may_connect(uid) => self.take_in(place, fd, Kind::Connection),
                    uid => self.turn_away(uid),
                },
                // None waits, or it gave up before its turn, which is no failure of the channel.
                Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return,
                Err(errno) => {
                    self.complain(Level::Error, Phrase::CannotAccept, errno);
                    // Not asked again at once, but for the next connection or when a client leaves.
                    return self.listen_for(Interest::Change);
                }
            }
        }
    }

    /// Takes note of a stranger, whose connection is closed: whoever may ask the agent is root.
    fn turn_away(&mut self, uid: u32) {
        let now_ms = clock::boottime_ms();
        if now_ms >= self.strangers_ms {
            self.strangers_ms = now_ms.saturating_add(STRANGERS_MS);
            let uid = Digits::unsigned(uid.into());
            let log = &mut self.context.state.log;
            log.say(Level::Error, Phrase::StrangerRefused, &[uid.as_bytes()]);
        }
    }

    /// Listens for connections, or, with all places taken, leaves them to wait in the kernel.
    fn listen_for(&mut self, interest: Interest) {
        let wanted = interest == Interest::Read;
        if let Some(listener) = &self.listener
            && self.listening != wanted
            && self
                .context
                .poll
                .modify(listener, Token::Listener.number(), interest)
                .is_ok()
        {
            self.listening = wanted;
        }
    }

    #[inline(never)]
    fn take_in(&mut self, place: usize, fd: OwnedFd, kind: Kind) {
        let token = Token::Client(place).number();
        if let Err(errno) = self.context.poll.add(&fd, token, Interest::Read) {
            return self.complain(Level::Error, Phrase::CannotPollClient, errno);
        }
        if let Some(client) = self.clients.get_mut(place) {
            client.take_in(fd, kind);
        }
    }

    /// Does all that can be done now for the clients that have news.
    #[inline(never)]
    fn service_clients(&mut self) {
        let mut gone = None;
        for client in &mut self.clients {
            if client.busy == Busy::Turn && !self.context.jobs.exclusive_runs() {
                client.wait(Busy::No);
                dispatch::handle(Event::Message, client, &mut self.context);
                client.news = true;
            }
            if !core::mem::take(&mut client.news) {
                continue;
            }
            match serve(client, &mut self.context) {
                Ok(()) => client.watch(&self.context.poll),
                Err(errno) => {
                    client.let_go(&self.context.poll);
                    gone = Some(errno);
                }
            }
        }
        let Some(errno) = gone else { return };
        if self.listener.is_some() {
            return self.listen_for(Interest::Read);
        }
        self.complain(Level::Notice, Phrase::PortGone, errno);
        // Not looked for at once: a device that opens and then fails would be tried for ever.
        self.look_again(REOPEN_MS);
    }

    // The port.

    fn look_again(&mut self, wait_ms: u64) {
        self.look_ms = clock::in_ms(wait_ms);
        self.complained = true;
    }

    #[inline(never)]
    fn look_for_port(&mut self) {
        // The kernel is asked for news first, so that a port that comes while it is looked for is
        // not missed.
        let is_missed = self.uevents.is_some();
        if !is_missed {
            let poll = &self.context.poll;
            let heard = |uevents: &Uevents| {
                poll.add(uevents, Token::Uevents.number(), Interest::Read)
                    .is_ok()
            };
            self.uevents = Uevents::open().ok().filter(heard);
        }
        let complained = core::mem::take(&mut self.complained);
        let state = &mut self.context.state;
        state.guest.find_root();
        self.look_ms = NEVER_MS;
        match channel::open_port(&state.guest.root, self.path) {
            Ok(port) => {
                self.uevents = None;
                state.log.say(Level::Detail, Phrase::PortOpen, &[self.path]);
                self.take_in(0, port, Kind::Port);
            }
            Err(errno) if channel::says_missing(errno) && self.uevents.is_some() => {
                if !is_missed {
                    let waits = Phrase::WaitingForPort;
                    state.log.say(Level::Notice, waits, &[self.path]);
                }
            }
            Err(errno) => {
                self.uevents = None;
                if !complained {
                    let what = Phrase::CannotOpenChannel;
                    state.log.failure(Level::Error, what, self.path, errno);
                }
                self.look_again(RETRY_MS);
            }
        }
    }

    // Deadlines.

    /// When to wake up at the latest.
    #[inline(never)]
    fn deadline_ms(&self) -> u64 {
        let state = &self.context.state;
        let own_ms = self.look_ms.min(state.down_ms);
        let jobs_ms = self.context.jobs.deadline_ms();
        own_ms.min(state.freeze.deadline_ms()).min(jobs_ms)
    }

    fn run_timers(&mut self) {
        let deadline_ms = self.deadline_ms();
        if deadline_ms == NEVER_MS {
            return;
        }
        let now_ms = clock::boottime_ms();
        let Context { jobs, state, .. } = &mut self.context;
        let clients = &mut self.clients;
        let mut hear = |id, event: jobs::Event<'_>| deliver(id, event, clients);
        jobs.give_up_late(now_ms, state, &mut hear);
        if state.freeze.deadline_ms() <= now_ms {
            match state.freeze.phase() {
                Phase::Freezing | Phase::Thawing
                    if state.freeze.waits_for_hooks(state.guest.hooks.hook_ms()) => {}
                Phase::Freezing | Phase::Thawing => {
                    jobs.give_up_exclusive(state, &mut hear);
                }
                _ if jobs.exclusive_runs() => state.freeze.postpone(),
                _ => self.start_own(LATE_THAW),
            }
        }
        if self.context.state.down_ms <= now_ms {
            // Tried again, should another command have its turn just now.
            self.context.state.down_ms = clock::in_ms(RETRY_MS);
            self.start_own(BY_FORCE);
        }
        if self.look_ms <= now_ms {
            self.look_for_port();
        }
    }

    /// Starts a slow command of the agent's own, which nobody gets a reply for.
    fn start_own(&mut self, number: u8) {
        let context = &mut self.context;
        let Some(task) = Task::of(number).filter(|_| !context.jobs.exclusive_runs()) else {
            return;
        };
        context.state.guest.find_root();
        let mut out = Discard;
        let mut reply = Reply::new(&mut out);
        let _ = dispatch::start(
            &task,
            &Args::none(),
            b"",
            ClientId::AGENT,
            context,
            &mut reply,
        );
    }
}

/// Deals with all that a client sent and takes, as far as it goes without waiting.
fn serve(client: &mut Client, context: &mut Context) -> Result<(), Errno> {
    let mut reads = 0;
    loop {
        loop {
            match client.next_event() {
                Event::NeedMore => break,
                event => dispatch::handle(event, client, context),
            }
        }
        if client.reads_file() {
            file_stream::go_on(client, context);
            reads += 1;
        }
        client.write()?;
        if client.can_go_on() || (reads < READS && client.reads_file()) {
            continue;
        }
        // Only changes of a port whose host is away are news, so it is read until there is no more.
        if !client.is_away() && (reads >= READS || !client.readable) {
            return Ok(());
        }
        match client.read()? {
            Filled::Whole => reads += 1,
            // It has likely taken all there was; if not, the next wait tells.
            Filled::Part => client.readable = false,
            Filled::Not => return Ok(()),
        }
    }
}
