//! guest-fsfreeze-status, -freeze, -freeze-list, -thaw.
//!
//! `state::freeze` is what the agent knows about a freeze; this file is the work, which children of
//! the agent do. A file system stays frozen when the process that froze it has ended. Before the
//! first FIFREEZE the child has its list of file systems, and locks its pages (fork does not
//! inherit the lock). From then on it borrows no memory and writes to no file.
//!
//! A file system that counts as frozen is frozen: `probe::mounts` proves that a descriptor lies on
//! the file system in question, and finds another mount of it where the first one is covered. A
//! file system that no mount leads to is an error; those frozen before it are thawed.
//!
//! A thaw visits all mounts. If one of them leads nowhere while something is frozen, the frozen
//! file system may have been covered since: the kernel is told to thaw everything (SysRq-J), and
//! the log says so.
//!
//! FIFREEZE and FITHAW hang while a write or a disk hangs: a user is enough whose write waits for a
//! FUSE server. SIGKILL does not end that. So each of these calls has a process of its own
//! (`sys::process::Helper`), one after the other, and the child above them never hangs. It freezes
//! in reverse order of the mounts, because a loop device must be at rest before the file system
//! that carries it.
//!
//! If a file system is not at rest at the freeze timeout, the freeze is an error with its name, all
//! other file systems are thawed at once, and hooks run with `thaw`. The process that hangs is left
//! behind and keeps the marker locked. Until it has ended, the guest counts as frozen: a thaw is an
//! error, a shutdown is allowed, and the agent tries to thaw every few seconds. A thaw that finds
//! the marker locked thaws everything beside the file system that hangs. It does so once, because
//! it may leave one more process behind that hangs.
//!
//! A child ends with the agent. The next run finds the marker, and thaws.
//!
//! Hooks (`state::hooks`) run before the marker is made and after it is removed, or else beside a
//! file system that hangs: so nothing is written to a frozen one. Freeze hooks and the freeze
//! itself share the freeze timeout. Thaw hooks have only their own time limits; the agent waits for
//! a child as long as one hook follows the other.
//!
//! Differences from qemu-ga: hooks; the agent thaws at the freeze timeout what nobody has thawed,
//! and the late thaw answers 0; a freeze ends at the freeze timeout; a covered mount point is
//! neither mistaken for the file system that covers it nor passed over.

use super::command::{Outcome, Slow, Ticket};
use super::common::{ELSEWHERE, abort_fuse, cannot, no_mount_table};
use crate::base::limits::{
    ABORTED_MS, CHOSEN_BYTES, HOOK_MARGIN_MS, LOCK_WAIT_MS, STUCK_THAW_MS, THAW_MS,
};
use crate::base::path::Path;
use crate::base::sink::ByteSink;
use crate::probe::hooks;
use crate::probe::mounts::{self, FileSystem, Miss, Mounts, Searches};
use crate::probe::names::NameList;
use crate::state::State;
use crate::state::freeze::FreezeEvent;
use crate::state::guest::Guest;
use crate::state::hooks::{HookFailure, Session};
use crate::state::log::Level;
use crate::state::texts::LogPhrase;
use crate::sys::process::{self, Helper};
use crate::sys::root::Root;
use crate::sys::{AsFd, Errno, clock, fsctl, mem, number, power};
use crate::wire::args::{Args, Param, Type, index_of, may};
use crate::wire::json::Json;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::Phrase;

pub(super) const MOUNT_POINTS: &[Param] = &[may("mountpoints", Type::Strings)];

/// Freezes all file systems, or those with the given mount points.
pub(super) const FREEZE: Slow = Slow {
    prepare: prepare_freeze,
    run: freeze,
    finish: finish_freeze,
};

/// Thaws all file systems, also those that another program froze.
pub(super) const THAW: Slow = Slow {
    prepare: prepare_thaw,
    run: thaw,
    finish: finish_thaw,
};

/// Thaws all file systems because no client did in time.
pub(super) const LATE_THAW: Slow = Slow {
    prepare: prepare_thaw,
    run: thaw,
    finish: finish_late_thaw,
};

/// The exit status of a child that ends before it has a reply.
const WITHOUT_REPLY: i32 = 1;

// Statuses of a child that freezes.
/// Nothing is frozen.
const NOTHING: u8 = 0;
/// Something is frozen, and the marker says so.
const SOMETHING: u8 = 1;
/// Something is frozen, but the marker could not be made.
const UNMARKED: u8 = 2;
/// A file system hangs, everything else is thawed; also of a child that thaws.
const HANGS: u8 = 4;
/// FUSE connections were aborted: a bit beside one of the others.
const ABORTED: u8 = 8;

// Statuses of a child that thaws.
/// It reached every file system.
const ALL_REACHED: u8 = 0;
/// It missed some, and had the kernel thaw everything.
const KERNEL_TOLD: u8 = 1;
/// It missed some, and the kernel refused to thaw everything.
const SOME_MISSED: u8 = 2;

// Numbers in the ticket of a thaw.
/// Nothing is frozen by the agent.
const NOT_FROZEN: i64 = 0;
/// Something is frozen.
const FROZEN: i64 = 1;
/// A file system hangs, and everything else was thawed beside it.
const HUNG: i64 = 2;

/// Says what the agent knows; the kernel cannot be asked.
pub(super) fn status(state: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let frozen = state.freeze.is_frozen();
    reply
        .value()
        .text(if frozen { b"frozen" } else { b"thawed" });
    Ok(())
}

fn prepare_freeze(state: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<Ticket, Failed> {
    state.freeze.note(FreezeEvent::Freeze, &mut state.log);
    Ok(Ticket::of(state.freeze.freeze_deadline_ms().cast_signed()))
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
    let deadline_ms = ticket.number.cast_unsigned();
    if bring_to_rest(
        guest,
        deadline_ms.saturating_sub(HOOK_MARGIN_MS),
        &mut hooks,
    )
    .is_err()
    {
        end_if_told(&hooks);
        let_go_on(&mut hooks);
        return Err(reply.fail_with(Phrase::HookFailed, &[hooks.failure()], 0));
    }
    live_with_agent(guest, process::KILL);
    let frozen = freeze_file_systems(guest, deadline_ms, args, reply);
    if !matches!(frozen, Ok(SOMETHING | UNMARKED)) {
        live_with_agent(guest, process::TERM);
        let_go_on(&mut hooks);
    }
    frozen
}

/// Ends with the agent, whose next run takes over. On SIGTERM, first kills the running hook and all
/// that it has started.
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
) -> Result<(), HookFailure> {
    let directory = guest.marker.directory();
    // A freeze whose child was lost has left them.
    if let Err(errno) = session.take_over(directory) {
        return Err(session.fail(directory, LogPhrase::CannotReadHookList, errno));
    }
    let_go_on(session);
    let Some(given) = guest.hooks.main.given() else {
        return Ok(());
    };
    let found = hooks::find(&guest.root, given);
    let list = session.readable(&found)?;
    session.freeze(list, Some(directory), deadline_ms)
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
    deadline_ms: u64,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    // Without the privilege to lock, a freeze is better than none.
    let _ = mem::lock_pages();
    let mut mounts = Mounts::new();
    if mounts.read(&guest.root).is_err() {
        return Err(no_mount_table(reply));
    }
    let given = args.value(const { index_of(MOUNT_POINTS, "mountpoints") });
    let mut chosen = NameList::new(CHOSEN_BYTES);
    if read_names(given.unwrap_or_default(), &mut chosen).is_err() {
        return Err(cannot(reply, Phrase::NoChild, Errno::NOMEM));
    }
    // Failure is no reason not to freeze; qemu-ga does not check either.
    let frozen = if guest.marker.make() {
        SOMETHING
    } else {
        UNMARKED
    };
    // Should the agent be killed, its next run waits for this lock.
    let marker = guest.marker.lock(LOCK_WAIT_MS);
    let mut searches = Searches::new();
    let mut count = 0;
    for fs in mounts.backward() {
        let mut room = Path::new();
        let mount_point = fs.mount_point(&mut room);
        if given.is_some() && !chosen.has(mount_point) {
            continue;
        }
        match freeze_one(guest, &fs, mount_point, &mut searches, deadline_ms, reply) {
            Ok(frozen) => count += i64::from(frozen),
            Err(mut status) => {
                if !undo(guest, count, status & HANGS != 0) {
                    status |= HANGS;
                    // A process that hangs shares the descriptor: closed here, the marker would be
                    // unlocked.
                    core::mem::forget(marker);
                }
                return Ok(status);
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

/// Reads the mount points in a list of the request.
fn read_names(list: Json<'_>, names: &mut NameList) -> Result<(), Errno> {
    for name in list.items().filter_map(Json::string) {
        let _ = name.decode(&mut names.bytes);
        let _ = names.bytes.append(b"\0");
    }
    names.sort()
}

/// Freezes one file system. Returns false if its type cannot be frozen, if it is frozen already, or
/// if it is not mounted any more. The error is in the reply; returned is the status for it.
fn freeze_one(
    guest: &Guest,
    fs: &FileSystem<'_>,
    mount_point: &[u8],
    searches: &mut Searches,
    deadline_ms: u64,
    reply: &mut Reply<'_>,
) -> Result<bool, u8> {
    let inside = match fs.open(&guest.root, searches) {
        Ok(Some(inside)) => inside,
        Ok(None) => return Ok(false),
        Err(miss) => {
            let (why, errno): ([&[u8]; 2], i32) = match miss {
                Miss::Elsewhere => ([b": ", ELSEWHERE], 0),
                Miss::Errno(errno) => ([b"", b""], number(errno)),
            };
            reply.fail_with(Phrase::CannotOpen, &[mount_point, why[0], why[1]], errno);
            return Err(NOTHING);
        }
    };
    let step = &mut || fsctl::freeze(inside.as_fd()).map_or_else(number, |()| 0);
    let done = match Helper::start(step) {
        Ok(started) => {
            let left_ms = deadline_ms.saturating_sub(clock::boottime_ms());
            let Some(done) = started.wait(left_ms) else {
                reply.fail_with(Phrase::NotAtRest, &[mount_point], 0);
                return Err(give_up(guest, &started));
            };
            done
        }
        // Without memory for a process, without a time limit.
        Err(_) => step(),
    };
    if done == 0 {
        return Ok(true);
    }
    if done == number(Errno::OPNOTSUPP) || done == number(Errno::BUSY) {
        return Ok(false);
    }
    reply.fail_with(Phrase::CannotFreeze, &[mount_point], done);
    Err(NOTHING)
}

/// Gives up a file system that is not at rest at the freeze timeout. Returns the status of that.
fn give_up(guest: &Guest, freezing: &Helper) -> u8 {
    let mut status = NOTHING;
    if guest.aborts_fuse && abort_fuse(&guest.root) {
        status = ABORTED;
        if freezing.wait(ABORTED_MS).is_some() {
            return status;
        }
    }
    // If it freezes the file system after all, a later thaw finds it.
    freezing.kill();
    status | HANGS
}

/// Thaws everything after a freeze has failed that had frozen `count` file systems; one more may
/// hang. Returns whether nothing is frozen any more: then removes the marker.
fn undo(guest: &Guest, count: i64, hangs: bool) -> bool {
    let limit_ms = if hangs { STUCK_THAW_MS } else { THAW_MS };
    let Ok(thawed) = thaw_all(&guest.root, limit_ms) else {
        return false;
    };
    if hangs || thawed.hanging != 0 {
        return false;
    }
    if thawed.count < count {
        let _ = power::thaw_all(&guest.root);
    }
    guest.marker.remove();
    true
}

fn finish_freeze(state: &mut State, _: Ticket, outcome: Outcome) {
    let event = match outcome {
        Outcome::Replied(SOMETHING | UNMARKED) => FreezeEvent::Froze,
        Outcome::Replied(status) if status & HANGS != 0 => FreezeEvent::Hangs,
        Outcome::Replied(_) | Outcome::Refused => FreezeEvent::FrozeNothing,
        Outcome::Started(_) | Outcome::Lost => FreezeEvent::Lost,
    };
    state.freeze.note(event, &mut state.log);
    let what = match outcome {
        Outcome::Replied(UNMARKED) => LogPhrase::FrozenUnmarked,
        Outcome::Replied(status) if status & ABORTED != 0 => LogPhrase::FuseAborted,
        _ => return,
    };
    state.log.say(Level::Error, what, &[]);
}

fn prepare_thaw(state: &mut State, _: &Args<'_>, _: &mut Reply<'_>) -> Result<Ticket, Failed> {
    state.freeze.note(FreezeEvent::Thaw, &mut state.log);
    Ok(Ticket::of(match state.freeze.is_frozen() {
        false => NOT_FROZEN,
        true if state.freeze.hangs() => HUNG,
        true => FROZEN,
    }))
}

/// Thaws, then lets applications go on that were brought to rest.
fn thaw(guest: &Guest, ticket: Ticket, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    live_with_agent(guest, process::TERM);
    let mut hooks = session(guest);
    let directory = guest.marker.directory();
    // The child of a killed agent is about to end. A process that hangs is not waited for.
    let known = ticket.number;
    let limit_ms = if known == HUNG { 0 } else { LOCK_WAIT_MS };
    let marker = guest.marker.lock(limit_ms);
    if matches!(marker, Err(Errno::NOLCK)) {
        if known != HUNG {
            let _ = thaw_all(&guest.root, STUCK_THAW_MS);
        }
        cannot(reply, Phrase::StillUnderWay, Errno::BUSY);
        return Ok(HANGS);
    }
    let thawed = thaw_file_systems(guest, known != NOT_FROZEN, reply)?;
    if thawed == HANGS {
        // A process that hangs shares the descriptor: closing it here would unlock the marker.
        core::mem::forget(marker);
        return Ok(HANGS);
    }
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
    let Ok(thawed) = thaw_all(&guest.root, THAW_MS) else {
        return Err(no_mount_table(reply));
    };
    if thawed.hanging != 0 {
        cannot(reply, Phrase::StillUnderWay, Errno::BUSY);
        return Ok(HANGS);
    }
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

/// The result of a thaw.
struct Thawed {
    /// File systems that it thawed.
    count: i64,
    /// File systems whose thaw has not ended in time. It goes on in a process of its own.
    hanging: u32,
    /// Mounts that it could not reach.
    missed: u32,
}

/// Thaws every file system that can be reached, however often it was frozen. Each one has
/// `limit_ms`.
fn thaw_all(root: &Root, limit_ms: u64) -> Result<Thawed, Errno> {
    let (mut count, mut hanging) = (0, 0);
    let missed = mounts::reach_all(root, &mut Searches::new(), &mut |place| {
        let inside = place.open(root)?;
        let thawed = process::within(limit_ms, &mut || {
            let mut thawed = 0;
            while fsctl::thaw(inside.as_fd()).is_ok() {
                thawed = 1;
            }
            thawed
        });
        // Found by a second mount, a file system is thawed already.
        match thawed {
            Some(thawed) => count += i64::from(thawed == 1),
            None => hanging += 1,
        }
        Ok(())
    })?;
    Ok(Thawed {
        count,
        hanging,
        missed,
    })
}

fn finish_thaw(state: &mut State, _: Ticket, outcome: Outcome) {
    let event = match outcome {
        Outcome::Replied(HANGS) => FreezeEvent::Hangs,
        Outcome::Replied(_) => FreezeEvent::Thawed,
        Outcome::Refused => FreezeEvent::NotThawed,
        Outcome::Started(_) | Outcome::Lost => FreezeEvent::Lost,
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
