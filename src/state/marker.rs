//! The marker of a freeze: a file in the state directory that exists while anything is frozen.
//!
//! It is made before the first freeze and removed after the last thaw. A run that is killed in
//! between leaves it for the next run. Its name is qemu-ga's, so that either agent can take over
//! from the other.
//!
//! In a state directory where other users may make files, a marker counts only if the agent or
//! qemu-ga can have made it: an empty regular file that belongs to root or to the agent's user, and
//! that no other user may read. Making a marker replaces any other file of this name. Looking at
//! the marker never opens it, because a FIFO would hang the agent, and a link would lead it
//! elsewhere.

use crate::state::own_file::{OwnFile, is_shared, is_trusted};
use crate::sys::root::{OpenOptions, Root};
use crate::sys::status::{FileType, Status};
use crate::sys::{Errno, process};

/// The name of the marker.
pub(super) const NAME: &[u8] = b"qga.state.isfrozen";

/// The marker of one agent.
#[derive(Clone, Copy)]
pub struct Marker {
    directory: &'static [u8],
    /// The process id of the agent, whose children freeze and thaw.
    agent: i32,
}

impl Marker {
    /// The marker of this process in `directory`.
    pub fn of(directory: &'static [u8]) -> Self {
        let agent = process::own_pid();
        Self { directory, agent }
    }

    /// Makes the marker. Returns whether it exists. For children of the agent: the state directory
    /// may be on a frozen file system, and then this call hangs.
    pub fn make(&self) -> bool {
        let Some(directory) = self.open_directory() else {
            return false;
        };
        let mut made = create(&directory);
        if made == Err(Errno::EXIST) {
            if has_own(&directory) {
                return true;
            }
            let _ = directory.remove_at(&[NAME]);
            made = create(&directory);
        }
        made.is_ok()
    }

    /// Takes the lock of the marker, waiting `limit_ms` for it; `None` without a marker. A child
    /// that freezes or thaws holds the lock, and so does each process of it that hangs in the
    /// kernel.
    ///
    /// # Errors
    /// [`Errno::NOLCK`] if another process has the lock.
    pub fn lock(&self, limit_ms: u32) -> Result<Option<OwnFile>, Errno> {
        match self.open_directory().filter(has_marker) {
            Some(directory) => OwnFile::find_within(&directory, NAME, limit_ms),
            None => Ok(None),
        }
    }

    /// Removes the marker. For children of the agent, as [`Marker::make`].
    pub fn remove(&self) {
        if let Some(directory) = self.open_directory() {
            let _ = directory.remove_at(&[NAME]);
        }
    }

    /// The state directory.
    pub fn directory(&self) -> &'static [u8] {
        self.directory
    }

    /// The process id of the agent, also in its children.
    pub fn agent(&self) -> i32 {
        self.agent
    }

    pub(super) fn open_directory(&self) -> Option<Root> {
        Root::at(self.directory).ok()
    }
}

/// Whether there is a marker that counts.
pub(super) fn has_marker(directory: &Root) -> bool {
    directory.has_at(&[NAME]) == Ok(true) && (!is_shared(directory) || has_own(directory))
}

/// Makes the marker; [`Errno::EXIST`] if its name is taken.
fn create(directory: &Root) -> Result<(), Errno> {
    let options = OpenOptions::WRITE.create_new();
    directory.open_private(NAME, options).map(drop)
}

/// Whether a file has the marker's name and is as [`create`] makes it: empty, regular, with no
/// other name, owned by root or the agent's user, and closed to all others.
fn has_own(directory: &Root) -> bool {
    Status::of_name(directory, &[NAME]).is_ok_and(|status| {
        status.kind == FileType::RegularFile
            && status.mode & 0o077 == 0
            && (status.links, status.bytes) == (1, 0)
            && is_trusted(status.owner)
    })
}
