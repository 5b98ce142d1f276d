//! The envelope of a request: `execute`, `arguments`, `id`, and nothing else.
//!
//! Errors come in qemu-ga's order: what is wrong with a member before what is missing. Where several
//! members are wrong qemu-ga reports whichever its hash table gives first; here it is `execute`,
//! `arguments`, then whatever should not be there, in the order of the request.

use super::json::{Json, Str};
use super::reply::{Failed, Reply};
use crate::base::store::Store;
use crate::base::texts::Phrase;

/// A request whose envelope is right.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The name of the command.
    pub command: Str<'a>,
    /// Its arguments, an object; absent counts as empty.
    pub arguments: Option<Json<'a>>,
}

/// Takes a message apart, as the framer has stored it, and has its reply echo the `id`, even if the rest
/// of the envelope is wrong.
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
        return Err(reply.fail().about(Phrase::UnexpectedMember, name));
    } else if let Some(command) = command {
        return Ok(Request { command, arguments });
    } else {
        Phrase::NoExecute
    };
    Err(reply.say_only(wrong))
}

/// Begins anew the reply to a message that was found right before.
#[inline(never)]
pub fn reopen<'a>(message: &'a [u8], out: &'a mut dyn Store) -> Reply<'a> {
    let mut reply = Reply::new(out);
    // It was right before.
    let _ = open(message, &mut reply);
    reply
}
