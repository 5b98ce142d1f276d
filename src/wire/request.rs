//! The outer object of a request: `execute`, `arguments`, `id`, and no other member.
//!
//! As in qemu-ga, an error about a member that is there comes before an error about a missing one.
//!
//! Difference from qemu-ga: it checks members in the order of its hash table. Here `execute` comes
//! first, then `arguments`, then unexpected members in the order of the request.

use super::json::{Json, Str};
use super::reply::{Failed, Reply};
use super::texts::Phrase;
use crate::base::sink::ByteSink;

/// A request whose outer object is valid. Its arguments are not checked yet.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The name of the command.
    pub command: Str<'a>,
    /// The arguments, an object. `None` means the empty object.
    pub arguments: Option<Json<'a>>,
}

/// Parses a message that the framer has stored. The reply echoes its `id`, also the reply to an
/// invalid request.
pub fn open<'a>(text: &'a [u8], reply: &mut Reply<'a>) -> Result<Request<'a>, Failed> {
    let (mut execute, mut arguments, mut id, mut unexpected) = (None, None, None, None);
    let message = Json::of_message(text);
    for (name, value) in message.members() {
        if name.is("execute") {
            execute = Some(value);
        } else if name.is("arguments") {
            arguments = Some(value);
        } else if name.is("id") {
            id = Some(value);
        } else {
            unexpected = unexpected.or(Some(name));
        }
    }
    reply.echo(id);
    let command = execute.and_then(Json::string);
    let is_object = |json: Json<'_>| json.text().starts_with(b"{");
    let wrong = if !is_object(message) {
        Phrase::NotObject
    } else if execute.is_some() && command.is_none() {
        Phrase::ExecuteNotString
    } else if !arguments.is_none_or(is_object) {
        Phrase::ArgumentsNotObject
    } else if let Some(name) = unexpected {
        return Err(reply.error().about(Phrase::UnexpectedMember, name));
    } else if let Some(command) = command {
        return Ok(Request { command, arguments });
    } else {
        Phrase::NoExecute
    };
    Err(reply.fail(wrong))
}

/// Begins another reply to a request that [`open`] has accepted before: one that echoes its `id`.
// Called in several places: keeps one copy of the code.
#[inline(never)]
pub fn reopen<'a>(message: &'a [u8], out: &'a mut dyn ByteSink) -> Reply<'a> {
    let mut reply = Reply::new(out);
    // Called for the `id` alone: the request is valid.
    let _ = open(message, &mut reply);
    reply
}
