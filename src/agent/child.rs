//! One child of the agent: a worker, or a child with a single task, and the job that it runs.
//!
//! A child sends its reply over a socket: a frame with the length and the status, then the bytes. A
//! child that becomes a program closes its socket without a reply.

use super::ids::ClientId;
use super::worker::{FRAME_BYTES, REFUSED};
use crate::commands::{Outcome, Task, TaskClass, Ticket};
use crate::state::State;
use crate::sys::stream::{self, Read};
use crate::sys::{OwnedFd, process};

/// What a job reports to its client.
pub(super) enum Report<'a> {
    /// A piece of the reply.
    Bytes(&'a [u8]),
    /// The end of the job.
    Over(Outcome),
}

/// A function that takes the reports of jobs, each with the client of the job.
pub(super) type Deliver<'a> = &'a mut dyn FnMut(ClientId, Report<'_>);

/// A task that runs.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) ticket: Ticket,
    pub(super) client: ClientId,
    pub(super) frame: Frame,
    /// When to give it up.
    pub(super) deadline_ms: u64,
    /// Whether its child becomes a program.
    pub(super) becomes_program: bool,
}

/// The frame of a reply: its status, and how many of its bytes are still to come. `None` until the
/// frame itself has come.
#[derive(Default)]
pub(super) struct Frame {
    left: Option<usize>,
    status: u8,
}

impl Frame {
    /// Takes the next bytes of the child, the first of which are the frame; returns the bytes of
    /// the reply among them.
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

    /// Whether the whole reply has come.
    fn is_whole(&self) -> bool {
        self.left == Some(0)
    }
}

/// The kinds of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildKind {
    /// Runs one task after the other.
    Worker {
        /// Whether it shares the agent's descriptors.
        shares_files: bool,
    },
    /// Runs one task and ends.
    Once,
    /// Was killed, and has not been reaped yet.
    Killed,
}

/// A child of the agent.
pub(super) struct Child {
    pub(super) pid: i32,
    pub(super) kind: ChildKind,
    /// The class of its job, or of its last one.
    pub(super) class: TaskClass,
    pub(super) job: Option<Job>,
    /// Whether it has a copy of much memory that the agent had borrowed at the fork.
    pub(super) is_heavy: bool,
    /// The agent's end of the socket, until the child has closed its end.
    pub(super) socket: Option<OwnedFd>,
    /// The child's end, if the child shares the agent's descriptors: to close it here would close
    /// it there.
    pub(super) _theirs: Option<OwnedFd>,
}

impl Child {
    /// Whether it is a worker without a task.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.kind, ChildKind::Worker { .. }) && self.job.is_none() && self.socket.is_some()
    }

    /// Whether it counts against the quota of its class: it works, or was killed at work.
    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some() || self.kind == ChildKind::Killed
    }

    /// Whether its job is to become a program, and it has closed its socket without a reply.
    pub(super) fn closed_for_program(&self) -> bool {
        self.socket.is_none() && self.job.as_ref().is_some_and(|job| job.becomes_program)
    }

    /// Kills the child and ignores its reply. It is not reaped yet, so no other process can have
    /// its process id.
    pub(super) fn kill(&mut self) {
        let _ = process::kill(self.pid, process::KILL);
        self.kind = ChildKind::Killed;
        self.socket = None;
    }

    /// Receives what the child has sent, and ends its job when the reply is whole.
    #[inline(never)]
    pub(super) fn receive(&mut self, state: &mut State, deliver: Deliver<'_>) {
        let mut buffer = [0; 4096];
        while let Some(socket) = &self.socket {
            match stream::read(socket, &mut buffer) {
                Ok(Read::Bytes(count)) => {
                    let Some(job) = &mut self.job else {
                        // A child without a job sends nothing: something is wrong with it.
                        return self.kill();
                    };
                    let reply = job.frame.take(&buffer[..count]);
                    deliver(job.client, Report::Bytes(reply));
                    if job.frame.is_whole() {
                        let outcome = match job.frame.status {
                            REFUSED => Outcome::Refused,
                            number => Outcome::Replied(number),
                        };
                        return self.finish(outcome, state, deliver);
                    }
                }
                Ok(Read::NotYet) => return,
                Ok(Read::End) | Err(_) => {
                    self.socket = None;
                }
            }
        }
    }

    /// Ends the job of the child, if it has one, with this outcome.
    pub(super) fn finish(&mut self, outcome: Outcome, state: &mut State, deliver: Deliver<'_>) {
        let Some(job) = self.job.take() else {
            return;
        };
        if self.kind == ChildKind::Once {
            self.socket = None;
        }
        (job.task.slow().finish)(state, job.ticket, outcome);
        deliver(job.client, Report::Over(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
