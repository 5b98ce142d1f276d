//! What serving any client needs: the poll set, the state and the jobs. Apart from the server, so
//! that a client and the context can be borrowed at once.

use super::ids::ClientId;
use super::jobs::Jobs;
use crate::commands::{Task, Ticket};
use crate::state::State;
use crate::sys::Errno;
use crate::sys::poll::Poll;

/// All that serving a client needs besides the client itself.
pub(super) struct Context {
    pub(super) poll: Poll,
    pub(super) state: State,
    pub(super) jobs: Jobs,
}

impl Context {
    /// Starts a job as [`Jobs::start`] does; a task that cannot be started is finished as lost.
    #[inline(never)]
    pub(super) fn start(
        &mut self,
        task: &Task,
        ticket: Ticket,
        id: ClientId,
        message: &[u8],
    ) -> Result<(), Errno> {
        let Self { poll, state, jobs } = self;
        jobs.start(task, ticket, id, message, poll, state)
    }
}
