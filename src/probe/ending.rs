//! What stands in the way of an orderly end: processes that run, and disks that are written to.

use core::ffi::CStr;

use crate::base::limits::{ANCESTORS, MOUNT_LIST_BYTES};
use crate::base::store::Store;
use crate::base::text::{Digits, parse_u32};
use crate::parse::proc::{has_signal, value};
use crate::parse::{mountinfo, place};
use crate::probe::mounts::unescaped;
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::process;
use crate::sys::root::Root;

/// A process that must end before the guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Whether it still has memory of its own: the kernel's threads never had, and the dead whom
    /// nobody has buried yet have none any more.
    pub alive: bool,
    /// Whether it does not listen to SIGTERM. Interactive shells do not.
    pub ignores_term: bool,
}

/// Calls `each` with every process but PID 1, this one, its ancestors, and those that ask to be left
/// alone because a disk needs them (their name begins with `@`, which systemd made the custom).
///
/// # Errors
/// What looking into /proc came to.
pub fn processes(root: &Root, each: &mut dyn FnMut(Process)) -> Result<(), Errno> {
    let spared = kin(root);
    root.list_at(&[b"proc"], &mut |name, _| {
        if let Some(pid) = number(name).filter(|pid| spared.iter().all(|one| one != pid))
            && let Some(process) = look_at(root, pid)
        {
            each(process);
        }
        true
    })
}

/// PID 1, this process and its ancestors.
fn kin(root: &Root) -> heapless::Vec<i32, ANCESTORS> {
    let mut kin = heapless::Vec::new();
    let _ = kin.push(1);
    let mut pid = process::own_pid();
    while pid > 1 && kin.push(pid).is_ok() {
        let mut buffer = [0; STATUS_BYTES];
        let parent =
            read(root, pid, b"/status", &mut buffer).and_then(|status| value(status, b"PPid"));
        pid = parent.and_then(number).unwrap_or(0);
    }
    kin
}

fn number(digits: &[u8]) -> Option<i32> {
    parse_u32(digits).and_then(|number| i32::try_from(number).ok())
}

/// What is read of a status file: all of it, but for a process with hundreds of groups.
const STATUS_BYTES: usize = 2048;

fn look_at(root: &Root, pid: i32) -> Option<Process> {
    let mut buffer = [0; STATUS_BYTES];
    if read(root, pid, b"/cmdline", &mut buffer)?.starts_with(b"@") {
        return None;
    }
    let status = read(root, pid, b"/status", &mut buffer)?;
    Some(Process {
        pid,
        alive: value(status, b"VmSize").is_some(),
        ignores_term: has_signal(status, b"SigIgn", process::TERM.unsigned_abs()) == Some(true),
    })
}

/// Reads a file of a process.
#[inline(never)]
fn read<'b>(root: &Root, pid: i32, file: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let digits = Digits::signed(pid.into());
    let name: &[&[u8]] = &[b"proc/", digits.as_bytes(), file];
    root.read_at(name, buffer).ok()
}

/// The mount points to close so that disks are clean, as they were when asked.
///
/// What has no block device does not count (all of the network, whose servers may be gone and who
/// would be waited for then; all that lives in memory), but for the file systems that manage their
/// disks themselves, and for overlays, which keep the one they write to from being closed.
pub struct MountPoints {
    /// Each ended by a NUL.
    names: Buffer,
}

/// File systems that lie on disks, or on one that does, and have a device number of their own.
const ON_DISKS: &[u8] = b"btrfs bcachefs zfs ubifs overlay";

impl Default for MountPoints {
    fn default() -> Self {
        Self {
            names: Buffer::growing(MOUNT_LIST_BYTES),
        }
    }
}

impl MountPoints {
    /// Adds the mount points of this moment.
    ///
    /// # Errors
    /// What reading the mount table came to. One that is beyond all measure is cut short.
    pub fn read(&mut self, root: &Root) -> Result<(), Errno> {
        root.lines_at(&[b"proc/self/mountinfo"], &mut |line| {
            if let Some(mount) = mountinfo::parse(line)
                && (mount.major != 0 || place(ON_DISKS, mount.kind).is_some())
                && let Some(point) = unescaped(mount.mount_point).as_c_str()
            {
                let _ = self.names.append(point.to_bytes_with_nul());
            }
            true
        })
    }

    /// Those, the last mounted first.
    pub fn backward(&self) -> impl Iterator<Item = &CStr> {
        let mut rest = self.names.bytes();
        core::iter::from_fn(move || {
            let ended = rest.get(..rest.len().checked_sub(1)?)?;
            let before = ended.iter().rposition(|byte| *byte == 0);
            let (others, name) = rest.split_at_checked(before.map_or(0, |at| at + 1))?;
            rest = others;
            CStr::from_bytes_with_nul(name).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::path::PathBuf;

    fn machine(name: &str) -> (PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-ending-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("proc/self")).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        (path, root)
    }

    fn add(path: &std::path::Path, pid: u32, parent: u32, command_line: &str, more: &str) {
        let process = path.join(format!("proc/{pid}"));
        std::fs::create_dir_all(&process).unwrap();
        std::fs::write(process.join("cmdline"), command_line).unwrap();
        let status = format!("Name:\tx y\nPid:\t{pid}\nPPid:\t{parent}\n{more}");
        std::fs::write(process.join("status"), status).unwrap();
    }

    #[test]
    fn kin_and_storage_daemons_are_spared() {
        const ALIVE: &str = "VmSize:\t    4096 kB\nSigIgn:\t0000000000000000\n";
        let (path, root) = machine("processes");
        let own = std::process::id();
        add(&path, 1, 0, "init\0", ALIVE);
        add(&path, 2, 0, "", "SigIgn:\tffffffffffffffff\n");
        // The line of ancestors: own, 300001, 300000, 1.
        add(&path, 300_000, 1, "supervisor\0", ALIVE);
        add(&path, 300_001, 300_000, "sh\0", ALIVE);
        add(&path, own, 300_001, "gaunt\0", ALIVE);
        add(&path, 300_002, 300_001, "sibling\0", ALIVE);
        add(&path, 300_003, 1, "@nbd-client\0", ALIVE);
        add(&path, 300_004, 1, "", "State:\tZ (zombie)\n");
        add(
            &path,
            300_005,
            1,
            "sh\0",
            "VmSize:\t1 kB\nSigIgn:\t0000000000384004\n",
        );
        let mut seen = Vec::new();
        processes(&root, &mut |process| seen.push(process)).unwrap();
        seen.sort_by_key(|process| process.pid);
        let process = |pid, alive, ignores_term| Process {
            pid,
            alive,
            ignores_term,
        };
        assert_eq!(
            seen,
            [
                process(2, false, true),
                process(300_002, true, false),
                process(300_004, false, false),
                process(300_005, true, true)
            ]
        );
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn without_proc_there_is_an_error() {
        let (path, root) = machine("nothing");
        std::fs::remove_dir_all(path.join("proc")).unwrap();
        assert!(processes(&root, &mut |_| {}).is_err());
        assert!(MountPoints::default().read(&root).is_err());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn disks_are_closed_backward_and_the_network_is_left() {
        let (path, root) = machine("mounts");
        let table = "21 1 0:2 / / rw - rootfs none rw\n\
                     22 21 0:5 / /proc rw - proc proc rw\n\
                     23 21 254:1 / /data rw - ext4 /dev/vda1 rw\n\
                     24 21 254:1 /sub /bind rw - ext4 /dev/vda1 rw\n\
                     nonsense\n\
                     25 21 0:40 / /far rw - nfs4 server:/x rw\n\
                     26 25 7:0 / /far/a\\040b rw - xfs /dev/loop0 rw\n\
                     27 21 0:41 / /pool rw - btrfs /dev/vdb rw\n\
                     28 21 0:42 / /over rw - overlay none rw\n";
        std::fs::write(path.join("proc/self/mountinfo"), table).unwrap();
        let mut points = MountPoints::default();
        points.read(&root).unwrap();
        let expected = [&b"/over"[..], b"/pool", b"/far/a b", b"/bind", b"/data"];
        assert_eq!(
            points.backward().map(CStr::to_bytes).collect::<Vec<_>>(),
            expected
        );
        std::fs::remove_dir_all(path).unwrap();
    }
}
