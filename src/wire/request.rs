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

/// Takes a message apart and makes the reply it will get, which echoes the `id` even if the rest of
/// the envelope is wrong.
pub fn open<'a>(
    message: Json<'a>,
    out: &'a mut dyn Store,
) -> (Reply<'a>, Result<Request<'a>, Failed>) {
    let mut found = [None; 3];
    let [execute, arguments, id] = &mut found;
    let mut unexpected = None;
    for (name, value) in message.members() {
        let slot = if name.is("execute") {
            &mut *execute
        } else if name.is("arguments") {
            &mut *arguments
        } else if name.is("id") {
            &mut *id
        } else {
            unexpected = unexpected.or(Some(name));
            continue;
        };
        *slot = Some(value);
    }
    let [execute, arguments, id] = found;
    let mut reply = Reply::new(out, id);
    let command = execute.and_then(Json::string);
    let is_object = |json: Json<'_>| json.text().starts_with(b"{");
    let wrong = if !is_object(message) {
        Phrase::NotObject
    } else if execute.is_some() && command.is_none() {
        Phrase::ExecuteNotString
    } else if !arguments.is_none_or(is_object) {
        Phrase::ArgumentsNotObject
    } else if let Some(name) = unexpected {
        let error = reply.fail().text("QMP input member '").string(name);
        let failed = error.text("' is unexpected").end();
        return (reply, Err(failed));
    } else if let Some(command) = command {
        return (reply, Ok(Request { command, arguments }));
    } else {
        Phrase::NoExecute
    };
    let failed = reply.say_only(wrong);
    (reply, Err(failed))
}
