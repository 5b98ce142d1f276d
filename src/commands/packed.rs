//! The table of commands as packed bytes, made from `table::ROWS` at compile time. A packed row is:
//! flags, name without `guest-`, kind of run and index in the list of that kind (`HANDLERS`,
//! `OPENINGS`, `WORKS`, `SLOWS`), class, parameters.

use super::command::{Command, Handler, LEFT_OUT, Opening, PREFIX, Run, Slow, TaskClass, Work};
use super::table::{COUNT, ROWS, Row};
use super::{file, freeze, fsinfo, sync};
use crate::wire::args::{PackedList, Packer};
use crate::wire::json::Str;

// How a command runs: the first byte of a packed row; the second is its index in that list.
const NOW: u8 = 0;
const STREAM: u8 = 1;
const ALONE: u8 = 2;
const SLOW: u8 = 3;

const fn kind(index: usize) -> u8 {
    match ROWS[index].run {
        _ if !ROWS[index].is_built() => LEFT_OUT,
        Run::Now(_) => NOW,
        Run::Stream(_) => STREAM,
        Run::Alone(_) => ALONE,
        Run::Slow(_) => SLOW,
    }
}

/// How many of the rows before `end` run like this.
const fn count(how: u8, end: usize) -> usize {
    let (mut index, mut count) = (0, 0);
    while index < end {
        count += (kind(index) == how) as usize;
        index += 1;
    }
    count
}

/// What the rows of one kind run, in their order.
macro_rules! list {
    ($name:ident: [$type:ty; $kind:ident], $variant:ident, $first:expr) => {
        static $name: [$type; count($kind, ROWS.len())] = {
            let mut list: [$type; count($kind, ROWS.len())] = [$first; count($kind, ROWS.len())];
            let mut index = 0;
            while index < ROWS.len() {
                if let Run::$variant(one) = ROWS[index].run
                    && kind(index) == $kind
                {
                    list[count($kind, index)] = one;
                }
                index += 1;
            }
            list
        };
    };
}

list!(HANDLERS: [Handler; NOW], Now, sync::ping);
list!(OPENINGS: [Opening; STREAM], Stream, file::read);
list!(WORKS: [Work; ALONE], Alone, fsinfo::get_fsinfo);
list!(SLOWS: [Slow; SLOW], Slow, freeze::THAW);

/// Names, flags, indices, classes and parameters: an item a row. And how many bytes the commands take.
const PACKER: (Packer<4096>, usize) = {
    let mut packer = Packer::new();
    let (mut index, mut commands_len) = (0, 0);
    while index < ROWS.len() {
        let Row {
            name,
            params,
            flags,
            ..
        } = ROWS[index];
        let Some((PREFIX, name)) = name.as_bytes().split_first_chunk() else {
            panic!("the name of a command begins with the prefix");
        };
        let begun = packer.begin(flags, name);
        packer.push(kind(index));
        packer.push(count(kind(index), index) as u8);
        packer.push(ROWS[index].class() as u8);
        packer.params(params);
        packer.end(begun);
        index += 1;
        if index == COUNT {
            commands_len = packer.len;
        }
    }
    (packer, commands_len)
};
static PACKED: [u8; PACKER.0.len] = {
    let mut bytes = [0; PACKER.0.len];
    bytes.copy_from_slice(PACKER.0.bytes.split_at(PACKER.0.len).0);
    bytes
};

/// The bytes of the table, as far as it is commands.
pub const TABLE: &[u8] = PACKED.split_at(PACKER.1).0;

/// How a command runs.
pub fn run(command: &Command) -> Run {
    let (kind, index) = command.packed_run();
    match kind {
        NOW => Run::Now(HANDLERS[index]),
        STREAM => Run::Stream(OPENINGS[index]),
        ALONE => Run::Alone(WORKS[index]),
        SLOW => Run::Slow(SLOWS[index]),
        // Such a command is disabled.
        _ => Run::Now(sync::ping),
    }
}

/// Every command, in the order of QEMU's schema.
pub fn all() -> impl Iterator<Item = Command> {
    Command::all(PackedList(TABLE))
}

/// The command of this name, and its index in the table.
#[inline(never)]
pub fn find(name: Str<'_>) -> Option<(usize, Command)> {
    let name = name.strip_prefix(PREFIX)?;
    let (index, item) = PackedList(TABLE).find(name)?;
    Some((index, Command::of(item)))
}

/// What may run in a child: a slow command of a client's, or work of the agent's own.
#[derive(Clone, Copy)]
pub struct Task {
    /// The index of its row.
    pub index: u8,
    row: Command,
}

impl Task {
    /// The task of a slow command, whose row is at this index.
    pub fn new(index: u8, row: Command) -> Self {
        Self { index, row }
    }

    /// The task whose row is at this index, if there is one.
    pub fn of(index: u8) -> Option<Self> {
        let row = Command::all(PackedList(&PACKED)).nth(index.into())?;
        Some(Self { index, row })
    }

    /// What it does.
    pub fn slow(&self) -> Slow {
        match run(&self.row) {
            Run::Slow(slow) => slow,
            Run::Alone(run) => Slow::alone(run),
            Run::Now(_) | Run::Stream(_) => Slow::alone(|_, _, _, _| Ok(0)),
        }
    }

    /// Whether this is special about it.
    pub fn is(&self, flag: u8) -> bool {
        self.row.is(flag)
    }

    /// With which others it shares a quota of children.
    pub fn class(&self) -> TaskClass {
        self.row.class()
    }

    /// The parameters of its arguments.
    pub fn params(&self) -> PackedList {
        self.row.params()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{FAIL_CLOSED, set_named};

    #[test]
    fn sets_of_lists_have_these_commands() {
        let without = |set: u64, other: u64| {
            let names = all()
                .enumerate()
                .filter(|(index, _)| set & !other & 1 << index != 0);
            let names = names.map(|(_, row)| String::from_utf8(row.name().to_vec()).unwrap());
            names.collect::<Vec<_>>()
        };
        let [info, lifecycle, every] =
            [&b"@info"[..], b"@lifecycle", b"@all"].map(|name| set_named(name).unwrap());
        // The next test names the commands that tell only.
        assert_eq!(without(FAIL_CLOSED, info), ["shutdown"]);
        assert_eq!(without(info, FAIL_CLOSED), [""; 0]);
        let expected = [
            "set-time",
            "shutdown",
            "fsfreeze-freeze",
            "fsfreeze-freeze-list",
            "fsfreeze-thaw",
            "fstrim",
            "suspend-disk",
            "suspend-ram",
            "suspend-hybrid",
        ];
        assert_eq!(without(lifecycle, info), expected);
        assert_eq!(without(info, lifecycle), [""; 0]);
        let expected = [
            "file-open",
            "file-close",
            "file-read",
            "file-write",
            "file-seek",
            "file-flush",
            "set-vcpus",
            "set-user-password",
            "set-memory-blocks",
            "exec-status",
            "exec",
            "ssh-get-authorized-keys",
            "ssh-add-authorized-keys",
            "ssh-remove-authorized-keys",
        ];
        assert_eq!(without(every, lifecycle), expected);
        assert_eq!(every, (1 << COUNT) - 1);
        for name in ["", "info", "@", "@Info", "@info "] {
            assert_eq!(set_named(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn what_stays_allowed_changes_nothing_and_shows_nothing_of_users() {
        let names = all()
            .enumerate()
            .filter(|(index, _)| FAIL_CLOSED & 1 << index != 0);
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
        assert_eq!(
            names, expected,
            "what stays allowed where the policy is not known: is the group of the new row right?"
        );
    }
}
