//! guest-info: version and commands, in the reverse order of the schema, as qemu-ga lists them.

use super::{COUNT, PREFIX, SILENT, all, is_enabled};
use crate::state::State;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};

/// The version clients see: the level of QEMU's protocol that is spoken, then the agent's own.
pub const VERSION: &str = concat!("11.1.0+gaunt.", env!("CARGO_PKG_VERSION"));

/// Lists every command, also those not allowed.
pub(super) fn info(state: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let mut object = reply.object();
    object.text("version", VERSION.as_bytes());
    let mut list = object.list("supported_commands");
    let mut commands = [None; COUNT];
    for (slot, command) in commands.iter_mut().rev().zip(all()) {
        *slot = Some(command);
    }
    for (place, command) in commands.iter().flatten().enumerate() {
        let mut item = list.object();
        let is_enabled = is_enabled(COUNT - 1 - place, command, state);
        item.bool("enabled", is_enabled);
        item.member("name").text_in(&[PREFIX, command.name()]);
        item.bool("success-response", !command.is(SILENT));
        item.end();
    }
    list.end();
    object.end();
    Ok(())
}
