//! guest-fsfreeze-status, -freeze, -freeze-list, -thaw.
//!
//! A freeze belongs to the file system, not to the process that asked for it: the child that freezes
//! ends and its work stays. What the agent itself knows and must not do meanwhile is
//! `state::freeze`; here is what the children do. From before the first freeze on they borrow no
//! memory and write nothing: the list is made first, pages are locked (a fork does not inherit that).
//!
//! Differences from qemu-ga: a freeze that nobody thaws is thawed by the agent at its deadline, and
//! the thaw that comes late answers 0; a freeze that takes longer than that is given up.

use super::{MOUNT_POINTS, Outcome, Own, Slow, no_mount_table};
use crate::base::texts::Phrase;
use crate::probe::mounts::{self, Mounts};
use crate::state::State;
use crate::state::freeze::Event;
use crate::sys::log::Level;
use crate::sys::root::Root;
use crate::sys::{AsFd, Errno, OwnedFd, fsctl, mem, number};
use crate::wire::args::{Args, place};
use crate::wire::json::Json;
use crate::wire::reply::{Failed, Reply};

/// Freezes all file systems, or those mounted where told.
pub(super) const FREEZE: Slow = Slow {
    begin: begin_freeze,
    work: freeze,
    end: end_freeze,
};

/// Thaws all file systems, whoever froze them.
pub(super) const THAW: Slow = Slow {
    begin: begin_thaw,
    work: thaw,
    end: end_thaw,
};

/// The agent's own thaw, when nobody came in time.
pub const LATE_THAW: Own = Own {
    slow: Slow {
        begin: begin_thaw,
        work: thaw,
        end: end_late_thaw,
    },
    exclusive: true,
    shares_files: false,
};

/// What a freezing child has frozen.
const SOMETHING: u8 = 1;
const NOTHING: u8 = 0;

/// Says what the agent knows; the kernel has no way to ask.
pub(super) fn status(state: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let frozen = state.freeze.is_frozen();
    reply
        .value()
        .text(if frozen { b"frozen" } else { b"thawed" });
    Ok(())
}

fn begin_freeze(state: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    state.freeze.note(Event::Freeze, &mut state.log);
    Ok(())
}

fn freeze(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    // Without the privilege to lock, a freeze is better than none.
    let _ = mem::lock_pages();
    let mut mounts = Mounts::default();
    if mounts.read(&state.root).is_err() {
        return Err(no_mount_table(reply));
    }
    let chosen = args.value(const { place(MOUNT_POINTS, "mountpoints") });
    state.freeze.make_marker();
    let mut count = 0;
    for mount in mounts.backward() {
        if !chosen.is_none_or(|chosen| names(chosen, mount.mount_point)) {
            continue;
        }
        let (what, done) = match state.root.mount_point(mount.mount_point) {
            Ok(inside) => (Phrase::CannotFreeze, freeze_one(&inside)),
            Err(errno) => (Phrase::CannotOpen, Err(errno)),
        };
        match done {
            Ok(frozen) => count += frozen,
            Err(errno) => {
                // Whatever is frozen by now must not stay so; that fails like the freeze did.
                if thaw_all(&state.root).is_ok() {
                    state.freeze.remove_marker();
                }
                return Err(reply.say(what, &[mount.mount_point], number(errno)));
            }
        }
    }
    reply.value().int(count);
    if count == 0 {
        state.freeze.remove_marker();
        return Ok(NOTHING);
    }
    Ok(SOMETHING)
}

/// Whether a mount point is among those chosen.
fn names(chosen: Json<'_>, mount_point: &[u8]) -> bool {
    let mut names = chosen.items().filter_map(|name| name.string());
    names.any(|name| name.bytes().eq(mount_point.iter().copied()))
}

/// Freezes one file system; gives how many that were: none if it cannot be, or is already.
fn freeze_one(inside: &OwnedFd) -> Result<i64, Errno> {
    match fsctl::freeze(inside.as_fd()) {
        Ok(()) => Ok(1),
        Err(Errno::OPNOTSUPP | Errno::BUSY) => Ok(0),
        Err(errno) => Err(errno),
    }
}

fn end_freeze(state: &mut State, outcome: Outcome) {
    let event = match outcome {
        Outcome::Replied(SOMETHING) => Event::Froze,
        Outcome::Replied(_) | Outcome::Refused => Event::FrozeNothing,
        Outcome::Lost => Event::Lost,
    };
    state.freeze.note(event, &mut state.log);
}

fn begin_thaw(state: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<(), Failed> {
    state.freeze.note(Event::Thaw, &mut state.log);
    Ok(())
}

fn thaw(state: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let _ = mem::lock_pages();
    match thaw_all(&state.root) {
        Ok(count) => {
            state.freeze.remove_marker();
            reply.value().int(count);
            Ok(0)
        }
        Err(_) => Err(no_mount_table(reply)),
    }
}

/// Thaws every file system, however often it was frozen; gives how many there were.
fn thaw_all(root: &Root) -> Result<i64, Errno> {
    let mut count = 0;
    mounts::each(root, &mut |mount| {
        if let Ok(inside) = root.mount_point(mount.mount_point) {
            let mut thawed = false;
            while fsctl::thaw(inside.as_fd()).is_ok() {
                thawed = true;
            }
            // A second mount of the same file system finds it thawed already.
            count += i64::from(thawed);
        }
        true
    })?;
    Ok(count)
}

fn end_thaw(state: &mut State, outcome: Outcome) {
    let event = match outcome {
        Outcome::Replied(_) => Event::Thawed,
        Outcome::Refused => Event::NotThawed,
        Outcome::Lost => Event::Lost,
    };
    state.freeze.note(event, &mut state.log);
}

fn end_late_thaw(state: &mut State, outcome: Outcome) {
    end_thaw(state, outcome);
    if !state.freeze.is_frozen() {
        let line: &[&[u8]] = &[b"file systems that were left frozen have been thawed"];
        state.log.line(Level::Error, line);
    }
}
