//! The loop: waits for events on all descriptors at once, and handles them.
//!
//! The descriptors are those of signals, listeners, clients, children and programs, and the kernel's
//! device events while a port is missing. The loop wakes up only for an event or a deadline: with no
//! host connected and nothing to do it sleeps for good. No descriptor in it ever blocks.

use super::channel::Channels;
use super::client::{self, Busy, Client};
use super::context::Context;
use super::deliver::deliver;
use super::ids::{ClientId, Token};
use super::jobs::Report;
use super::texts::AgentPhrase;
use super::{dispatch, restart, service};
use crate::base::limits::{CHILDREN, CLIENTS, PROGRAMS, REAP_TURN_US};
use crate::base::store::Discard;
use crate::commands::{BY_FORCE, LATE_THAW, REBOOT, Task};
use crate::state::freeze::Phase;
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::poll::{News, Ready};
use crate::sys::process::{self, Ended};
use crate::sys::signal::Signals;
use crate::wire::args::Args;
use crate::wire::frame::Event;
use crate::wire::reply::Reply;

/// Milliseconds after which the agent tries again to take the guest down by force, should another
/// command that excludes it run when it is due.
const FORCE_RETRY_MS: u64 = 10_000;

/// The agent while it serves.
pub(super) struct Server {
    signals: Signals,
    /// Whether children may have ended that are not reaped yet.
    must_reap: bool,
    /// Whether the agent is to end as soon as nothing is frozen.
    ending: bool,
    channels: Channels,
    context: Context,
    clients: [Client; CLIENTS],
}

impl Server {
    /// A server of these channels. Its clients rest in `memory`.
    pub(super) fn new(
        channels: Channels,
        context: Context,
        signals: Signals,
        memory: &'static mut [client::Memory; CLIENTS],
    ) -> Self {
        let mut memory = memory.iter_mut();
        Self {
            signals,
            // PID 1 may have children of an earlier run.
            must_reap: process::is_init(),
            ending: false,
            channels,
            context,
            clients: core::array::from_fn(|index| match memory.next() {
                Some(memory) => Client::new(index as u32, memory),
                None => unreachable!("there is memory for each client"),
            }),
        }
    }

    /// Waits for events or the next deadline, at most `limit_ms`, and does what they ask for. Ends the
    /// agent if it was told to end.
    pub(super) fn turn(&mut self, limit_ms: u64) {
        let mut events = News::none();
        let wait_ms = self.wait_ms().min(limit_ms);
        let waited = self.context.poll.wait(&mut events, wait_ms);
        restart::essential(AgentPhrase::CannotWait, waited);
        events.each().for_each(|event| self.handle_event(event));
        if self.must_reap {
            self.must_reap = self.reap();
        }
        self.run_timers();
        self.serve_clients();
        // A frozen guest needs its agent: it ends after the thaw, and after the reply to it.
        if self.ending && !self.context.state.freeze.is_frozen() {
            restart::end(0);
        }
    }

    /// How long the next wait may take.
    fn wait_ms(&self) -> u64 {
        if self.must_reap {
            return 0;
        }
        match self.deadline_ms() {
            NEVER_MS => NEVER_MS,
            deadline_ms => deadline_ms.saturating_sub(clock::boottime_ms()),
        }
    }

    fn handle_event(&mut self, event: Ready) {
        match Token::of(event.token) {
            Token::Signals => self.read_signal(),
            Token::Uevents => self.channels.device_event(),
            Token::Channel(id) => {
                self.channels
                    .accept(id, &mut self.clients, &mut self.context);
            }
            Token::Program(number) => self.context.state.programs.pump(number),
            Token::Job(index) => {
                let Context { jobs, state, .. } = &mut self.context;
                let clients = &mut self.clients;
                jobs.receive(index, state, &mut |id, report| deliver(id, report, clients));
            }
            Token::Client(index) => {
                if let Some(client) = self.clients.get_mut(index) {
                    if event.hung_up {
                        client.hang_up();
                    } else {
                        client.arrive();
                    }
                    client.has_events = true;
                    client.readable = true;
                }
            }
        }
    }

    /// Serves all clients that have events.
    #[inline(never)]
    fn serve_clients(&mut self) {
        let Self {
            channels,
            context,
            clients,
            ..
        } = self;
        for client in clients {
            if client.busy == Busy::Turn && !context.jobs.exclusive_runs() {
                client.wait(Busy::No);
                dispatch::handle(Event::Message, client, context);
                client.has_events = true;
            }
            if !core::mem::take(&mut client.has_events) {
                continue;
            }
            match service::serve(client, context) {
                Ok(()) => client.watch(&context.poll),
                Err(errno) => {
                    client.close(&context.poll);
                    channels.client_left(client.channel, errno, context);
                }
            }
        }
    }

    // Signals and children.

    #[inline(never)]
    fn read_signal(&mut self) {
        let state = &self.context.state;
        match self.signals.read() {
            Some(process::CHLD) => self.must_reap = true,
            // Ctrl-Alt-Del.
            Some(process::INT) if process::is_init() => self.start_own(REBOOT),
            // PID 1 must not end. An agent that takes the guest down by itself ends all other processes,
            // and must not be ended before. If an init takes it down, the agent ends like any service.
            Some(process::TERM | process::QUIT | process::INT) => {
                let going_down = state.going_down.is_some() && state.down_ms == NEVER_MS;
                self.ending = !(process::is_init() || going_down);
            }
            // SIGHUP: the agent is a daemon, even if it was started from a terminal.
            _ => {}
        }
    }

    /// Reaps children that have ended, for [`REAP_TURN_US`] at most; returns whether there may be more.
    ///
    /// PID 1 has all orphans of the guest, which may end faster than it reaps them. So when the time is
    /// over it asks for the agent's own children by their numbers: clients wait for these.
    fn reap(&mut self) -> bool {
        let mut end_us = None;
        for reaped in 1.. {
            let Some((pid, ended, executed)) = process::reap() else {
                return false;
            };
            self.child_ended(pid, ended, executed);
            // Most turns reap one child, and need no clock.
            if reaped > 1 {
                let now_us = clock::boottime_us();
                if now_us >= *end_us.get_or_insert(now_us + REAP_TURN_US) {
                    break;
                }
            }
        }
        self.reap_own();
        true
    }

    /// Reaps the children of the agent that have ended, and no others.
    fn reap_own(&mut self) {
        let Context { jobs, state, .. } = &self.context;
        let mut own = heapless::Vec::<i32, { CHILDREN + PROGRAMS }>::new();
        own.extend(jobs.pids());
        own.extend(state.programs.running());
        for &pid in &own {
            if let Some((ended, executed)) = process::reap_child(pid) {
                self.child_ended(pid, ended, executed);
            }
        }
    }

    /// Takes note that a child has ended: how, and whether it had executed a program.
    fn child_ended(&mut self, pid: i32, ended: Ended, executed: bool) {
        let Context { jobs, state, .. } = &mut self.context;
        let clients = &mut self.clients;
        jobs.child_ended(pid, executed, state, &mut |id, report| {
            deliver(id, report, clients);
        });
        state.programs.note(pid, ended);
    }

    // Deadlines.

    /// When to wake up at the latest.
    #[inline(never)]
    fn deadline_ms(&self) -> u64 {
        let Context { jobs, state, .. } = &self.context;
        let freeze_ms = state.freeze.deadline_ms();
        let own_ms = self.channels.deadline_ms().min(state.down_ms);
        own_ms.min(freeze_ms).min(jobs.deadline_ms())
    }

    /// Does what is due.
    fn run_timers(&mut self) {
        if self.deadline_ms() == NEVER_MS {
            return;
        }
        let now_ms = clock::boottime_ms();
        let Context { jobs, state, .. } = &mut self.context;
        let clients = &mut self.clients;
        let mut deliver = |id, report: Report<'_>| deliver(id, report, clients);
        jobs.give_up_late(now_ms, state, &mut deliver);
        if state.freeze.deadline_ms() <= now_ms {
            let hook_ms = state.guest.hooks.hook_ms();
            match state.freeze.phase() {
                Phase::Freezing | Phase::Thawing if state.freeze.waits_for_hooks(hook_ms) => {}
                Phase::Freezing | Phase::Thawing => jobs.give_up_exclusive(state, &mut deliver),
                _ if jobs.exclusive_runs() => state.freeze.postpone(),
                _ => self.start_own(LATE_THAW),
            }
        }
        if self.context.state.down_ms <= now_ms {
            self.context.state.down_ms = clock::in_ms(FORCE_RETRY_MS);
            self.start_own(BY_FORCE);
        }
        if self.channels.deadline_ms() <= now_ms {
            self.channels
                .open_ports(now_ms, &mut self.clients, &mut self.context);
        }
    }

    /// Starts a task of the agent's own, whose reply is dropped, unless a task runs that excludes it.
    fn start_own(&mut self, number: u8) {
        let context = &mut self.context;
        let Some(task) = Task::of(number).filter(|_| !context.jobs.exclusive_runs()) else {
            return;
        };
        context.state.guest.find_root();
        let mut out = Discard;
        let mut reply = Reply::new(&mut out);
        let args = Args::none();
        let id = ClientId::AGENT;
        let _ = dispatch::start(&task, &args, b"", id, context, &mut reply);
    }
}
