//! guest-sync, guest-sync-delimited, guest-ping.
//!
//! Difference from qemu-ga: a ping is not logged; monitoring asks every few seconds.

use crate::state::State;
use crate::wire::args::{Args, Param, Type, index_of, must};
use crate::wire::reply::{Failed, Reply};

pub(super) const ID: &[Param] = &[must("id", Type::Int)];

/// Returns the id. The row of guest-sync-delimited asks for the delimiter.
pub(super) fn sync(_: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    reply
        .value()
        .int(args.int(const { index_of(ID, "id") }).unwrap_or(0));
    Ok(())
}

/// guest-ping.
pub(super) fn ping(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    Ok(())
}
