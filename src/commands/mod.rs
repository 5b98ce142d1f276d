//! The commands: one table, one row a command.
//!
//! A row says everything about a command that is not its doing: its name, its parameters, what runs,
//! and how it differs from the ordinary ([`Row`]). guest-info, filters, argument errors, refusals
//! while frozen and the documentation all read the rows. They are packed while the agent is compiled:
//! what it has of a row is a [`Command`].
//!
//! To add a command: a handler in the file of its subject, and a row here, at its place in the
//! order of QEMU's schema.
#![forbid(unsafe_code)]

mod clock;
mod disks;
mod exec;
pub mod file;
pub mod freeze;
mod fsinfo;
mod fstrim;
mod hotplug;
pub mod info;
mod network;
mod os;
mod password;
mod route;
pub mod shutdown;
mod ssh;
mod stats;
mod suspend;
mod sync;
mod users;

use static_assertions::const_assert;

use crate::base::base64::Fault;
use crate::base::limits::PARAMETERS;
use crate::base::store::Store;
use crate::base::texts::{Name, Phrase};
use crate::probe::block::Disk;
use crate::state::State;
use crate::sys::mem::Buffer;
use crate::sys::{Errno, number};
use crate::wire::args::{Args, Item, Members, Packer, Param, Params, Type, may, must, place};
use crate::wire::emit::Value;
use crate::wire::json::Str;
use crate::wire::reply::{Failed, Reply};

/// What a command does: writes the value of its reply (none written is the empty object), or fails.
pub type Handler = fn(&mut State, &Args<'_>, &mut Reply<'_>) -> Result<(), Failed>;

/// How a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// Right away: it never waits for anything.
    Now(Handler),
    /// In a child of the agent, because it may take long.
    Slow(Slow),
}

/// A command that may take long.
#[derive(Clone, Copy)]
pub struct Slow {
    /// What is done in the agent before: it may refuse, and changes what only the agent can.
    pub begin: Handler,
    /// The work itself, in the child, whose changes of the state are lost. On success it gives a
    /// number below [`REPLIED_ERROR`] that tells `end` what it needs to know.
    pub work: Work,
    /// What is done in the agent after, whatever became of the child.
    pub end: End,
}

/// See [`Slow::work`].
pub type Work = fn(&mut State, &Args<'_>, &mut Reply<'_>) -> Result<u8, Failed>;
/// See [`Slow::end`].
type End = fn(&mut State, Outcome);

impl Slow {
    /// A command that the agent itself has no part in.
    const fn alone(work: Work) -> Self {
        let (begin, end) = NO_PART;
        Self { begin, work, end }
    }
}

/// What the agent itself does before and after where it has no part in a command.
const NO_PART: (Handler, End) = (|_, _, _| Ok(()), |_, _| {});

/// The error of every command that needs the mount table and cannot read it, as qemu-ga words it.
fn no_mount_table(reply: &mut Reply<'_>) -> Failed {
    reply.say_only(Phrase::NoMountTable)
}

/// Why a mount could not be reached whose path leads to another file system.
const ELSEWHERE: &[u8] = b"the path leads to another file system";

/// An error of this phrase and the words for an error number.
#[inline(never)]
fn cannot(reply: &mut Reply<'_>, what: Phrase, errno: Errno) -> Failed {
    reply.say(what, &[], number(errno))
}

/// The reply of a child whose work came to this: nothing, or an error of this phrase.
#[inline(never)]
fn outcome(reply: &mut Reply<'_>, what: Phrase, done: Result<(), Errno>) -> Result<u8, Failed> {
    match done {
        Ok(()) => Ok(0),
        Err(errno) => Err(cannot(reply, what, errno)),
    }
}

/// Appends what a base64 string of the request stands for; an error of these words if there is no
/// room for it.
#[inline(never)]
fn decode(
    text: Str<'_>,
    out: &mut dyn Store,
    what: Phrase,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    text.base64(out).map_err(|fault| match fault {
        Fault::Invalid => reply.say_only(Phrase::NotBase64),
        Fault::Full => cannot(reply, what, Errno::NOMEM),
    })
}

/// The user that a command is about.
#[inline(never)]
fn user_name(args: &Args<'_>, room: &mut Buffer) -> &'static [u8] {
    if let Some(name) = args.string(const { place(USER, "username") }) {
        let _ = name.decode(room);
    }
    room.take()
}

/// Writes where a disk is attached.
fn put_address(value: Value<'_, '_>, disk: &Disk) {
    let mut address = value.object();
    let mut pci = address.object(Name::PciController);
    // -1 each for a disk that is not on PCI.
    pci.numbers_as(Name::PciPlace, "", true, disk.place.pci());
    pci.end();
    let bus_type = disk.bus_type.unwrap_or("unknown");
    address.text(Name::BusType, bus_type.as_bytes());
    address.numbers(Name::BusPlace, &disk.numbers);
    if let Some(serial) = disk.serial.text() {
        address.text(Name::Serial, serial);
    }
    if !disk.node.is_empty() {
        address.text(Name::Dev, &disk.node);
    }
    if let Some(numbers) = disk.place.ccw() {
        let mut ccw = address.object(Name::CcwAddress);
        ccw.numbers(Name::CcwPlace, numbers);
        ccw.end();
    }
    address.end();
}

/// What became of the child of a slow command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It replied with a value and gave this number.
    Replied(u8),
    /// It replied with an error.
    Refused,
    /// It was never made, was killed, or is out of reach: there is no telling how far it came.
    Lost,
}

/// What the agent has run in a child: a slow command that a client asked for, or one of its own.
#[derive(Clone, Copy)]
pub struct Own {
    /// What runs; without arguments if it is the agent's own.
    pub slow: Slow,
    /// Whether it waits for its turn alone.
    pub exclusive: bool,
    /// Whether its child shares the agent's descriptors.
    pub shares_files: bool,
}

/// The exit status of a child that replied with an error; below are the numbers of success, above
/// are children that came to another end.
pub const REPLIED_ERROR: u8 = 16;

/// The exit status of a child that cannot hand over its reply, or was to end before it had one.
pub const LOST: u8 = 254;

// What is special about a command: bits of its packed tag.
/// It is allowed while frozen, be it blocked or not. Nothing that could write is.
const WHILE_FROZEN: u8 = 1;
/// Its success is silent.
pub const SILENT: u8 = 2;
/// Its successful reply begins with the delimiter.
pub const DELIMITED: u8 = 4;
/// It looks at no file of the guest, so the root directory need not be there.
pub const WITHOUT_FILES: u8 = 8;
/// It waits until no other such command runs: those that freeze, thaw and shut down.
pub const EXCLUSIVE: u8 = 16;
/// Its child shares the agent's descriptors: what it opens and closes is opened and closed in the agent.
pub const SHARES_FILES: u8 = 32;
/// It runs in a child.
const SLOW: u8 = 64;
/// The agent itself has no part in it.
const ALONE: u8 = 128;

use Group::{Accounts, Exec, Files, Freeze, Hardware, Info, Lifecycle, Protocol};

/// What a command is for, so that policies need not name them one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// Keeps host and agent in step.
    Protocol,
    /// Tells something about the guest, nothing of its files and programs, and changes nothing.
    Info,
    /// Takes the guest down or has it sleep.
    Lifecycle,
    /// Freezes, thaws and trims file systems.
    Freeze,
    /// Sets the clock and adds or takes away processors and memory.
    Hardware,
    /// Reads and writes files.
    Files,
    /// Runs programs, and tells what they wrote.
    Exec,
    /// Passwords and keys of users.
    Accounts,
}

/// A command as it is written down.
#[derive(Clone, Copy)]
struct Row {
    /// Its name.
    name: &'static str,
    /// Its parameters, in the order of the schema.
    params: &'static [Param],
    /// How it runs.
    run: Run,
    /// What is special about it.
    flags: u8,
    /// What it is for.
    group: Group,
}

/// A command.
#[derive(Clone, Copy)]
pub struct Command {
    item: Item,
}

impl Command {
    /// Its name without [`PREFIX`].
    pub fn name(&self) -> &'static [u8] {
        self.item.name()
    }

    /// Whether this is special about it.
    pub fn is(&self, flag: u8) -> bool {
        self.item.tag() & flag != 0
    }

    /// Its parameters, in the order of the schema.
    pub fn params(&self) -> Params {
        Params(self.item.body().get(1..).unwrap_or_default())
    }

    /// How it runs.
    #[inline(never)]
    pub fn run(&self) -> Run {
        let place = usize::from(self.item.body()[0]);
        if self.is(SLOW) {
            let (begin, end) = PARTS.get(place).copied().unwrap_or(NO_PART);
            let work = WORKS[place];
            Run::Slow(Slow { begin, work, end })
        } else {
            Run::Now(QUICK_ONES[place])
        }
    }
}

/// What all names begin with.
pub const PREFIX: &[u8] = b"guest-";

/// Every command, in the order of QEMU's schema.
pub fn all() -> impl Iterator<Item = Command> {
    Params(&PACKED).map(|item| Command { item })
}

impl Row {
    const fn now(
        group: Group,
        name: &'static str,
        params: &'static [Param],
        handler: Handler,
    ) -> Self {
        Self {
            name,
            params,
            run: Run::Now(handler),
            flags: 0,
            group,
        }
    }

    const fn slow(group: Group, name: &'static str, params: &'static [Param], slow: Slow) -> Self {
        Self {
            name,
            params,
            run: Run::Slow(slow),
            flags: SLOW,
            group,
        }
    }

    const fn alone(group: Group, name: &'static str, params: &'static [Param], work: Work) -> Self {
        Self::slow(group, name, params, Slow::alone(work)).with(ALONE)
    }

    const fn while_frozen(self) -> Self {
        self.with(WHILE_FROZEN)
    }

    const fn silent(self) -> Self {
        self.with(SILENT)
    }

    const fn without_files(self) -> Self {
        self.with(WITHOUT_FILES)
    }

    const fn delimited(self) -> Self {
        self.with(DELIMITED)
    }

    const fn shares_files(self) -> Self {
        self.with(SHARES_FILES)
    }

    const fn exclusive(self) -> Self {
        self.with(EXCLUSIVE)
    }

    const fn with(self, flag: u8) -> Self {
        Self {
            flags: self.flags | flag,
            ..self
        }
    }
}

const NONE: &[Param] = &[];

/// The rows, in the order of QEMU's schema.
const ROWS: [Row; 43] = [
    Row::now(Protocol, "guest-sync-delimited", ID, sync::sync)
        .while_frozen()
        .without_files()
        .delimited(),
    Row::now(Protocol, "guest-sync", ID, sync::sync)
        .while_frozen()
        .without_files(),
    Row::now(Protocol, "guest-ping", NONE, sync::ping)
        .while_frozen()
        .without_files(),
    Row::now(Info, "guest-get-time", NONE, clock::get_time).without_files(),
    Row::slow(Hardware, "guest-set-time", TIME, clock::SET_TIME),
    Row::now(Protocol, "guest-info", NONE, info::info)
        .while_frozen()
        .without_files(),
    Row::slow(Lifecycle, "guest-shutdown", SHUTDOWN, shutdown::SHUTDOWN)
        .silent()
        .exclusive()
        .shares_files(),
    Row::slow(Files, "guest-file-open", FILE_OPEN, file::OPEN).shares_files(),
    Row::slow(Files, "guest-file-close", HANDLE, file::CLOSE)
        .without_files()
        .shares_files(),
    Row::now(Files, "guest-file-read", FILE_READ, file::read).without_files(),
    Row::slow(Files, "guest-file-write", FILE_WRITE, file::WRITE).without_files(),
    Row::slow(Files, "guest-file-seek", FILE_SEEK, file::SEEK).without_files(),
    Row::now(Files, "guest-file-flush", HANDLE, file::flush).without_files(),
    Row::now(Info, "guest-fsfreeze-status", NONE, freeze::status)
        .while_frozen()
        .without_files(),
    Row::slow(Freeze, "guest-fsfreeze-freeze", NONE, freeze::FREEZE).exclusive(),
    Row::slow(
        Freeze,
        "guest-fsfreeze-freeze-list",
        MOUNT_POINTS,
        freeze::FREEZE,
    )
    .exclusive(),
    Row::slow(Freeze, "guest-fsfreeze-thaw", NONE, freeze::THAW)
        .while_frozen()
        .exclusive(),
    Row::alone(Freeze, "guest-fstrim", MINIMUM, fstrim::FSTRIM),
    Row::alone(Lifecycle, "guest-suspend-disk", NONE, suspend::DISK)
        .silent()
        .exclusive(),
    Row::alone(Lifecycle, "guest-suspend-ram", NONE, suspend::RAM)
        .silent()
        .exclusive(),
    Row::alone(Lifecycle, "guest-suspend-hybrid", NONE, suspend::HYBRID)
        .silent()
        .exclusive(),
    Row::now(
        Info,
        "guest-network-get-interfaces",
        NONE,
        network::get_interfaces,
    ),
    Row::now(Info, "guest-get-vcpus", NONE, hotplug::get_vcpus),
    Row::alone(Hardware, "guest-set-vcpus", SET_VCPUS, hotplug::SET_VCPUS),
    Row::alone(Info, "guest-get-disks", NONE, disks::GET_DISKS),
    Row::alone(Info, "guest-get-fsinfo", NONE, fsinfo::GET_FSINFO),
    Row::alone(
        Accounts,
        "guest-set-user-password",
        PASSWORD,
        password::SET_USER_PASSWORD,
    ),
    Row::alone(
        Info,
        "guest-get-memory-blocks",
        NONE,
        hotplug::GET_MEMORY_BLOCKS,
    ),
    Row::alone(
        Hardware,
        "guest-set-memory-blocks",
        SET_MEMORY_BLOCKS,
        hotplug::SET_MEMORY_BLOCKS,
    ),
    Row::now(
        Info,
        "guest-get-memory-block-info",
        NONE,
        hotplug::get_memory_block_info,
    ),
    Row::now(Exec, "guest-exec-status", PID, exec::status).without_files(),
    Row::slow(Exec, "guest-exec", exec::EXEC_PARAMS, exec::EXEC),
    Row::now(Info, "guest-get-host-name", NONE, os::get_host_name),
    Row::alone(Info, "guest-get-users", NONE, users::GET_USERS),
    Row::now(Info, "guest-get-timezone", NONE, clock::get_timezone),
    Row::now(Info, "guest-get-osinfo", NONE, os::get_osinfo),
    Row::alone(Accounts, "guest-ssh-get-authorized-keys", USER, ssh::GET),
    Row::alone(
        Accounts,
        "guest-ssh-add-authorized-keys",
        ADD_KEYS,
        ssh::ADD,
    ),
    Row::alone(
        Accounts,
        "guest-ssh-remove-authorized-keys",
        REMOVE_KEYS,
        ssh::REMOVE,
    ),
    Row::now(Info, "guest-get-diskstats", NONE, stats::get_diskstats),
    Row::now(Info, "guest-get-cpustats", NONE, stats::get_cpustats),
    Row::now(Info, "guest-get-load", NONE, os::get_load),
    Row::alone(Info, "guest-network-get-route", NONE, route::GET_ROUTE),
];

/// The commands that stay allowed, one bit a place of the table, where what is allowed is not known:
/// those that change nothing, and what a host needs to take the guest down. A guest that is frozen can
/// be thawed besides, as it can under every policy.
pub const FAIL_CLOSED: u64 = {
    let (mut row, mut set) = (0, 0);
    while row < COUNT {
        let stays = match ROWS[row].group {
            Protocol | Info => true,
            Lifecycle => same(ROWS[row].name, "guest-shutdown"),
            Freeze | Hardware | Files | Exec | Accounts => false,
        };
        set |= (stays as u64) << row;
        row += 1;
    }
    set
};

/// How many there are.
pub const COUNT: usize = ROWS.len();

/// How many of them run in a child.
const SLOW_COUNT: usize = having(SLOW);

/// How many of these the agent itself has a part in.
const PART_COUNT: usize = SLOW_COUNT - having(ALONE);

/// What the commands do that run right away, and those that do not.
static QUICK_ONES: [Handler; COUNT - SLOW_COUNT] = {
    let mut ones: [Handler; COUNT - SLOW_COUNT] = [sync::ping; COUNT - SLOW_COUNT];
    let (mut row, mut count) = (0, 0);
    while row < COUNT {
        if let Run::Now(handler) = ROWS[row].run {
            ones[count] = handler;
            count += 1;
        }
        row += 1;
    }
    ones
};
/// Of the commands that run in a child, those first in which the agent has a part.
static WORKS: [Work; SLOW_COUNT] = {
    let mut ones: [Work; SLOW_COUNT] = [|_, _, _| Ok(0); SLOW_COUNT];
    let (mut row, mut count) = (0, [0, PART_COUNT]);
    while row < COUNT {
        if let Run::Slow(slow) = ROWS[row].run {
            let count = &mut count[(ROWS[row].flags & ALONE != 0) as usize];
            ones[*count] = slow.work;
            *count += 1;
        }
        row += 1;
    }
    ones
};
static PARTS: [(Handler, End); PART_COUNT] = {
    let mut ones = [NO_PART; PART_COUNT];
    let (mut row, mut count) = (0, 0);
    while row < COUNT {
        if let Run::Slow(slow) = ROWS[row].run
            && ROWS[row].flags & ALONE == 0
        {
            ones[count] = (slow.begin, slow.end);
            count += 1;
        }
        row += 1;
    }
    ones
};

/// Names, flags, which of the above, and parameters: an item a row.
const PACKER: Packer<4096> = {
    let mut packer = Packer::new();
    let (mut row, mut quick, mut parts, mut alone) = (0, 0, 0, PART_COUNT as u8);
    while row < COUNT {
        let Row {
            name,
            params,
            flags,
            ..
        } = ROWS[row];
        let (prefix, name) = name.as_bytes().split_at(PREFIX.len());
        assert!(matches!(prefix, PREFIX));
        let begun = packer.begin(flags, name);
        let count = match (flags & SLOW, flags & ALONE) {
            (0, _) => &mut quick,
            (_, 0) => &mut parts,
            _ => &mut alone,
        };
        packer.push(*count);
        *count += 1;
        packer.params(params);
        packer.end(begun);
        row += 1;
    }
    packer
};
static PACKED: [u8; PACKER.len] = {
    let mut bytes = [0; PACKER.len];
    bytes.copy_from_slice(PACKER.bytes.split_at(PACKER.len).0);
    bytes
};

const ID: &[Param] = &[must("id", Type::Int)];

const TIME: &[Param] = &[may("time", Type::Int)];

const SHUTDOWN: &[Param] = &[may("mode", Type::Str)];

const MINIMUM: &[Param] = &[may("minimum", Type::Int)];

const PID: &[Param] = &[must("pid", Type::Int)];

const USER: &[Param] = &[must("username", Type::Str)];

const PASSWORD: &[Param] = &[
    must("username", Type::Str),
    must("password", Type::Str),
    must("crypted", Type::Bool),
];

const REMOVE_KEYS: &[Param] = &[must("username", Type::Str), must("keys", Type::Strings)];

/// As [`REMOVE_KEYS`], and one more.
const ADD_KEYS: &[Param] = &[
    must("username", Type::Str),
    must("keys", Type::Strings),
    may("reset", Type::Bool),
];

const HANDLE: &[Param] = &[must("handle", Type::Int)];

const FILE_OPEN: &[Param] = &[must("path", Type::Str), may("mode", Type::Str)];

const FILE_READ: &[Param] = &[must("handle", Type::Int), may("count", Type::Int)];

const FILE_WRITE: &[Param] = &[
    must("handle", Type::Int),
    must("buf-b64", Type::Str),
    may("count", Type::Int),
];

const FILE_SEEK: &[Param] = &[
    must("handle", Type::Int),
    must("offset", Type::Int),
    must("whence", Type::Either(&file::WHENCE)),
];

const MOUNT_POINTS: &[Param] = &[may("mountpoints", Type::Strings)];

const SET_VCPUS: &[Param] = &[must("vcpus", Type::Objects(&VCPU))];

static VCPU: Members = Members(&[
    must("logical-id", Type::Int),
    must("online", Type::Bool),
    may("can-offline", Type::Bool),
]);

const SET_MEMORY_BLOCKS: &[Param] = &[must("mem-blks", Type::Objects(&MEMORY_BLOCK))];

static MEMORY_BLOCK: Members = Members(&[
    must("phys-index", Type::Uint64),
    must("online", Type::Bool),
    may("can-offline", Type::Bool),
]);

/// The command of this name, and its place in the table.
#[inline(never)]
pub fn find(name: Str<'_>) -> Option<(usize, Command)> {
    let name = name.behind(PREFIX)?;
    let mut commands = all().enumerate();
    commands.find(|(_, command)| name.is_named(command.name()))
}

/// Whether a command may run now. While frozen only the table counts: what could thaw the guest must
/// not be blocked then.
pub fn is_enabled(place: usize, command: &Command, state: &State) -> bool {
    if state.freeze.is_frozen() {
        command.is(WHILE_FROZEN)
    } else {
        state.filter.allows(place)
    }
}

/// Whether two rows have the same name.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut place = 0;
    while place < a.len() && place < b.len() && a[place] == b[place] {
        place += 1;
    }
    place == a.len() && place == b.len()
}

/// How many rows have this flag.
const fn having(flag: u8) -> usize {
    let (mut row, mut count) = (0, 0);
    while row < COUNT {
        count += (ROWS[row].flags & flag != 0) as usize;
        row += 1;
    }
    count
}

// What the rest of the agent takes for granted of the table.
const _: () = {
    let mut row = 0;
    while row < COUNT {
        assert!(ROWS[row].params.len() <= PARAMETERS);
        let mut other = row + 1;
        while other < COUNT {
            assert!(!same(ROWS[row].name, ROWS[other].name));
            other += 1;
        }
        row += 1;
    }
};
const_assert!(ROWS.len() <= crate::state::filter::MOST_COMMANDS);
// guest-sync, -sync-delimited, -ping, -info, -fsfreeze-status and -fsfreeze-thaw.
const_assert!(having(WHILE_FROZEN) == 6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_allowed_changes_nothing_and_shows_nothing_of_users() {
        let names = all()
            .enumerate()
            .filter(|(place, _)| FAIL_CLOSED & 1 << place != 0);
        let names: Vec<_> = names
            .map(|(_, row)| str::from_utf8(row.name()).unwrap())
            .collect();
        let expected = [
            "sync-delimited",
            "sync",
            "ping",
            "get-time",
            "info",
            "shutdown",
            "fsfreeze-status",
            "network-get-interfaces",
            "get-vcpus",
            "get-disks",
            "get-fsinfo",
            "get-memory-blocks",
            "get-memory-block-info",
            "get-host-name",
            "get-users",
            "get-timezone",
            "get-osinfo",
            "get-diskstats",
            "get-cpustats",
            "get-load",
            "network-get-route",
        ];
        assert_eq!(names, expected);
    }
}
