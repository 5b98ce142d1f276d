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
use crate::sys::fsctl::{self, Trimmed};
use crate::sys::root::Root;
use crate::sys::{AsFd, Errno, number};
use crate::wire::args::{Args, Param, Type, index_of, may};
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
        match trim(&guest.root, &fs, &mut searches, minimum) {
            Ok(trimmed) => {
                let trimmed = [trimmed.bytes, trimmed.minimum];
                path.signed_numbers(Name::TrimmedMinimum, &trimmed);
            }
            Err((what, why)) => {
                let text;
                let why: &[u8] = match why {
                    None => b"",
                    Some(Miss::Elsewhere) => ELSEWHERE,
                    Some(Miss::Errno(errno)) => {
                        text = errno::text(number(errno));
                        &text
                    }
                };
                path.member(Name::Error)
                    .text_pieces(&[what.as_bytes(), why]);
            }
        }
    }
    Ok(0)
}

/// Trims one file system; the error is the call that failed, and its errno.
fn trim(
    root: &Root,
    fs: &FileSystem<'_>,
    searches: &mut Searches,
    minimum: u64,
) -> Result<Trimmed, (&'static str, Option<Miss>)> {
    let opened = fs.open(root, searches);
    let inside = opened.and_then(|inside| inside.ok_or(Miss::Errno(Errno::NOENT)));
    let inside = inside.map_err(|miss| ("failed to open: ", Some(miss)))?;
    fsctl::trim(inside.as_fd(), minimum).map_err(|errno| match errno {
        Errno::NOTTY | Errno::OPNOTSUPP => ("trim not supported", None),
        errno => ("failed to trim: ", Some(Miss::Errno(errno))),
    })
}
