//! What a command needs of its guest, beside the agent itself. `--check` reports what is missing.
//!
//! A need is met or not at one moment: looking changes nothing and never waits.

use crate::probe::hotplug::CPUS;
use crate::probe::rtc;
use crate::probe::sleep::{SleepMode, supports};
use crate::sys::identity;
use crate::sys::netlink::Route;
use crate::sys::root::Root;

/// Something that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The agent runs as root.
    Superuser,
    /// A hardware clock.
    HardwareClock,
    /// The mount table.
    MountTable,
    /// The directory of processors.
    Processors,
    /// A processor that can be stopped.
    HotPlug,
    /// The directory of memory blocks.
    MemoryBlocks,
    /// The directory of block devices.
    BlockDevices,
    /// Netlink sockets.
    Network,
    /// Sleep in memory.
    SleepInMemory,
    /// Sleep on disk.
    SleepOnDisk,
    /// Sleep in memory and on disk.
    SleepOnBoth,
    /// The list of users.
    Users,
    /// A directory of the lists of users that can be written.
    WritableUsers,
    /// The table of routes.
    Routes,
    /// The counters of disks.
    DiskCounters,
    /// The counters of processors.
    CpuCounters,
}

use Need::*;

/// All needs, in the order of their numbers.
const ALL: [Need; 16] = [
    Superuser,
    HardwareClock,
    MountTable,
    Processors,
    HotPlug,
    MemoryBlocks,
    BlockDevices,
    Network,
    SleepInMemory,
    SleepOnDisk,
    SleepOnBoth,
    Users,
    WritableUsers,
    Routes,
    DiskCounters,
    CpuCounters,
];

/// A set of needs: a bit for each.
#[derive(Clone, Copy)]
pub struct Needs(u16);

impl Needs {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn of(needs: &[Need]) -> Self {
        let (mut set, mut index) = (0, 0);
        while index < needs.len() {
            set |= 1 << needs[index] as u16;
            index += 1;
        }
        Self(set)
    }

    /// The first of these needs that this guest does not meet.
    pub fn first_missing(self, root: &Root) -> Option<Need> {
        let mut needs = ALL.into_iter();
        needs.find(|need| self.0 & 1 << *need as u16 != 0 && !need.is_met(root))
    }
}

impl Need {
    fn is_met(self, root: &Root) -> bool {
        let path: &[u8] = match self {
            Superuser => return identity::is_root(),
            HardwareClock => return rtc::read_ns(root).is_ok(),
            HotPlug => return can_stop_a_processor(root),
            Network => return Route::open().is_ok(),
            SleepInMemory => return supports(root, SleepMode::Ram),
            SleepOnDisk => return supports(root, SleepMode::Disk),
            SleepOnBoth => return supports(root, SleepMode::Hybrid),
            WritableUsers => return root.is_writable(c"etc"),
            MountTable => b"proc/self/mountinfo",
            Processors => b"sys/devices/system/cpu",
            MemoryBlocks => b"sys/devices/system/memory",
            BlockDevices => b"sys/class/block",
            Users => b"etc/passwd",
            Routes => b"proc/net/route",
            DiskCounters => b"proc/diskstats",
            CpuCounters => b"proc/stat",
        };
        root.has_at(&[path]) == Ok(true)
    }
}

fn can_stop_a_processor(root: &Root) -> bool {
    let mut can = false;
    let listed = CPUS.open(root).and_then(|kept| {
        let cpus = CPUS.parts(&kept);
        cpus.each_number(&mut |cpu| {
            can = cpus.has_file(cpu) == Ok(true);
            !can
        })
    });
    listed.is_ok() && can
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn each_need_has_its_bit() {
        for (number, need) in ALL.into_iter().enumerate() {
            assert_eq!(need as usize, number);
        }
    }

    #[test]
    fn first_missing_need_is_reported() {
        let tree = Tree::new();
        let needs = Needs::of(&[Users, WritableUsers, HotPlug]);
        assert_eq!(needs.first_missing(&tree.root), Some(HotPlug));
        tree.directory("sys/devices/system/cpu/cpu0");
        assert_eq!(needs.first_missing(&tree.root), Some(HotPlug));
        tree.file("sys/devices/system/cpu/cpu1/online", "1\n");
        assert_eq!(needs.first_missing(&tree.root), Some(Users));
        tree.file("etc/passwd", "");
        assert_eq!(needs.first_missing(&tree.root), None);
        assert_eq!(Needs::NONE.first_missing(&tree.root), None);
    }

    #[test]
    fn needs_without_a_file_are_looked_for_in_the_guest() {
        let tree = Tree::new();
        for (need, path) in [
            (MountTable, "proc/self/mountinfo"),
            (Processors, "sys/devices/system/cpu/x"),
            (MemoryBlocks, "sys/devices/system/memory/x"),
            (BlockDevices, "sys/class/block/x"),
            (Routes, "proc/net/route"),
            (DiskCounters, "proc/diskstats"),
            (CpuCounters, "proc/stat"),
            (HardwareClock, "sys/class/rtc/rtc0/since_epoch"),
        ] {
            let needs = Needs::of(&[need]);
            assert_eq!(needs.first_missing(&tree.root), Some(need));
            tree.file(path, "1000\n");
            assert_eq!(needs.first_missing(&tree.root), None);
        }
        let sleep = [SleepInMemory, SleepOnDisk, SleepOnBoth];
        for need in sleep {
            assert_eq!(
                Needs::of(&sleep).first_missing(&tree.root),
                Some(SleepInMemory)
            );
            assert_eq!(Needs::of(&[need]).first_missing(&tree.root), Some(need));
        }
    }
}
