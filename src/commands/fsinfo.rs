//! guest-get-fsinfo.
use super::{Outcome, Slow};
use crate::state::State;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};
/// x
pub(super) const GET_FSINFO: Slow = Slow { begin, work, end };
fn begin(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    Ok(())
}
fn work(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<u8, Failed> {
    Ok(0)
}
fn end(_: &mut State, _: Outcome) {}
