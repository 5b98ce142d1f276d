//! guest-fstrim: tells devices which blocks are unused.
//!
//! Each file system succeeds or fails by itself; the command as a whole fails only without a mount
//! table. Difference from qemu-ga: file systems are trimmed in the order they are reported in, the
//! reverse of the mount table's.

use super::{Slow, no_mount_table};
use crate::base::errno;
use crate::probe::mounts::{Mount, Mounts};
use crate::state::State;
use crate::sys::fsctl::{self, Trimmed};
use crate::sys::root::Root;
use crate::sys::{AsFd, Errno, number};
use crate::wire::args::Args;
use crate::wire::emit::Object;
use crate::wire::reply::{Failed, Reply};

/// Trims all file systems.
pub(super) const FSTRIM: Slow = Slow::alone(fstrim);

fn fstrim(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let Ok(mounts) = Mounts::read(&state.root) else {
        return Err(no_mount_table(reply));
    };
    // A negative minimum wraps, as it does on its way through qemu-ga.
    let minimum = args.int("minimum").unwrap_or(0).cast_unsigned();
    let mut object = reply.value().object();
    let mut list = object.member("paths").list();
    for mount in mounts.backward() {
        let outcome = trim(&state.root, &mount, minimum);
        let mut path = list.item().object();
        path.member("path").text(mount.mount_point);
        report(&mut path, outcome);
        path.end();
    }
    list.end();
    object.end();
    Ok(0)
}

fn trim(
    root: &Root,
    mount: &Mount<'_>,
    minimum: u64,
) -> Result<Trimmed, (&'static str, Option<Errno>)> {
    let inside = root
        .mount_point(mount.mount_point)
        .map_err(|errno| ("failed to open: ", Some(errno)))?;
    fsctl::trim(inside.as_fd(), minimum).map_err(|errno| match errno {
        Errno::NOTTY | Errno::OPNOTSUPP => ("trim not supported", None),
        errno => ("failed to trim: ", Some(errno)),
    })
}

fn report(path: &mut Object<'_>, outcome: Result<Trimmed, (&'static str, Option<Errno>)>) {
    match outcome {
        Ok(trimmed) => {
            path.member("trimmed").int(trimmed.bytes.cast_signed());
            path.member("minimum").int(trimmed.minimum.cast_signed());
        }
        Err((what, errno)) => {
            let reason = errno
                .and_then(|errno| errno::text(number(errno)))
                .unwrap_or_default();
            path.member("error")
                .text_of(what.bytes().chain(reason.iter().copied()));
        }
    }
}
