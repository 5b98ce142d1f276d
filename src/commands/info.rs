//! guest-info: version and commands, in the reverse order of the schema, as qemu-ga lists them.

use serde::Serialize;

use super::{TABLE, is_enabled};
use crate::state::State;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};

/// The version clients see: the level of QEMU's protocol that is spoken, then the agent's own.
pub const VERSION: &str = concat!("11.1.0+gaunt.", env!("CARGO_PKG_VERSION"));

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Command {
    enabled: bool,
    name: &'static str,
    success_response: bool,
}

/// Lists every command, also those not allowed.
pub(super) fn info(state: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let mut object = reply.value().object();
    object.member("version").text(VERSION.as_bytes());
    let mut list = object.member("supported_commands").list();
    for (place, row) in TABLE.iter().enumerate().rev() {
        list.item().put(&Command {
            enabled: is_enabled(place, row, state),
            name: row.name,
            success_response: !row.silent,
        });
    }
    list.end();
    object.end();
    Ok(())
}
