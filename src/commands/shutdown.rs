//! guest-shutdown.
use super::{Outcome, Own, Slow};
use crate::state::State;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};
/// x
pub(super) const SHUTDOWN: Slow = Slow { begin, work, end };
/// Ctrl-Alt-Del
pub const REBOOT: Own = Own {
    slow: SHUTDOWN,
    exclusive: false,
};
/// grace over
pub const BY_FORCE: Own = Own {
    slow: SHUTDOWN,
    exclusive: false,
};
fn begin(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    Ok(())
}
fn work(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<u8, Failed> {
    Ok(0)
}
fn end(_: &mut State, _: Outcome) {}
