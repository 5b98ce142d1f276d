//! From a message to its reply.

use super::client::{Busy, Slot};
use super::jobs::{Jobs, Owner};
use super::reading;
use super::serve::JOB;
use crate::base::store::Store;
use crate::base::texts::{Name, Phrase};
use crate::commands::{
    self, Command, DELIMITED, EXCLUSIVE, Outcome, Own, REPLIED_ERROR, Run, SHARES_FILES, SILENT,
    WITHOUT_FILES,
};
use crate::state::State;
use crate::sys::mem::Buffer;
use crate::sys::poll::Poll;
use crate::sys::{Errno, number};
use crate::wire::args::Args;
use crate::wire::frame::Event;
use crate::wire::reply::{Class, Failed, Reply};
use crate::wire::request::{self, Request};

/// What dispatching needs besides the client.
// In this order, because what is near the beginning is reached by short instructions.
#[repr(C)]
pub(super) struct Context {
    pub(super) poll: Poll,
    /// In a child of the agent that has done its work: the status that tells what came of it.
    pub(super) worked: Option<u8>,
    pub(super) state: State,
    pub(super) jobs: Jobs,
}

impl Context {
    /// Starts a job, for a client or for the agent itself: [`Jobs::start`].
    #[inline(never)]
    pub(super) fn start(&mut self, own: &Own, owner: Owner) -> Result<(), Errno> {
        let watch = (&self.poll, JOB);
        self.jobs.start(own, owner, watch, &mut self.state)
    }
}

/// Deals with what came from a client.
#[inline(never)]
pub(super) fn handle(event: Event, slot: &mut Slot, context: &mut Context) {
    let (owner, start) = (slot.owner(), slot.out.len());
    let (message, out) = (slot.message.bytes(), &mut slot.out);
    let busy = match event {
        Event::NeedMore => return,
        Event::Message => answer(message, out, owner, context),
        Event::Error => {
            let mut reply = Reply::new(out);
            let failed = reply.not_json(slot.framer.error(), message);
            reply.finish(Err(failed));
            Busy::No
        }
    };
    match busy {
        Busy::No => {
            // Whoever asked has left while this waited for its turn.
            if slot.orphaned {
                slot.out.truncate(start);
            }
            slot.message_done();
        }
        _ => slot.wait(busy),
    }
    slot.reading = context.state.files.reading.take();
}

fn answer(message: &[u8], out: &mut Buffer, owner: Owner, context: &mut Context) -> Busy {
    let start = out.len();
    let mut reply = Reply::new(out);
    let request = request::open(message, &mut reply);
    let (busy, outcome) =
        match request.and_then(|request| run(&request, owner, context, &mut reply)) {
            Ok(busy) => (busy, Ok(())),
            Err(failed) => (Busy::No, Err(failed)),
        };
    match busy {
        Busy::No => reply.finish(outcome),
        _ => reply.silence(),
    }
    if let Some(status) = context.worked {
        context.jobs.hand_over(&out.bytes()[start..], status)
    }
    busy
}

/// Runs a command, or has a child run it; gives what its reply has to wait for, if it is not there
/// now. In the child a success that is silent looks like one that has to wait.
#[inline(never)]
fn run(
    request: &Request<'_>,
    owner: Owner,
    context: &mut Context,
    reply: &mut Reply<'_>,
) -> Result<Busy, Failed> {
    let row = find(request, &context.state, reply)?;
    let exclusive = row.is(EXCLUSIVE);
    if exclusive && context.jobs.exclusive_runs() {
        return Ok(Busy::Turn);
    }
    let mut args = Args::none();
    args.check(request.arguments, row.params(), reply)?;
    if !row.is(WITHOUT_FILES) {
        context.state.find_root();
    }
    match row.run() {
        Run::Now(handler) => {
            if row.is(DELIMITED) {
                reply.delimit();
            }
            handler(&mut context.state, &args, reply)?;
            Ok(match context.state.files.reading {
                Some(_) => Busy::Reading,
                None => Busy::No,
            })
        }
        Run::Slow(slow) => {
            let own = Own {
                slow,
                exclusive,
                shares_files: row.is(SHARES_FILES),
            };
            run_slow(&own, &args, owner, context, reply)?;
            Ok(match context.worked {
                Some(_) if !row.is(SILENT) => Busy::No,
                _ => Busy::Job,
            })
        }
    }
}

/// Starts a slow command, and does its work in the child, which has a copy of all that was found out
/// about the request: then [`Context::worked`] tells.
#[inline(never)]
pub(super) fn run_slow(
    own: &Own,
    args: &Args<'_>,
    owner: Owner,
    context: &mut Context,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    (own.slow.begin)(&mut context.state, args, reply)?;
    if let Err(errno) = context.start(own, owner) {
        (own.slow.end)(&mut context.state, Outcome::Lost);
        return Err(reply.say(Phrase::NoChild, &[], number(errno)));
    }
    if context.jobs.in_child() {
        context.worked = Some(REPLIED_ERROR);
        context.worked = Some((own.slow.work)(&mut context.state, args, reply)?);
    }
    Ok(())
}

/// The row of the command, if it is known and allowed.
fn find(request: &Request<'_>, state: &State, reply: &mut Reply<'_>) -> Result<Command, Failed> {
    let name = request.command;
    let what = match commands::find(name) {
        Some((place, row)) if commands::is_enabled(place, &row, state) => return Ok(row),
        Some(_) => Phrase::Disabled,
        None => Phrase::NotFound,
    };
    Err(reply.fail_as(Class::CommandNotFound).about(what, name))
}

/// Begins anew the reply to a message that was found right before.
#[inline(never)]
pub(super) fn reopen<'a>(message: &'a [u8], out: &'a mut Buffer) -> Reply<'a> {
    let mut reply = Reply::new(out);
    // It was right before.
    let _ = request::open(message, &mut reply);
    reply
}

/// Lets the reply of a slow command leave, or, unless it is whole, an error in its place. One that
/// `started` a program has none yet.
#[inline(never)]
pub(super) fn reply(owner: Owner, whole: bool, started: Option<i32>, slots: &mut [Slot]) {
    let Some(slot) = owner.find(slots) else {
        return;
    };
    slot.news = true;
    // What there was no room for is not there.
    let whole = whole && slot.out.whole().is_ok();
    if slot.busy == Busy::Fetch && slot.reading.is_some() {
        return reading::take_over(slot, whole);
    }
    let start = slot.sendable();
    let out = &mut slot.out;
    // As those before it do, if it is empty.
    let ends = out.bytes().last().is_none_or(|last| *last == b'\n');
    if slot.orphaned {
        out.truncate(start);
    } else if !(whole && ends && started.is_none()) {
        out.truncate(start);
        let mut reply = reopen(slot.message.bytes(), out);
        let outcome = if let Some(pid) = started {
            let mut object = reply.value().object();
            object.member(Name::Pid).int(pid.into());
            object.end();
            Ok(())
        } else {
            Err(reply.say_only(Phrase::EndedAbnormally))
        };
        reply.finish(outcome);
    }
    slot.message_done();
}
