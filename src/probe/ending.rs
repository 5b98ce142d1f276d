//! What stands in the way of an orderly end: processes that run, and disks that are written to.
//!
//! Processes are judged by /proc/PID/status, which the kernel fills in from what it knows itself. Most
//! other files of a process (cmdline, environ, maps) need its memory: whoever reads them waits with a
//! process whose memory hangs, because it is a file of a server that does not answer. Any user can
//! have such a process. Only cmdline of root's processes is read, and with a time limit
//! (`sys::asking`).

use crate::base::limits::{ANCESTORS, PROCESS_LIST_BYTES};
use crate::base::path::Path;
use crate::base::store::Store;
use crate::base::text::{Digits, parse_u32};
use crate::parse::mountinfo::{self, Mount};
use crate::parse::proc::{has_signal, value};
use crate::parse::{place, words};
use crate::sys::mem::Buffer;
use crate::sys::root::Root;
use crate::sys::{Errno, asking, process};

/// A process, as its status file describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Whether it has memory of its own: threads of the kernel never have any, and zombies none any
    /// more.
    pub alive: bool,
    /// Whether it ignores SIGTERM, as interactive shells do.
    pub ignores_term: bool,
    /// Whether all its user ids are root's.
    is_root: bool,
    parent: i32,
}

impl Process {
    /// The process of this number; `None` if there is none.
    pub fn find(root: &Root, pid: i32) -> Option<Self> {
        let mut found = Self::default();
        let each = &mut |line: &[u8]| {
            if let Some(ids) = value(line, b"Uid") {
                // Real, effective, saved, and that for files.
                found.is_root = words(ids).filter(|id| *id == b"0").count() == 4;
            } else if let Some(parent) = value(line, b"PPid").and_then(number) {
                found.parent = parent;
            } else if value(line, b"VmSize").is_some() {
                found.alive = true;
            } else if let Some(ignores) = has_signal(line, b"SigIgn", process::TERM.unsigned_abs())
            {
                found.ignores_term = ignores;
            }
            true
        };
        // By lines, because that of the groups may be longer than any buffer.
        root.lines(&file_of(pid, b"/status"), each).ok()?;
        Some(found)
    }
}

fn file_of(pid: i32, file: &[u8]) -> Path {
    Path::of(&[b"proc/", Digits::signed(pid.into()).as_bytes(), file])
}

fn number(digits: &[u8]) -> Option<i32> {
    parse_u32(digits).and_then(|number| i32::try_from(number).ok())
}

/// The processes that go on when all others end: PID 1, this one, its ancestors, and the storage
/// daemons of root's, which disks need. Their name begins with `@`: a custom of systemd's.
pub struct Spared {
    /// From the parent up.
    ancestors: heapless::Vec<i32, ANCESTORS>,
    /// Numbers of four bytes.
    storage: Buffer,
}

impl Spared {
    /// Those of this moment.
    ///
    /// # Errors
    /// What looking into /proc came to.
    pub fn find(root: &Root) -> Result<Self, Errno> {
        let mut spared = Self {
            ancestors: heapless::Vec::new(),
            storage: Buffer::growing(PROCESS_LIST_BYTES),
        };
        let mut pid = process::own_pid();
        while let Some(found) = Process::find(root, pid)
            && found.parent > 1
            && spared.ancestors.push(found.parent).is_ok()
        {
            pid = found.parent;
        }
        let mut asked = Buffer::growing(PROCESS_LIST_BYTES);
        spared.others(root, &mut |pid| {
            if Process::find(root, pid).is_some_and(|one| one.alive && one.is_root) {
                let _ = asked.append(&pid.to_ne_bytes());
            }
            true
        })?;
        let (asked, _) = asked.bytes().as_chunks();
        let is_storage = |place: usize| {
            let name = asked
                .get(place)
                .map(|pid| file_of(i32::from_ne_bytes(*pid), b"/cmdline"));
            let mut first = [0];
            name.is_some_and(|name| root.read(&name, &mut first) == Ok(b"@"))
        };
        asking::ask_each(asked.len(), &is_storage, &mut |place, yes| {
            if yes && let Some(pid) = asked.get(place) {
                let _ = spared.storage.append(pid);
            }
        });
        Ok(spared)
    }

    /// Calls `each` with the numbers of all other processes, the kernel's threads included, until it
    /// returns false. Reads nothing of them.
    ///
    /// # Errors
    /// What looking into /proc came to.
    pub fn others(&self, root: &Root, each: &mut dyn FnMut(i32) -> bool) -> Result<(), Errno> {
        let own = process::own_pid();
        root.list_at(&[b"proc"], &mut |name, _| match number(name) {
            Some(pid) if pid > 1 && pid != own && self.numbers().all(|one| one != pid) => each(pid),
            _ => true,
        })
    }

    /// All but PID 1 and this one; ancestors come after their children.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        let (storage, _) = self.storage.bytes().as_chunks();
        let storage = storage.iter().map(|pid| i32::from_ne_bytes(*pid));
        self.ancestors.iter().copied().chain(storage)
    }
}

/// File systems that lie on disks, or on one that does, and have a device number of their own.
const ON_DISKS: &[u8] = b"btrfs bcachefs zfs ubifs overlay";

/// File systems whose server may be gone; unmounting them would wait for it.
const OF_SERVERS: &[u8] = b"nfs nfs4 cifs smb3 ceph afs 9p";

/// Whether a mount is of a block device, which is what the kernel can make read-only by force.
pub fn is_on_device(mount: &Mount<'_>) -> bool {
    mount.major != 0
}

/// Whether a mount must be closed so that disks are clean: it has a block device, manages its disks
/// itself, or is an overlay, which keeps the file system that it writes to from being closed.
pub fn is_on_disk(mount: &Mount<'_>) -> bool {
    is_on_device(mount) || place(ON_DISKS, mount.kind).is_some()
}

/// Whether a mount may be in the way of one that is on a disk, and need not be waited for.
pub fn may_cover(mount: &Mount<'_>) -> bool {
    let needed = mount.mount_point == b"/" || mount.mount_point == b"/proc";
    !needed && !is_on_disk(mount) && place(OF_SERVERS, mount.kind).is_none()
}

/// Whether one of these mounts is of a file system that can be written to. Tables of this process and of
/// PID 1 are asked: they differ if the agent runs in a container.
pub fn any_writable(root: &Root, chosen: fn(&Mount<'_>) -> bool) -> bool {
    let mut found = false;
    for owner in words(b"self 1") {
        let _ = root.lines_at(&[b"proc/", owner, b"/mountinfo"], &mut |line| {
            found |= mountinfo::parse(line).is_some_and(|one| one.is_writable && chosen(&one));
            !found
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::mounts::Mounts;
    use std::ffi::CString;
    use std::path::PathBuf;

    fn machine(name: &str) -> (PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-ending-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("proc/self")).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        (path, root)
    }

    const ALIVE: &str = "VmSize:\t    4096 kB\nSigIgn:\t0000000000000000\n";
    const ROOT: &str = "Uid:\t0\t0\t0\t0\n";

    fn add(path: &std::path::Path, pid: u32, parent: u32, command_line: &str, more: &str) {
        let process = path.join(format!("proc/{pid}"));
        std::fs::create_dir_all(&process).unwrap();
        std::fs::write(process.join("cmdline"), command_line).unwrap();
        let status = format!("Name:\tx y\nPid:\t{pid}\nPPid:\t{parent}\n{more}");
        std::fs::write(process.join("status"), status).unwrap();
    }

    #[test]
    fn ancestors_and_storage_daemons_of_root_are_spared() {
        let (path, root) = machine("processes");
        let own = std::process::id();
        let of_root = format!("{ROOT}{ALIVE}");
        let of_user = format!("Uid:\t1000\t1000\t1000\t1000\n{ALIVE}");
        let set_uid = format!("Uid:\t1000\t0\t0\t0\n{ALIVE}");
        add(&path, 1, 0, "init\0", &of_root);
        add(&path, 2, 0, "", ROOT);
        // The line of ancestors: own, 300001, 300000, 1.
        add(&path, 300_000, 1, "supervisor\0", &of_root);
        add(&path, 300_001, 300_000, "sh\0", &of_root);
        add(&path, own, 300_001, "gaunt\0", &of_root);
        add(&path, 300_002, 300_001, "sibling\0", &of_root);
        add(&path, 300_003, 1, "@nbd-client\0", &of_root);
        add(&path, 300_004, 1, "@user\0", &of_user);
        add(&path, 300_005, 1, "@set-uid\0", &set_uid);
        add(&path, 300_006, 1, "@zombie\0", ROOT);
        let spared = Spared::find(&root).unwrap();
        let numbers: Vec<_> = spared.numbers().collect();
        assert_eq!(numbers, [300_001, 300_000, 300_003]);
        let mut others = Vec::new();
        let each = &mut |pid| {
            others.push(pid);
            true
        };
        spared.others(&root, each).unwrap();
        others.sort_unstable();
        assert_eq!(others, [2, 300_002, 300_004, 300_005, 300_006]);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_process_is_judged_by_its_status() {
        let (path, root) = machine("status");
        let groups = format!("Groups:\t{}\n", "1000 ".repeat(10_000));
        let ignores = "SigIgn:\t0000000000384004\n";
        add(
            &path,
            5,
            1,
            "sh\0",
            &format!("{ROOT}{groups}VmSize:\t1 kB\n{ignores}"),
        );
        add(&path, 6, 1, "", "State:\tZ (zombie)\n");
        let found = |pid| Process::find(&root, pid);
        let shell = found(5).unwrap();
        assert!(shell.alive && shell.ignores_term && shell.is_root);
        let zombie = Process {
            parent: 1,
            ..Process::default()
        };
        assert_eq!((found(6), found(7)), (Some(zombie), None));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn without_proc_there_is_an_error() {
        let (path, root) = machine("nothing");
        std::fs::remove_dir_all(path.join("proc")).unwrap();
        assert!(Spared::find(&root).is_err());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn disks_are_closed_backward_and_the_network_is_left() {
        let (path, root) = machine("mounts");
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
        std::fs::write(path.join("proc/self/mountinfo"), table).unwrap();
        let table = Mounts::read(&root).unwrap();
        let numbers = |chosen: fn(&Mount<'_>) -> bool| -> Vec<u64> {
            let mounts = table.backward().filter(chosen);
            mounts.map(|mount| mount.number).collect()
        };
        assert_eq!(numbers(is_on_disk), [28, 27, 26, 24, 23]);
        assert_eq!(numbers(may_cover), [30, 29]);
        let writable = || [is_on_disk, is_on_device].map(|chosen| any_writable(&root, chosen));
        assert_eq!(writable(), [true, false]);
        std::fs::create_dir(path.join("proc/1")).unwrap();
        let of_init = "9 1 8:1 / / ro - ext4 /dev/sda1 rw\n";
        std::fs::write(path.join("proc/1/mountinfo"), of_init).unwrap();
        assert_eq!(writable(), [true, true]);
        std::fs::remove_dir_all(path).unwrap();
    }
}
