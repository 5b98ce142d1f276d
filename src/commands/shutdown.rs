//! guest-shutdown; and the shutdown after Ctrl-Alt-Del, where the agent is PID 1, or after an init
//! that was asked and did nothing.
//!
//! If the init has an interface for it (`probe::init`), the agent only sends it a request. Success
//! has no reply. Without one the agent does it: every process ends, every disk is made read-only
//! and unmounted, then reboot(2). That is done by children of the agent. The agent itself lives on
//! and does not heed SIGTERM, because a script that is PID 1 may be waiting for it, and the end of
//! PID 1 would be the end of the kernel. Ancestors of the agent are spared for the same reason, and
//! storage daemons of root's because disks need them (`probe::ending`).
//!
//! The disks are clean in the end, whatever happens before. The agent does not trust a path of the
//! mount table: it makes read-only the mount with that number, and uncovers what lies under another
//! mount. Whether a disk can still be written to is read from the table, not from what a call
//! returned. In the end SysRq makes read-only what is still in use, or mounted where no table shows
//! it.
//!
//! A disk or server that never answers delays the end, but does not prevent it: each step (closing
//! files, ending processes, closing disks, the last sync) runs in a child with a time limit, which
//! is left behind after that.
//!
//! Differences from qemu-ga: no program of the guest is needed; the guest goes down at every stage
//! of its boot; `halt` halts where qemu-ga's `/sbin/halt` may power off. An agent that may not take
//! the machine down, for want of `CAP_SYS_BOOT` or in the PID namespace of a container, refuses
//! before anything changes, and asks no init either. Swap is not turned off: nothing in it outlives
//! the guest.

use super::command::{Outcome, Slow, Ticket};
use super::common::abort_fuse;
use crate::base::limits::{
    ENDING_MS, FORCE_MS, INIT_GRACE_MS, KILL_MS, LAST_SYNC_MS, SECOND_LOOK_MS, TERM_MS, UNCOVER_MS,
    WRITE_OUT_MS,
};
use crate::parse::mountinfo::Mount;
use crate::parse::{unescaped, words};
use crate::probe::ending::{self, Pids, Process};
use crate::probe::init::{self, InitInterface};
use crate::probe::mounts;
use crate::state::State;
use crate::state::guest::Guest;
use crate::state::log::{Level, Log};
use crate::state::texts::LogPhrase;
use crate::sys::clock::NEVER_MS;
use crate::sys::mount;
use crate::sys::place::{MayAsk, Place};
use crate::sys::power::{self, ShutdownMode};
use crate::sys::process;
use crate::sys::root::{Root, relative};
use crate::sys::{AsFd, Errno, clock, number, stdio};
use crate::wire::args::{Args, Param, Type, index_of, may};
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::Phrase;

pub(super) const MODE: &[Param] = &[may("mode", Type::Str)];

/// guest-shutdown.
pub(super) const SHUTDOWN: Slow = Slow {
    prepare: prepare_as_told,
    run,
    finish,
};

/// Reboots the guest because Ctrl-Alt-Del was pressed and the agent is PID 1.
pub(super) const REBOOT: Slow = Slow {
    prepare: prepare_reboot,
    run,
    finish,
};

/// Takes the guest down because its init was asked and did nothing.
pub(super) const BY_FORCE: Slow = Slow {
    prepare: prepare_by_force,
    run,
    finish,
};

/// The ticket of a shutdown by the init.
const INIT_WAS_TOLD: Ticket = Ticket::of(-1);

/// A mode, in the words of those who ask for it and those who are told.
struct Mode {
    how: ShutdownMode,
    /// Its name in the protocol.
    name: &'static str,
    /// Its name in OpenRC.
    word: &'static [u8],
    /// For sysvinit: the value of INIT_HALT, and the runlevel.
    variable: &'static [u8],
    runlevel: u8,
}

/// The modes; the first is the default.
static MODES: [Mode; 3] = [
    Mode {
        how: ShutdownMode::PowerOff,
        name: "powerdown",
        word: b"poweroff",
        variable: b"INIT_HALT=POWEROFF",
        runlevel: b'0',
    },
    Mode {
        how: ShutdownMode::Halt,
        name: "halt",
        word: b"halt",
        variable: b"INIT_HALT=HALT",
        runlevel: b'0',
    },
    Mode {
        how: ShutdownMode::Reboot,
        name: "reboot",
        word: b"reboot",
        variable: b"INIT_HALT=",
        runlevel: b'6',
    },
];

fn prepare_as_told(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Ticket, Failed> {
    let given = args.string(const { index_of(MODE, "mode") });
    let is_given = |mode: &&Mode| given.is_none_or(|given| given.is(mode.name));
    let Some(mode) = MODES.iter().find(is_given) else {
        return Err(reply.fail(Phrase::InvalidMode));
    };
    // In a container the init is the container's.
    check_right(reply)?;
    let (root, how) = (&state.guest.root, mode.how);
    if init::interface(root, how).is_some_and(|way| tell(root, way, mode)) {
        note(state, LogPhrase::ToldInit);
        state.going_down = Some(how);
        state.down_ms = clock::in_ms(INIT_GRACE_MS);
        return Ok(INIT_WAS_TOLD);
    }
    prepare_past_init(state, how, reply)
}

fn prepare_reboot(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Ticket, Failed> {
    // Frozen file systems cannot be unmounted: the host has to thaw them.
    if state.freeze.is_frozen() && !state.freeze.was_given_up() {
        return Err(reply.error().end());
    }
    prepare_past_init(state, ShutdownMode::Reboot, reply)
}

fn prepare_by_force(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Ticket, Failed> {
    let how = state.going_down.unwrap_or(ShutdownMode::PowerOff);
    if state.freeze.is_frozen() && !state.freeze.was_given_up() {
        // While frozen nothing can be written: try again later.
        return Err(reply.fail(Phrase::FrozenNow));
    }
    prepare_past_init(state, how, reply)
}

/// Prepares a shutdown by the agent itself; refuses, with nothing changed, what could not be
/// finished.
fn prepare_past_init(
    state: &mut State,
    how: ShutdownMode,
    reply: &mut Reply<'_>,
) -> Result<Ticket, Failed> {
    state.down_ms = NEVER_MS;
    state.going_down = None;
    check_right(reply)?;
    note(state, LogPhrase::ShuttingDown);
    state.going_down = Some(how);
    // A log in a file keeps its disk from becoming read-only, and so does the pid file.
    stdio::leave_files();
    state.pid_file.remove();
    Ok(Ticket::of(how as i64))
}

/// Checks that this process may take the machine down: not without the privilege, not in a
/// container. The check makes Ctrl-Alt-Del a signal to PID 1, as every init does anyway.
fn check_right(reply: &mut Reply<'_>) -> Result<(), Failed> {
    match power::soften_ctrl_alt_del() {
        Ok(()) => Ok(()),
        Err(Errno::INVAL) => Err(reply.fail(Phrase::InContainer)),
        Err(errno) => Err(refused(errno, reply)),
    }
}

#[inline(never)]
fn note(state: &mut State, what: LogPhrase) {
    state.log.say(Level::Notice, what, &[]);
}

fn run(guest: &Guest, ticket: Ticket, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let is_told = |mode: &&Mode| ticket == Ticket::of(mode.how as i64);
    let Some(Mode { how, .. }) = MODES.iter().find(is_told) else {
        return Ok(0);
    };
    // Open files keep a disk from being unmounted: those of the agent and of this child.
    within(KILL_MS, &guest.root, |root| {
        process::let_go_of_files(root.as_fd())
    });
    within(ENDING_MS, &guest.root, end_all);
    within(WRITE_OUT_MS, &guest.root, close_all_disks);
    within(LAST_SYNC_MS, &guest.root, |_| power::sync());
    Err(refused(power::down(*how), reply))
}

fn finish(state: &mut State, _: Ticket, _: Outcome) {
    // The child ended, so the shutdown failed. With a deadline set, the init was asked instead and
    // may still succeed.
    if state.down_ms == NEVER_MS {
        state.going_down = None;
    }
}

fn refused(errno: Errno, reply: &mut Reply<'_>) -> Failed {
    reply.fail_with(Phrase::CannotShutDown, &[], number(errno))
}

/// Sends PID 1 the request; returns whether it was delivered.
fn tell(root: &Root, way: InitInterface, mode: &Mode) -> bool {
    let requests;
    let (fifos, told): (&[u8], &[u8]) = match way {
        InitInterface::Signal(signal) => return process::kill(1, signal.into()).is_ok(),
        InitInterface::OpenRc => (b"run/openrc/init.ctl", mode.word),
        InitInterface::SysV => {
            requests = sysv_request(mode);
            (b"run/initctl dev/initctl", &requests)
        }
    };
    words(fifos).any(|fifo| root.tell_fifo(fifo, told).is_ok())
}

/// Bytes of every request to sysvinit: initreq.h.
const REQUEST_BYTES: usize = 384;
/// The first number of every request.
const MAGIC: u32 = 0x0309_1969;
const CHANGE_RUNLEVEL: u32 = 1;
const SET_VARIABLE: u32 = 6;

/// Sets the variable INIT_HALT, then changes the runlevel. A request is: magic, command, runlevel,
/// seconds from SIGTERM to SIGKILL (0: sysvinit's own), each an `int`, then what the command needs
/// besides, then nothing.
fn sysv_request(mode: &Mode) -> [u8; 2 * REQUEST_BYTES] {
    let mut requests = [0; 2 * REQUEST_BYTES];
    const NEXT: usize = REQUEST_BYTES;
    requests[..4].copy_from_slice(&MAGIC.to_ne_bytes());
    requests[4..8].copy_from_slice(&SET_VARIABLE.to_ne_bytes());
    for (byte, given) in requests[16..].iter_mut().zip(mode.variable) {
        *byte = *given;
    }
    requests[NEXT..NEXT + 4].copy_from_slice(&MAGIC.to_ne_bytes());
    requests[NEXT + 4..NEXT + 8].copy_from_slice(&CHANGE_RUNLEVEL.to_ne_bytes());
    requests[NEXT + 8..NEXT + 12].copy_from_slice(&u32::from(mode.runlevel).to_ne_bytes());
    requests
}

/// Runs `step` in a child; after `limit_ms` goes on without it.
fn within(limit_ms: u64, root: &Root, step: fn(&Root)) {
    process::within(limit_ms, &mut || {
        step(root);
        0
    });
}

/// Time for processes to end where /proc is missing and nobody can check.
const BLIND_MS: u32 = 1_000;

/// Ends all processes: SIGTERM, then SIGKILL.
fn end_all(root: &Root) {
    if root.has_at(&[b"proc/self/status"]) != Ok(true) {
        let _ = root.make_directory(b"proc", 0o555);
        let _ = mount::mount(&[b"proc", b"/proc", b"proc", b""], 0);
    }
    end_processes(root, process::TERM, TERM_MS);
    end_processes(root, process::KILL, KILL_MS);
}

/// Sends `signal` to all processes and waits until they are gone, but not for those that PID 1
/// starts meanwhile.
fn end_processes(root: &Root, signal: i32, limit_ms: u64) {
    let is_request = signal == process::TERM;
    let mut spared = Pids::new();
    if ending::find_spared(root, &mut spared).is_err() {
        // Without /proc no process can be spared, so none is killed.
        if is_request {
            process::kill_all(signal);
            clock::sleep_ms(BLIND_MS);
        }
        return;
    }
    // A process that forks faster than this child looks could otherwise stay ahead of it. Those
    // that are spared go on at once; ancestors only after their children, so that they see none
    // stopped.
    process::kill_all(process::STOP);
    for pid in spared.iter() {
        let _ = process::kill(pid, process::CONT);
    }
    let mut signalled = Pids::new();
    let _ = ending::each_other(root, &spared, &mut |pid| {
        if process::kill(pid, signal).is_ok() {
            signalled.push(pid);
        }
    });
    process::kill_all(process::CONT);

    let mut gone = 0;
    let mut all_gone = || {
        while let Some(pid) = signalled.get(gone) {
            let found = Process::find(root, pid);
            if found.is_some_and(|one| one.alive && !(is_request && one.ignores_term)) {
                return false;
            }
            gone += 1;
        }
        true
    };
    // A process that waits for a FUSE server outlives SIGKILL, and keeps its files open.
    if !process::wait_until(limit_ms, &mut all_gone) && !is_request && abort_fuse(root) {
        // The log of the agent may be held: this one is not.
        Log::new().say(Level::Notice, LogPhrase::FuseAborted, &[]);
        process::wait_until(limit_ms, &mut all_gone);
    }
}

/// Closes all disks: those that can be reached, those that can be uncovered, and by force whatever
/// the kernel still has mounted elsewhere.
fn close_all_disks(root: &Root) {
    close_disks(root, &mut |_| false);
    if ending::any_writable(root, ending::is_on_disk) {
        within(SECOND_LOOK_MS, root, look_again);
    }
    if power::force_read_only(root).is_ok() {
        // The kernel does not report the end of this; the mount table shows it.
        clock::sleep_ms(FORCE_BEGINS_MS);
        process::wait_until(FORCE_MS, &mut || {
            !ending::any_writable(root, ending::is_on_device)
        });
    }
}

/// Closes disks that something covers, or whose path leads through the file system of a server.
fn look_again(root: &Root) {
    within(UNCOVER_MS, root, uncover_disks);
    close_disks(root, &mut |_| true);
}

/// Time until the kernel begins to make disks read-only by force: one of its threads has to be
/// scheduled.
const FORCE_BEGINS_MS: u32 = 100;

/// Makes the disks read-only that the mount table leads to, and unmounts them, until that changes
/// nothing any more: each may have been in the way of another.
fn close_disks(root: &Root, may_ask: MayAsk<'_>) {
    let mut unmounted = true;
    while unmounted {
        unmounted = false;
        let _ = mounts::backward(root, &mut |mount| {
            unmounted |= ending::is_on_disk(mount) && close_disk(root, mount, may_ask);
        });
    }
}

/// Returns whether the disk was unmounted.
fn close_disk(root: &Root, mount: &Mount<'_>, may_ask: MayAsk<'_>) -> bool {
    let target = unescaped(mount.mount_point);
    // The path may lead to another mount, which covers this one.
    let Ok(place) = Place::find(root, relative(target.as_bytes()), may_ask) else {
        return false;
    };
    let same_disk = place.device == mount.device();
    let same_mount = place
        .mount
        .map_or(same_disk, |number| number == mount.number);
    // Read-only first: what is unmounted lives on if an overlay or another namespace holds it.
    // Unmounting is what frees the disk below, be it a loop device's file.
    if same_disk || same_mount {
        let _ = mount::make_read_only(&place);
    }
    drop(place);
    same_mount && mount::unmount(&target).is_ok()
}

/// Unmounts whatever may cover a disk.
fn uncover_disks(root: &Root) {
    let _ = mounts::backward(root, &mut |mount| {
        if ending::may_cover(mount) {
            let _ = mount::unmount(&unescaped(mount.mount_point));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::state;
    use crate::wire::args::PackedList;
    use crate::wire::receive::receive;

    #[test]
    fn a_mode_nobody_knows_is_refused_with_nothing_done() {
        let mut state = state(Root::open(c"/tmp").unwrap());
        for mode in ["", "Halt", "poweroff", "halt ", "reboot\\u0000"] {
            let text = format!("{{\"mode\": \"{mode}\"}}");
            let mut out = heapless::Vec::<u8, 512>::new();
            let mut reply = Reply::new(&mut out);
            let arguments = receive(text.as_bytes()).unwrap();
            let mut args = Args::none();
            args.check(Some(arguments), PackedList::of(MODE), &mut reply)
                .unwrap();
            let failed = prepare_as_told(&mut state, &args, &mut reply).unwrap_err();
            reply.finish(Err(failed));
            assert_eq!(
                str::from_utf8(&out).unwrap(),
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"mode is invalid \
                 (valid values are: halt|powerdown|reboot\"}}\n"
            );
            assert_eq!(state.going_down, None);
        }
    }

    #[test]
    fn requests_to_sysvinit_are_as_its_header_says() {
        for (how, variable, level) in [
            (ShutdownMode::PowerOff, &b"INIT_HALT=POWEROFF\0"[..], b'0'),
            (ShutdownMode::Halt, b"INIT_HALT=HALT\0", b'0'),
            (ShutdownMode::Reboot, b"INIT_HALT=\0", b'6'),
        ] {
            let mode = MODES.iter().find(|mode| mode.how == how).unwrap();
            let requests = sysv_request(mode);
            let (first, second) = requests.split_at(REQUEST_BYTES);
            assert_eq!(first[..4], 0x0309_1969u32.to_ne_bytes());
            assert_eq!(first[4..8], 6u32.to_ne_bytes());
            assert!(first[16..].starts_with(variable));
            assert_eq!(second.len(), REQUEST_BYTES);
            assert_eq!(second[..4], 0x0309_1969u32.to_ne_bytes());
            assert_eq!(second[4..8], 1u32.to_ne_bytes());
            assert_eq!(second[8..12], u32::from(level).to_ne_bytes());
            assert!(second[12..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_step_that_hangs_is_left_behind() {
        let root = Root::open(c"/tmp").unwrap();
        let start_ms = clock::boottime_ms();
        within(60, &root, |_| clock::sleep_ms(1_000));
        let took_ms = clock::boottime_ms() - start_ms;
        assert!((60..900).contains(&took_ms), "{took_ms}");
    }
}
