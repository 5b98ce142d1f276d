//! What a command needs of its guest, beside the agent itself. `--check` reports what is missing.
//!
//! A need is met or not at one moment: looking changes nothing and never waits.

use crate::base::text;
use crate::parse::accounts::{self, Account, IN_SHADOW};
use crate::parse::keys_path::is_below_home;
use crate::parse::{file_name, parent_of};
use crate::probe::hotplug::CPUS;
use crate::probe::rtc;
use crate::probe::sleep::{SleepMode, supports};
use crate::state::etc_file::EtcFile;
use crate::sys::Errno;
use crate::sys::file::Links;
use crate::sys::identity;
use crate::sys::netlink::Route;
use crate::sys::root::Root;
use crate::sys::status::Status;

/// Makes the enum and the list of its values from one table.
macro_rules! needs {
    ($($(#[$text:meta])+ $name:ident,)+) => {
        /// Something that a command needs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Need {
            $($(#[$text])+ $name,)+
        }

        use Need::*;

        /// All needs, in the order of their numbers.
        const ALL: &[Need] = &[$($name,)+];
    };
}

needs! {
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
    /// Files of the kernel that can be written.
    WritableSys,
    /// A user in the list of users.
    Users,
    /// A file of passwords that can be rewritten.
    WritablePasswords,
    /// A directory for ssh keys that can be written, unless it depends on the user.
    KeysDirectory,
    /// The table of routes.
    Routes,
    /// The counters of disks.
    DiskCounters,
    /// The counters of processors.
    CpuCounters,
    /// No hook that stops a freeze because it cannot be run.
    Hooks,
}

/// A set of needs: a bit for each.
#[derive(Clone, Copy)]
pub struct Needs(u32);

impl Needs {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn of(needs: &[Need]) -> Self {
        let (mut set, mut index) = (0, 0);
        while index < needs.len() {
            set |= 1 << needs[index] as u32;
            index += 1;
        }
        Self(set)
    }

    /// Whether this need is one of these.
    pub fn has(self, need: Need) -> bool {
        self.0 & 1 << need as u32 != 0
    }

    /// The first of these needs that is not met.
    pub fn first_missing(self, facts: &Facts<'_>) -> Option<Need> {
        let mut needs = ALL.iter().copied();
        needs.find(|need| self.has(*need) && !need.is_met(facts))
    }
}

/// What decides whether needs are met.
pub struct Facts<'a> {
    /// The guest.
    pub root: &'a Root,
    /// The pattern for the path of ssh keys, if an option gives one.
    pub keys: Option<&'a [u8]>,
    /// Whether all hooks can be run that could stop a freeze.
    pub hooks_run: bool,
}

impl Need {
    fn is_met(self, facts: &Facts<'_>) -> bool {
        let root = facts.root;
        let path: &[u8] = match self {
            Superuser => return identity::is_root(),
            HardwareClock => return rtc::read_ns(root).is_ok(),
            HotPlug => return can_stop_a_processor(root),
            Network => return Route::open().is_ok(),
            SleepInMemory => return supports(root, SleepMode::Ram),
            SleepOnDisk => return supports(root, SleepMode::Disk),
            SleepOnBoth => return supports(root, SleepMode::Hybrid),
            WritableSys => return root.is_writable(&[b"sys"]),
            Hooks => return facts.hooks_run,
            Users => return has_user(root, |_| true),
            WritablePasswords => return can_set_passwords(root).is_ok(),
            KeysDirectory => return facts.keys.is_none_or(|keys| can_keep(root, keys).is_ok()),
            MountTable => b"proc/self/mountinfo",
            Processors => b"sys/devices/system/cpu",
            MemoryBlocks => b"sys/devices/system/memory",
            BlockDevices => b"sys/class/block",
            Routes => b"proc/net/route",
            DiskCounters => b"proc/diskstats",
            CpuCounters => b"proc/stat",
        };
        root.has_at(&[path]) == Ok(true)
    }
}

/// Whether the file of this pattern for ssh keys can be made or replaced. Assumed if its directory
/// depends on the user.
fn can_keep(root: &Root, keys: &[u8]) -> Result<(), Errno> {
    let path = parent_of(keys);
    if is_below_home(keys) || path.contains(&b'%') {
        return Ok(());
    }
    let directory = root.enter(path, Links::Follow)?;
    // One that depends on the user is most likely missing.
    let name = file_name(keys);
    if let Ok(status) = Status::of_name(&directory, &[name])
        && status.is_special()
    {
        return Err(Errno::OPNOTSUPP);
    }
    directory.may_replace(root, name)
}

/// Whether this holds for a user whom a command could find.
fn has_user(root: &Root, holds: fn(&Account<'_>) -> bool) -> bool {
    let mut has = false;
    let _ = root.lines_at(&[b"etc/passwd"], &mut |line| {
        let name = text::cut(&mut { line }, b':');
        has = accounts::user(line, name).is_some_and(|user| holds(&user));
        !has
    });
    has
}

/// Whether the files of accounts can be locked, and that with the passwords of most users rewritten.
fn can_set_passwords(root: &Root) -> Result<(), Errno> {
    let etc = root.enter(b"etc", Links::Follow)?;
    match etc.may_write(&[b"."]) {
        // Nobody locks anything there.
        Err(Errno::ROFS) => {}
        may_lock => may_lock?,
    }
    let in_shadow = has_user(root, |user| user.password == IN_SHADOW);
    let name = match in_shadow && etc.has_at(&[b"shadow"]) != Ok(false) {
        true => c"shadow",
        false => c"passwd",
    };
    EtcFile::find(root, etc, name)?.may_rewrite(root)
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

    fn facts(tree: &Tree) -> Facts<'_> {
        Facts {
            root: &tree.root,
            keys: None,
            hooks_run: false,
        }
    }

    fn missing_in(tree: &Tree, needs: Needs) -> Option<Need> {
        needs.first_missing(&facts(tree))
    }

    #[test]
    fn each_need_has_its_bit() {
        for (number, need) in ALL.iter().enumerate() {
            assert_eq!(*need as usize, number);
        }
    }

    #[test]
    fn first_missing_need_is_reported() {
        let tree = Tree::new();
        let needs = Needs::of(&[Users, WritablePasswords, HotPlug]);
        assert_eq!(missing_in(&tree, needs), Some(HotPlug));
        tree.directory("sys/devices/system/cpu/cpu0");
        assert_eq!(missing_in(&tree, needs), Some(HotPlug));
        tree.file("sys/devices/system/cpu/cpu1/online", "1\n");
        assert_eq!(missing_in(&tree, needs), Some(Users));
        for without_user in [
            "",
            "+::::::\n",
            "root:x:0\n",
            ":x:0:0::/:\n",
            "a:x:b:0::/:\n",
        ] {
            tree.file("etc/passwd", without_user);
            assert_eq!(missing_in(&tree, needs), Some(Users));
        }
        tree.file("etc/passwd", "+::::::\nroot:x:0:0::/root:\n");
        assert_eq!(missing_in(&tree, needs), None);
        assert_eq!(missing_in(&tree, Needs::NONE), None);
    }

    #[test]
    fn passwords_need_a_file_that_can_be_rewritten() {
        let tree = Tree::new();
        let missing = || {
            let needs = Needs::of(&[WritablePasswords]);
            missing_in(&tree, needs).is_some()
        };
        assert!(missing());
        tree.directory("etc");
        assert!(missing());
        // Without shadow passwords are in passwd.
        tree.file("etc/passwd", "root:x:0:0::/root:\n");
        assert!(!missing());
        tree.file("etc/real", "");
        tree.directory("etc/directory");
        for (link, is_missing) in [
            ("real", false),
            ("nothing", true),
            ("/none/shadow", true),
            ("shadow", true),
            ("directory", true),
        ] {
            let link = tree.link("etc/shadow", link);
            assert_eq!(missing(), is_missing, "{}", link.display());
            std::fs::remove_file(link).unwrap();
        }
        // A link to /dev/null must not have the device replaced.
        tree.fifo(c"etc/shadow");
        assert!(missing());
        // No password is in shadow.
        tree.file("etc/passwd", "root:*:0:0::/root:\n");
        assert!(!missing());
    }

    #[test]
    fn keys_need_a_directory_that_can_be_written() {
        let tree = Tree::new();
        let missing = |keys: &str| {
            let needs = Needs::of(&[KeysDirectory]);
            needs.first_missing(&Facts {
                keys: Some(keys.as_bytes()),
                ..facts(&tree)
            })
        };
        for keys in ["/etc/dropbear/keys", "/etc/keys/%u"] {
            assert_eq!(missing(keys), Some(KeysDirectory), "{keys}");
        }
        for keys in ["%h/none/keys", "none/none/keys", "/none/none/%u/keys"] {
            assert_eq!(missing(keys), None, "{keys}");
        }
        tree.directory("etc/keys");
        for keys in ["/etc/keys/%u", "/keys"] {
            assert_eq!(missing(keys), None, "{keys}");
        }
        assert_eq!(missing("/etc/keys"), Some(KeysDirectory));
        assert_eq!(missing("/etc/dropbear/keys"), Some(KeysDirectory));
        tree.directory("etc/keys/directory");
        tree.link("etc/keys/link", "none");
        tree.fifo(c"etc/keys/fifo");
        for (keys, is_missing) in [
            ("/etc/keys/file", false),
            ("/etc/keys/directory", true),
            ("/etc/keys/link", true),
            ("/etc/keys/fifo", true),
        ] {
            assert_eq!(missing(keys).is_some(), is_missing, "{keys}");
        }
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
            (WritableSys, "sys/x"),
        ] {
            let _ = std::fs::remove_dir_all(tree.path.join("sys"));
            let needs = Needs::of(&[need]);
            assert_eq!(missing_in(&tree, needs), Some(need));
            tree.file(path, "1000\n");
            assert_eq!(missing_in(&tree, needs), None);
        }
        let sleep = [SleepInMemory, SleepOnDisk, SleepOnBoth];
        for need in sleep {
            assert_eq!(missing_in(&tree, Needs::of(&sleep)), Some(SleepInMemory));
            assert_eq!(missing_in(&tree, Needs::of(&[need])), Some(need));
        }
    }
}
