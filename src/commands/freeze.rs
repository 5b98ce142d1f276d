//! guest-fsfreeze-status, -freeze, -freeze-list, -thaw.
//!
//! A freeze belongs to the file system, not to the process that asked for it: the child that freezes
//! ends and its work stays. What the agent itself knows and must not do meanwhile is
//! `state::freeze`; here is what the children do. From before the first freeze on they borrow no
//! memory and write nothing: the list is made first, pages are locked (a fork does not inherit that).
//!
//! What is counted as frozen is frozen: `probe::mounts` proves that what is opened lies on the file
//! system meant, and finds another mount of it where the first one is covered. A file system that no
//! mount leads to is an error, and whatever was frozen before it is thawed.
//!
//! A thaw goes by the mounts, too. If one leads nowhere while something is frozen, that may be what is
//! frozen, covered since: the kernel is then told to thaw all there is (SysRq-J), and the log says so.
//!
//! Hooks (`state::hooks`) are run before the marker is made and after it is removed, so nothing is
//! written while it is there. Freeze hooks and the freeze itself share the freeze timeout. Thaw hooks
//! have only their own time limits, and the agent does not give up a child that runs them as long as
//! one hook follows the other.
//!
//! A child ends with the agent, and is killed when it is given up. If the kernel still holds it in
//! FIFREEZE then, it has the marker locked, and until it is gone every thaw is an error.
//!
//! Differences from qemu-ga: those of hooks; a freeze that nobody thaws is thawed by the agent at its
//! deadline, and the thaw that comes late answers 0; a freeze that takes longer than that is given up;
//! a covered mount point is not taken for what lies below, nor passed over.

use super::command::{Outcome, Slow, Ticket};
use super::common::{ELSEWHERE, cannot, no_mount_table};
use crate::base::limits::{CHOSEN_BYTES, STUCK_THAW_MS};
use crate::base::path::Path;
use crate::base::store::Store;
use crate::probe::hooks;
use crate::probe::mounts::{self, FileSystem, Miss, Mounts, Searches};
use crate::probe::names::Names;
use crate::state::State;
use crate::state::freeze::Event;
use crate::state::guest::Guest;
use crate::state::hooks::{Failure, Main, Session};
use crate::state::log::Level;
use crate::state::texts::LogPhrase;
use crate::sys::root::Root;
use crate::sys::{AsFd, Errno, fsctl, mem, number, power, process};
use crate::wire::args::{Args, Param, Type, index_of, may};
use crate::wire::json::Json;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::Phrase;

pub(super) const MOUNT_POINTS: &[Param] = &[may("mountpoints", Type::Strings)];

/// Freezes all file systems, or those mounted where told.
pub(super) const FREEZE: Slow = Slow {
    prepare: prepare_freeze,
    run: freeze,
    finish: finish_freeze,
};

/// Thaws all file systems, whoever froze them.
pub(super) const THAW: Slow = Slow {
    prepare: prepare_thaw,
    run: thaw,
    finish: finish_thaw,
};

/// The agent's own thaw, when nobody came in time.
pub(super) const LATE_THAW: Slow = Slow {
    prepare: prepare_thaw,
    run: thaw,
    finish: finish_late_thaw,
};

/// The exit status of a child that ends before it has a reply.
const WITHOUT_REPLY: i32 = 1;

/// What a freezing child has frozen, and if so, whether it left a mark of that.
const NOTHING: u8 = 0;
const SOMETHING: u8 = 1;
const UNMARKED: u8 = 2;

/// Whether a thawing child has reached every file system; if not, whether the kernel took the order
/// to thaw them all.
const ALL_REACHED: u8 = 0;
const KERNEL_TOLD: u8 = 1;
const SOME_MISSED: u8 = 2;

/// Says what the agent knows; the kernel has no way to ask.
pub(super) fn status(state: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let frozen = state.freeze.is_frozen();
    reply
        .value()
        .text(if frozen { b"frozen" } else { b"thawed" });
    Ok(())
}

fn prepare_freeze(state: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<Ticket, Failed> {
    state.freeze.note(Event::Freeze, &mut state.log);
    Ok(Ticket::of(state.freeze.hooks_deadline_ms().cast_signed()))
}

/// Brings applications to rest, then freezes. If nothing is frozen in the end, they go on.
fn freeze(
    guest: &Guest,
    ticket: Ticket,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    live_with_agent(guest, process::TERM);
    let mut hooks = session(guest);
    if bring_to_rest(guest, ticket.number.cast_unsigned(), &mut hooks).is_err() {
        end_if_told(&hooks);
        let_go_on(&mut hooks);
        return Err(reply.fail_with(Phrase::HookFailed, &[hooks.failure()], 0));
    }
    live_with_agent(guest, process::KILL);
    let frozen = freeze_file_systems(guest, args, reply);
    if matches!(frozen, Ok(NOTHING) | Err(_)) {
        live_with_agent(guest, process::TERM);
        let_go_on(&mut hooks);
    }
    frozen
}

/// Ends with the agent: its next run has to do with whatever this child would do after it. On SIGTERM
/// the hook at hand is killed with all that it has started.
fn live_with_agent(guest: &Guest, signal: i32) {
    if !process::tie_to(guest.marker.agent(), signal) {
        process::exit(WITHOUT_REPLY);
    }
}

fn session(guest: &Guest) -> Session<'_> {
    let environment = guest.environment.for_hooks();
    Session::new(guest.hooks, &guest.root, environment, false)
}

/// Runs all hooks with `freeze`, until one fails or it is too late.
fn bring_to_rest(
    guest: &Guest,
    deadline_ms: u64,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let directory = guest.marker.directory();
    // A freeze whose child was lost has left them.
    if let Err(errno) = session.take_over(directory) {
        return Err(session.fail(directory, LogPhrase::CannotReadHookList, errno));
    }
    let_go_on(session);
    let main = match guest.hooks.main {
        Main::None => return Ok(()),
        Main::Default => None,
        Main::At(path) => Some(path),
    };
    let list = session.readable(hooks::find(&guest.root, main))?;
    session.freeze(list.bytes(), Some(directory), deadline_ms)
}

/// Runs the hooks with `thaw` that need it. What goes wrong with them is in their log.
fn let_go_on(session: &mut Session<'_>) {
    let _ = session.thaw();
    end_if_told(session);
}

/// Ends this child if the agent is gone, whose next run does the rest.
fn end_if_told(session: &Session<'_>) {
    if session.is_told_to_end() {
        process::exit(WITHOUT_REPLY);
    }
}

fn freeze_file_systems(
    guest: &Guest,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    // Without the privilege to lock, a freeze is better than none.
    let _ = mem::lock_pages();
    let mut mounts = Mounts::default();
    if mounts.read(&guest.root).is_err() {
        return Err(no_mount_table(reply));
    }
    let given = args.value(const { index_of(MOUNT_POINTS, "mountpoints") });
    let Ok(chosen) = names(given.unwrap_or_default()) else {
        return Err(cannot(reply, Phrase::NoChild, Errno::NOMEM));
    };
    // Failure is no reason not to freeze; qemu-ga does not check either.
    let frozen = if guest.marker.make() {
        SOMETHING
    } else {
        UNMARKED
    };
    // Held until all is frozen: the next run, should the agent be killed, has to wait for that.
    let _marker = guest.marker.lock();
    let mut searches = Searches::new();
    let mut count = 0;
    for fs in mounts.backward() {
        let mut room = Path::new();
        let mount_point = fs.mount_point(&mut room);
        if given.is_some() && !chosen.has(mount_point) {
            continue;
        }
        match freeze_one(&guest.root, &fs, &mut searches) {
            Ok(frozen) => count += i64::from(frozen),
            Err((what, miss)) => {
                undo(guest, count);
                return Err(match miss {
                    Miss::Elsewhere => reply.fail_with(what, &[mount_point, b": ", ELSEWHERE], 0),
                    Miss::Errno(errno) => reply.fail_with(what, &[mount_point], number(errno)),
                });
            }
        }
    }
    reply.value().int(count);
    if count == 0 {
        guest.marker.remove();
        return Ok(NOTHING);
    }
    Ok(frozen)
}

/// The mount points in a list of the request, or none.
fn names(list: Json<'_>) -> Result<Names, Errno> {
    let mut names = Names::new(CHOSEN_BYTES);
    for name in list.items().filter_map(Json::string) {
        let _ = name.decode(&mut names.bytes);
        let _ = names.bytes.append(b"\0");
    }
    names.sort()?;
    Ok(names)
}

/// Freezes one file system. Gives whether that was done: not if its type cannot be frozen, if it is
/// frozen already, or if it is not mounted any more.
///
/// # Errors
/// What could not be done, and why.
fn freeze_one(
    root: &Root,
    fs: &FileSystem<'_>,
    searches: &mut Searches,
) -> Result<bool, (Phrase, Miss)> {
    let opened = fs.open(root, searches);
    let opened = opened.map_err(|miss| (Phrase::CannotOpen, miss))?;
    let Some(inside) = opened else {
        return Ok(false);
    };
    match fsctl::freeze(inside.as_fd()) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::BUSY) => Ok(false),
        Err(errno) => Err((Phrase::CannotFreeze, Miss::Errno(errno))),
    }
}

/// Thaws what a freeze that fails has frozen so far: so many file systems.
fn undo(guest: &Guest, count: i64) {
    if let Ok(thawed) = thaw_all(&guest.root) {
        if thawed.count < count {
            let _ = power::thaw_all(&guest.root);
        }
        guest.marker.remove();
    }
}

fn finish_freeze(state: &mut State, _: Ticket, outcome: Outcome) {
    let event = match outcome {
        Outcome::Replied(SOMETHING | UNMARKED) => Event::Froze,
        Outcome::Replied(_) | Outcome::Refused => Event::FrozeNothing,
        Outcome::Started(_) | Outcome::Lost => Event::Lost,
    };
    state.freeze.note(event, &mut state.log);
    if outcome == Outcome::Replied(UNMARKED) {
        state.log.say(Level::Error, LogPhrase::FrozenUnmarked, &[]);
    }
}

fn prepare_thaw(state: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<Ticket, Failed> {
    state.freeze.note(Event::Thaw, &mut state.log);
    Ok(Ticket::of(state.freeze.is_frozen().into()))
}

/// Thaws, then lets applications go on that were brought to rest.
fn thaw(guest: &Guest, ticket: Ticket, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    live_with_agent(guest, process::TERM);
    let mut hooks = session(guest);
    let directory = guest.marker.directory();
    // A child of a killed agent, or one that was given up, may still freeze, stuck in the kernel. It is
    // waited for, but not for ever: what it freezes later would stay frozen.
    let marker = guest.marker.lock();
    if matches!(marker, Err(Errno::NOLCK)) {
        thaw_beside(&guest.root);
        return Err(cannot(reply, Phrase::StillFreezes, Errno::BUSY));
    }
    let thawed = thaw_file_systems(guest, ticket != Ticket::of(0), reply)?;
    live_with_agent(guest, process::TERM);
    // After the thaw: another child that has the list may wait for a file system to be thawed.
    let done = match hooks.take_over(directory) {
        Ok(()) => hooks.thaw(),
        Err(errno) => Err(hooks.fail(directory, LogPhrase::CannotReadHookList, errno)),
    };
    end_if_told(&hooks);
    if done.is_err() {
        // All is thawed: the error is the reply, and no more than that.
        reply.fail_with(Phrase::HookFailed, &[hooks.failure()], 0);
    }
    Ok(thawed)
}

fn thaw_file_systems(guest: &Guest, is_frozen: bool, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let _ = mem::lock_pages();
    let Ok(thawed) = thaw_all(&guest.root) else {
        return Err(no_mount_table(reply));
    };
    // What cannot be reached may be frozen, if anything is.
    let mut found = ALL_REACHED;
    if thawed.missed != 0 && is_frozen {
        found = match power::thaw_all(&guest.root) {
            Ok(()) => KERNEL_TOLD,
            Err(_) => SOME_MISSED,
        };
    }
    guest.marker.remove();
    reply.value().int(thawed.count);
    Ok(found)
}

/// What a thaw came to.
struct Thawed {
    /// How many file systems it thawed.
    count: i64,
    /// How many mounts it could not reach.
    missed: u32,
}

/// Thaws every file system that can be reached, however often it was frozen.
fn thaw_all(root: &Root) -> Result<Thawed, Errno> {
    let mut count = 0;
    let missed = mounts::reach_all(root, &mut Searches::new(), &mut |place| {
        let inside = place.open(root)?;
        let mut thawed = false;
        while fsctl::thaw(inside.as_fd()).is_ok() {
            thawed = true;
        }
        // By a second mount the same file system is found thawed already.
        count += i64::from(thawed);
        Ok(())
    })?;
    Ok(Thawed { count, missed })
}

/// Thaws what can be thawed beside a freeze that is stuck in the kernel: FITHAW hangs behind that, so
/// each file system is left to a process of its own.
fn thaw_beside(root: &Root) {
    let _ = mounts::reach_all(root, &mut Searches::new(), &mut |place| {
        let inside = place.open(root)?;
        process::within(STUCK_THAW_MS, &mut || {
            while fsctl::thaw(inside.as_fd()).is_ok() {}
        });
        Ok(())
    });
}

fn finish_thaw(state: &mut State, _: Ticket, outcome: Outcome) {
    let event = match outcome {
        Outcome::Replied(_) => Event::Thawed,
        Outcome::Refused => Event::NotThawed,
        Outcome::Started(_) | Outcome::Lost => Event::Lost,
    };
    state.freeze.note(event, &mut state.log);
    let what = match outcome {
        Outcome::Replied(KERNEL_TOLD) => LogPhrase::KernelThawedAll,
        Outcome::Replied(SOME_MISSED) => LogPhrase::ThawMissed,
        _ => return,
    };
    state.log.say(Level::Error, what, &[]);
}

fn finish_late_thaw(state: &mut State, ticket: Ticket, outcome: Outcome) {
    finish_thaw(state, ticket, outcome);
    if !state.freeze.is_frozen() {
        state.log.say(Level::Error, LogPhrase::ThawedLate, &[]);
    }
}
