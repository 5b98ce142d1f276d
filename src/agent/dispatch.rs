//! From a message to its reply: finds the command, checks whether it is allowed and its arguments,
//! and runs it, or starts a task for it.

use super::client::{Busy, Client};
use super::context::Context;
use super::ids::ClientId;
use crate::base::sink::ByteSink;
use crate::commands::{self, DELIMITED, EXCLUSIVE, OWN_CHILD, Run, Task, WITHOUT_FILES};
use crate::state::files::Reading;
use crate::sys::mem::Buffer;
use crate::sys::number;
use crate::wire::args::Args;
use crate::wire::frame::Event;
use crate::wire::json::Str;
use crate::wire::message::Message;
use crate::wire::reply::{ErrorClass, Failed, Reply};
use crate::wire::request;
use crate::wire::texts::Phrase;

/// Handles a message of a client, or an error in what it sent.
#[inline(never)]
pub(super) fn handle(event: Event, client: &mut Client, context: &mut Context) {
    let id = client.id();
    let (text, out) = (client.message.bytes(), &mut client.out);
    let next = match event {
        Event::NeedMore => return,
        Event::Message => answer(client.framer.message(text), out, id, context),
        Event::Error => {
            let mut reply = Reply::new(out);
            let failed = reply.fail_not_json(client.framer.error(), text);
            reply.finish(Err(failed));
            Next::Reply
        }
    };
    match next {
        Next::Reply => client.message_done(),
        Next::Wait(busy) => client.wait(busy),
        Next::Stream(reading) => {
            client.reading = Some(reading);
            client.wait(Busy::Reading);
        }
    }
}

/// What follows a message.
enum Next {
    /// The reply is written: the next message.
    Reply,
    /// The reply comes later: wait for this reason.
    Wait(Busy),
    /// The reply is streamed from this file.
    Stream(Reading),
}

fn answer(message: Message<'_>, out: &mut Buffer, id: ClientId, context: &mut Context) -> Next {
    let mut reply = request::reply_to(message, out);
    match run(message, id, context, &mut reply) {
        Ok(Next::Reply) => reply.finish(Ok(())),
        Ok(next) => {
            reply.silence();
            return next;
        }
        Err(failed) => reply.finish(Err(failed)),
    }
    Next::Reply
}

/// Runs a command, or starts a task for it.
#[inline(never)]
fn run(
    message: Message<'_>,
    id: ClientId,
    context: &mut Context,
    reply: &mut Reply<'_>,
) -> Result<Next, Failed> {
    let name = request::command(message, reply)?;
    let Some((index, row)) = commands::find(name) else {
        return Err(refuse(Phrase::NotFound, name, reply));
    };
    if !commands::is_enabled(index, &row, &context.state) {
        return Err(refuse(Phrase::Disabled, name, reply));
    }
    if row.is(EXCLUSIVE) && context.jobs.exclusive_runs() {
        // Of these commands only a thaw is allowed during a freeze. A freeze that aborts FUSE at its
        // deadline is left to do that.
        if !context.state.guest.aborts_fuse {
            context.state.freeze.hurry();
        }
        return Ok(Next::Wait(Busy::Turn));
    }
    let mut args = Args::none();
    args.check(message.arguments(), row.params(), reply)?;
    if !row.is(WITHOUT_FILES) {
        context.state.guest.find_root();
    }
    if row.is(OWN_CHILD) {
        context.rest_soon();
    }
    let state = &mut context.state;
    match commands::run(&row) {
        Run::Now(handler) => {
            if row.is(DELIMITED) {
                reply.delimit();
            }
            handler(state, &args, reply)?;
            Ok(Next::Reply)
        }
        Run::Stream(opening) => Ok(Next::Stream(opening(state, &args, reply)?)),
        Run::Alone(_) | Run::Slow(_) => {
            let task = Task::new(index as u8, row);
            start(&task, &args, message.text, id, context, reply)?;
            Ok(Next::Wait(Busy::Job))
        }
    }
}

/// Prepares and starts a task.
#[inline(never)]
pub(super) fn start(
    task: &Task,
    args: &Args<'_>,
    message: &[u8],
    id: ClientId,
    context: &mut Context,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let ticket = (task.slow().prepare)(&mut context.state, args, reply)?;
    let started = context.start(task, ticket, id, message);
    started.map_err(|errno| reply.fail_with(Phrase::NoChild, &[], number(errno)))
}

/// Fails because the command is unknown or not allowed.
#[inline(never)]
fn refuse(why: Phrase, name: Str<'_>, reply: &mut Reply<'_>) -> Failed {
    reply.error_as(ErrorClass::CommandNotFound).about(why, name)
}
