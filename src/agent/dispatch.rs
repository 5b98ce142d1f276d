//! From a message to its reply.

use super::client::{Busy, Slot};
use super::jobs::{Finished, Jobs, Owner};
use super::reading;
use super::serve::JOB;
use crate::base::store::Store;
use crate::commands::{
    self, Command, DELIMITED, EXCLUSIVE, Outcome, REPLIED_ERROR, Run, SHARES_FILES, SILENT, Slow,
};
use crate::state::State;
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::poll::Poll;
use crate::wire::args;
use crate::wire::frame::Event;
use crate::wire::json;
use crate::wire::reply::{Class, Failed, Reply};
use crate::wire::request::{self, Request};

/// What dispatching needs besides the client.
pub(super) struct Context<'a> {
    pub(super) state: &'a mut State,
    jobs: &'a mut Jobs,
    poll: &'a Poll,
}

impl<'a> Context<'a> {
    pub(super) fn new(state: &'a mut State, jobs: &'a mut Jobs, poll: &'a Poll) -> Self {
        Self { state, jobs, poll }
    }

    /// Starts a job for a client.
    pub(super) fn start(
        &mut self,
        kind: (Slow, bool, bool),
        owner: Owner,
        out: &mut Buffer,
        work: &mut dyn FnMut(&mut State, &mut dyn Store) -> u8,
    ) -> Result<(), Errno> {
        let watch = (self.poll, JOB);
        self.jobs
            .start(kind, Some(owner), watch, self.state, out, work)
    }
}

/// Deals with what came from the client at `place`.
pub(super) fn handle(event: Event, place: usize, slot: &mut Slot, context: &mut Context<'_>) {
    let owner = Owner {
        place,
        generation: slot.generation(),
    };
    let (message, out) = slot.message_and_out();
    let busy = match event {
        Event::NeedMore => return,
        Event::Message => answer(message, out, owner, context),
        Event::Stray { from } => {
            let token = message.get(from..).unwrap_or_default();
            refuse(out, &[b"JSON parse error, stray '", token, b"'"])
        }
        Event::TokenSize => refuse(out, &[b"JSON token size limit exceeded"]),
        Event::TokenCount => refuse(out, &[b"JSON token count limit exceeded"]),
        Event::Nesting => refuse(out, &[b"JSON nesting depth limit exceeded"]),
    };
    match busy {
        Busy::No => slot.message_done(),
        _ => slot.wait(busy),
    }
    slot.reading = context.state.files.reading.take();
}

/// Tries again a message that had to wait for its turn.
pub(super) fn retry(place: usize, slot: &mut Slot, context: &mut Context<'_>) {
    slot.wait(Busy::No);
    handle(Event::Message, place, slot, context);
}

fn refuse(out: &mut Buffer, words: &[&[u8]]) -> Busy {
    let mut reply = Reply::new(out, None);
    let failed = reply.refuse(words, 0);
    reply.finish(Err(failed));
    Busy::No
}

fn answer(message: &[u8], out: &mut Buffer, owner: Owner, context: &mut Context<'_>) -> Busy {
    let message = match json::check(message) {
        Ok(message) => message,
        Err(error) => {
            let (before, middle, after) = error.pieces();
            return refuse(
                out,
                &[
                    error.prefix().as_bytes(),
                    before.as_bytes(),
                    middle,
                    after.as_bytes(),
                ],
            );
        }
    };
    let start = out.len();
    let (mut reply, request) = request::open(message, out);
    let checked =
        request.and_then(|request| Ok((request, find(&request, context.state, &mut reply)?)));
    let (request, row) = match checked {
        Ok(found) => found,
        Err(failed) => {
            reply.finish(Err(failed));
            return Busy::No;
        }
    };
    if row.is(EXCLUSIVE) && context.jobs.exclusive_runs() {
        reply.silence();
        return Busy::Turn;
    }
    match row.run() {
        Run::Now(handler) => {
            let outcome =
                args::check(request.arguments, row.params(), &mut reply).and_then(|args| {
                    if row.is(DELIMITED) {
                        reply.delimit();
                    }
                    handler(context.state, &args, &mut reply)
                });
            if context.state.files.reading.is_some() {
                reply.silence();
                return Busy::Reading;
            }
            reply.finish(outcome);
            Busy::No
        }
        Run::Slow(slow) => {
            let begun = args::check(request.arguments, row.params(), &mut reply)
                .and_then(|args| (slow.begin)(context.state, &args, &mut reply));
            if let Err(failed) = begun {
                reply.finish(Err(failed));
                return Busy::No;
            }
            reply.silence();
            start_job(message, row, slow, (out, start), owner, context)
        }
    }
}

/// The row of the command, if it is known and allowed.
fn find(request: &Request<'_>, state: &State, reply: &mut Reply<'_>) -> Result<Command, Failed> {
    let name = request.command;
    let Some((place, row)) = commands::find(name) else {
        let error = reply
            .fail_as(Class::CommandNotFound)
            .text("The command ")
            .string(name);
        return Err(error.text(" has not been found").end());
    };
    if commands::is_enabled(place, &row, state) {
        return Ok(row);
    }
    let error = reply
        .fail_as(Class::CommandNotFound)
        .text("Command ")
        .string(name);
    Err(error
        .text(" has been disabled: the command is not allowed")
        .end())
}

fn start_job(
    message: json::Json<'_>,
    row: Command,
    slow: Slow,
    (out, start): (&mut Buffer, usize),
    owner: Owner,
    context: &mut Context<'_>,
) -> Busy {
    let mut work = |state: &mut State, out: &mut dyn Store| {
        let (mut reply, request) = request::open(message, out);
        let done = request
            .and_then(|request| args::check(request.arguments, row.params(), &mut reply))
            .and_then(|args| (slow.work)(state, &args, &mut reply));
        match done {
            Ok(number) => {
                if row.is(SILENT) {
                    reply.silence();
                } else {
                    reply.finish(Ok(()));
                }
                number
            }
            Err(failed) => {
                reply.finish(Err(failed));
                REPLIED_ERROR
            }
        }
    };
    let kind = (slow, row.is(EXCLUSIVE), row.is(SHARES_FILES));
    let started = context.start(kind, owner, out, &mut work);
    let Err(errno) = started else {
        return Busy::Job;
    };
    out.truncate(start);
    (slow.end)(context.state, Outcome::Lost);
    let (mut reply, _) = request::open(message, out);
    let failed = reply
        .fail()
        .text("failed to create child process")
        .errno(crate::sys::number(errno))
        .end();
    reply.finish(Err(failed));
    Busy::No
}

/// Deals with a slow command that is over: its reply may leave now.
pub(super) fn finish(finished: Finished, slots: &mut [Slot], state: &mut State) {
    state.files.at_hand = finished.at_hand;
    (finished.slow.end)(state, finished.outcome);
    let mut started = finished.program;
    if let Some(pid) = started {
        started = started.filter(|_| matches!(finished.outcome, Outcome::Replied(_)));
        state.programs.settle(pid, started.is_some());
    }
    if let Some(owner) = finished.owner {
        reply(owner, finished.outcome != Outcome::Lost, started, slots);
    }
}

/// Lets the reply of a slow command leave, or, unless it is whole, an error in its place. One that
/// `started` a program has none yet.
pub(super) fn reply(owner: Owner, whole: bool, started: Option<i32>, slots: &mut [Slot]) {
    let Some(slot) = owner.find(slots) else {
        return;
    };
    if slot.busy() == Busy::Fetch {
        return reading::take_over(slot, whole);
    }
    let wanted = slot.wants_reply();
    let start = slot.reply_start();
    let (message, out) = slot.message_and_out();
    let whole = whole && (out.len() == start || out.bytes().last() == Some(&b'\n'));
    if !wanted {
        out.truncate(start);
    } else if !whole || started.is_some() {
        out.truncate(start);
        if let Ok(message) = json::check(message) {
            let (mut reply, _) = request::open(message, out);
            let outcome = if let Some(pid) = started {
                let mut object = reply.value().object();
                object.member("pid").int(pid.into());
                object.end();
                Ok(())
            } else {
                let error = reply.fail();
                Err(error.text("child process has terminated abnormally").end())
            };
            reply.finish(outcome);
        }
    }
    slot.message_done();
}
