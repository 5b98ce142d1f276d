//! Slow commands: each runs in a child of the agent, which writes its reply into a pipe.
//!
//! The agent goes on meanwhile. A reply leaves only when the child has ended well; one that was
//! killed half way is replaced by an error, so half a reply never leaves. When the client is gone by
//! then, the command is carried through all the same and its reply is dropped.
//!
//! guest-exec's child becomes another program, which closes its pipe without a word: then the job is
//! over with success, and the process is no job any more but one of `state::programs`.

use static_assertions::const_assert;

use super::client::Slot;
use crate::base::limits::JOBS;
use crate::base::store::Store;
use crate::commands::{Outcome, REPLIED_ERROR, Slow};
use crate::state::State;
use crate::sys::fault;
use crate::sys::poll::{Interest, Poll};
use crate::sys::process::{self, Ended, Fork};
use crate::sys::stream::{self, Read};
use crate::sys::{AsFd, Errno, OwnedFd};

/// Whose reply a job's is: a place for clients, and which of the clients it has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) place: usize,
    pub(super) generation: u32,
}

/// A slow command that runs.
struct Job {
    pid: i32,
    pipe: Option<OwnedFd>,
    owner: Option<Owner>,
    slow: Slow,
    exclusive: bool,
    /// What the state held at hand when it began.
    at_hand: i64,
    /// The end to write of one that shares descriptors: closed here, it would be closed there.
    _writer: Option<OwnedFd>,
    /// Whether it is to become another program.
    program: bool,
    /// Whether it has written anything, which one that becomes another program never does.
    spoke: bool,
    /// How it ended; as if with success, if it has become another program.
    ended: Option<Ended>,
}

/// How a job ends that becomes another program.
const STARTED: Ended = Ended::Exited(0);

/// A slow command that is over.
pub(super) struct Finished {
    pub(super) owner: Option<Owner>,
    pub(super) outcome: Outcome,
    pub(super) slow: Slow,
    /// The number of a process that was to become another program.
    pub(super) program: Option<i32>,
    pub(super) at_hand: i64,
}

/// All slow commands that run.
pub(super) struct Jobs {
    jobs: [Option<Job>; JOBS],
}

impl Jobs {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            jobs: [const { None }; JOBS],
        }
    }

    /// Whether a command that must have its turn alone has it now.
    pub(super) fn exclusive_runs(&self) -> bool {
        self.jobs.iter().flatten().any(|job| job.exclusive)
    }

    /// Starts a job. In the child, `work` writes the reply behind what `out` holds and gives the
    /// exit status; its reply is what it appended.
    pub(super) fn start(
        &mut self,
        (slow, exclusive, shares_files): (Slow, bool, bool),
        owner: Option<Owner>,
        (poll, token): (&Poll, u64),
        state: &mut State,
        out: &mut dyn Store,
        work: &mut dyn FnMut(&mut State, &mut dyn Store) -> u8,
    ) -> Result<(), Errno> {
        let place = self
            .jobs
            .iter()
            .position(Option::is_none)
            .ok_or(Errno::AGAIN)?;
        let (reader, writer) = stream::pipe()?;
        let token = token.wrapping_add(u64::try_from(place).unwrap_or(0));
        poll.add(&reader, token, Interest::Read)?;
        state.programs.watch(poll)?;
        let fork = if shares_files {
            process::fork_sharing_files
        } else {
            process::fork
        };
        match fork()? {
            Fork::Child => {
                if !shares_files {
                    state.programs.in_child();
                    process::close_all_but(state.root.as_fd(), writer.as_fd());
                }
                let start = out.bytes().len();
                let status = work(state, out);
                let reply = out.bytes().get(start..).unwrap_or_default();
                let sent = stream::write_all(&writer, reply);
                process::exit(if sent.is_ok() {
                    i32::from(status)
                } else {
                    LOST
                })
            }
            Fork::Parent(pid) => {
                let pipe = Some(reader);
                let job = Job {
                    pid,
                    pipe,
                    owner,
                    slow,
                    exclusive,
                    program: state.programs.forked(pid),
                    spoke: false,
                    at_hand: state.files.at_hand,
                    _writer: shares_files.then_some(writer),
                    ended: None,
                };
                if let Some(slot) = self.jobs.get_mut(place) {
                    *slot = Some(job);
                }
                Ok(())
            }
        }
    }

    /// Takes what the job at `place` has written, for its owner if that is still there.
    pub(super) fn receive(&mut self, place: usize, slots: &mut [Slot]) {
        let Some(Some(job)) = self.jobs.get_mut(place) else {
            return;
        };
        let mut buffer = [0; 4096];
        while let Some(pipe) = &job.pipe {
            match stream::read(pipe, &mut buffer) {
                Ok(Read::Bytes(count)) => {
                    job.spoke = true;
                    let slot = job.owner.and_then(|owner| owner.find(slots));
                    if let Some(slot) = slot {
                        // A reply past its cap is found out by the missing end.
                        let _ = slot.message_and_out().1.append(&buffer[..count]);
                    }
                }
                Ok(Read::NotYet) => return,
                Ok(Read::End) | Err(_) => {
                    job.pipe = None;
                    // Otherwise it was killed before that, and is about to end.
                    if job.program && job.ended.is_none() && process::has_executed(job.pid) {
                        job.ended = Some(STARTED);
                    }
                }
            }
        }
    }

    /// Takes note that a child has ended, and whether it had become another program.
    pub(super) fn note(&mut self, pid: i32, ended: Ended, executed: bool) {
        if let Some(job) = self.jobs.iter_mut().flatten().find(|job| job.pid == pid) {
            let started = job.program && executed;
            job.ended = Some(if started { STARTED } else { ended });
        }
    }

    /// The next job that is over. What it wrote has been received.
    pub(super) fn finished(&mut self, slots: &mut [Slot]) -> Option<Finished> {
        for place in 0..JOBS {
            let Some(Some(Job {
                ended: Some(ended), ..
            })) = self.jobs.get(place)
            else {
                continue;
            };
            let ended = *ended;
            self.receive(place, slots);
            // The child is gone; whatever else might hold the pipe open has nothing to say.
            let job = self.jobs.get_mut(place).and_then(Option::take)?;
            return Some(Finished {
                owner: job.owner,
                outcome: if job.program && job.spoke {
                    Outcome::Refused
                } else {
                    outcome(ended)
                },
                slow: job.slow,
                program: job.program.then_some(job.pid),
                at_hand: job.at_hand,
            });
        }
        None
    }

    /// Gives up on the job that has its turn alone: kills it, and gives its owner, who need not wait
    /// for it any more. A process stuck in the kernel dies only when it comes out of it, and until
    /// then nobody else has the turn: what it does may still take effect.
    pub(super) fn give_up_exclusive(&mut self) -> Option<Owner> {
        let job = self.jobs.iter_mut().flatten().find(|job| job.exclusive)?;
        let _ = process::kill(job.pid, process::KILL);
        job.owner.take()
    }
}

impl Owner {
    /// The owner's place, if the owner is still there.
    pub(super) fn find(self, slots: &mut [Slot]) -> Option<&mut Slot> {
        let slot = slots.get_mut(self.place)?;
        (!slot.is_free() && slot.generation() == self.generation).then_some(slot)
    }
}

/// The exit status of a child that could not hand over its reply.
const LOST: i32 = 254;

const_assert!(LOST > REPLIED_ERROR as i32);
const_assert!(fault::STATUS > REPLIED_ERROR);

fn outcome(ended: Ended) -> Outcome {
    match ended {
        Ended::Exited(status) => match u8::try_from(status) {
            Ok(REPLIED_ERROR) => Outcome::Refused,
            Ok(number) if number < REPLIED_ERROR => Outcome::Replied(number),
            // Among them `sys::fault`'s.
            _ => Outcome::Lost,
        },
        Ended::Killed(_) => Outcome::Lost,
    }
}
