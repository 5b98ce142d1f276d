//! The marker of a freeze: a file in the state directory that exists while anything is frozen.
//!
//! It is made before the first freeze and removed after the last thaw, and tells the next run what
//! a killed one left behind. It has the name of qemu-ga's marker, so either agent can follow the
//! other.
//!
//! In a state directory where others may make files, what has that name counts only if it is as the
//! agents make it: an empty regular file, owned by root or the agent's user and nobody else's to
//! read. Anything else is removed to make room for the marker. It is never opened: a FIFO would
//! hang the agent, a link would lead it elsewhere.

use crate::state::own_file::{OwnFile, is_shared, is_trusted};
use crate::sys::root::{OpenOptions, Root};
use crate::sys::status::{FileType, Status};
use crate::sys::{Errno, process};

/// Its name.
pub(super) const NAME: &[u8] = b"qga.state.isfrozen";

/// Where the marker is, and whose it is.
#[derive(Clone, Copy)]
pub struct Marker {
    directory: &'static [u8],
    /// The process that asks its children to freeze and thaw.
    agent: i32,
}

impl Marker {
    /// The marker of this process in `directory`.
    pub fn of(directory: &'static [u8]) -> Self {
        let agent = process::own_pid();
        Self { directory, agent }
    }

    /// Makes the marker; gives whether it is there. Only children of the agent do that and the
    /// next: the directory may be on a file system that somebody else has frozen, and then this
    /// does not end.
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

    /// Takes the lock of the marker, which a child holds as long as it freezes; nothing without
    /// one.
    ///
    /// # Errors
    /// [`Errno::NOLCK`] if a child of an earlier run has it for long: it is stuck in the kernel.
    pub fn lock(&self) -> Result<Option<OwnFile>, Errno> {
        match self.open_directory().filter(has_marker) {
            Some(directory) => OwnFile::find(&directory, NAME),
            None => Ok(None),
        }
    }

    /// Removes the marker.
    pub fn remove(&self) {
        if let Some(directory) = self.open_directory() {
            let _ = directory.remove_at(&[NAME]);
        }
    }

    /// The state directory.
    pub fn directory(&self) -> &'static [u8] {
        self.directory
    }

    /// The number of the agent's process, also in its children.
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
