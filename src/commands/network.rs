//! guest-network-get-interfaces.
use crate::state::State;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};
pub(super) fn get_interfaces(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    Ok(())
}
