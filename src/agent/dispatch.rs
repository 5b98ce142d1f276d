//! From a message to its reply.

use super::client::{Busy, Slot};
use super::context::Context;
use super::ids::ClientId;
use crate::base::store::Store;
use crate::base::texts::Phrase;
use crate::commands::{
    self, Command, DELIMITED, EXCLUSIVE, Outcome, Own, REPLIED_ERROR, Run, SHARES_FILES, SILENT,
    WITHOUT_FILES,
};
use crate::state::State;
use crate::sys::mem::Buffer;
use crate::sys::number;
use crate::wire::args::Args;
use crate::wire::frame::Event;
use crate::wire::reply::{Class, Failed, Reply};
use crate::wire::request::{self, Request};

/// Deals with what came from a client.
#[inline(never)]
pub(super) fn handle(event: Event, slot: &mut Slot, context: &mut Context) {
    let (client, start) = (slot.id(), slot.out.len());
    let (message, out) = (slot.message.bytes(), &mut slot.out);
    let busy = match event {
        Event::NeedMore => return,
        Event::Message => answer(message, out, client, context),
        Event::Error => {
            let mut reply = Reply::new(out);
            let failed = reply.not_json(slot.framer.error(), message);
            reply.finish(Err(failed));
            Busy::No
        }
    };
    match busy {
        Busy::No => {
            // The client has left while its request waited for its turn.
            if slot.orphaned {
                slot.out.truncate(start);
            }
            slot.message_done();
        }
        _ => slot.wait(busy),
    }
    slot.reading = context.state.files.reading.take();
}

fn answer(message: &[u8], out: &mut Buffer, client: ClientId, context: &mut Context) -> Busy {
    let start = out.len();
    let mut reply = Reply::new(out);
    let request = request::open(message, &mut reply);
    let (busy, outcome) =
        match request.and_then(|request| run(&request, client, context, &mut reply)) {
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
    client: ClientId,
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
            run_slow(&own, &args, client, context, reply)?;
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
    client: ClientId,
    context: &mut Context,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    (own.slow.begin)(&mut context.state, args, reply)?;
    if let Err(errno) = context.start(own, client) {
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
