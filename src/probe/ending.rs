//! The processes to end, and the mounts to close, before the guest is powered off without an init.
//!
//! Facts about a process come from /proc/PID/status (proc_pid_status(5)), for which the kernel
//! needs none of the memory of the process. Most other files (cmdline, environ, maps) need it, and
//! reading them hangs if the process maps a file of a server that does not answer. Any user can
//! have such a process. So only cmdline of root's processes is read, with a time limit
//! (`probe::asking`).

use super::asking;
use crate::base::limits::{ANCESTORS, PROCESS_LIST_BYTES};
use crate::base::path::Path;
use crate::base::sink::ByteSink;
use crate::base::text::{Digits, parse_u32, value_of_key};
use crate::parse::mountinfo::{self, Mount};
use crate::parse::proc::has_signal;
use crate::parse::{word_index, words};
use crate::sys::mem::Buffer;
use crate::sys::root::Root;
use crate::sys::{Errno, process};

/// A process, as its status file describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Whether it has memory of its own. Kernel threads and zombies have none.
    pub alive: bool,
    /// Whether it ignores SIGTERM, as interactive shells do.
    pub ignores_term: bool,
    /// Whether all its user IDs are 0.
    is_root: bool,
    parent: i32,
}

impl Process {
    /// Reads the status of the process `pid`; `None` if there is no such process.
    pub fn find(root: &Root, pid: i32) -> Option<Self> {
        let mut found = Self::default();
        let each = &mut |line: &[u8]| {
            if let Some(ids) = value_of_key(line, b"Uid") {
                // Real, effective, saved and file system user ID.
                found.is_root = words(ids).filter(|id| *id == b"0").count() == 4;
            } else if let Some(parent) = value_of_key(line, b"PPid").and_then(number) {
                found.parent = parent;
            } else if value_of_key(line, b"VmSize").is_some() {
                found.alive = true;
            } else if let Some(ignores) = has_signal(line, b"SigIgn", process::TERM.unsigned_abs())
            {
                found.ignores_term = ignores;
            }
            true
        };
        // Line by line: the list of groups may be longer than any buffer.
        root.lines_at(&[file_of(pid, b"/status").as_bytes()], each)
            .ok()?;
        Some(found)
    }
}

fn file_of(pid: i32, file: &[u8]) -> Path {
    Path::of(&[b"proc/", Digits::signed(pid.into()).as_bytes(), file])
}

fn number(digits: &[u8]) -> Option<i32> {
    parse_u32(digits).and_then(|number| i32::try_from(number).ok())
}

/// A list of process IDs, in borrowed memory.
pub struct Pids(Buffer);

impl Pids {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self(Buffer::growing(PROCESS_LIST_BYTES))
    }

    /// Appends an ID, if there is memory for it.
    pub fn push(&mut self, pid: i32) {
        let _ = self.0.append(&pid.to_ne_bytes());
    }

    /// The ID at an index.
    pub fn get(&self, index: usize) -> Option<i32> {
        let (pids, _) = self.0.bytes().as_chunks();
        pids.get(index).map(|pid| i32::from_ne_bytes(*pid))
    }

    /// All IDs, in order.
    pub fn iter(&self) -> impl Iterator<Item = i32> {
        (0..).map_while(|index| self.get(index))
    }
}

/// Appends to `spared` the processes that must go on while all others end: the ancestors of this
/// process, the parent first, and root's storage daemons, which disks need. By a convention of
/// systemd the command line of a storage daemon begins with `@`. PID 1 and this process are spared
/// without being listed.
///
/// # Errors
/// The error of listing /proc.
pub fn find_spared(root: &Root, spared: &mut Pids) -> Result<(), Errno> {
    let mut pid = process::own_pid();
    for _ in 0..ANCESTORS {
        match Process::find(root, pid) {
            Some(found) if found.parent > 1 => pid = found.parent,
            _ => break,
        }
        spared.push(pid);
    }
    let mut asked = Pids::new();
    each_other(root, spared, &mut |pid| {
        if Process::find(root, pid).is_some_and(|one| one.alive && one.is_root) {
            asked.push(pid);
        }
    })?;
    let is_storage = |index| {
        let name = asked.get(index).map(|pid| file_of(pid, b"/cmdline"));
        let mut first = [0];
        name.is_some_and(|name| root.read_at(&[name.as_bytes()], &mut first) == Ok(b"@"))
    };
    asking::ask_each(asked.iter().count(), &is_storage, &mut |index, yes| {
        if yes && let Some(pid) = asked.get(index) {
            spared.push(pid);
        }
    });
    Ok(())
}

/// Calls `each` with the IDs of all processes, kernel threads included, except PID 1, this process
/// and those in `spared`. Reads no file of a process.
///
/// # Errors
/// The error of listing /proc.
pub fn each_other(root: &Root, spared: &Pids, each: &mut dyn FnMut(i32)) -> Result<(), Errno> {
    let own = process::own_pid();
    root.list_at(&[b"proc"], &mut |name, _| {
        if let Some(pid) = number(name)
            && pid > 1
            && pid != own
            && spared.iter().all(|one| one != pid)
        {
            each(pid);
        }
        true
    })
}

/// File systems on disks whose device number is not that of a disk. An overlay lies on another file
/// system.
const ON_DISKS: &[u8] = b"btrfs bcachefs zfs ubifs overlay";

/// File systems on a server. Unmounting one may wait for its server, which may be gone.
const OF_SERVERS: &[u8] = b"nfs nfs4 cifs smb3 ceph afs 9p";

/// Whether a mount has a block device. The kernel can remount only such mounts read-only by force.
pub fn is_on_device(mount: &Mount<'_>) -> bool {
    mount.major != 0
}

/// Whether a mount must be closed so that disks are clean: it has a block device, manages disks
/// itself, or is an overlay, which keeps the file system below it in use.
pub fn is_on_disk(mount: &Mount<'_>) -> bool {
    is_on_device(mount) || word_index(ON_DISKS, mount.kind).is_some()
}

/// Whether a mount may cover the mount point of one on a disk, and can be unmounted without waiting
/// for a server.
pub fn may_cover(mount: &Mount<'_>) -> bool {
    let needed = mount.mount_point == b"/" || mount.mount_point == b"/proc";
    !needed && !is_on_disk(mount) && word_index(OF_SERVERS, mount.kind).is_none()
}

/// Whether any mount that `chosen` accepts is writable. Reads the mount tables of this process and
/// of PID 1, which differ if the agent runs in a container.
pub fn any_writable(root: &Root, chosen: fn(&Mount<'_>) -> bool) -> bool {
    let mut found = false;
    for owner in words(b"self 1") {
        let _ = root.lines_at(&[b"proc/", owner, b"/mountinfo"], &mut |line| {
            if let Some(mount) = mountinfo::parse(line) {
                found |= mount.is_writable && chosen(&mount);
            }
            !found
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::mounts;
    use crate::sys::testing::Tree;

    const ALIVE: &str = "VmSize:\t    4096 kB\nSigIgn:\t0000000000000000\n";
    const ROOT: &str = "Uid:\t0\t0\t0\t0\n";

    fn add(tree: &Tree, pid: u32, parent: u32, command_line: &str, more: &str) {
        tree.file(format!("proc/{pid}/cmdline"), command_line);
        let status = format!("Name:\tx y\nPid:\t{pid}\nPPid:\t{parent}\n{more}");
        tree.file(format!("proc/{pid}/status"), status);
    }

    #[test]
    fn spares_ancestors_and_storage_daemons_of_root() {
        let tree = Tree::new();
        let own = std::process::id();
        let of_root = format!("{ROOT}{ALIVE}");
        let of_user = format!("Uid:\t1000\t1000\t1000\t1000\n{ALIVE}");
        let set_uid = format!("Uid:\t1000\t0\t0\t0\n{ALIVE}");
        add(&tree, 1, 0, "init\0", &of_root);
        add(&tree, 2, 0, "", ROOT);
        // The ancestors of this process: 300001, 300000, 1.
        add(&tree, 300_000, 1, "supervisor\0", &of_root);
        add(&tree, 300_001, 300_000, "sh\0", &of_root);
        add(&tree, own, 300_001, "gaunt\0", &of_root);
        add(&tree, 300_002, 300_001, "sibling\0", &of_root);
        add(&tree, 300_003, 1, "@nbd-client\0", &of_root);
        add(&tree, 300_004, 1, "@user\0", &of_user);
        add(&tree, 300_005, 1, "@set-uid\0", &set_uid);
        add(&tree, 300_006, 1, "@zombie\0", ROOT);
        let mut spared = Pids::new();
        find_spared(&tree.root, &mut spared).unwrap();
        let numbers: Vec<_> = spared.iter().collect();
        assert_eq!(numbers, [300_001, 300_000, 300_003]);
        let mut others = Vec::new();
        each_other(&tree.root, &spared, &mut |pid| others.push(pid)).unwrap();
        others.sort_unstable();
        assert_eq!(others, [2, 300_002, 300_004, 300_005, 300_006]);
    }

    #[test]
    fn reads_the_status_of_a_process() {
        let tree = Tree::new();
        let groups = format!("Groups:\t{}\n", "1000 ".repeat(10_000));
        let ignores = "SigIgn:\t0000000000384004\n";
        add(
            &tree,
            5,
            1,
            "sh\0",
            &format!("{ROOT}{groups}VmSize:\t1 kB\n{ignores}"),
        );
        add(&tree, 6, 1, "", "State:\tZ (zombie)\n");
        let found = |pid| Process::find(&tree.root, pid);
        let shell = found(5).unwrap();
        assert!(shell.alive && shell.ignores_term && shell.is_root);
        let zombie = Process {
            parent: 1,
            ..Process::default()
        };
        assert_eq!((found(6), found(7)), (Some(zombie), None));
    }

    #[test]
    fn fails_without_proc() {
        let tree = Tree::new();
        assert!(find_spared(&tree.root, &mut Pids::new()).is_err());
    }

    #[test]
    fn chooses_mounts_on_disks_and_mounts_that_may_cover_them() {
        let tree = Tree::new();
        let table = "21 1 0:2 / / rw - rootfs none rw\n\
                     22 21 0:5 / /proc rw - proc proc rw\n\
                     23 21 254:1 / /data rw - ext4 /dev/vda1 ro\n\
                     24 21 254:1 /sub /bind rw - ext4 /dev/vda1 ro\n\
                     nonsense\n\
                     25 21 0:40 / /far rw - nfs4 server:/x rw\n\
                     26 25 7:0 / /far/a\\040b rw - xfs /dev/loop0 ro\n\
                     27 21 0:41 / /pool rw - btrfs /dev/vdb rw\n\
                     28 21 0:42 / /over rw - overlay none rw\n\
                     29 26 0:43 / /far/a\\040b rw - tmpfs none rw\n\
                     30 21 0:44 / /home rw - fuse.sshfs none rw\n";
        tree.file("proc/self/mountinfo", table);
        let numbers = |chosen: fn(&Mount<'_>) -> bool| {
            let mut numbers = Vec::new();
            mounts::backward(&tree.root, &mut |mount| {
                if chosen(mount) {
                    numbers.push(mount.number);
                }
            })
            .unwrap();
            numbers
        };
        assert_eq!(numbers(is_on_disk), [28, 27, 26, 24, 23]);
        assert_eq!(numbers(may_cover), [30, 29]);
        let writable = || [is_on_disk, is_on_device].map(|chosen| any_writable(&tree.root, chosen));
        assert_eq!(writable(), [true, false]);
        let of_init = "9 1 8:1 / / ro - ext4 /dev/sda1 rw\n";
        tree.file("proc/1/mountinfo", of_init);
        assert_eq!(writable(), [true, true]);
    }
}
