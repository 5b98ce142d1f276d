//! What all clients share: the poll set, the state, and the slow commands that run.

use super::ids::ClientId;
use super::jobs::Jobs;
use crate::commands::Own;
use crate::state::State;
use crate::sys::Errno;
use crate::sys::poll::Poll;

/// What dispatching needs besides the client.
// In this order, because what is near the beginning is reached by short instructions.
#[repr(C)]
pub(super) struct Context {
    pub(super) poll: Poll,
    /// In a child of the agent that has done its work: the status that tells what came of it.
    pub(super) worked: Option<u8>,
    pub(super) state: State,
    pub(super) jobs: Jobs,
}

impl Context {
    /// Starts a job, for a client or for the agent itself: [`Jobs::start`].
    #[inline(never)]
    pub(super) fn start(&mut self, own: &Own, client: ClientId) -> Result<(), Errno> {
        self.jobs.start(own, client, &self.poll, &mut self.state)
    }
}
