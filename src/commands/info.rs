//! guest-info: version and commands, in the reverse order of the schema, as qemu-ga lists them.

use super::{COUNT, PREFIX, SILENT, all, is_enabled};
use crate::base::texts::Name;
use crate::state::State;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};

/// The version clients see: the level of QEMU's protocol that is spoken, then the agent's own.
pub const VERSION: &str = concat!("11.1.0+gaunt.", env!("CARGO_PKG_VERSION"));

/// Lists every command, also those not allowed.
pub(super) fn info(state: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let mut object = reply.object();
    object.text(Name::Version, VERSION.as_bytes());
    let mut list = object.list(Name::SupportedCommands);
    let mut commands = heapless::Vec::<_, COUNT>::new();
    for command in all() {
        let _ = commands.push(command);
    }
    // The longest of the frequent replies: its names are not looked up time and again.
    for (place, command) in commands.iter().enumerate().rev() {
        let mut item = list.object();
        let is_enabled = is_enabled(place, command, state);
        item.named(b"enabled").bool(is_enabled);
        item.named(b"name").text_in(&[PREFIX, command.name()]);
        item.named(b"success-response").bool(!command.is(SILENT));
        item.end();
    }
    list.end();
    object.end();
    Ok(())
}
