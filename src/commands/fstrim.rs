//! guest-fstrim: tells devices which blocks are unused.
//!
//! Each file system succeeds or fails by itself; the command as a whole fails only without a mount
//! table. Difference from qemu-ga: file systems are trimmed in the order they are reported in, the
//! reverse of the mount table's.

use super::{MINIMUM, Work, no_mount_table};
use crate::base::errno;
use crate::base::texts::Name;
use crate::probe::mounts::Mounts;
use crate::state::State;
use crate::sys::{AsFd, Errno, fsctl, number};
use crate::wire::args::{Args, place};
use crate::wire::reply::{Failed, Reply};

/// No error number: one without a text.
const NO_WORDS: i32 = -1;

/// Trims all file systems.
pub(super) const FSTRIM: Work = fstrim;

fn fstrim(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let mut mounts = Mounts::default();
    if mounts.read(&state.root).is_err() {
        return Err(no_mount_table(reply));
    }
    // A negative minimum wraps, as it does on its way through qemu-ga.
    let minimum = args
        .int(const { place(MINIMUM, "minimum") })
        .unwrap_or(0)
        .cast_unsigned();
    let mut object = reply.object();
    let mut list = object.list(Name::Paths);
    for mount in mounts.backward() {
        let mut path = list.object();
        path.text(Name::Path, mount.mount_point);
        let done = match state.root.mount_point(mount.mount_point) {
            Ok(inside) => match fsctl::trim(inside.as_fd(), minimum) {
                Ok(trimmed) => {
                    let trimmed = [trimmed.bytes, trimmed.minimum];
                    path.numbers_as(Name::TrimmedMinimum, "", true, &trimmed);
                    Ok(())
                }
                Err(Errno::NOTTY | Errno::OPNOTSUPP) => Err(("trim not supported", NO_WORDS)),
                Err(errno) => Err(("failed to trim: ", number(errno))),
            },
            Err(errno) => Err(("failed to open: ", number(errno))),
        };
        if let Err((what, errno)) = done {
            let error = path.member(Name::Error);
            error.text_in(&[what.as_bytes(), &errno::text(errno)]);
        }
        path.end();
    }
    list.end();
    object.end();
    Ok(0)
}
