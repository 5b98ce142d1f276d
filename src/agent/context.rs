//! What serving any client needs: the poll set, the state and the jobs. Apart from the server, so
//! that a client and the context can be borrowed at once.

use super::ids::ClientId;
use super::jobs::Jobs;
use crate::base::limits::TURNS_TO_REST;
use crate::commands::{Task, Ticket};
use crate::state::State;
use crate::sys::Errno;
use crate::sys::poll::Poll;

/// All that serving a client needs besides the client itself.
pub(super) struct Context {
    pub(super) poll: Poll,
    pub(super) state: State,
    pub(super) jobs: Jobs,
    /// After uncommon work: turns of the loop until the agent gives memory back, unless it is quiet
    /// earlier. 0: there is nothing to give back.
    pub(super) turns_to_rest: u8,
}

impl Context {
    /// Has the agent give memory back soon: uncommon work has used more than frequent commands need.
    pub(super) fn rest_soon(&mut self) {
        self.turns_to_rest = TURNS_TO_REST;
    }

    /// Starts a job as [`Jobs::start`] does; a task that cannot be started is finished as lost.
    #[inline(never)]
    pub(super) fn start(
        &mut self,
        task: &Task,
        ticket: Ticket,
        id: ClientId,
        message: &[u8],
    ) -> Result<(), Errno> {
        let Self {
            poll, state, jobs, ..
        } = self;
        jobs.start(task, ticket, id, message, poll, state)
    }
}
