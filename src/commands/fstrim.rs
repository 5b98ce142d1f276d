//! guest-fstrim: tells devices which blocks are unused.
//!
//! Each file system succeeds or fails by itself; the command as a whole fails only without a mount
//! table. Difference from qemu-ga: file systems are trimmed in the order they are reported in, the
//! reverse of the mount table's.

use super::{MINIMUM, Work, no_mount_table};
use crate::base::errno;
use crate::probe::mounts::Mounts;
use crate::state::State;
use crate::sys::{AsFd, Errno, fsctl, number};
use crate::wire::args::{Args, place};
use crate::wire::reply::{Failed, Reply};

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
    let mut list = object.list("paths");
    for mount in mounts.backward() {
        let mut path = list.object();
        path.text("path", mount.mount_point);
        let (what, done): (&[u8], _) = match state.root.mount_point(mount.mount_point) {
            Ok(inside) => (b"failed to trim: ", fsctl::trim(inside.as_fd(), minimum)),
            Err(errno) => (b"failed to open: ", Err(errno)),
        };
        match done {
            Ok(trimmed) => {
                let trimmed = [trimmed.bytes, trimmed.minimum];
                path.numbers_as("trimmed minimum", "", true, &trimmed);
            }
            Err(errno) => {
                let words = errno::text(number(errno));
                let mut error: [&[u8]; 2] = [what, &words];
                if matches!(errno, Errno::NOTTY | Errno::OPNOTSUPP) && what == b"failed to trim: " {
                    error = [b"trim not supported", b""];
                }
                path.member("error").text_in(&error);
            }
        }
        path.end();
    }
    list.end();
    object.end();
    Ok(0)
}
