//! Processes: fork, wait, kill, exit, and starting the agent anew.
//!
//! rustix keeps fork and execve private; they are the bare system calls.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char};
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr;
use core::sync::atomic::{AtomicU8, Ordering};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::CapabilitySet;
use static_assertions::const_assert_eq;

use super::args::{Start, Strings, variable};
use super::mem::Buffer;
use super::{clock, power, signal, stdio};
use crate::base::limits::{OPEN_FILES, PROGRAMS, REQUEST_BYTES};
use crate::base::path::Path;
use crate::base::store::{Full, Store};
use crate::base::text::cut;

use super::raw;

/// What [`fork`] gives in the child.
pub const IN_CHILD: i32 = 0;

/// Duplicates this process. Gives the number of the child, in the child [`IN_CHILD`].
///
/// The agent has one thread, no heap and no atfork handlers, so the child may go on with ordinary
/// code; all its memory is its own copy.
///
/// If it shares files, what the child opens and closes is opened and closed here, too: it has no
/// descriptors of its own, and what it has open when it is killed stays open here. It ends without
/// dropping anything it has from before.
#[inline(never)]
pub fn fork(shares_files: bool) -> Result<i32, Errno> {
    let flags = libc::SIGCHLD | if shares_files { libc::CLONE_FILES } else { 0 };
    // SAFETY: clone with no flag but the signal is fork: the child gets a copy of all memory and
    // goes on from here; descriptors may be shared, as they are between threads. What makes that
    // dangerous, locks held by other threads at this moment, cannot be: there are no other threads.
    // The order of the arguments differs between machines, but all after the first are 0.
    let pid = unsafe { raw::call(libc::SYS_clone, [flags as usize, 0, 0, 0, 0]) }?;
    // Process numbers end long before 2^31.
    Ok(pid as i32)
}

/// Ends this process at once, running nothing on the way out.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: exit_group takes any number, and does not return.
        let _ = unsafe { raw::call(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0]) };
    }
}

// `siginfo_t` of asm-generic/siginfo.h, of which waitid fills in the beginning.
const_assert_eq!(size_of::<libc::siginfo_t>(), 128);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Buries a child that has ended: its number, how it ended, and whether it had become another
/// program. `None` if no child has ended.
///
/// The kernel walks the list of all children to find one, those that run first.
pub fn reap() -> Option<(i32, Ended, bool)> {
    let (pid, ended) = look(libc::P_ALL, 0)?;
    Some((pid, ended, bury(pid)))
}

/// Buries the child `pid` if it has ended, as [`reap`] does.
pub fn reap_child(pid: i32) -> Option<(Ended, bool)> {
    let (_, ended) = look(libc::P_PID, pid)?;
    Some((ended, bury(pid)))
}

/// A child that has ended, and how; it stays what it is.
fn look(kind: libc::idtype_t, pid: i32) -> Option<(i32, Ended)> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    wait(kind, pid, Some(&mut info), libc::WNOWAIT);
    // SAFETY: the kernel filled it in, or it is all zeros; either is valid for plain numbers.
    let info = unsafe { info.assume_init() };
    // SAFETY: both are numbers of the part that waitid fills in, or zeros.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let ended = match info.si_code {
        libc::CLD_EXITED => Ended::Exited(status),
        _ => Ended::Killed(status),
    };
    (pid > 0).then_some((pid, ended))
}

/// Buries a child that has ended; tells whether it had become another program, which can be told
/// only before it is buried.
fn bury(pid: i32) -> bool {
    let executed = has_executed(pid);
    wait(libc::P_PID, pid, None, 0);
    executed
}

fn wait(
    kind: libc::idtype_t,
    pid: i32,
    info: Option<&mut MaybeUninit<libc::siginfo_t>>,
    flags: i32,
) {
    let flags = flags | libc::WEXITED | libc::WNOHANG;
    let info = info.map_or(0, |info| info.as_mut_ptr().expose_provenance());
    // SAFETY: waitid writes one siginfo_t, which is borrowed and outlives the call, or nothing, or is
    // not asked to; nor how much processor time the child took.
    let _ = unsafe {
        let args = [kind as usize, pid as usize, info, flags as usize, 0];
        raw::call(libc::SYS_waitid, args)
    };
}

/// Whether a child that is not buried yet has become another program.
///
/// The kernel refuses to move a child into another process group once it has (setpgid(2)). One that
/// has not is moved into one of its own, so this is to be asked of those only that have become
/// another program or else are about to end.
pub fn has_executed(pid: i32) -> bool {
    rustix::process::setpgid(Pid::from_raw(pid), None).is_err()
}

/// This process's number.
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// The number of the process that made this one.
pub fn parent_pid() -> u32 {
    let parent = rustix::process::getppid();
    parent.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// Whether this process is the init of the machine. PID 1 of a container is not.
///
/// Only in the first PID namespace does the kernel allow changing what Ctrl-Alt-Del does; /proc may
/// not be mounted yet. A process without the privilege (`CAP_SYS_BOOT`) could not do the work of an
/// init either, so any error means no. The answer stays what it first was; children of the init get
/// their own.
pub fn is_init() -> bool {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    static OF_MACHINE: AtomicU8 = AtomicU8::new(UNKNOWN);
    if rustix::process::getpid() != Pid::INIT {
        return false;
    }
    if OF_MACHINE.load(Ordering::Relaxed) == UNKNOWN {
        let allowed = power::soften_ctrl_alt_del().is_ok();
        OF_MACHINE.store(if allowed { YES } else { NO }, Ordering::Relaxed);
    }
    OF_MACHINE.load(Ordering::Relaxed) == YES
}

/// Sends a signal, by its number, to one process. Numbers are the kernel's: real-time signals
/// included, which the C libraries renumber.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    if pid <= 0 {
        return Err(Errno::SRCH);
    }
    // SAFETY: kill takes any two numbers; `pid` is positive, so it names one process, not a group.
    unsafe { raw::call(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0]) }.map(|_| ())
}

/// Sends a signal to every process but PID 1 and this one.
pub fn kill_all(signal: i32) {
    // SAFETY: kill takes any two numbers; the first one here means everybody.
    let _ = unsafe { raw::call(libc::SYS_kill, [usize::MAX, signal as usize, 0, 0, 0]) };
}

/// Closes every descriptor above 2, then calls `then`. For a process that is about to execute its own
/// program again.
pub fn close_all_and(then: fn() -> !) -> ! {
    // SAFETY: `then` captures nothing and does not return, so no value that owns a descriptor is used
    // or dropped any more. Values in statics are lent for good (`mem::Lent`), to code that does not
    // go on either.
    unsafe { close_range(3, i32::MAX) };
    then()
}

/// Executes the program of this process again, with the arguments and the environment that it was
/// started with. Returns only if that failed.
///
/// Finds the program through /proc, or, without /proc, at the path that it was started by. No signal
/// is then handled, and only the signals of [`Signals`](signal::Signals) are blocked.
pub fn execute_again() {
    signal::restore_for_agent();
    let Some(Start { words, environment }) = Start::remembered() else {
        return;
    };
    execute(c"/proc/self/exe", words, environment);
    if let Some(name) = { words }.next_c_str()
        && name.to_bytes().contains(&b'/')
    {
        execute(name, words, environment);
    }
}

/// Gives this process the name of its program again, which was `exe` for the kernel after it started
/// anew through /proc.
pub fn restore_name() {
    let name = Start::remembered().and_then(|start| { start.words }.next_c_str());
    let Some(name) = name else {
        return;
    };
    let slash = name.to_bytes().iter().rposition(|byte| *byte == b'/');
    let name = &name[slash.map_or(0, |slash| slash + 1)..];
    let _ = rustix::thread::set_name(name);
}

/// Becomes the program at `path`. Returns only if that failed, with the reason.
fn execute(path: &CStr, words: Strings, environment: Strings) -> Errno {
    let path = path.as_ptr().expose_provenance();
    let args = [path, words.address(), environment.address(), 0, 0];
    // SAFETY: the path ends in a NUL and outlives the call. Both vectors end in a null and their
    // strings in a NUL, and nobody writes to them meanwhile, as `Strings` was promised.
    let done = unsafe { raw::call(libc::SYS_execve, args) };
    done.err().unwrap_or(Errno::NOEXEC)
}

/// Whether the child `pid` has not ended; false for 0.
pub fn is_running(pid: i32) -> bool {
    kill(pid, 0).is_ok() && look(libc::P_PID, pid).is_none()
}

/// What runs a script that does not say what runs it.
const SHELL: &CStr = c"/bin/sh";

/// The arguments and the environment of a program to be, as execve(2) takes them. Only for children
/// of the agent: the memory is never given back.
pub struct Vectors {
    /// Strings, each ended by a NUL. What [`Vectors::push`] takes off it stays where it is.
    text: ManuallyDrop<Buffer>,
    /// Pointers, and nothing else: the shell, should it be needed, the arguments, a null, the
    /// environment, nulls. Each that is no null leads to a string that ends in a NUL and stays for
    /// good. They are written as pointers, not as the bytes of an address, of which nobody could tell
    /// what it leads to, and read only once the list does not grow any more: then it stays in place.
    list: ManuallyDrop<Buffer>,
    /// Which pointer is the first of the environment.
    second: usize,
    /// Whether all that was added has found room.
    fits: bool,
}

/// One of the list.
type Pointer = *const c_char;

impl Vectors {
    /// The arguments that `write` adds, and no environment yet. `room` is the number of bytes for the
    /// strings of both, NULs included.
    pub fn with_arguments(room: usize, write: impl FnOnce(&mut Self)) -> Self {
        let mut vectors = Self {
            text: Buffer::lasting(room),
            list: ManuallyDrop::new(Buffer::growing(REQUEST_BYTES)),
            second: 0,
            fits: true,
        };
        vectors.add(SHELL);
        write(&mut vectors);
        vectors.add_pointer(ptr::null());
        vectors.second = vectors.list.len() / size_of::<Pointer>();
        vectors
    }

    /// Where the next string is to be written, which holds no NUL.
    pub fn text(&mut self) -> &mut Buffer {
        &mut self.text
    }

    /// Adds the string that was written.
    pub fn push(&mut self) -> &'static [u8] {
        let _ = self.text.append(b"\0");
        let run = self.text.take();
        match run {
            [string @ .., 0] => {
                self.add_pointer(run.as_ptr().cast());
                string
            }
            // There was no room for it, or for its NUL.
            _ => {
                self.fits = false;
                b""
            }
        }
    }

    /// Adds a string.
    pub fn add(&mut self, string: &'static CStr) {
        self.add_pointer(string.as_ptr());
    }

    /// Adds all strings that `is_wanted` is true of.
    pub fn add_all(&mut self, mut strings: Strings, is_wanted: impl Fn(&[u8]) -> bool) {
        while let Some(string) = strings.next_c_str() {
            if is_wanted(string.to_bytes()) {
                self.add(string);
            }
        }
    }

    /// Adds a null, or a pointer to a string that ends in a NUL and stays for good.
    #[inline(never)]
    fn add_pointer(&mut self, pointer: Pointer) {
        match self.list.extend(size_of::<Pointer>()) {
            // SAFETY: there is room for one, which is aligned: the list rests nowhere, so it begins
            // with the page that a mapping begins with, and holds nothing but pointers.
            Ok(room) => unsafe { room.as_mut_ptr().cast::<Pointer>().write(pointer) },
            Err(Full) => self.fits = false,
        }
    }

    /// Becomes the program called `name`, as execvpe(3) does, but for what `PATH` is there; returns
    /// only if that failed, with the reason. A name without a slash is looked for in the directories
    /// of PATH, of the environment given here or else of `path`; if several have it, the first that
    /// can be run is it.
    ///
    /// Signals are then as every program expects them, and descriptors above 2 closed.
    pub fn run(&mut self, name: &[u8], path: &[u8]) -> Errno {
        self.add_pointer(ptr::null());
        if !self.fits {
            return Errno::NOMEM;
        }
        // SAFETY: everything has found room, so the environment begins at `second`, and this null ends
        // it. Each pointer before the null leads to a string (`add_pointer`), and nothing is written to
        // the list while this is read.
        let environment = unsafe {
            let list = self.list.bytes().as_ptr().cast::<Pointer>();
            Strings::new(list.add(self.second))
        };
        let mut search = variable(environment, b"PATH").unwrap_or(path);
        if name.is_empty() || name.contains(&b'/') {
            search = b"";
        }
        signal::restore();
        let mut denied = false;
        loop {
            let rest = search.len();
            let directory = cut(&mut search, b':');
            let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            let file = Path::of(&[directory, slash, name]);
            let Some(file) = file.as_c_str() else {
                return Errno::NAMETOOLONG;
            };
            let errno = self.execute(file);
            match errno {
                Errno::ACCESS => denied = true,
                Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
                _ => return errno,
            }
            // Nothing followed, not even a colon.
            if directory.len() == rest {
                return if denied { Errno::ACCESS } else { errno };
            }
        }
    }

    /// Becomes the program at `path`, or the shell running the script at `path`. Returns only if that
    /// failed, with the reason. The environment has ended.
    fn execute(&mut self, path: &CStr) -> Errno {
        mark_all();
        let list = self.list.bytes_mut().as_mut_ptr().cast::<Pointer>();
        // SAFETY: the list has three pointers at least: the shell, the null that ends the arguments
        // (`with_arguments`), and a null at the end (`run`). Each that is no null
        // leads to a string that stays for good (`add_pointer`), or to `path` while that is there:
        // before this returns, the first argument is again what it was. Nothing is written to the list
        // while a call reads it.
        unsafe {
            let first = list.add(1);
            let environment = Strings::new(list.add(self.second));
            let errno = execute(path, Strings::new(first), environment);
            if errno != Errno::NOEXEC {
                return errno;
            }
            let argument = first.replace(path.as_ptr());
            let errno = execute(SHELL, Strings::new(list), environment);
            first.write(argument);
            errno
        }
    }
}

/// How often is looked whether something has ended.
const PAUSE_MS: u32 = 20;

/// Waits until something is `done`, or the time is over. Only for children of the agent.
pub fn wait_until(limit_ms: u64, done: &mut dyn FnMut() -> bool) {
    let deadline_ms = clock::in_ms(limit_ms);
    while !done() && clock::boottime_ms() < deadline_ms {
        clock::sleep_ms(PAUSE_MS);
    }
}

/// Runs `step` in a child; after `limit_ms` goes on without it. For a child of the agent that has no other
/// children. They share descriptors, so `step` must close none but what it has opened itself.
pub fn within(limit_ms: u64, step: &mut dyn FnMut()) {
    match fork(true) {
        Ok(IN_CHILD) => {
            step();
            exit(0)
        }
        Ok(child) => wait_until(limit_ms, &mut || {
            reap().is_some_and(|(pid, ..)| pid == child)
        }),
        // Without memory for one more process it may take its time.
        Err(_) => step(),
    }
}

/// Sends SIGKILL to all processes of the group of which `pid` is the leader; [`Errno::SRCH`] if there
/// are none.
pub fn kill_group(pid: i32) -> Result<(), Errno> {
    if pid <= 1 {
        return Err(Errno::SRCH);
    }
    // SAFETY: kill takes any two numbers; the first names a group here, neither all processes nor
    // the own group.
    unsafe { raw::call(libc::SYS_kill, [-pid as usize, KILL as usize, 0, 0, 0]) }.map(|_| ())
}

/// Kills all processes of the group of which `pid` was the leader, and waits until they are gone, at
/// most `wait_ms` milliseconds. They are others' children.
pub fn end_group(pid: i32, wait_ms: u64) {
    wait_until(wait_ms, &mut || kill_group(pid).is_err());
}

/// Has the kernel send `signal` to this process when its parent, the process `parent`, ends. Gives
/// whether the parent still runs. For a child, which may have lost its parent before this call.
pub fn tie_to(parent: i32, signal: i32) -> bool {
    // SAFETY: PR_SET_PDEATHSIG takes the number of a signal.
    let _ = unsafe {
        let args = [libc::PR_SET_PDEATHSIG as usize, signal as usize, 0, 0, 0];
        raw::call(libc::SYS_prctl, args)
    };
    parent_pid() == parent.unsigned_abs()
}

/// Makes `path` the root directory of this process (chroot(2)).
pub fn change_root(path: &CStr) -> Result<(), Errno> {
    rustix::process::chroot(path)
}

/// Makes `/` the working directory.
pub fn enter_root() {
    let _ = rustix::process::chdir(c"/");
}

/// The effective user of this process.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this process has root's rights to files.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Leaves the session and the terminal of whoever started this process.
pub fn new_session() {
    let _ = rustix::process::setsid();
}

/// The mask taken off the mode of new files.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask));
}

/// Closes every descriptor above 2 but these two, in a child that does not share them with the agent.
///
/// A child that hangs must not hold a client, a port or a file open, and one that acts as a user must
/// not give the user a way to them.
pub fn close_all_but(one: BorrowedFd<'_>, other: BorrowedFd<'_>) {
    let (one, other) = (one.as_raw_fd(), other.as_raw_fd());
    let (low, high) = (one.min(other), one.max(other));
    // SAFETY: these are the child's own copies, which belong to values of the agent's. Its work is
    // handed the guest alone, in which there is none of them: the root directory is one of the two. The
    // rest is the loop's. A child never comes back there: it ends by `exit` or becomes another program,
    // which drops nothing.
    unsafe {
        close_range(3, low - 1);
        close_range(low + 1, high - 1);
        close_range(high + 1, i32::MAX);
    }
}

/// Lets go of all open files and pipes of programs: each becomes a copy of `stand_in`. For a child that
/// shares its descriptors with the agent, which goes on with them.
pub fn let_go_of_files(stand_in: impl AsFd) {
    let stand_in = stand_in.as_fd().as_raw_fd() as usize;
    let marked = libc::O_CLOEXEC as usize;
    for fd in FIRST_LASTING..=HIGHEST {
        // SAFETY: fcntl and dup3 take any numbers. A descriptor that is open stays so, and those of
        // this range are used only in ways that any file may refuse.
        let _ = unsafe {
            let fd = fd as usize;
            raw::call(libc::SYS_fcntl, [fd, libc::F_GETFD as usize, 0, 0, 0])
                .and_then(|_| raw::call(libc::SYS_dup3, [stand_in, fd, marked, 0, 0]))
        };
    }
}

/// Closes these descriptors, if there are any.
///
/// # Safety
/// Values that own one of them must never be used or dropped again: the number may be another's.
#[inline(never)]
unsafe fn close_range(first: i32, last: i32) {
    if first > last {
        return;
    }
    // SAFETY: both calls take any numbers; the caller answers for what is closed.
    unsafe {
        let range = [first as usize, last as usize, 0, 0, 0];
        if raw::call(libc::SYS_close_range, range).is_err() {
            // Before Linux 5.9.
            for fd in first..=last.min(HIGHEST) {
                let _ = raw::call(libc::SYS_close, [fd as usize, 0, 0, 0, 0]);
            }
        }
    }
}

/// Has the kernel close every descriptor above 2 when this process becomes another program.
fn mark_all() {
    // SAFETY: nothing is closed now, but when another program is executed, which uses none of the
    // values that descriptors above 2 belong to.
    unsafe {
        let marked = libc::CLOSE_RANGE_CLOEXEC as usize;
        let range = [3, u32::MAX as usize, marked, 0, 0];
        if raw::call(libc::SYS_close_range, range).is_err() {
            // Before Linux 5.11. The agent's own are marked already; others it may have inherited.
            for fd in 3..=HIGHEST {
                let mark = [
                    fd as usize,
                    libc::F_SETFD as usize,
                    libc::FD_CLOEXEC as usize,
                ];
                let [fd, set, marked] = mark;
                let _ = raw::call(libc::SYS_fcntl, [fd, set, marked, 0, 0]);
            }
        }
    }
}

/// Where open files and pipes of programs begin. All other descriptors, clients and ports among them, are
/// fewer than this.
pub(super) const FIRST_LASTING: i32 = 64;

/// The agent has no descriptor above this: a new one has the lowest number that is free, and there
/// are at most this many files and pipes.
const HIGHEST: i32 = FIRST_LASTING + (OPEN_FILES + 3 * PROGRAMS) as i32;

/// Moves a descriptor to that range.
#[inline(never)]
pub fn make_lasting(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, FIRST_LASTING)
}

/// What a process reaches files as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A group, and further ones.
    Group,
    /// A user.
    User,
}

/// Has this process reach files as this user, with this first group and `groups`, four bytes each in
/// the machine's order, and with no rights beyond that. Only for children of the agent, as there is
/// no way back.
///
/// Real numbers stay, so that the user cannot send signals to this process. It is nobody's to trace
/// either: the kernel sees to that when the effective ones change. A process that is that user
/// already keeps its groups.
///
/// # Errors
/// Which of user and group could not be set, and why. A number of -1 is [`Errno::INVAL`]: the kernel
/// would leave the user or group as it is.
#[inline(never)]
pub fn act_as(uid: u32, gid: u32, groups: &[u8]) -> Result<(), (Identity, Errno)> {
    let user = |errno| (Identity::User, errno);
    if uid == u32::MAX || gid == u32::MAX {
        return Err(user(Errno::INVAL));
    }
    // The log may be a file that the user could reach as an open one.
    stdio::detach();
    if rustix::process::geteuid().as_raw() != uid {
        switch(uid, gid, groups)?;
        let (now, group) = (rustix::process::geteuid(), rustix::process::getegid());
        if (now.as_raw(), group.as_raw()) != (uid, gid) {
            return Err(user(Errno::PERM));
        }
    }
    // With the number of root they go, unless whoever started the agent has said otherwise.
    if uid != 0 {
        let mut sets = rustix::thread::capabilities(None).map_err(user)?;
        sets.effective = CapabilitySet::empty();
        rustix::thread::set_capabilities(None, sets).map_err(user)?;
    }
    Ok(())
}

fn switch(uid: u32, gid: u32, groups: &[u8]) -> Result<(), (Identity, Errno)> {
    const SAME: usize = usize::MAX;
    let set = |identity, call, args| {
        // SAFETY: setgroups reads as many numbers of four bytes, at any alignment, as `groups` holds,
        // and `groups` outlives the call. The other two take numbers only. These are the bare system
        // calls, which act on this thread alone: there are no others.
        let done = unsafe { raw::call(call, args) };
        done.map_err(|errno| (identity, errno))
    };
    let numbers = groups.as_ptr().expose_provenance();
    let group = Identity::Group;
    set(
        group,
        libc::SYS_setgroups,
        [groups.len() / 4, numbers, 0, 0, 0],
    )?;
    set(group, libc::SYS_setresgid, [SAME, gid as usize, SAME, 0, 0])?;
    set(
        Identity::User,
        libc::SYS_setresuid,
        [SAME, uid as usize, SAME, 0, 0],
    )?;
    Ok(())
}

/// SIGCHLD: a child has ended.
pub const CHLD: i32 = libc::SIGCHLD;
/// SIGHUP: the terminal is gone.
pub const HUP: i32 = libc::SIGHUP;
/// SIGINT: Ctrl-C at a terminal; for PID 1, Ctrl-Alt-Del.
pub const INT: i32 = libc::SIGINT;
/// SIGQUIT: Ctrl-\ at a terminal.
pub const QUIT: i32 = libc::SIGQUIT;
/// SIGCONT: go on, if stopped.
pub const CONT: i32 = libc::SIGCONT;
/// SIGSTOP: stand still.
pub const STOP: i32 = libc::SIGSTOP;
/// SIGTERM: please end.
pub const TERM: i32 = libc::SIGTERM;
/// SIGKILL: end.
pub const KILL: i32 = libc::SIGKILL;

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments and the environment that a program would be given, the shell before them.
    fn given(vectors: &Vectors) -> [Vec<&'static [u8]>; 2] {
        let list = vectors.list.bytes().as_ptr().cast::<Pointer>();
        // SAFETY: both end in a null (`Vectors::with_arguments`, `filled`), and nothing is added
        // meanwhile.
        unsafe { [list, list.add(vectors.second)].map(|vector| Strings::new(vector).collect()) }
    }

    fn filled(strings: usize) -> Vectors {
        let mut vectors = Vectors::with_arguments(100 + 8 * strings, |arguments| {
            for text in [&b"name"[..], b"an argument", b""] {
                arguments.text().append(text).unwrap();
                assert_eq!(arguments.push(), text);
            }
        });
        vectors.add(c"A=1");
        for number in 0..strings {
            vectors
                .text()
                .append(format!("B{number}").as_bytes())
                .unwrap();
            vectors.push();
        }
        let own = [c"LANG=C".as_ptr(), c"HOME=/".as_ptr(), ptr::null()];
        // SAFETY: constants in a vector that ends in a null and outlives its use.
        let own = unsafe { Strings::new(own.as_ptr()) };
        vectors.add_all(own, |entry| entry.starts_with(b"HOME"));
        vectors.add_pointer(ptr::null());
        vectors
    }

    #[test]
    fn vectors_hold_strings_wherever_they_came_from() {
        // Enough for the list to move while it grows.
        let strings = if cfg!(miri) { 1_000 } else { 100_000 };
        let vectors = filled(strings);
        let [arguments, environment] = given(&vectors);
        assert_eq!(arguments, [b"/bin/sh", &b"name"[..], b"an argument", b""]);
        assert_eq!(environment.len(), strings + 2);
        assert_eq!(environment[0], b"A=1");
        assert_eq!(environment[900], b"B899");
        assert_eq!(environment[strings + 1], b"HOME=/");
        assert!(vectors.fits);
    }

    #[test]
    fn what_has_no_nul_is_never_run() {
        // Too long, whatever is done about it afterwards; and never written.
        let cut = Vectors::with_arguments(4, |arguments| {
            let _ = arguments.text().append(b"long");
            assert_eq!(arguments.push(), b"");
            arguments.text().truncate(0);
        });
        let moved = Vectors::with_arguments(4, |arguments| {
            *arguments.text() = Buffer::growing(100);
            let _ = arguments.text().append(b"long");
            assert_eq!(arguments.push(), b"");
        });
        for mut vectors in [cut, moved] {
            assert_eq!(vectors.run(b"/nothing", b""), Errno::NOMEM);
        }
    }
}
