//! guest-info: version and commands, in the reverse order of the schema, as qemu-ga lists them.

use super::command::{Command, PREFIX, SILENT, is_enabled};
use crate::state::State;
use crate::state::filter::MOST_COMMANDS;
use crate::wire::args::{Args, PackedList};
use crate::wire::emit::keyword;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::Name;

/// The version clients see: the level of QEMU's protocol that is spoken, then the agent's own.
pub const VERSION: &str = concat!("11.1.0+gaunt.", env!("CARGO_PKG_VERSION"));

/// Lists every command, also those not allowed.
pub(super) fn info(state: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let mut object = reply.object();
    object.text(Name::Version, VERSION.as_bytes());
    let mut list = object.list(Name::SupportedCommands);
    let mut commands = heapless::Vec::<_, MOST_COMMANDS>::new();
    for command in Command::all(PackedList(state.commands)) {
        let _ = commands.push(command);
    }
    // The longest of the frequent replies: what all items share is written in large pieces.
    for (place, command) in commands.iter().enumerate().rev() {
        list.item().verbatim(&[
            br#"{"enabled": "#,
            keyword(is_enabled(place, command, state)),
            br#", "name": ""#,
            PREFIX,
            command.name(),
            br#"", "success-response": "#,
            keyword(!command.is(SILENT)),
            b"}",
        ]);
    }
    Ok(())
}
