//! Slow commands: starts a job for each, in a child of the agent, and takes its reply.
//!
//! Most tasks run in a worker, a child that stays for the next one. While it works, another worker
//! is made for the next task; of the idle workers of each kind one is kept, but none that the fork
//! gave much memory ([`HEAVY_BYTES`]). The other tasks (`worker::is_for_worker`) get a child of
//! their own.
//!
//! The agent goes on meanwhile. The reply of a child that died is replaced by an error. If the
//! client has left, the command is carried out all the same and its reply is dropped.
//!
//! Each class of tasks has a quota of children: tasks that are stuck, say in a file system that
//! hangs, keep no task of another class waiting. A task on files of a user has [`USER_TASK_MS`]; a
//! freeze or a thaw has the deadline of `state::freeze`. After that its child is killed, and counts
//! against the quota until it is reaped. Other tasks have no time limit.
//!
//! The child of guest-exec becomes a program. That closes its socket without a reply and ends the
//! job; from then on the process belongs to `state::programs`.

use super::child::{Child, ChildKind, Deliver, Frame, Job};
use super::ids::{ClientId, Token};
use super::restart;
use super::worker::{self, Header};
use crate::base::limits::{CHILDREN, QUOTAS, USER_TASK_MS};
use crate::commands::{EXCLUSIVE, HAS_PROGRAMS, Outcome, SHARES_FILES, Task, TaskClass, Ticket};
use crate::state::State;
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::mem;
use crate::sys::poll::{Interest, Poll};
use crate::sys::process::{self, Forked};
use crate::sys::stream;
use crate::sys::{AsFd, Errno};

/// Bytes of borrowed memory from which on a fork makes a heavy child: its copy of them stays as
/// long as the child, so a worker made then does not stay.
const HEAVY_BYTES: usize = 256 << 10;

/// All children and their jobs.
pub(super) struct Jobs {
    children: [Option<Child>; CHILDREN],
    /// The earliest deadline of a job, or earlier.
    deadline_ms: u64,
}

impl Jobs {
    /// No children.
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

    /// Whether a task runs that excludes others of its kind: see [`EXCLUSIVE`].
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
        let given = self.give(task, &ticket, client, message, poll, state);
        let found = given.and_then(|index| {
            let child = self.children.get_mut(index).and_then(Option::as_mut);
            Ok((index, child.ok_or(Errno::CHILD)?))
        });
        let (index, child) = match found {
            Ok(found) => found,
            Err(errno) => {
                (task.slow().finish)(state, ticket, Outcome::Lost);
                return Err(errno);
            }
        };
        let deadline_ms = match task.class() {
            TaskClass::Users => clock::in_ms(USER_TASK_MS),
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
            becomes_program: child.kind == ChildKind::Once && state.programs.forked(child.pid),
        });
        let down_by_hand = state.going_down.is_some() && state.down_ms == NEVER_MS;
        let takes_guest_down = task.is(EXCLUSIVE) && down_by_hand;
        restart::child_began(index, child.pid, takes_guest_down);
        if takes_guest_down {
            // It ends all processes and waits for each: idle workers go now.
            self.dismiss(|_| true);
        }
        Ok(())
    }

    /// Gives a task to a child: an idle worker, or a new child; returns its index.
    fn give(
        &mut self,
        task: &Task,
        ticket: &Ticket,
        client: ClientId,
        message: &[u8],
        poll: &Poll,
        state: &mut State,
    ) -> Result<usize, Errno> {
        let children = self.children.iter().flatten();
        let busy = children.filter(|child| child.class == task.class() && child.is_busy());
        // The last vital one is left for the agent's own tasks.
        let reserved = usize::from(task.class() == TaskClass::Vital && client != ClientId::AGENT);
        if busy.count() + reserved >= QUOTAS[task.class() as usize] {
            return Err(Errno::AGAIN);
        }
        let header = worker::header(task, ticket, message.len());
        if !worker::is_for_worker(task, message.len()) {
            return self.make(ChildKind::Once, task, Some((&header, message)), poll, state);
        }
        let kind = ChildKind::Worker {
            shares_files: task.is(SHARES_FILES),
        };
        if let Some(index) = self.hand_over(kind, &header, message) {
            return Ok(index);
        }
        self.make(kind, task, None, poll, state)?;
        self.hand_over(kind, &header, message).ok_or(Errno::PIPE)
    }

    /// Hands a task to an idle worker of this kind; returns its index.
    fn hand_over(&mut self, kind: ChildKind, header: &Header, message: &[u8]) -> Option<usize> {
        let mut children = self.children.iter_mut().enumerate();
        children.find_map(|(index, child)| {
            let child = child.as_mut()?;
            if !(child.is_idle() && child.kind == kind) {
                return None;
            }
            // There is room for all of it: the socket of an idle worker is empty.
            let sent = stream::write_both(child.socket.as_ref()?, header, message);
            if sent.is_err() {
                // The worker has died and is not reaped yet.
                child.kill();
            }
            sent.is_ok().then_some(index)
        })
    }

    /// Makes a child; returns its index. With `work` it does that and ends, without it is a worker.
    fn make(
        &mut self,
        kind: ChildKind,
        task: &Task,
        work: Option<(&Header, &[u8])>,
        poll: &Poll,
        state: &mut State,
    ) -> Result<usize, Errno> {
        let index = self.children.iter().position(Option::is_none);
        let index = index.ok_or(Errno::AGAIN)?;
        let (ours, theirs) = stream::socket_pair()?;
        poll.add(&ours, Token::Child(index).number(), Interest::Read)?;
        if HAS_PROGRAMS && work.is_some() {
            state.programs.watch(poll)?;
        }
        let agent = process::own_pid();
        let shares_files = task.is(SHARES_FILES);
        let pid = match process::fork(shares_files)? {
            Forked::Parent(pid) => pid,
            Forked::Child(child) => {
                if !shares_files {
                    state.programs.in_child();
                    child.close_all_but(state.guest.root.as_fd(), theirs.as_fd());
                } else if !task.is(EXCLUSIVE) && !process::tie_to(agent, process::KILL) {
                    // The agent is gone: its descriptors, the port among them, must not stay open
                    // here.
                    process::exit(0);
                }
                let guest = &mut state.guest;
                match work {
                    Some((header, message)) => {
                        worker::run_once(&child, &theirs, header, message, guest)
                    }
                    None => worker::serve(&child, &theirs, guest),
                }
            }
        };
        self.children[index] = Some(Child {
            pid,
            kind,
            class: task.class(),
            job: None,
            is_heavy: mem::borrowed() > HEAVY_BYTES,
            socket: Some(ours),
            _theirs: shares_files.then_some(theirs),
        });
        Ok(index)
    }

    /// Receives what the child at `index` has sent.
    pub(super) fn receive(&mut self, index: usize, state: &mut State, deliver: Deliver<'_>) {
        let Some(Some(child)) = self.children.get_mut(index) else {
            return;
        };
        child.receive(state, deliver);
        // The socket is also closed if the child is killed before execve: then it is reaped soon.
        if child.closed_for_program() && process::has_executed(child.pid) {
            self.end(index, true, state, deliver);
        } else if child.is_idle() {
            let (pid, kind) = (child.pid, child.kind);
            // One idle worker of each kind stays, but no heavy one.
            let stays = if child.is_heavy { 0 } else { pid };
            self.dismiss(|other| other.kind == kind && other.pid != stays);
        }
    }

    /// Ends idle workers.
    fn dismiss(&mut self, which: impl Fn(&Child) -> bool) {
        for child in self.children.iter_mut().flatten() {
            if child.is_idle() && which(child) {
                // A worker ends when its socket is closed.
                child.socket = None;
            }
        }
    }

    /// Takes note that a child was reaped, and whether it had executed a program.
    pub(super) fn child_ended(
        &mut self,
        pid: i32,
        executed: bool,
        state: &mut State,
        deliver: Deliver<'_>,
    ) {
        let mut children = self.children.iter_mut().enumerate();
        let found = children.find(|(_, child)| child.as_ref().is_some_and(|one| one.pid == pid));
        let Some((index, Some(child))) = found else {
            return;
        };
        // All that it has sent is in the socket.
        child.receive(state, deliver);
        self.end(index, executed, state, deliver);
    }

    /// Removes a child that has ended or become a program.
    fn end(&mut self, index: usize, executed: bool, state: &mut State, deliver: Deliver<'_>) {
        let Some(mut child) = self.children[index].take() else {
            return;
        };
        restart::child_ended(index, child.pid);
        let outcome = match executed && child.closed_for_program() {
            true => Outcome::Started(child.pid),
            false => Outcome::Lost,
        };
        child.finish(outcome, state, deliver);
    }

    /// The children that are not reaped yet.
    pub(super) fn pids(&self) -> impl Iterator<Item = i32> {
        self.children.iter().flatten().map(|child| child.pid)
    }

    /// Gives up the task that excludes others.
    pub(super) fn give_up_exclusive(&mut self, state: &mut State, deliver: Deliver<'_>) {
        self.give_up(&|job| job.task.is(EXCLUSIVE), state, deliver);
    }

    /// Gives up the jobs whose deadline has passed.
    pub(super) fn give_up_late(&mut self, now_ms: u64, state: &mut State, deliver: Deliver<'_>) {
        if self.deadline_ms <= now_ms {
            self.give_up(&|job| job.deadline_ms <= now_ms, state, deliver);
            let deadlines = self.jobs().map(|job| job.deadline_ms);
            self.deadline_ms = deadlines.min().unwrap_or(NEVER_MS);
        }
    }

    /// Kills the children of jobs. A process that is stuck in a system call dies only when that
    /// returns, so the call may still take effect.
    fn give_up(&mut self, is_due: &dyn Fn(&Job) -> bool, state: &mut State, deliver: Deliver<'_>) {
        for child in self.children.iter_mut().flatten() {
            if child.job.as_ref().is_some_and(is_due) {
                child.kill();
                child.finish(Outcome::Lost, state, deliver);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::child::Report;
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
            let (index, _) = find(name).unwrap();
            let task = Task::of(index as u8).unwrap();
            let Self { jobs, poll, state } = self;
            let message = message.text();
            jobs.start(&task, Ticket::default(), CLIENT, message, poll, state)
        }

        /// Waits until the job is over; gives its reply and its outcome. Children that have ended
        /// are reaped if `reaps` says so.
        fn finish(&mut self, reaps: bool) -> (String, Outcome) {
            let (mut reply, mut end) = (Vec::new(), None);
            while end.is_none() {
                let mut deliver = |client, event: Report<'_>| {
                    assert_eq!(client, CLIENT);
                    match event {
                        Report::Bytes(bytes) => reply.extend_from_slice(bytes),
                        Report::Over(outcome) => {
                            assert!(end.is_none());
                            end = Some(outcome);
                        }
                    }
                };
                for index in 0..CHILDREN {
                    self.jobs.receive(index, &mut self.state, &mut deliver);
                }
                for pid in self.pids().into_iter().filter(|_| reaps) {
                    if let Some((_, executed)) = process::reap_child(pid) {
                        self.jobs
                            .child_ended(pid, executed, &mut self.state, &mut deliver);
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
        for _ in 0..2 * QUOTAS[TaskClass::Users as usize] {
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
        for count in 1..=QUOTAS[TaskClass::Guest as usize] {
            agent.start("guest-get-fsinfo").unwrap();
            stop_all(&agent);
            assert_eq!(agent.pids().len(), count);
        }
        assert_eq!(agent.start("guest-get-fsinfo"), Err(Errno::AGAIN));
        // Users' have their own, and are given up.
        let earliest_ms = clock::in_ms(USER_TASK_MS);
        agent.start("guest-ssh-get-authorized-keys").unwrap();
        let latest_ms = clock::in_ms(USER_TASK_MS);
        stop_all(&agent);
        let due_ms = agent.jobs.deadline_ms();
        assert!((earliest_ms..=latest_ms).contains(&due_ms));
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
}
