//! The duties of PID 1.
use crate::sys::log::Log;
use crate::sys::root::Root;
/// Mounts what the agent needs.
pub(super) fn set_up(_: &Root, _: &mut Log) {}
