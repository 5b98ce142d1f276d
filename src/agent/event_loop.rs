//! The loop: waits for events on all descriptors at once, and handles them.
//!
//! The descriptors are those of signals, listeners, clients, children and programs, and the
//! kernel's device events while a port is missing. The loop wakes up only for an event or a
//! deadline: with no host connected and nothing to do it sleeps for good. No descriptor in it ever
//! blocks.

use super::channel::Channels;
use super::child::Report;
use super::client::{self, Busy, Client};
use super::context::Context;
use super::daemon::{Starter, hold_pid_file};
use super::deliver::deliver;
use super::ids::{ClientId, Token};
use super::jobs::Jobs;
use super::ready::ReadySignal;
use super::texts::AgentPhrase;
use super::{dispatch, restart, service};
use crate::base::limits::{CHILDREN, CLIENTS, PROGRAMS, REAP_TURN_US, REST_MS};
use crate::base::sink::Discard;
use crate::commands::{BY_FORCE, HAS_PROGRAMS, LATE_THAW, REBOOT, Task};
use crate::state::State;
use crate::state::freeze::Phase;
use crate::state::log::Level;
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::poll::{News, Poll, Ready};
use crate::sys::process::{self, Ended};
use crate::sys::signal::Signals;
use crate::sys::{fault, mem};
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
    /// The parent of a daemon, until the first turn is over.
    pub(super) starter: Starter,
    /// Whether [`Server::start_or_end`] has something to do.
    starts_or_ends: bool,
    /// Whether the agent is to end as soon as nothing is frozen.
    ending: bool,
    ready: ReadySignal,
    pub(super) channels: Channels,
    pub(super) context: Context,
    pub(super) clients: [Client; CLIENTS],
}

impl Server {
    /// A server of these channels. Its clients rest in `memory`.
    pub(super) fn new(
        channels: Channels,
        ready: ReadySignal,
        state: State,
        poll: Poll,
        signals: Signals,
        memory: &'static mut [client::Memory; CLIENTS],
    ) -> Self {
        let mut memory = memory.iter_mut();
        Self {
            signals,
            // PID 1 may have children of an earlier run.
            must_reap: process::is_init(),
            starter: Starter::default(),
            starts_or_ends: true,
            ending: false,
            ready,
            channels,
            context: Context {
                state,
                jobs: Jobs::new(),
                poll,
                turns_to_rest: 0,
            },
            clients: core::array::from_fn(|index| match memory.next() {
                Some(memory) => Client::new(index as u32, memory),
                None => unreachable!("there is memory for each client"),
            }),
        }
    }

    /// Serves until the agent is told to end. It closes nothing then: the kernel does.
    pub(super) fn serve(&mut self) -> ! {
        loop {
            self.turn(NEVER_MS);
        }
    }

    /// Waits for events or the next deadline, at most `limit_ms`, and does what they ask for. Ends
    /// the agent if it was told to end.
    pub(super) fn turn(&mut self, limit_ms: u64) {
        let mut events = News::none();
        let deadline_ms = self.deadline_ms();
        let mut wait_ms = self.wait_ms(deadline_ms).min(limit_ms);
        if self.context.turns_to_rest != 0 {
            wait_ms = self.wait_to_rest(wait_ms);
        }
        let waited = self.context.poll.wait(&mut events, wait_ms);
        restart::essential(AgentPhrase::CannotWait, waited);
        if events.are_none() && self.context.turns_to_rest != 0 {
            self.rest();
        }
        events.each().for_each(|event| self.handle_event(event));
        if self.must_reap {
            self.must_reap = self.reap();
        }
        if deadline_ms != NEVER_MS {
            self.run_timers(clock::boottime_ms());
        }
        if self.context.state.freeze.was_unlocked() {
            // Before a child is made, which would get a copy of all of it. The reply to the thaw still
            // needs its memory, so the agent rests once more later.
            self.rest();
            self.context.rest_soon();
        }
        self.serve_clients();
        if self.starts_or_ends {
            self.start_or_end();
        }
    }

    /// After the first turn, which opens the channels, tells the parent of a daemon. The rest waits until
    /// nothing is frozen, because a frozen guest needs the agent: makes a pid file that could not be
    /// made before, and then ends the agent if it was told to, or gives back the memory of code.
    #[inline(never)]
    fn start_or_end(&mut self) {
        self.starter.release(&mut self.context.state.log);
        if self.context.state.freeze.is_frozen() {
            return;
        }
        self.starts_or_ends = false;
        hold_pid_file(&mut self.context.state);
        if self.ending {
            // The next agent locks the pid file first, and must not find this one at its socket.
            self.channels.stop_listening();
            self.context.state.pid_file.remove();
            restart::end(0);
        }
        // Most code of the start does not run again.
        self.rest();
    }

    /// Gives back the memory that frequent commands do not need. The loop does this at its start, after a
    /// thaw, and once it is quiet for [`REST_MS`] after uncommon work ([`Context::rest_soon`]); then it
    /// sleeps for good. While something is frozen all memory stays.
    #[inline(never)]
    fn rest(&mut self) {
        if self.context.state.freeze.is_frozen() {
            return;
        }
        self.context.turns_to_rest = 0;
        self.clients.iter_mut().for_each(Client::release);
        self.context.state.programs.release();
        fault::release_stack();
        mem::release_stack();
        mem::release_code();
    }

    /// How long a wait for events may take, up to this deadline.
    fn wait_ms(&self, deadline_ms: u64) -> u64 {
        if self.must_reap {
            return 0;
        }
        match deadline_ms {
            NEVER_MS => NEVER_MS,
            deadline_ms => deadline_ms.saturating_sub(clock::boottime_ms()),
        }
    }

    /// Gives memory back if that is due however busy the loop is. Returns how long to wait until the loop
    /// counts as quiet, `wait_ms` at most.
    #[inline(never)]
    fn wait_to_rest(&mut self, wait_ms: u64) -> u64 {
        if self.context.state.freeze.is_frozen() {
            return wait_ms;
        }
        self.context.turns_to_rest -= 1;
        if self.context.turns_to_rest == 0 {
            self.rest();
            return wait_ms;
        }
        wait_ms.min(REST_MS)
    }

    fn handle_event(&mut self, event: Ready) {
        match Token::of(event.token) {
            Token::Signals => self.read_signal(),
            Token::Uevents => self.channels.device_event(),
            Token::Ready => {
                self.context.rest_soon();
                self.ready.write(&mut self.context.state.log);
            }
            Token::Channel(id) => {
                self.channels
                    .accept(id, &mut self.clients, &mut self.context);
            }
            Token::Program(number) => {
                if HAS_PROGRAMS {
                    self.context.state.programs.pump(number);
                }
            }
            Token::Child(index) => {
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
        match self.signals.read() {
            Some(process::CHLD) => self.must_reap = true,
            // Ctrl-Alt-Del.
            Some(process::INT) if process::is_init() => self.start_own(REBOOT),
            // PID 1 must not end. An agent that takes the guest down by itself ends all other
            // processes, and must not be ended before. If an init takes it down, the agent ends
            // like any service.
            Some(process::TERM | process::QUIT | process::INT) => {
                let state = &self.context.state;
                let going_down = state.going_down.is_some() && state.down_ms == NEVER_MS;
                self.ending = !(process::is_init() || going_down);
                self.starts_or_ends = true;
            }
            // The agent is a daemon, even if it was started from a terminal.
            Some(process::HUP) => {
                self.context.rest_soon();
                let log = &mut self.context.state.log;
                if let Err(errno) = log.open() {
                    log.failure(Level::Error, AgentPhrase::CannotOpenLog, b"", errno);
                }
            }
            _ => {}
        }
    }

    /// Reaps children that have ended, for [`REAP_TURN_US`] at most; returns whether there may be
    /// more.
    ///
    /// PID 1 has all orphans of the guest, which may end faster than it reaps them. So when the
    /// time is over it asks for the agent's own children by their numbers: clients wait for these.
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
    pub(super) fn reap_own(&mut self) {
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
        if HAS_PROGRAMS {
            state.programs.note(pid, ended);
        }
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
    pub(super) fn run_timers(&mut self, now_ms: u64) {
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
            self.context.rest_soon();
            self.channels
                .open_due(now_ms, &mut self.clients, &mut self.context);
            if self.channels.has_open() {
                let Context { poll, state, .. } = &mut self.context;
                self.ready.send(&state.guest.root, poll, &mut state.log);
            }
        }
    }

    /// Starts a task of the agent's own, whose reply is dropped, unless a task runs that excludes
    /// it.
    fn start_own(&mut self, index: u8) {
        let context = &mut self.context;
        let Some(task) = Task::of(index).filter(|_| !context.jobs.exclusive_runs()) else {
            return;
        };
        context.rest_soon();
        context.state.guest.find_root();
        let mut out = Discard;
        let mut reply = Reply::new(&mut out);
        let args = Args::none();
        let id = ClientId::AGENT;
        let _ = dispatch::start(&task, &args, b"", id, context, &mut reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::Agent;
    use crate::base::limits::{TURNS_TO_REST, USER_TASK_MS};
    use crate::state::freeze::FreezeEvent;

    const PING: &str = r#"{"execute": "guest-ping"}"#;
    const PONG: &str = r#"{"return": {}}"#;
    /// A child of its own runs this.
    const KEYS: &str =
        r#"{"execute": "guest-ssh-get-authorized-keys", "arguments": {"username": "x"}}"#;

    fn ping(id: u32) -> String {
        format!(r#"{{"execute": "guest-ping", "id": {id}}}"#)
    }

    fn pong(id: u32) -> String {
        format!(r#"{{"return": {{}}, "id": {id}}}"#)
    }

    #[test]
    fn answers_a_ping_over_a_socket_pair() {
        let mut agent = Agent::new();
        let mut host = agent.connect();
        assert_eq!(agent.ask(&mut host, PING), PONG);
        assert_eq!(agent.ask(&mut host, &ping(7)), pong(7));
    }

    #[test]
    fn answers_a_message_that_comes_in_parts_when_it_is_whole() {
        let mut agent = Agent::new();
        let mut host = agent.connect();
        let request = ping(1);
        for at in 1..request.len() {
            let (first, rest) = request.split_at(at);
            host.send(first.as_bytes());
            agent.turn();
            agent.turn();
            assert_eq!(host.line(), None, "{first}");
            assert_eq!(agent.ask(&mut host, rest), pong(1));
        }
    }

    #[test]
    fn garbage_is_an_error_and_0xff_begins_anew() {
        let mut agent = Agent::new();
        let mut host = agent.connect();
        host.send(b"garbage\n");
        let error = agent.reply(&mut host);
        assert!(error.contains("JSON parse error"), "{error}");
        assert_eq!(agent.ask(&mut host, PING), PONG);
        // Half a request that will never be whole.
        host.send(b"{\"execute\": {\"arguments\": [\xff");
        let error = agent.reply(&mut host);
        assert!(error.contains("JSON parse error"), "{error}");
        assert_eq!(agent.ask(&mut host, PING), PONG);
        assert_eq!(host.line(), None);
    }

    #[test]
    fn pipelined_requests_are_answered_in_order_around_a_slow_one() {
        let mut agent = Agent::new();
        let worker = agent.stopped_worker();
        let mut host = agent.connect();
        let slow = r#"{"execute": "guest-get-fsinfo", "id": 2}"#;
        host.send(
            [&ping(1), slow, &ping(3), slow, &ping(5)]
                .concat()
                .as_bytes(),
        );
        assert_eq!(agent.reply(&mut host), pong(1));
        // Another client is answered meanwhile.
        let mut other = agent.connect();
        assert_eq!(agent.ask(&mut other, PING), PONG);
        assert_eq!(host.line(), None);
        process::kill(worker, process::CONT).unwrap();
        for id in [2, 3, 2, 5] {
            let reply = agent.reply(&mut host);
            assert!(reply.ends_with(&format!("\"id\": {id}}}")), "{reply}");
        }
        assert_eq!(agent.children(), [worker], "one worker does it all");
    }

    #[test]
    fn client_that_leaves_while_its_task_runs_makes_room_when_it_is_over() {
        let mut agent = Agent::new();
        let worker = agent.stopped_worker();
        let mut host = agent.connect();
        host.send(br#"{"execute": "guest-get-fsinfo"}"#);
        agent.until(|agent| agent.is_working().then_some(()));
        drop(host);
        let mut next = agent.connect();
        assert_eq!(agent.ask(&mut next, &ping(1)), pong(1));
        assert!(agent.is_working());
        process::kill(worker, process::CONT).unwrap();
        let clients = |agent: &Agent| {
            let clients = agent.server.clients.iter();
            clients.filter(|client| !client.is_free()).count()
        };
        agent.until(|agent| (clients(agent) == 1).then_some(()));
        assert!(!agent.is_working());
        assert_eq!(next.line(), None);
        assert_eq!(agent.ask(&mut next, &ping(2)), pong(2));
    }

    #[test]
    fn child_that_dies_at_work_is_an_error_in_its_place() {
        let mut agent = Agent::new();
        let worker = agent.stopped_worker();
        let mut host = agent.connect();
        let slow = r#"{"execute": "guest-get-fsinfo", "id": 1}"#;
        host.send([slow, &ping(2)].concat().as_bytes());
        agent.until(|agent| agent.is_working().then_some(()));
        process::kill(worker, process::KILL).unwrap();
        let error =
            r#"{"class": "GenericError", "desc": "child process has terminated abnormally"}"#;
        let reply = agent.reply(&mut host);
        assert_eq!(reply, format!(r#"{{"error": {error}, "id": 1}}"#));
        assert_eq!(agent.reply(&mut host), pong(2));
        assert!(agent.children().is_empty(), "it is reaped");
    }

    #[test]
    fn task_whose_time_is_over_is_given_up() {
        let mut agent = Agent::new();
        let mut host = agent.connect();
        let task =
            r#"{"execute": "guest-ssh-get-authorized-keys", "arguments": {"username": "x"}}"#;
        let earliest_ms = clock::in_ms(USER_TASK_MS);
        host.send(task.as_bytes());
        agent.until(|agent| agent.is_working().then_some(()));
        let latest_ms = clock::in_ms(USER_TASK_MS);
        let due_ms = agent.server.deadline_ms();
        assert!((earliest_ms..=latest_ms).contains(&due_ms));
        agent.server.run_timers(due_ms - 1);
        assert!(agent.is_working());
        agent.server.run_timers(due_ms);
        assert!(!agent.is_working());
        let reply = agent.reply(&mut host);
        assert!(reply.contains("terminated abnormally"), "{reply}");
        assert_eq!(agent.ask(&mut host, PING), PONG);
    }

    #[test]
    fn the_agent_rests_once_it_is_quiet_after_uncommon_work() {
        let mut agent = Agent::new();
        let mut host = agent.connect();
        agent.settle();
        let rests_in = |agent: &Agent| agent.server.context.turns_to_rest;
        assert_eq!(rests_in(&agent), 0);
        agent.ask(&mut host, PING);
        agent.ask(&mut host, r#"{"execute": "guest-get-load"}"#);
        assert_eq!(rests_in(&agent), 0, "the next wait has no limit");
        host.send(KEYS.as_bytes());
        agent.turn();
        assert_eq!(rests_in(&agent), TURNS_TO_REST);
        agent.reply(&mut host);
        agent.settle();
        assert_eq!(rests_in(&agent), 0);
        // Pings without a pause do not put that off for ever.
        let mut other = agent.connect();
        agent.ask(&mut other, PING);
        host.send(KEYS.as_bytes());
        agent.turn();
        for left in (0..TURNS_TO_REST).rev() {
            other.send(PING.as_bytes());
            agent.turn();
            assert_eq!(rests_in(&agent), left);
        }
    }

    #[test]
    fn the_agent_does_not_rest_while_frozen() {
        let mut agent = Agent::new();
        agent.settle();
        let note = |agent: &mut Agent, event| {
            let State { freeze, log, .. } = &mut agent.server.context.state;
            freeze.note(event, log);
        };
        note(&mut agent, FreezeEvent::Freeze);
        note(&mut agent, FreezeEvent::Froze);
        agent.server.context.rest_soon();
        agent.settle();
        assert_eq!(agent.server.context.turns_to_rest, TURNS_TO_REST);
        note(&mut agent, FreezeEvent::Thaw);
        note(&mut agent, FreezeEvent::Thawed);
        agent.settle();
        assert_eq!(agent.server.context.turns_to_rest, 0);
    }

    #[test]
    fn reply_larger_than_the_sockets_buffer_leaves_as_the_host_reads_it() {
        let mut agent = Agent::new();
        let mut host = agent.connect();
        // The reply repeats the id.
        let id = "x".repeat(2 << 20);
        let request = format!(r#"{{"execute": "guest-ping", "id": "{id}"}}"#);
        let mut left = request.as_bytes();
        agent.until(|_| {
            left = &left[host.send_some(left)..];
            left.is_empty().then_some(())
        });
        host.send(PING.as_bytes());
        let mut other = agent.connect();
        assert_eq!(agent.ask(&mut other, PING), PONG);
        // A slow reader: a little of it, then all.
        agent.until(|_| (host.receive(1000).len() > 10_000).then_some(()));
        let reply = agent.reply(&mut host);
        assert!(reply == format!(r#"{{"return": {{}}, "id": "{id}"}}"#));
        assert_eq!(agent.reply(&mut host), PONG);
    }

    #[test]
    fn unknown_and_blocked_commands_are_not_found() {
        let mut agent = Agent::new();
        let mut host = agent.connect();
        let reply = agent.ask(&mut host, r#"{"execute": "guest-none"}"#);
        assert!(reply.contains("CommandNotFound"), "{reply}");
        assert!(reply.contains("has not been found"), "{reply}");
        agent.server.context.state.filter.restrict(0);
        let reply = agent.ask(&mut host, PING);
        assert!(reply.contains("CommandNotFound"), "{reply}");
        assert!(reply.contains("is not allowed"), "{reply}");
    }
}
