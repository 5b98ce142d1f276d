//! guest-fstrim: tells devices which blocks are unused.
//!
//! Each file system succeeds or fails by itself; the command as a whole fails only without a mount
//! table. Differences from qemu-ga: file systems are trimmed in the order they are reported in, the
//! reverse of the mount table's; a mount point that leads elsewhere is not trimmed for what it hides.

use super::command::Ticket;
use super::common::{ELSEWHERE, no_mount_table};
use crate::base::errno;
use crate::base::path::Path;
use crate::probe::mounts::{FileSystem, Miss, Mounts, Searches};
use crate::state::guest::Guest;
use crate::sys::fsctl;
use crate::sys::root::Root;
use crate::sys::{AsFd, Errno, number};
use crate::wire::args::{Args, Param, Type, index_of, may};
use crate::wire::emit::Object;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::Name;

pub(super) const MINIMUM: &[Param] = &[may("minimum", Type::Int)];

/// Trims all file systems.
pub(super) fn fstrim(
    guest: &Guest,
    _: Ticket,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    let mut mounts = Mounts::new();
    if mounts.read(&guest.root).is_err() {
        return Err(no_mount_table(reply));
    }
    // A negative minimum wraps around, as in qemu-ga.
    let minimum = args
        .int(const { index_of(MINIMUM, "minimum") })
        .unwrap_or(0)
        .cast_unsigned();
    let mut searches = Searches::new();
    let mut object = reply.object();
    let mut list = object.list(Name::Paths);
    for fs in mounts.backward() {
        let mut path = list.object();
        path.text(Name::Path, fs.mount_point(&mut Path::new()));
        trim(&guest.root, &fs, &mut searches, minimum, &mut path);
    }
    Ok(0)
}

/// Trims one file system, and writes the result or the error.
fn trim(
    root: &Root,
    fs: &FileSystem<'_>,
    searches: &mut Searches,
    minimum: u64,
    path: &mut Object<'_, '_>,
) {
    const CANNOT_OPEN: &[u8] = b"failed to open: ";
    /// An error number that has no text.
    const NO_TEXT: i32 = -1;
    let (what, why, errno): (_, &[u8], _) = match fs.open(root, searches) {
        Ok(None) => (CANNOT_OPEN, b"", number(Errno::NOENT)),
        Err(Miss::Errno(errno)) => (CANNOT_OPEN, b"", number(errno)),
        Err(Miss::Elsewhere) => (CANNOT_OPEN, ELSEWHERE, NO_TEXT),
        Ok(Some(inside)) => match fsctl::trim(inside.as_fd(), minimum) {
            Ok(trimmed) => return path.signed_numbers(Name::TrimmedMinimum, &trimmed),
            Err(Errno::NOTTY | Errno::OPNOTSUPP) => (b"trim not supported", b"", NO_TEXT),
            Err(errno) => (b"failed to trim: ", b"", number(errno)),
        },
    };
    let text = [what, why, &errno::text(errno)];
    path.member(Name::Error).text_pieces(&text);
}
