//! Serves one client: reads, parses, dispatches and writes as far as that goes without waiting.

use super::client::{Client, Filled};
use super::context::Context;
use super::{dispatch, file_stream};
use crate::commands::HAS_FILES;
use crate::sys::Errno;
use crate::wire::frame::Event;

/// Reads of one client in one turn, of its descriptor and of a file for it, before the next client
/// has its turn.
const READS: usize = 16;

/// Serves a client until it must wait, or has had its turn.
///
/// # Errors
/// The client has ended, or its descriptor has failed: close it.
pub(super) fn serve(client: &mut Client, context: &mut Context) -> Result<(), Errno> {
    let mut reads = 0;
    loop {
        loop {
            match client.next_event() {
                Event::NeedMore => break,
                event => dispatch::handle(event, client, context),
            }
        }
        if HAS_FILES && client.reads_file() {
            file_stream::go_on(client, context);
            reads += 1;
        }
        client.write()?;
        if client.can_go_on() || (reads < READS && client.reads_file()) {
            continue;
        }
        // A port without a host reports only changes, so it is read until it is empty.
        if !client.is_away() && (reads >= READS || !client.readable) {
            return Ok(());
        }
        match client.read()? {
            Filled::Whole => reads += 1,
            // Most likely there is no more; if there is, the next wait reports it.
            Filled::Part => client.readable = false,
            Filled::Not => return Ok(()),
        }
    }
}
