//! os
use crate::state::State;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};
pub(super) fn get_host_name(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    Ok(())
}
pub(super) fn get_osinfo(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    Ok(())
}
pub(super) fn get_load(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    Ok(())
}
