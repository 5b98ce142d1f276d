//! The envelope of a request: `execute`, `arguments`, `id`, and nothing else.
//!
//! Errors come in qemu-ga's order: what is wrong with a member before what is missing. Where several
//! members are wrong qemu-ga reports whichever its hash table gives first; here it is `execute`,
//! `arguments`, then whatever should not be there, in the order of the request.

use super::json::{Json, Kind, Str};
use super::reply::{Failed, Reply};
use crate::base::store::Store;

/// A request whose envelope is right.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The name of the command.
    pub command: Str<'a>,
    /// Its arguments, an object; absent counts as empty.
    pub arguments: Option<Json<'a>>,
}

/// Takes a message apart and makes the reply it will get, which echoes the `id` even if the rest of
/// the envelope is wrong.
pub fn open<'a>(
    message: Json<'a>,
    out: &'a mut dyn Store,
) -> (Reply<'a>, Result<Request<'a>, Failed>) {
    let mut execute = None;
    let mut arguments = None;
    let mut id = None;
    let mut unexpected = None;
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
    let mut reply = Reply::new(out, id);
    let request = check(message, execute, arguments, unexpected, &mut reply);
    (reply, request)
}

fn check<'a>(
    message: Json<'a>,
    execute: Option<Json<'a>>,
    arguments: Option<Json<'a>>,
    unexpected: Option<Str<'a>>,
    reply: &mut Reply<'_>,
) -> Result<Request<'a>, Failed> {
    if message.kind() != Kind::Object {
        return Err(reply.fail().text("QMP input must be a JSON object").end());
    }
    let command = execute.map(Json::string);
    if command == Some(None) {
        return Err(reply
            .fail()
            .text("QMP input member 'execute' must be a string")
            .end());
    }
    if arguments.is_some_and(|arguments| arguments.kind() != Kind::Object) {
        return Err(reply
            .fail()
            .text("QMP input member 'arguments' must be an object")
            .end());
    }
    if let Some(name) = unexpected {
        let error = reply.fail().text("QMP input member '").string(name);
        return Err(error.text("' is unexpected").end());
    }
    match command.flatten() {
        Some(command) => Ok(Request { command, arguments }),
        None => Err(reply.fail().text("QMP input lacks member 'execute'").end()),
    }
}
