//! guest-get-time, guest-get-timezone.
use crate::state::State;
use crate::sys::clock;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};

/// The guest's time, in nanoseconds.
pub(super) fn get_time(_: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    reply.value().int(clock::realtime_ns());
    Ok(())
}
pub(super) fn get_timezone(_: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    Ok(())
}
