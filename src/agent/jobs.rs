//! Slow commands: each runs in a child of the agent, which writes its reply into a pipe.
//!
//! The agent goes on meanwhile. A reply leaves only when the child has ended well; one that was
//! killed half way is replaced by an error, so half a reply never leaves. When the client is gone by
//! then, the command is carried through all the same and its reply is dropped.
//!
//! guest-exec's child becomes another program, which closes its pipe without a word: then the job is
//! over with success, and the process is no job any more but one of `state::programs`.

use core::mem::forget;

use static_assertions::const_assert;

use super::ids::{ClientId, Token};
use crate::base::limits::JOBS;
use crate::commands::{LOST, Outcome, Own, REPLIED_ERROR};
use crate::state::State;
use crate::sys::clock::NEVER_MS;
use crate::sys::fault;
use crate::sys::poll::{Interest, Poll};
use crate::sys::process::{self, Ended, IN_CHILD};
use crate::sys::stream::{self, Read};
use crate::sys::{AsFd, Errno, OwnedFd};

/// A slow command that runs.
struct Job {
    pid: i32,
    pipe: Option<OwnedFd>,
    client: ClientId,
    end: fn(&mut State, Outcome),
    exclusive: bool,
    /// What the state held at hand when it began.
    at_hand: i64,
    /// The write end of the pipe, if the child shares our descriptor table: keep it open.
    _writer: Option<OwnedFd>,
    /// Whether it is to become another program.
    program: bool,
    /// Whether it has written anything, which one that becomes another program never does.
    spoke: bool,
    /// How it ended; as if with success, if it has become another program.
    ended: Option<Outcome>,
}

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

/// The outcome after execve.
const STARTED: Outcome = Outcome::Replied(0);

/// All slow commands that run.
pub(super) struct Jobs {
    jobs: [Option<Job>; JOBS],
    /// In a child of the agent: where its reply goes.
    reply_to: Option<OwnedFd>,
}

impl Jobs {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            jobs: core::array::from_fn(|_| None),
            reply_to: None,
        }
    }

    /// Whether a command that must have its turn alone has it now.
    #[inline(never)]
    pub(super) fn exclusive_runs(&self) -> bool {
        self.jobs.iter().flatten().any(|job| job.exclusive)
    }

    /// Whether this is a child of the agent, with its work to do and then to be
    /// [handed over](Jobs::hand_over).
    pub(super) fn in_child(&self) -> bool {
        self.reply_to.is_some()
    }

    /// Starts a job: goes on both in the agent and [in a child](Jobs::in_child).
    pub(super) fn start(
        &mut self,
        own: &Own,
        client: ClientId,
        poll: &Poll,
        state: &mut State,
    ) -> Result<(), Errno> {
        // The last place is the agent's own.
        let most = JOBS - usize::from(client != ClientId::AGENT);
        let mut jobs = self.jobs.iter_mut().take(most).enumerate();
        let free = jobs.find(|(_, job)| job.is_none());
        let (place, free) = free.ok_or(Errno::AGAIN)?;
        let (reader, writer) = stream::pipe()?;
        poll.add(&reader, Token::Job(place).number(), Interest::Read)?;
        state.programs.watch(poll)?;
        let pid = process::fork(own.shares_files)?;
        if pid == IN_CHILD {
            if !own.shares_files {
                state.programs.in_child();
                let keeps_files = state.files.at_hand != 0;
                if !keeps_files {
                    state.files.handles.forget();
                }
                process::close_all_but(state.root.as_fd(), writer.as_fd(), keeps_files);
            }
            // The agent's, which closes it where descriptors are shared.
            forget(reader);
            self.reply_to = Some(writer);
            return Ok(());
        }
        let down_by_hand = state.going_down.is_some() && state.down_ms == NEVER_MS;
        process::worker_began(place, pid, own.exclusive && down_by_hand);
        *free = Some(Job {
            pid,
            pipe: Some(reader),
            client,
            end: own.slow.end,
            exclusive: own.exclusive,
            program: state.programs.forked(pid),
            spoke: false,
            at_hand: core::mem::take(&mut state.files.at_hand),
            _writer: own.shares_files.then_some(writer),
            ended: None,
        });
        Ok(())
    }

    /// Takes what the job at `place` has written.
    pub(super) fn receive(&mut self, place: usize, hear: Hear<'_>) {
        if let Some(Some(job)) = self.jobs.get_mut(place) {
            job.receive(hear);
        }
    }

    /// Takes note that a child has ended, and whether it had become another program.
    pub(super) fn note(&mut self, pid: i32, ended: Ended, executed: bool) {
        if let Some(job) = self.jobs.iter_mut().flatten().find(|job| job.pid == pid) {
            let started = job.program && executed;
            job.ended = Some(if started { STARTED } else { outcome(ended) });
        }
    }

    /// The children whose end is not known yet.
    pub(super) fn running(&self) -> impl Iterator<Item = i32> {
        let jobs = self.jobs.iter().flatten();
        jobs.filter(|job| job.ended.is_none()).map(|job| job.pid)
    }

    /// Deals with the jobs that are over: their replies may leave now.
    pub(super) fn settle(&mut self, state: &mut State, hear: Hear<'_>) {
        for (place, job) in self.jobs.iter_mut().enumerate() {
            if let Some(over) = job
                && let Some(outcome) = over.ended
            {
                process::worker_ended(place, over.pid);
                over.settle(outcome, state, hear);
                *job = None;
            }
        }
    }

    /// Gives up on the job that has its turn alone: kills it, and gives its client. A process stuck in
    /// the kernel dies only when it comes out of it, and what it does until then may still take effect,
    /// but nobody waits for it any more, and how it ends is nobody's concern.
    ///
    /// One that has ended was reaped, and its number may be another process's by now.
    pub(super) fn give_up_exclusive(&mut self) -> ClientId {
        let mut jobs = self.jobs.iter_mut().flatten();
        let Some(job) = jobs.find(|job| job.exclusive && job.ended.is_none()) else {
            return ClientId::AGENT;
        };
        let _ = process::kill(job.pid, process::KILL);
        job.exclusive = false;
        job.end = |_, _| {};
        core::mem::replace(&mut job.client, ClientId::AGENT)
    }

    /// Ends a job, in its child: its reply goes to the agent, and the status tells how it went.
    pub(super) fn hand_over(&self, reply: &[u8], status: u8) -> ! {
        let pipe = self.reply_to.as_ref();
        let sent = pipe.is_some_and(|pipe| stream::write_all(pipe, reply).is_ok());
        process::exit(if sent { status } else { LOST }.into())
    }
}

impl Job {
    #[inline(never)]
    fn receive(&mut self, hear: Hear<'_>) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &self.pipe {
            match stream::read(pipe, &mut buffer) {
                Ok(Read::Bytes(count)) => {
                    self.spoke = true;
                    hear(self.client, Event::Bytes(&buffer[..count]));
                }
                Ok(Read::NotYet) => return,
                Ok(Read::End) | Err(_) => {
                    self.pipe = None;
                    // Otherwise it was killed before that, and is about to end.
                    if self.program && self.ended.is_none() && process::has_executed(self.pid) {
                        self.ended = Some(STARTED);
                    }
                }
            }
        }
    }

    /// Deals with what became of it. The child is gone, or another program by now: what it wrote is
    /// all there, and whatever else might hold the pipe open has nothing to say.
    fn settle(&mut self, mut outcome: Outcome, state: &mut State, hear: Hear<'_>) {
        self.receive(hear);
        let mut started = None;
        if self.program {
            if self.spoke {
                outcome = Outcome::Refused;
            }
            started = matches!(outcome, Outcome::Replied(_)).then_some(self.pid);
        }
        state.files.at_hand = self.at_hand;
        (self.end)(state, outcome);
        if self.program {
            state.programs.settle(self.pid, started.is_some());
        }
        let whole = outcome != Outcome::Lost;
        hear(self.client, Event::Over { whole, started });
    }
}

const_assert!(LOST > REPLIED_ERROR);
const_assert!(fault::STATUS > REPLIED_ERROR);

fn outcome(ended: Ended) -> Outcome {
    const REFUSED: i32 = REPLIED_ERROR as i32;
    match ended {
        Ended::Exited(number @ 0..REFUSED) => Outcome::Replied(number as u8),
        Ended::Exited(REFUSED) => Outcome::Refused,
        // Among them `sys::fault`'s.
        Ended::Exited(_) | Ended::Killed(_) => Outcome::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_a_process_that_was_not_reaped_is_killed() {
        for (ended, killed) in [(None, true), (Some(Outcome::Lost), false)] {
            let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
            let client = ClientId {
                place: 1,
                generation: 7,
            };
            let mut jobs = Jobs::new();
            jobs.jobs[3] = Some(Job {
                pid: child.id().cast_signed(),
                pipe: None,
                client,
                end: |_, _| {},
                exclusive: true,
                at_hand: 0,
                _writer: None,
                program: false,
                spoke: false,
                ended,
            });
            let given_up = jobs.give_up_exclusive();
            assert_eq!(given_up == client, killed);
            if !killed {
                std::thread::sleep(std::time::Duration::from_millis(100));
                assert!(child.try_wait().unwrap().is_none(), "killed");
                child.kill().unwrap();
            }
            child.wait().unwrap();
        }
    }
}
