//! The table of commands: one row a command.
//!
//! A row says everything about a command but what it does: its name, its parameters, its handler,
//! its flags and its group. guest-info, filters, argument checks and refusals while frozen read the
//! rows, packed by `packed`. `tests/tidy.rs` compares README.md and the manual page with them.

use static_assertions::const_assert;

use super::command::{
    DELIMITED, DOWN, EXCLUSIVE, Handler, OWN_CHILD, Run, SHARES_FILES, SILENT, Slow, TaskClass,
    WHILE_FROZEN, WITHOUT_FILES, Work,
};
use super::common::USER;
use super::needs::{Need, Needs};
use super::{
    clock, disks, exec, file, freeze, fsinfo, fstrim, hotplug, info, network, os, password, route,
    shutdown, ssh, stats, suspend, sync, users,
};
use crate::base::limits::PARAMETERS;
use crate::parse::word_index;
use crate::wire::args::Param;

use super::needs::Need::{
    BlockDevices, CpuCounters, DiskCounters, HardwareClock, Hooks, HotPlug, KeysDirectory,
    MemoryBlocks, MountTable, Network, Processors, Routes, SleepInMemory, SleepOnBoth, SleepOnDisk,
    Superuser, Users, WritablePasswords, WritableSys,
};
use Group::{Accounts, Clock, Exec, Files, Freeze, Hardware, Info, Lifecycle, Protocol};

/// What a command is for, so that policies need not name them one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Keeps host and agent in step.
    Protocol,
    /// Tells something about the guest, nothing of its files and programs, and changes nothing.
    Info,
    /// Takes the guest down or has it sleep.
    Lifecycle,
    /// Freezes, thaws and trims file systems.
    Freeze,
    /// Sets the clock.
    Clock,
    /// Adds or takes away processors and memory.
    Hardware,
    /// Reads and writes files.
    Files,
    /// Runs programs, and tells what they wrote.
    Exec,
    /// Passwords and keys of users.
    Accounts,
}

/// A set of commands that a list of commands may name, and a build may be limited to. Each contains the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandSet {
    /// Tells about the guest.
    Info,
    /// Also takes the guest down or has it sleep, freezes, trims, and sets the clock.
    Lifecycle,
    /// All commands.
    All,
}

/// The commands that this build has, from the variable of `make build COMMANDS=`. The others are in the
/// table, and disabled; their code is not there.
pub(super) const BUILT: CommandSet = match option_env!("GAUNT_COMMANDS") {
    None => CommandSet::All,
    Some(name) => match CommandSet::named(name.as_bytes()) {
        Some(set) => set,
        None => panic!("COMMANDS is @info, @lifecycle or @all"),
    },
};

/// Whether this build opens files for hosts.
pub const HAS_FILES: bool = BUILT.has_group(Files);
/// Whether this build runs programs for hosts.
pub const HAS_PROGRAMS: bool = BUILT.has_group(Exec);
/// Whether this build freezes, and so runs hooks.
pub const HAS_FREEZE: bool = BUILT.has_group(Freeze);

impl CommandSet {
    /// The set of this name.
    const fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"@info" => Some(Self::Info),
            b"@lifecycle" => Some(Self::Lifecycle),
            b"@all" | b"" => Some(Self::All),
            _ => None,
        }
    }

    /// The commands of the set, one bit for each index of the table.
    const fn bits(self) -> u64 {
        let (mut index, mut bits) = (0, 0);
        while index < COUNT {
            bits |= (self.has_group(ROWS[index].group) as u64) << index;
            index += 1;
        }
        bits
    }

    /// Whether the set contains the commands of a group.
    pub(super) const fn has_group(self, group: Group) -> bool {
        match (self, group) {
            (Self::All, _) | (_, Protocol | Info) => true,
            (Self::Lifecycle, Lifecycle | Freeze | Clock) => true,
            (_, Lifecycle | Freeze | Clock | Hardware | Files | Exec | Accounts) => false,
        }
    }
}

/// The commands of the set that a list calls by this name, such as `@info`: one bit for each index of
/// the table.
pub fn set_named(name: &[u8]) -> Option<u64> {
    const SETS: [u64; 3] = [
        CommandSet::Info.bits(),
        CommandSet::Lifecycle.bits(),
        CommandSet::All.bits(),
    ];
    word_index(b"@info @lifecycle @all", name).map(|index| SETS[index])
}

/// A command as it is written down.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// Its parameters, in the order of the schema.
    pub(super) params: &'static [Param],
    /// How it runs.
    pub(super) run: Run,
    /// What is special about it.
    pub(super) flags: u8,
    /// What it is for.
    group: Group,
    /// What it needs of the guest.
    needs: Needs,
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
            needs: Needs::NONE,
        }
    }

    const fn slow(group: Group, name: &'static str, params: &'static [Param], slow: Slow) -> Self {
        Self {
            run: Run::Slow(slow),
            ..Self::now(group, name, params, sync::ping)
        }
    }

    const fn alone(group: Group, name: &'static str, params: &'static [Param], work: Work) -> Self {
        Self {
            run: Run::Alone(work),
            ..Self::now(group, name, params, sync::ping)
        }
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

    const fn exclusive(self) -> Self {
        self.with(EXCLUSIVE)
    }

    const fn shares_files(self) -> Self {
        self.with(SHARES_FILES)
    }

    const fn own_child(self) -> Self {
        self.with(OWN_CHILD)
    }

    /// The class of its task.
    pub(super) const fn class(&self) -> TaskClass {
        match self.group {
            Files => TaskClass::Files,
            Exec => TaskClass::Programs,
            Accounts => TaskClass::Users,
            Freeze | Lifecycle if self.flags & EXCLUSIVE != 0 => TaskClass::Vital,
            _ => TaskClass::Guest,
        }
    }

    const fn needs(self, needs: &[Need]) -> Self {
        Self {
            needs: Needs::of(needs),
            ..self
        }
    }

    /// Whether this build has the command.
    pub(super) const fn is_built(&self) -> bool {
        BUILT.has_group(self.group)
    }

    const fn with(self, flag: u8) -> Self {
        Self {
            flags: self.flags | flag,
            ..self
        }
    }
}

const NONE: &[Param] = &[];

/// The rows: commands, in the order of QEMU's schema, and the agent's own work.
pub(super) const ROWS: &[Row] = &[
    Row::now(Protocol, "guest-sync-delimited", sync::ID, sync::sync)
        .while_frozen()
        .without_files()
        .delimited(),
    Row::now(Protocol, "guest-sync", sync::ID, sync::sync)
        .while_frozen()
        .without_files(),
    Row::now(Protocol, "guest-ping", NONE, sync::ping)
        .while_frozen()
        .without_files(),
    Row::now(Info, "guest-get-time", NONE, clock::get_time).without_files(),
    Row::slow(Clock, "guest-set-time", clock::TIME, clock::SET_TIME)
        .needs(&[Superuser, HardwareClock]),
    Row::now(Protocol, "guest-info", NONE, info::info)
        .while_frozen()
        .without_files(),
    Row::slow(
        Lifecycle,
        "guest-shutdown",
        shutdown::MODE,
        shutdown::SHUTDOWN,
    )
    .silent()
    .exclusive()
    .own_child()
    .shares_files()
    .with(DOWN)
    .needs(&[Superuser]),
    Row::slow(Files, "guest-file-open", file::FILE_OPEN, file::OPEN).shares_files(),
    Row::slow(Files, "guest-file-close", file::HANDLE, file::CLOSE)
        .without_files()
        .shares_files(),
    Row {
        run: Run::Stream(file::read),
        ..Row::now(Files, "guest-file-read", file::FILE_READ, sync::ping)
    }
    .without_files(),
    Row::slow(Files, "guest-file-write", file::FILE_WRITE, file::WRITE)
        .without_files()
        .shares_files(),
    Row::slow(Files, "guest-file-seek", file::FILE_SEEK, file::SEEK)
        .without_files()
        .shares_files(),
    Row::now(Files, "guest-file-flush", file::HANDLE, file::flush).without_files(),
    Row::now(Info, "guest-fsfreeze-status", NONE, freeze::status)
        .while_frozen()
        .without_files(),
    Row::slow(Freeze, "guest-fsfreeze-freeze", NONE, freeze::FREEZE)
        .exclusive()
        .own_child()
        .needs(&[Superuser, MountTable, Hooks]),
    Row::slow(
        Freeze,
        "guest-fsfreeze-freeze-list",
        freeze::MOUNT_POINTS,
        freeze::FREEZE,
    )
    .exclusive()
    .own_child()
    .needs(&[Superuser, MountTable, Hooks]),
    Row::slow(Freeze, "guest-fsfreeze-thaw", NONE, freeze::THAW)
        .while_frozen()
        .exclusive()
        .own_child()
        .needs(&[Superuser, MountTable]),
    Row::alone(Freeze, "guest-fstrim", fstrim::MINIMUM, fstrim::fstrim)
        .needs(&[Superuser, MountTable]),
    Row::alone(Lifecycle, "guest-suspend-disk", NONE, suspend::DISK)
        .silent()
        .exclusive()
        .own_child()
        .needs(&[Superuser, SleepOnDisk, WritableSys]),
    Row::alone(Lifecycle, "guest-suspend-ram", NONE, suspend::RAM)
        .silent()
        .exclusive()
        .own_child()
        .needs(&[Superuser, SleepInMemory, WritableSys]),
    Row::alone(Lifecycle, "guest-suspend-hybrid", NONE, suspend::HYBRID)
        .silent()
        .exclusive()
        .own_child()
        .needs(&[Superuser, SleepOnBoth, WritableSys]),
    Row::alone(
        Info,
        "guest-network-get-interfaces",
        NONE,
        network::get_interfaces,
    )
    .needs(&[Network]),
    Row::now(Info, "guest-get-vcpus", NONE, hotplug::get_vcpus).needs(&[Processors]),
    Row::alone(
        Hardware,
        "guest-set-vcpus",
        hotplug::VCPUS,
        hotplug::SET_VCPUS,
    )
    .needs(&[Superuser, HotPlug, WritableSys]),
    Row::alone(Info, "guest-get-disks", NONE, disks::get_disks).needs(&[BlockDevices]),
    Row::alone(Info, "guest-get-fsinfo", NONE, fsinfo::get_fsinfo).needs(&[MountTable]),
    Row::alone(
        Accounts,
        "guest-set-user-password",
        password::PASSWORD,
        password::set_user_password,
    )
    .own_child()
    .needs(&[Superuser, Users, WritablePasswords]),
    Row::alone(
        Info,
        "guest-get-memory-blocks",
        NONE,
        hotplug::GET_MEMORY_BLOCKS,
    )
    .needs(&[MemoryBlocks]),
    Row::alone(
        Hardware,
        "guest-set-memory-blocks",
        hotplug::BLOCKS,
        hotplug::SET_MEMORY_BLOCKS,
    )
    .needs(&[Superuser, MemoryBlocks, WritableSys]),
    Row::now(
        Info,
        "guest-get-memory-block-info",
        NONE,
        hotplug::get_memory_block_info,
    )
    .needs(&[MemoryBlocks]),
    Row::now(Exec, "guest-exec-status", exec::PID, exec::status).without_files(),
    Row::slow(Exec, "guest-exec", exec::EXEC_PARAMS, exec::EXEC).own_child(),
    Row::now(Info, "guest-get-host-name", NONE, os::get_host_name),
    Row::alone(Info, "guest-get-users", NONE, users::GET_USERS),
    Row::alone(Info, "guest-get-timezone", NONE, clock::get_timezone),
    Row::alone(Info, "guest-get-osinfo", NONE, os::get_osinfo),
    Row::alone(Accounts, "guest-ssh-get-authorized-keys", USER, ssh::GET)
        .own_child()
        .needs(&[Users]),
    Row::alone(
        Accounts,
        "guest-ssh-add-authorized-keys",
        ssh::ADD_KEYS,
        ssh::ADD,
    )
    .own_child()
    .needs(&[Superuser, Users, KeysDirectory]),
    Row::alone(
        Accounts,
        "guest-ssh-remove-authorized-keys",
        ssh::REMOVE_KEYS,
        ssh::REMOVE,
    )
    .own_child()
    .needs(&[Superuser, Users, KeysDirectory]),
    Row::now(Info, "guest-get-diskstats", NONE, stats::get_diskstats).needs(&[DiskCounters]),
    Row::now(Info, "guest-get-cpustats", NONE, stats::get_cpustats).needs(&[CpuCounters]),
    Row::now(Info, "guest-get-load", NONE, os::get_load),
    Row::alone(Info, "guest-network-get-route", NONE, route::GET_ROUTE).needs(&[Routes]),
    // Work of the agent's own, in the order of the constants below.
    Row::slow(Files, PREFIX, NONE, file::FETCH).shares_files(),
    Row::slow(Freeze, PREFIX, NONE, freeze::LATE_THAW)
        .exclusive()
        .own_child(),
    Row::slow(Lifecycle, PREFIX, NONE, shutdown::REBOOT)
        .exclusive()
        .own_child()
        .shares_files(),
    Row::slow(Lifecycle, PREFIX, NONE, shutdown::BY_FORCE)
        .exclusive()
        .own_child()
        .shares_files(),
];

/// What each command needs.
static NEEDS: [Needs; COUNT] = {
    let mut all = [Needs::NONE; COUNT];
    let mut index = 0;
    while index < COUNT {
        all[index] = ROWS[index].needs;
        index += 1;
    }
    all
};

/// What the command at this index needs of the guest.
pub fn needs(index: usize) -> Needs {
    NEEDS.get(index).copied().unwrap_or(Needs::NONE)
}

/// The commands that stay allowed, one bit for each index of the table, where what is allowed is
/// not known: those that change nothing, and what a host needs to take the guest down. A guest that
/// is frozen can be thawed besides, as it can under every policy.
pub const FAIL_CLOSED: u64 = {
    let (mut index, mut set) = (0, 0);
    while index < COUNT {
        let stays = match ROWS[index].group {
            Protocol | Info => true,
            Lifecycle => same(ROWS[index].name, "guest-shutdown"),
            Freeze | Clock | Hardware | Files | Exec | Accounts => false,
        };
        set |= (stays as u64) << index;
        index += 1;
    }
    set
};

/// How many rows are work of the agent's own, which has no name and comes last.
const OWN_COUNT: usize = 4;
/// How many are commands.
pub(super) const COUNT: usize = ROWS.len() - OWN_COUNT;

/// The index of the row of the agent's own work that reads a file for a client.
pub const FETCH: u8 = COUNT as u8;
/// The agent's own thaw, when nobody came in time.
pub const LATE_THAW: u8 = FETCH + 1;
/// Reboots the guest because Ctrl-Alt-Del was pressed and the agent is PID 1.
pub const REBOOT: u8 = FETCH + 2;
/// Takes the guest down past its init, which was told and did nothing.
pub const BY_FORCE: u8 = FETCH + 3;

/// What the name of every command begins with, and all that the agent's own work has for one.
const PREFIX: &str = "guest-";

/// Whether two rows have the same name.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

// What the rest of the agent takes for granted of the table.
const _: () = {
    let (mut index, mut while_frozen) = (0, 0);
    while index < COUNT {
        while_frozen += (ROWS[index].flags & WHILE_FROZEN != 0) as usize;
        assert!(ROWS[index].params.len() <= PARAMETERS);
        let mut other = index + 1;
        while other < COUNT {
            assert!(!same(ROWS[index].name, ROWS[other].name));
            other += 1;
        }
        index += 1;
    }
    // guest-sync, -sync-delimited, -ping, -info, -fsfreeze-status and -fsfreeze-thaw.
    assert!(while_frozen == 6);
};
const_assert!(COUNT <= crate::state::filter::MOST_COMMANDS);
