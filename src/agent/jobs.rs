//! Slow commands that run, and the children of the agent that run them.
//!
//! Most are tasks for a worker, a child that stays. It is made when the first task comes; while it works,
//! the next task gets another worker, and of several that are idle one stays. The others are run by a
//! child of their own (`worker::is_for_worker`). All are made by one function, and report over a socket.
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
use super::worker::{self, FRAME_BYTES, REFUSED};
use crate::base::limits::{CHILDREN, QUOTAS, USER_TASK_MS};
use crate::commands::{Class, EXCLUSIVE, Outcome, SHARES_FILES, Task, Ticket};
use crate::state::State;
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::poll::{Interest, Poll};
use crate::sys::process::{self, IN_CHILD};
use crate::sys::stream::{self, Read};
use crate::sys::{AsFd, Errno, OwnedFd};

/// What a job has to say.
pub(super) enum Event<'a> {
    /// A piece of its reply.
    Bytes(&'a [u8]),
    /// It is over.
    Over {
        /// Whether its reply is whole.
        whole: bool,
        /// The program that it has become, which has no reply yet.
        started: Option<i32>,
    },
}

/// Who hears it: the client that the job works for, and what it says.
type Hear<'a> = &'a mut dyn FnMut(ClientId, Event<'_>);

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
    /// Nothing any more: it was killed, or has been told to end.
    Ending,
}

/// A child of the agent.
struct Child {
    pid: i32,
    kind: Kind,
    /// The class of its job, or of its last one.
    class: Class,
    job: Option<Job>,
    /// Whether it has become a program.
    started: bool,
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
        let busy = children.filter(|child| child.class == task.class() && !child.is_idle());
        if busy.count() >= QUOTAS[task.class() as usize] {
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
        process::worker_began(place, child.pid, task.is(EXCLUSIVE) && down_by_hand);
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
            }
            match work {
                Some((ticket, message)) => {
                    worker::run_once(&theirs, task, ticket, message, &state.guest)
                }
                // What shares descriptors must not keep a port open when the agent is gone. Others
                // find out by the end of the socket.
                None if shares_files && !process::tie_to(agent, process::KILL) => process::exit(0),
                None => worker::serve(&theirs, &mut state.guest),
            }
        }
        self.children[place] = Some(Child {
            pid,
            kind,
            class: task.class(),
            job: None,
            started: false,
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
        if child.is_program() {
            process::worker_ended(place, child.pid);
            self.children[place] = None;
        } else if child.is_idle() {
            self.dismiss_others(place);
        }
    }

    /// Tells idle workers to end that are of the same kind as the one at `place`.
    fn dismiss_others(&mut self, place: usize) {
        let Some(kind) = self
            .children
            .get(place)
            .and_then(|child| Some(child.as_ref()?.kind))
        else {
            return;
        };
        for (other, child) in self.children.iter_mut().enumerate() {
            if let Some(child) = child
                && other != place
                && child.kind == kind
                && child.is_idle()
            {
                // The end of the socket is the end of the worker.
                child.socket = None;
                child.kind = Kind::Ending;
            }
        }
    }

    /// Takes note that a child has ended, and whether it had become another program.
    pub(super) fn note(&mut self, pid: i32, executed: bool, state: &mut State, hear: Hear<'_>) {
        let mut children = self.children.iter_mut().enumerate();
        let found = children.find(|(_, child)| child.as_ref().is_some_and(|one| one.pid == pid));
        let Some((place, Some(child))) = found else {
            return;
        };
        process::worker_ended(place, pid);
        // What it wrote is all there.
        child.receive(state, hear);
        let became = executed && child.job.as_ref().is_some_and(|job| job.program);
        let outcome = if became {
            Outcome::Started(pid)
        } else {
            Outcome::Lost
        };
        child.finish(outcome, state, hear);
        self.children[place] = None;
    }

    /// The children whose end is not known yet.
    pub(super) fn running(&self) -> impl Iterator<Item = i32> {
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
        matches!(self.kind, Kind::Worker { .. }) && self.job.is_none()
    }

    /// Whether it has become a program, which is no child of this file any more.
    fn is_program(&self) -> bool {
        self.kind == Kind::Once && self.job.is_none() && self.started
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
                    hear(job.client, Event::Bytes(reply));
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
                    // Otherwise it was killed before that, and is about to end.
                    let program = self.job.as_ref().is_some_and(|job| job.program);
                    if program && process::has_executed(self.pid) {
                        self.started = true;
                        return self.finish(Outcome::Started(self.pid), state, hear);
                    }
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
        let started = match outcome {
            Outcome::Started(pid) => Some(pid),
            _ => None,
        };
        let whole = outcome != Outcome::Lost;
        hear(job.client, Event::Over { whole, started });
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
        place: 1,
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

        /// Waits until the job is over; gives its reply, and whether it is whole.
        fn finish(&mut self) -> (String, bool) {
            let (mut reply, mut end) = (Vec::new(), None);
            while end.is_none() {
                let mut hear = |client, event: Event<'_>| {
                    assert_eq!(client, CLIENT);
                    match event {
                        Event::Bytes(bytes) => reply.extend_from_slice(bytes),
                        Event::Over { whole, started } => {
                            assert!(end.is_none() && started.is_none());
                            end = Some(whole);
                        }
                    }
                };
                for place in 0..CHILDREN {
                    self.jobs.receive(place, &mut self.state, &mut hear);
                }
                for pid in self.pids() {
                    if let Some((_, executed)) = process::reap_child(pid) {
                        self.jobs.note(pid, executed, &mut self.state, &mut hear);
                    }
                }
                clock::sleep_ms(1);
            }
            (String::from_utf8(reply).unwrap(), end.unwrap())
        }

        fn pids(&self) -> Vec<i32> {
            self.jobs.running().collect()
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
        let (first, whole) = agent.finish();
        assert!(whole && first.starts_with("{\"return\": ["), "{first}");
        let [worker] = agent.pids()[..] else {
            panic!("{:?}", agent.pids())
        };
        agent.start("guest-get-fsinfo").unwrap();
        assert_eq!(agent.pids(), [worker]);
        assert!(agent.finish().1);
        // Idle, and not reaped when the next task comes.
        process::kill(worker, process::KILL).unwrap();
        clock::sleep_ms(100);
        agent.start("guest-get-fsinfo").unwrap();
        assert_eq!(agent.pids().len(), 2);
        let (reply, whole) = agent.finish();
        assert!(whole && reply.starts_with("{\"return\": ["), "{reply}");
    }

    #[test]
    fn a_worker_that_dies_at_work_loses_its_own_task() {
        let mut agent = Agent::new();
        agent.start("guest-get-fsinfo").unwrap();
        agent.finish();
        let [worker] = agent.pids()[..] else {
            panic!("{:?}", agent.pids())
        };
        process::kill(worker, process::STOP).unwrap();
        agent.start("guest-get-fsinfo").unwrap();
        process::kill(worker, process::KILL).unwrap();
        assert_eq!(agent.finish(), (String::new(), false));
        assert!(agent.pids().is_empty());
        agent.start("guest-get-fsinfo").unwrap();
        assert!(agent.finish().1);
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
            assert!(matches!(event, Event::Over { whole: false, .. }));
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
