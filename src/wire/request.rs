//! The outer object of a request: `execute`, `arguments`, `id`, and no other member.
//!
//! As in qemu-ga, an error about a member that is there comes before an error about a missing one.
//!
//! Difference from qemu-ga: it checks members in the order of its hash table. Here `execute` comes
//! first, then `arguments`, then unexpected members in the order of the request.

use super::json::{Json, Str};
use super::message::{Member, Message};
use super::reply::{Failed, Reply};
use super::texts::Phrase;
use crate::base::sink::ByteSink;

/// Begins a reply to a message that the framer has stored: one that echoes its `id`.
pub fn reply_to<'a>(message: Message<'a>, out: &'a mut dyn ByteSink) -> Reply<'a> {
    let mut reply = Reply::new(out);
    reply.echo(message.value(Member::Id));
    reply
}

/// Checks the outer object of a message. Returns the name of the command; its arguments are not
/// checked yet.
pub fn command<'a>(message: Message<'a>, reply: &mut Reply<'_>) -> Result<Str<'a>, Failed> {
    let execute = message.value(Member::Execute);
    let command = execute.and_then(Json::string);
    let is_object = |text: &[u8]| text.starts_with(b"{");
    let arguments = message.arguments();
    let wrong = if !is_object(message.text) {
        Phrase::NotObject
    } else if execute.is_some() && command.is_none() {
        Phrase::ExecuteNotString
    } else if !arguments.is_none_or(|json| is_object(json.text())) {
        Phrase::ArgumentsNotObject
    } else if let Some(name) = message.unexpected() {
        return Err(reply.error().about(Phrase::UnexpectedMember, name));
    } else if let Some(command) = command {
        return Ok(command);
    } else {
        Phrase::NoExecute
    };
    Err(reply.fail(wrong))
}
