//! Slow commands that run, and the children of the agent that run them.
//!
//! Most run in a worker, a child that stays. While it works, the next task gets another one; of the idle
//! workers of one kind, one is kept. The others get a child of their own (`worker::is_for_worker`). All
//! are made by one function, and report over a socket.
//!
//! The agent goes on meanwhile. A reply leaves only when it is whole; that of a child that died is
//! replaced by an error. When the client is gone by then, the command is carried through all the same and
//! its reply is dropped.
//!
//! Each class of tasks has a quota of children, so that one that is stuck, in a file system that hangs
//! say, keeps nobody else waiting. A task that takes too long is given up: its child is killed, and
//! counts until it is really gone, but how it ends is nobody's concern.
//!
//! guest-exec's child becomes another program, which closes its socket without a word: then the job is
//! over, and the process is no child of this file any more but one of `state::programs`.

use super::ids::{ClientId, Token};
use super::restart;
use super::worker::{self, FRAME_BYTES, REFUSED};
use crate::base::limits::{CHILDREN, QUOTAS, USER_TASK_MS};
use crate::commands::{Class, EXCLUSIVE, Outcome, SHARES_FILES, Task, Ticket};
use crate::state::State;
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::mem;
use crate::sys::poll::{Interest, Poll};
use crate::sys::process::{self, IN_CHILD};
use crate::sys::stream::{self, Read};
use crate::sys::{AsFd, Errno, OwnedFd};

/// What a job has to say.
pub(super) enum Report<'a> {
    /// A piece of its reply.
    Bytes(&'a [u8]),
    /// It is over.
    Over(Outcome),
}

/// Who hears it: the client that the job works for, and what it says.
type Hear<'a> = &'a mut dyn FnMut(ClientId, Report<'_>);

/// A slow command that runs.
struct Job {
    task: Task,
    ticket: Ticket,
    client: ClientId,
    frame: Frame,
    /// When it is given up.
    deadline_ms: u64,
    /// Whether it is to become another program.
    program: bool,
}

/// Borrowed memory of which a worker should not keep a copy.
const HEAVY_BYTES: usize = 256 << 10;

/// What is known of the reply that a child sends: how much of it is still to come, once that was said,
/// and its status.
#[derive(Default)]
struct Frame {
    left: Option<usize>,
    status: u8,
}

impl Frame {
    /// Takes what has come, of which the first piece begins with the frame; gives what of it belongs to
    /// the reply.
    fn take<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        if self.left.is_none()
            && let Some((&[a, b, c, d, status], rest)) = bytes.split_first_chunk::<FRAME_BYTES>()
        {
            self.left = Some(u32::from_ne_bytes([a, b, c, d]) as usize);
            self.status = status;
            bytes = rest;
        }
        self.left = self.left.map(|left| left.saturating_sub(bytes.len()));
        bytes
    }

    /// Whether all of it has come.
    fn is_whole(&self) -> bool {
        self.left == Some(0)
    }
}

/// What a child is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One task after the other.
    Worker {
        /// Whether it shares the agent's descriptors.
        shares_files: bool,
    },
    /// One task.
    Once,
    /// Nothing any more: it was killed.
    Ending,
}

/// A child of the agent.
struct Child {
    pid: i32,
    kind: Kind,
    /// The class of its job, or of its last one.
    class: Class,
    job: Option<Job>,
    /// Whether it has a copy of much memory that the agent had borrowed when it was made.
    is_heavy: bool,
    /// Where it reports, until there is nothing to come.
    socket: Option<OwnedFd>,
    /// The child's end, if it shares the agent's descriptors: keep it open until the child is gone.
    _theirs: Option<OwnedFd>,
}

/// All children, and what they are at.
pub(super) struct Jobs {
    children: [Option<Child>; CHILDREN],
    /// When the next job is to be given up, or earlier.
    deadline_ms: u64,
}

impl Jobs {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            children: core::array::from_fn(|_| None),
            deadline_ms: NEVER_MS,
        }
    }

    fn jobs(&self) -> impl Iterator<Item = &Job> {
        let children = self.children.iter().flatten();
        children.filter_map(|child| child.job.as_ref())
    }

    /// Whether no job runs.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.jobs().next().is_none()
    }

    /// Whether a command that must have its turn alone has it now.
    #[inline(never)]
    pub(super) fn exclusive_runs(&self) -> bool {
        self.jobs().any(|job| job.task.is(EXCLUSIVE))
    }

    /// When [`Jobs::give_up_late`] may have something to do.
    pub(super) fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// Starts a job, for a client or for the agent itself, whose tasks have no message.
    pub(super) fn start(
        &mut self,
        task: &Task,
        ticket: Ticket,
        client: ClientId,
        message: &[u8],
        poll: &Poll,
        state: &mut State,
    ) -> Result<(), Errno> {
        let children = self.children.iter().flatten();
        let busy = children.filter(|child| child.class == task.class() && child.is_busy());
        // Of the vital ones, one is always left for the agent itself.
        let reserved = usize::from(task.class() == Class::Vital && client != ClientId::AGENT);
        if busy.count() + reserved >= QUOTAS[task.class() as usize] {
            return Err(Errno::AGAIN);
        }
        let shares_files = task.is(SHARES_FILES);
        let for_worker = worker::is_for_worker(task, message.len());
        let place = if for_worker {
            let kind = Kind::Worker { shares_files };
            match self.hand_over(kind, task, ticket, message) {
                Some(place) => place,
                None => {
                    self.make(kind, task, None, poll, state)?;
                    let handed = self.hand_over(kind, task, ticket, message);
                    handed.ok_or(Errno::PIPE)?
                }
            }
        } else {
            self.make(Kind::Once, task, Some((ticket, message)), poll, state)?
        };
        let Some(Some(child)) = self.children.get_mut(place) else {
            return Err(Errno::CHILD);
        };
        let deadline_ms = match task.class() {
            Class::Users => clock::in_ms(USER_TASK_MS),
            _ => NEVER_MS,
        };
        self.deadline_ms = self.deadline_ms.min(deadline_ms);
        child.class = task.class();
        child.job = Some(Job {
            task: *task,
            ticket,
            client,
            frame: Frame::default(),
            deadline_ms,
            program: !for_worker && state.programs.forked(child.pid),
        });
        let down_by_hand = state.going_down.is_some() && state.down_ms == NEVER_MS;
        let takes_guest_down = task.is(EXCLUSIVE) && down_by_hand;
        restart::child_began(place, child.pid, takes_guest_down);
        if takes_guest_down {
            // They would be waited for.
            self.dismiss(|_| true);
        }
        Ok(())
    }

    /// Hands a task to an idle worker of this kind; gives its place.
    fn hand_over(
        &mut self,
        kind: Kind,
        task: &Task,
        ticket: Ticket,
        message: &[u8],
    ) -> Option<usize> {
        let header = worker::header(task, ticket, message.len());
        let mut children = self.children.iter_mut().enumerate();
        children.find_map(|(place, child)| {
            let child = child.as_mut()?;
            if !(child.is_idle() && child.kind == kind) {
                return None;
            }
            // There is room for all of it: the socket of an idle worker is empty.
            let sent = stream::write_both(child.socket.as_ref()?, &header, message);
            if sent.is_err() {
                // It has died, and is about to be reaped.
                child.kill();
            }
            sent.is_ok().then_some(place)
        })
    }

    /// Makes a child, which does the `work` of a task and ends, or, without any, becomes a worker; gives
    /// its place.
    fn make(
        &mut self,
        kind: Kind,
        task: &Task,
        work: Option<(Ticket, &[u8])>,
        poll: &Poll,
        state: &mut State,
    ) -> Result<usize, Errno> {
        let place = self.children.iter().position(Option::is_none);
        let place = place.ok_or(Errno::AGAIN)?;
        let (ours, theirs) = stream::socket_pair()?;
        poll.add(&ours, Token::Job(place).number(), Interest::Read)?;
        if work.is_some() {
            state.programs.watch(poll)?;
        }
        let agent = process::own_pid();
        let shares_files = task.is(SHARES_FILES);
        let pid = process::fork(shares_files)?;
        if pid == IN_CHILD {
            if !shares_files {
                state.programs.in_child();
                process::close_all_but(state.guest.root.as_fd(), theirs.as_fd());
            } else if !task.is(EXCLUSIVE) && !process::tie_to(agent, process::KILL) {
                // It must not keep a port open when the agent is gone.
                process::exit(0);
            }
            match work {
                Some((ticket, message)) => {
                    worker::run_once(&theirs, task, ticket, message, &state.guest)
                }
                None => worker::serve(&theirs, &mut state.guest),
            }
        }
        self.children[place] = Some(Child {
            pid,
            kind,
            class: task.class(),
            job: None,
            is_heavy: mem::borrowed() > HEAVY_BYTES,
            socket: Some(ours),
            _theirs: shares_files.then_some(theirs),
        });
        Ok(place)
    }

    /// Takes what the child at `place` has sent.
    pub(super) fn receive(&mut self, place: usize, state: &mut State, hear: Hear<'_>) {
        let Some(Some(child)) = self.children.get_mut(place) else {
            return;
        };
        child.receive(state, hear);
        // One that was killed before it became a program is about to end.
        if child.is_mute() && process::has_executed(child.pid) {
            self.end(place, true, state, hear);
        } else if child.is_idle() {
            let (pid, kind) = (child.pid, child.kind);
            // One that was made while much memory was borrowed has a copy of it.
            let stays = if child.is_heavy { 0 } else { pid };
            self.dismiss(|other| other.kind == kind && other.pid != stays);
        }
    }

    /// Tells idle workers to end.
    fn dismiss(&mut self, which: impl Fn(&Child) -> bool) {
        for child in self.children.iter_mut().flatten() {
            if child.is_idle() && which(child) {
                // The end of the socket is the end of the worker.
                child.socket = None;
            }
        }
    }

    /// Takes note that a child has ended, and whether it had become another program.
    pub(super) fn child_ended(
        &mut self,
        pid: i32,
        executed: bool,
        state: &mut State,
        hear: Hear<'_>,
    ) {
        let mut children = self.children.iter_mut().enumerate();
        let found = children.find(|(_, child)| child.as_ref().is_some_and(|one| one.pid == pid));
        let Some((place, Some(child))) = found else {
            return;
        };
        // What it wrote is all there.
        child.receive(state, hear);
        self.end(place, executed, state, hear);
    }

    /// Forgets a child that has ended or become a program, which is no child of this file any more.
    fn end(&mut self, place: usize, executed: bool, state: &mut State, hear: Hear<'_>) {
        let Some(mut child) = self.children[place].take() else {
            return;
        };
        restart::child_ended(place, child.pid);
        let outcome = match executed && child.is_mute() {
            true => Outcome::Started(child.pid),
            false => Outcome::Lost,
        };
        child.finish(outcome, state, hear);
    }

    /// The children whose end is not known yet.
    pub(super) fn pids(&self) -> impl Iterator<Item = i32> {
        self.children.iter().flatten().map(|child| child.pid)
    }

    /// Gives up the command that has its turn alone.
    pub(super) fn give_up_exclusive(&mut self, state: &mut State, hear: Hear<'_>) {
        self.give_up(&|job| job.task.is(EXCLUSIVE), state, hear);
    }

    /// Gives up the jobs whose time is over.
    pub(super) fn give_up_late(&mut self, now_ms: u64, state: &mut State, hear: Hear<'_>) {
        if self.deadline_ms <= now_ms {
            self.give_up(&|job| job.deadline_ms <= now_ms, state, hear);
            let deadlines = self.jobs().map(|job| job.deadline_ms);
            self.deadline_ms = deadlines.min().unwrap_or(NEVER_MS);
        }
    }

    /// Gives up jobs. A process stuck in the kernel dies only when it comes out of it, and what it does
    /// until then may still take effect.
    fn give_up(&mut self, is_it: &dyn Fn(&Job) -> bool, state: &mut State, hear: Hear<'_>) {
        for child in self.children.iter_mut().flatten() {
            if child.job.as_ref().is_some_and(is_it) {
                child.kill();
                child.finish(Outcome::Lost, state, hear);
            }
        }
    }
}

impl Child {
    /// Whether it is a worker that waits for a task.
    fn is_idle(&self) -> bool {
        matches!(self.kind, Kind::Worker { .. }) && self.job.is_none() && self.socket.is_some()
    }

    /// Whether it works, or was killed at its work and is not gone yet.
    fn is_busy(&self) -> bool {
        self.job.is_some() || self.kind == Kind::Ending
    }

    /// Whether it is to become a program, and has closed its socket without a reply.
    fn is_mute(&self) -> bool {
        self.socket.is_none() && self.job.as_ref().is_some_and(|job| job.program)
    }

    /// Kills it; nothing that it has sent or sends counts any more. Only one that was not reaped is
    /// listed, so its number is its own.
    fn kill(&mut self) {
        let _ = process::kill(self.pid, process::KILL);
        self.kind = Kind::Ending;
        self.socket = None;
    }

    #[inline(never)]
    fn receive(&mut self, state: &mut State, hear: Hear<'_>) {
        let mut buffer = [0; 4096];
        while let Some(socket) = &self.socket {
            match stream::read(socket, &mut buffer) {
                Ok(Read::Bytes(count)) => {
                    let Some(job) = &mut self.job else {
                        // Nothing is to be sent unasked.
                        return self.kill();
                    };
                    let reply = job.frame.take(&buffer[..count]);
                    hear(job.client, Report::Bytes(reply));
                    if job.frame.is_whole() {
                        let outcome = match job.frame.status {
                            REFUSED => Outcome::Refused,
                            number => Outcome::Replied(number),
                        };
                        return self.finish(outcome, state, hear);
                    }
                }
                Ok(Read::NotYet) => return,
                Ok(Read::End) | Err(_) => {
                    self.socket = None;
                }
            }
        }
    }

    /// Ends its job, if it has one, with this outcome.
    fn finish(&mut self, outcome: Outcome, state: &mut State, hear: Hear<'_>) {
        let Some(job) = self.job.take() else {
            return;
        };
        if self.kind == Kind::Once {
            self.socket = None;
        }
        (job.task.slow().finish)(state, job.ticket, outcome);
        hear(job.client, Report::Over(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::find;
    use crate::state::testing::state;
    use crate::sys::root::Root;
    use crate::wire::receive::receive;

    const CLIENT: ClientId = ClientId {
        index: 1,
        generation: 7,
    };

    /// The agent's side, without a loop.
    struct Agent {
        jobs: Jobs,
        poll: Poll,
        state: State,
    }

    impl Agent {
        fn new() -> Self {
            Self {
                jobs: Jobs::new(),
                poll: Poll::new().unwrap(),
                state: state(Root::open(c"/").unwrap()),
            }
        }

        fn start(&mut self, command: &str) -> Result<(), Errno> {
            let text = format!("{{\"execute\": \"{command}\"}}");
            let message = receive(text.as_bytes()).unwrap();
            let name = message.members().next().unwrap().1.string().unwrap();
            let (place, _) = find(name).unwrap();
            let task = Task::of(place as u8).unwrap();
            let Self { jobs, poll, state } = self;
            let message = message.text();
            jobs.start(&task, Ticket::default(), CLIENT, message, poll, state)
        }

        /// Waits until the job is over; gives its reply and its outcome. Children that have ended are
        /// reaped if `reaps` says so.
        fn finish(&mut self, reaps: bool) -> (String, Outcome) {
            let (mut reply, mut end) = (Vec::new(), None);
            while end.is_none() {
                let mut hear = |client, event: Report<'_>| {
                    assert_eq!(client, CLIENT);
                    match event {
                        Report::Bytes(bytes) => reply.extend_from_slice(bytes),
                        Report::Over(outcome) => {
                            assert!(end.is_none());
                            end = Some(outcome);
                        }
                    }
                };
                for place in 0..CHILDREN {
                    self.jobs.receive(place, &mut self.state, &mut hear);
                }
                for pid in self.pids().into_iter().filter(|_| reaps) {
                    if let Some((_, executed)) = process::reap_child(pid) {
                        self.jobs
                            .child_ended(pid, executed, &mut self.state, &mut hear);
                    }
                }
                clock::sleep_ms(1);
            }
            (String::from_utf8(reply).unwrap(), end.unwrap())
        }

        fn pids(&self) -> Vec<i32> {
            self.jobs.pids().collect()
        }
    }

    impl Drop for Agent {
        fn drop(&mut self) {
            for pid in self.pids() {
                let _ = process::kill(pid, process::KILL);
                while process::reap_child(pid).is_none() {
                    clock::sleep_ms(1);
                }
            }
        }
    }

    #[test]
    fn a_worker_stays_and_one_that_dies_is_replaced() {
        let mut agent = Agent::new();
        agent.start("guest-get-fsinfo").unwrap();
        let (first, outcome) = agent.finish(true);
        assert_eq!(outcome, Outcome::Replied(0));
        assert!(first.starts_with("{\"return\": ["), "{first}");
        let [worker] = agent.pids()[..] else {
            panic!("{:?}", agent.pids())
        };
        agent.start("guest-get-fsinfo").unwrap();
        assert_eq!(agent.pids(), [worker]);
        assert_eq!(agent.finish(true).1, Outcome::Replied(0));
        // Idle, and not reaped when the next task comes.
        process::kill(worker, process::KILL).unwrap();
        clock::sleep_ms(100);
        agent.start("guest-get-fsinfo").unwrap();
        assert_eq!(agent.pids().len(), 2);
        assert_eq!(agent.finish(true).1, Outcome::Replied(0));
    }

    #[test]
    fn a_worker_that_dies_at_work_loses_its_own_task() {
        let mut agent = Agent::new();
        agent.start("guest-get-fsinfo").unwrap();
        agent.finish(true);
        let [worker] = agent.pids()[..] else {
            panic!("{:?}", agent.pids())
        };
        process::kill(worker, process::STOP).unwrap();
        agent.start("guest-get-fsinfo").unwrap();
        process::kill(worker, process::KILL).unwrap();
        assert_eq!(agent.finish(true), (String::new(), Outcome::Lost));
        assert!(agent.pids().is_empty());
        agent.start("guest-get-fsinfo").unwrap();
        assert_eq!(agent.finish(true).1, Outcome::Replied(0));
    }

    #[test]
    fn children_that_have_replied_do_not_count() {
        let mut agent = Agent::new();
        for _ in 0..2 * QUOTAS[Class::Users as usize] {
            // Without arguments it is refused, in a child of its own.
            agent.start("guest-ssh-get-authorized-keys").unwrap();
            assert_eq!(agent.finish(false).1, Outcome::Refused);
        }
    }

    #[test]
    fn stuck_tasks_use_up_the_quota_of_their_class_alone() {
        let mut agent = Agent::new();
        let stop_all = |agent: &Agent| {
            for pid in agent.pids() {
                process::kill(pid, process::STOP).unwrap();
            }
        };
        for count in 1..=QUOTAS[Class::Guest as usize] {
            agent.start("guest-get-fsinfo").unwrap();
            stop_all(&agent);
            assert_eq!(agent.pids().len(), count);
        }
        assert_eq!(agent.start("guest-get-fsinfo"), Err(Errno::AGAIN));
        // Users' have their own, and are given up.
        agent.start("guest-ssh-get-authorized-keys").unwrap();
        stop_all(&agent);
        let due_ms = agent.jobs.deadline_ms();
        assert!(due_ms.abs_diff(clock::in_ms(USER_TASK_MS)) < 1_000);
        let mut over = 0;
        let Agent { jobs, state, .. } = &mut agent;
        jobs.give_up_late(due_ms - 1, state, &mut |_, _| over += 1);
        assert_eq!(over, 0);
        jobs.give_up_late(due_ms, state, &mut |_, event| {
            assert!(matches!(event, Report::Over(Outcome::Lost)));
            over += 1;
        });
        assert_eq!((over, agent.jobs.deadline_ms()), (1, NEVER_MS));
    }

    #[test]
    fn a_reply_is_whole_when_all_that_was_announced_has_come() {
        let mut frame = Frame::default();
        assert!(!frame.is_whole());
        assert_eq!(frame.take(&[5, 0, 0, 0, 3, b'a', b'b']), b"ab");
        assert!(!frame.is_whole());
        assert_eq!(frame.take(b"cde"), b"cde");
        assert!(frame.is_whole() && frame.status == 3);
        let mut silent = Frame::default();
        assert_eq!(silent.take(&[0, 0, 0, 0, REFUSED]), b"");
        assert!(silent.is_whole() && silent.status == REFUSED);
        // What is no frame never becomes whole.
        let mut cut = Frame::default();
        cut.take(&[0, 0, 0]);
        assert!(!cut.is_whole());
    }
}
