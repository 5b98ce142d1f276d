//! The loop.
//!
//! One set of descriptors is waited for: signals, the channel, its clients, the pipes of slow
//! commands, and, while a port is missing, the kernel's device events. Nothing in it ever waits for
//! one of them alone, and nothing wakes it but news or a deadline: with no host connected it sleeps
//! for good.

use core::mem::ManuallyDrop;

use super::channel;
use super::client::{AT_REST, Busy, Filled, Kind, Over, Slot};
use super::dispatch::{self, Context};
use super::init;
use super::jobs::Jobs;
use super::options::{Method, Options};
use super::reading;
use crate::base::limits::CLIENTS;
use crate::base::path::Path;
use crate::base::store::{Nothing, Store};
use crate::commands::{self, Outcome, Own, REPLIED_ERROR};
use crate::state::State;
use crate::state::files::Files;
use crate::state::freeze::{Freeze, Phase};
use crate::state::programs::{EMPTY, Programs, TOKENS, Table};
use crate::sys::args::{Strings, variable};
use crate::sys::log::{Level, Log};
use crate::sys::mem::Lent;
use crate::sys::netlink::Uevents;
use crate::sys::poll::{Interest, Poll, Ready};
use crate::sys::root::Root;
use crate::sys::signal::Signals;
use crate::sys::{AsFd, Errno, OwnedFd, clock, log, process, stream, words};
use crate::wire::args::Args;
use crate::wire::frame::Event;
use crate::wire::reply::Reply;

const TWICE: &[u8] = b"started twice";
const CANNOT_LISTEN: &[u8] = b"error opening channel";

/// What all clients rest in.
static MEMORY: Lent<[u8; CLIENTS * AT_REST]> = Lent::new([0; CLIENTS * AT_REST]);
/// What all programs that were started are kept in.
static PROGRAMS: Lent<Table> = Lent::new(EMPTY);

const SIGNALS: u64 = 0;
const UEVENTS: u64 = 1;
const LISTENER: u64 = 2;
/// The first client; the others follow.
const CLIENT: u64 = 0x100;
/// The first job; the others follow.
pub(super) const JOB: u64 = 0x200;

/// Reads of one client before others are looked at.
const READS: usize = 16;

/// How long after a port that is there could not be opened it is tried again. Another agent that
/// holds it says nothing when it ends.
const RETRY_MS: u64 = 10_000;

/// How long after a port broke it is looked for again.
const REOPEN_MS: u64 = 200;

/// Where clients come from, and how that stands.
enum Channel {
    /// A virtio port: open in the first place for clients.
    Port,
    /// A virtio port that is not there; the kernel tells when to look again.
    NoPort(Uevents),
    /// A virtio port that cannot be opened, tried again then.
    DeadPort(u64),
    /// A socket for connections, and whether it is waited for: not while all places are taken.
    Listener(OwnedFd, bool),
}

/// How long PID 1 waits before it starts anew, so that a fault that stays does not fill the console.
const RESTART_MS: u32 = 1_000;

/// Serves until told to end.
pub(super) fn run(options: &Options, environment: Strings) -> ! {
    // Never dropped: the kernel closes what is open, and taking it apart here would be code for
    // nothing.
    let mut server = ManuallyDrop::new(Server::start(options, environment));
    server.run();
    end(0)
}

/// Ends the agent. PID 1 may not end: that would be the end of the guest. It starts anew instead.
fn end(status: i32) -> ! {
    if process::is_init() {
        clock::sleep_ms(RESTART_MS);
        process::start_anew();
    }
    process::exit(status)
}

/// Ends the agent, which cannot go on.
fn give_up(what: &[u8], errno: Errno) -> ! {
    log::last_words(&[what, b": ", &words(errno)]);
    end(1)
}

/// What there is if `result` is well; otherwise the end.
fn essential<T>(what: &[u8], result: Result<T, Errno>) -> T {
    result.unwrap_or_else(|errno| give_up(what, errno))
}

struct Server {
    state: State,
    poll: Poll,
    signals: Signals,
    channel: Channel,
    path: &'static [u8],
    slots: [Slot; CLIENTS],
    jobs: Jobs,
}

/// A socket to accept clients from.
fn listener(poll: &Poll, path: &'static [u8]) -> Result<Channel, Errno> {
    let place = Path::of(&[path]);
    let socket = place
        .as_c_str()
        .ok_or(Errno::NAMETOOLONG)
        .and_then(stream::listen_unix);
    socket.and_then(|socket| {
        poll.add(&socket, LISTENER, Interest::Read)?;
        Ok(Channel::Listener(socket, true))
    })
}

impl Server {
    fn start(options: &Options, environment: Strings) -> Self {
        let mut log = Log::new();
        if options.verbose {
            log.be_verbose();
        }
        let root = essential(b"cannot open /", Root::open(c"/"));
        if process::is_init() {
            init::set_up(&root, &mut log);
        }
        let signals = essential(b"cannot read signals", Signals::new());
        let poll = essential(b"cannot poll", Poll::new());
        let added = poll.add(&signals, SIGNALS, Interest::Read);
        essential(b"cannot poll signals", added);

        let freeze = Freeze::new(options.state_directory, options.freeze_timeout_s);
        let programs = essential(TWICE, PROGRAMS.take().ok_or(Errno::BUSY));
        let mut state = State {
            root,
            log,
            filter: options.filter,
            freeze,
            files: Files::default(),
            going_down: None,
            programs: Programs::new(environment, programs),
            os_release: variable(environment, b"QGA_OS_RELEASE"),
            time_zone: variable(environment, b"TZ"),
        };
        state.freeze.take_over(&mut state.log);

        let memory = essential(TWICE, MEMORY.take().ok_or(Errno::BUSY));
        let mut memory = memory.chunks_exact_mut(AT_REST);
        let slots = [(); CLIENTS].map(|()| Slot::new(memory.next().unwrap_or_default()));
        let mut path = options.path.unwrap_or(channel::DEFAULT_PORT);
        let channel = match options.method {
            Method::VirtioSerial => Channel::DeadPort(0),
            Method::UnixListen => match listener(&poll, path) {
                Ok(made) => made,
                Err(errno) => {
                    if !process::is_init() {
                        give_up(CANNOT_LISTEN, errno);
                    }
                    log::last_words(&[CANNOT_LISTEN, b": ", &words(errno)]);
                    path = channel::DEFAULT_PORT;
                    Channel::DeadPort(0)
                }
            },
        };
        let mut server = Self {
            state,
            poll,
            signals,
            channel,
            path,
            slots,
            jobs: Jobs::new(),
        };
        if matches!(server.channel, Channel::DeadPort(_)) {
            server.look_for_port();
        }
        server
    }

    /// Serves until told to end.
    fn run(&mut self) {
        loop {
            let timeout_ms = self
                .deadline_ms()
                .map(|deadline_ms| deadline_ms.saturating_sub(clock::boottime_ms()));
            essential(b"cannot wait", self.poll.wait(timeout_ms));
            let mut position = 0;
            while let Some(ready) = self.poll.news(position) {
                position += 1;
                if self.react(ready) == Flow::End {
                    return;
                }
            }
            self.keep_deadlines();
            self.settle_jobs();
        }
    }

    fn react(&mut self, ready: Ready) -> Flow {
        match ready.token {
            SIGNALS => return self.hear_signals(),
            UEVENTS => {
                if let Channel::NoPort(uevents) = &self.channel
                    && channel::news(uevents)
                {
                    self.look_for_port();
                }
            }
            LISTENER => self.accept(),
            token if token >= TOKENS => self.state.programs.pump(token),
            token if token >= JOB => {
                let place = usize::try_from(token - JOB).unwrap_or(usize::MAX);
                self.jobs.receive(place, &mut self.slots);
            }
            token => {
                let place = usize::try_from(token - CLIENT).unwrap_or(usize::MAX);
                if let Some(slot) = self.slots.get_mut(place) {
                    if ready.hung_up {
                        slot.hang_up();
                    } else {
                        slot.arrive();
                    }
                }
                self.pump(place);
            }
        }
        Flow::Go
    }

    fn hear_signals(&mut self) -> Flow {
        let told = self.signals.read();
        if told.child {
            while let Some((pid, ended, executed)) = process::reap() {
                self.jobs.note(pid, ended, executed);
                self.state.programs.note(pid, ended);
            }
        }
        if told.ctrl_alt_del {
            self.start_own(commands::shutdown::REBOOT);
        }
        // PID 1 is not to be ended, and a frozen guest needs its agent: killed now, it could thaw
        // the guest only in its next life.
        let needed = process::is_init() || self.state.freeze.is_frozen() || self.going_down();
        if told.end && !needed {
            Flow::End
        } else {
            Flow::Go
        }
    }

    /// Whether the guest is going down by our own hand, which ends all others. An init that takes it
    /// down instead may end the agent too, and would wait long for one that does not.
    fn going_down(&self) -> bool {
        matches!(self.state.going_down, Some((_, None)))
    }

    // Clients.

    fn accept(&mut self) {
        loop {
            let Channel::Listener(listener, _) = &self.channel else {
                return;
            };
            let Some(place) = self.slots.iter().position(Slot::is_free) else {
                break;
            };
            match stream::accept(listener) {
                Ok(Some(fd)) => self.take_in(place, fd, Kind::Connection),
                Ok(None) => return,
                Err(errno) => {
                    self.state
                        .log
                        .line(Level::Error, &[b"cannot accept: ", &words(errno)]);
                    // Not asked again at once, but for the next connection or when a client leaves.
                    return self.listen_for(Interest::Change);
                }
            }
        }
        self.listen_for(Interest::Nothing);
    }

    /// Listens for connections, or, with all places taken, leaves them to wait in the kernel.
    fn listen_for(&mut self, interest: Interest) {
        if let Channel::Listener(listener, listening) = &mut self.channel {
            let wanted = interest == Interest::Read;
            if *listening != wanted && self.poll.modify(&*listener, LISTENER, interest).is_ok() {
                *listening = wanted;
            }
        }
    }

    fn take_in(&mut self, place: usize, fd: OwnedFd, kind: Kind) {
        let token = CLIENT + u64::try_from(place).unwrap_or(0);
        if let Err(errno) = self.poll.add(fd.as_fd(), token, Interest::Read) {
            self.state
                .log
                .line(Level::Error, &[b"cannot poll a client: ", &words(errno)]);
            return;
        }
        if let Some(slot) = self.slots.get_mut(place) {
            slot.take_in(fd, kind);
        }
    }

    /// Does all that can be done now for the client at `place`.
    fn pump(&mut self, place: usize) {
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        let mut context = Context::new(&mut self.state, &mut self.jobs, &self.poll);
        match serve(place, slot, &mut context) {
            Ok(()) => {
                if let Some((fd, interest)) = slot.new_interest() {
                    let token = CLIENT + u64::try_from(place).unwrap_or(0);
                    // Fails only for want of kernel memory, and is tried again at the next change.
                    let _ = self.poll.modify(fd, token, interest);
                }
            }
            Err(over) => self.part_with(place, over),
        }
    }

    fn part_with(&mut self, place: usize, over: Over) {
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        let Some(fd) = slot.let_go() else { return };
        // Closing takes it out of the set only if no child of the agent has it open too.
        let _ = self.poll.remove(&fd);
        drop(fd);
        if !matches!(self.channel, Channel::Port) {
            return self.listen_for(Interest::Read);
        }
        if let Over::Broken(errno) = over {
            let line: &[&[u8]] = &[b"the port is gone: ", &words(errno)];
            self.state.log.line(Level::Notice, line);
        }
        // Not looked for at once: a device that opens and then fails would be tried for ever.
        self.channel = Channel::DeadPort(clock::boottime_ms().saturating_add(REOPEN_MS));
    }

    // The port.

    fn look_for_port(&mut self) {
        // The kernel is asked for news first, so that a port that comes while it is looked for is
        // not missed.
        let was_missing = matches!(self.channel, Channel::NoPort(_));
        let was_dead = matches!(self.channel, Channel::DeadPort(1..));
        if !was_missing
            && let Ok(uevents) = Uevents::open()
            && self.poll.add(&uevents, UEVENTS, Interest::Read).is_ok()
        {
            self.channel = Channel::NoPort(uevents);
        }
        match channel::open_port(&self.state.root, self.path) {
            Ok(port) => {
                self.channel = Channel::Port;
                self.state
                    .log
                    .line(Level::Detail, &[b"port open: ", self.path]);
                self.take_in(0, port, Kind::Port);
                self.pump(0);
            }
            Err(errno)
                if channel::says_missing(errno) && matches!(self.channel, Channel::NoPort(_)) =>
            {
                if !was_missing {
                    self.state
                        .log
                        .line(Level::Notice, &[b"waiting for port ", self.path]);
                }
            }
            Err(errno) => {
                if !was_dead {
                    let line: &[&[u8]] =
                        &[b"error opening channel '", self.path, b"': ", &words(errno)];
                    self.state.log.line(Level::Error, line);
                }
                self.channel = Channel::DeadPort(clock::boottime_ms().saturating_add(RETRY_MS));
            }
        }
    }

    // Deadlines.

    fn deadline_ms(&self) -> Option<u64> {
        let retry = match self.channel {
            Channel::DeadPort(at_ms) => Some(at_ms),
            _ => None,
        };
        let down = self.state.going_down.and_then(|(_, at_ms)| at_ms);
        [self.state.freeze.deadline_ms(), retry, down]
            .into_iter()
            .flatten()
            .min()
    }

    fn keep_deadlines(&mut self) {
        if self
            .deadline_ms()
            .is_none_or(|deadline_ms| clock::boottime_ms() < deadline_ms)
        {
            return;
        }
        let is_due = |at_ms: Option<u64>| at_ms.is_some_and(|at_ms| at_ms <= clock::boottime_ms());
        if is_due(self.state.freeze.deadline_ms()) {
            match self.state.freeze.phase() {
                // When it has ended, the freeze or thaw is lost, and that makes a thaw due.
                Phase::Freezing | Phase::Thawing => {
                    self.state.freeze.wait_for_child();
                    if let Some(owner) = self.jobs.give_up_exclusive() {
                        dispatch::reply(owner, false, None, &mut self.slots);
                        self.pump(owner.place);
                    }
                }
                _ if self.jobs.exclusive_runs() => self.state.freeze.postpone(),
                _ => self.start_own(commands::freeze::LATE_THAW),
            }
        }
        if let Some((how, at_ms)) = self.state.going_down
            && is_due(at_ms)
        {
            // Tried again, should another command have its turn just now.
            let again_ms = clock::boottime_ms().saturating_add(RETRY_MS);
            self.state.going_down = Some((how, Some(again_ms)));
            self.start_own(commands::shutdown::BY_FORCE);
        }
        if let Channel::DeadPort(at_ms) = self.channel
            && is_due(Some(at_ms))
        {
            self.look_for_port();
        }
    }

    // Slow commands.

    /// Starts a slow command of the agent's own, which nobody gets a reply for.
    fn start_own(&mut self, own: Own) {
        if own.exclusive && self.jobs.exclusive_runs() {
            return;
        }
        let mut out = Nothing;
        let mut reply = Reply::new(&mut out, None);
        if (own.slow.begin)(&mut self.state, &Args::none(), &mut reply).is_err() {
            return;
        }
        let mut work = |state: &mut State, out: &mut dyn Store| {
            let mut reply = Reply::new(out, None);
            (own.slow.work)(state, &Args::none(), &mut reply).unwrap_or(REPLIED_ERROR)
        };
        let started = self.jobs.start(
            (own.slow, own.exclusive, own.shares_files),
            None,
            (&self.poll, JOB),
            &mut self.state,
            &mut out,
            &mut work,
        );
        if started.is_err() {
            (own.slow.end)(&mut self.state, Outcome::Lost);
        }
    }

    fn settle_jobs(&mut self) {
        while let Some(finished) = self.jobs.finished(&mut self.slots) {
            let place = finished.owner.map(|owner| owner.place);
            dispatch::finish(finished, &mut self.slots, &mut self.state);
            if let Some(place) = place {
                self.pump(place);
            }
            for place in 0..CLIENTS {
                self.give_turn(place);
            }
        }
    }

    fn give_turn(&mut self, place: usize) {
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        if slot.busy() != Busy::Turn || self.jobs.exclusive_runs() {
            return;
        }
        let mut context = Context::new(&mut self.state, &mut self.jobs, &self.poll);
        dispatch::retry(place, slot, &mut context);
        self.pump(place);
    }
}

/// Deals with all that a client sent and takes, as far as it goes without waiting.
fn serve(place: usize, slot: &mut Slot, context: &mut Context<'_>) -> Result<(), Over> {
    let mut reads = 0;
    loop {
        loop {
            match slot.next_event() {
                Event::NeedMore => break,
                event => dispatch::handle(event, place, slot, context),
            }
        }
        if slot.reads_file() {
            reading::go_on(place, slot, context);
            reads += 1;
        }
        slot.write()?;
        if slot.can_go_on() || (reads < READS && slot.reads_file()) {
            continue;
        }
        // A read that brought less than it asked for has likely taken all there was; if not, the
        // next wait tells.
        if reads >= READS && !slot.is_away() {
            return Ok(());
        }
        match slot.read()? {
            Some(Filled::Whole) => reads += 1,
            Some(Filled::Part) => reads = READS,
            None => return Ok(()),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Flow {
    Go,
    End,
}
