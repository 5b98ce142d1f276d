//! The duties of PID 1, for a guest in which the agent is the only program. As PID 1 of a container
//! the agent has none of them: mounts, host name and Ctrl-Alt-Del are the machine's.
//!
//! Mounts /proc, /sys, /dev and /run, opens the console, loads the modules of /etc/modules, sets
//! the host name of /etc/hostname, brings up the loopback interface, and mounts the file systems of
//! /etc/fstab. The loop does the rest: it reaps orphans and turns Ctrl-Alt-Del into a clean reboot.
//! No signal is passed on.
//!
//! A failure is one line in the log and never the end: an agent that answers is worth more than one
//! that gives up. An agent that starts anew in the same process, after a fault of its own, repeats
//! nothing of this: others may have changed it, and frozen file systems must not be touched. If the
//! fault came before all was done, all is done again, except what is mounted or loaded already.
//!
//! A child waits for missing devices, so that the agent answers meanwhile.
//!
//! There is no udev to ask for devices by tag (`UUID=...`), nor a helper that knows file systems of type
//! `auto`: `probe::volumes` reads the super blocks of all devices, each time that a device comes.
//!
//! Not done: loop devices, swap, file systems of the network, checks of file systems, and drivers that
//! /etc/modules does not name. Without devtmpfs /dev has only the console and /dev/null.

use super::texts::AgentPhrase;
use crate::base::limits::DEVICE_WAIT_MS;
use crate::base::path::Path;
use crate::parse::fstab::{self, Flags, FstabEntry, Tag};
use crate::parse::{hostname, modules, unescaped, words};
use crate::probe::volumes;
use crate::state::log::{Level, Log};
use crate::sys::mem::Buffer;
use crate::sys::mount;
use crate::sys::netlink::Uevents;
use crate::sys::poll::{self, Interest};
use crate::sys::process::{self, Forked};
use crate::sys::root::{Root, relative};
use crate::sys::system::{self, SystemNames};
use crate::sys::{AsFd, Errno, clock, link, power, stdio};

/// The file systems of every Linux system: type and mount point of each.
const SYSTEM: &[u8] = b"proc /proc sysfs /sys devtmpfs /dev tmpfs /run";

/// Does all that must be done before the agent serves.
// Kept out of the frame of its caller, which lasts as long as the agent: what is on the stack here
// would stay resident.
#[inline(never)]
pub(super) fn set_up(root: &Root, log: &mut Log) {
    process::set_umask(0o022);
    let mut names = words(SYSTEM);
    while let (Some(kind), Some(target)) = (names.next(), names.next()) {
        let data: &[u8] = if target == b"/run" { b"mode=0755" } else { b"" };
        let mounted = mount_at(root, &[kind, target, kind, data], mount::NO_SUID);
        complain(log, AgentPhrase::CannotMount, target, mounted);
    }
    // With devtmpfs both exist.
    let _ = root.make_device(&[b"dev/console"], 5, 1);
    let _ = root.make_device(&[b"dev/null"], 1, 3);
    stdio::adopt_console();
    let _ = power::soften_ctrl_alt_del();
    load_modules(root, log);
    name_machine(root, log);
    let _ = link::set_up(b"lo");
    mount_all(root, log);
}

fn complain(log: &mut Log, what: AgentPhrase, name: &[u8], done: Result<(), Errno>) {
    if let Err(errno) = done {
        log.failure(Level::Error, what, name, errno);
    }
}

/// Sets the host name of /etc/hostname, if it has one.
fn name_machine(root: &Root, log: &mut Log) {
    let _ = root.lines_at(&[b"etc/hostname"], &mut |line| {
        let Some(name) = hostname::parse(line) else {
            return true;
        };
        let named = match name.is_empty() {
            true => Err(Errno::INVAL),
            false => system::set_host_name(&name),
        };
        complain(log, AgentPhrase::CannotUseName, b"/etc/hostname", named);
        false
    });
}

// Mounting.

/// Makes the mount point and mounts, unless it is a mount point already; or remounts with other
/// options.
#[inline(never)]
fn mount_at(root: &Root, strings: &mount::MountArgs<'_>, flags: u32) -> Result<(), Errno> {
    let [source, target, ..] = *strings;
    let below = relative(target);
    // A remount ignores the source, which for the root is often no device in /dev.
    if flags & mount::REMOUNT == 0 {
        if mount::is_mount_point(root, below) {
            return Ok(());
        }
        // Checked here, because the kernel logs every device that it does not find.
        if source.starts_with(b"/") && !root.has_at(&[relative(source)])? {
            return Err(Errno::NOENT);
        }
        root.make_directories_above(below);
        let _ = root.make_directory(below, 0o755);
    }
    match mount::mount(strings, flags) {
        // The kernel says that it is mounted already.
        Err(Errno::BUSY) => Ok(()),
        // A write-protected disk.
        Err(Errno::ROFS | Errno::ACCESS) => mount::mount(strings, flags | mount::READ_ONLY),
        mounted => mounted,
    }
}

/// The entries of /etc/fstab that are done, one bit each. Entries past the last bit are tried each
/// time.
type Done = u64;

/// Mounts the file systems of /etc/fstab whose devices are there; a child waits for the others.
fn mount_all(root: &Root, log: &mut Log) {
    let mut done = 0;
    if mount_pass(root, log, &mut done, false) {
        return;
    }
    if let Ok(Forked::Child(_)) = process::fork(false) {
        wait_and_mount(root, log, done)
    }
}

/// In a child: mounts the rest of /etc/fstab as devices come, until the time is over, and exits.
fn wait_and_mount(root: &Root, log: &mut Log, mut done: Done) -> ! {
    let deadline_ms = clock::in_ms(DEVICE_WAIT_MS);
    if let Ok(uevents) = Uevents::open() {
        loop {
            let left_ms = deadline_ms.saturating_sub(clock::boottime_ms());
            let last = left_ms == 0;
            if mount_pass(root, log, &mut done, last) || last {
                break;
            }
            poll::is_ready(uevents.as_fd(), Interest::Read, left_ms);
            // The content of an event is ignored: the devices are looked for anew.
            uevents.skip();
        }
    }
    process::exit(0)
}

/// Tries all entries that are not done; returns whether all are done now. In the `last` pass a
/// missing device is an error.
fn mount_pass(root: &Root, log: &mut Log, done: &mut Done, last: bool) -> bool {
    let mut all = true;
    let mut bit: Done = 1;
    let mut room = Buffer::growing(volumes::MEMORY);
    // Without memory no device is recognized.
    let memory = room.extend(volumes::MEMORY).unwrap_or_default();
    let _ = root.lines_at(&[b"etc/fstab"], &mut |line| {
        let Some(entry) = fstab::parse(line) else {
            return true;
        };
        if *done & bit == 0 {
            let mut data = Path::new();
            let flags = Flags::read(entry.options, &mut data);
            let missing_is_fine = !last || flags.has(Flags::NO_FAIL);
            match mount_entry(root, &entry, flags, data.as_bytes(), memory) {
                Err(Errno::NOENT | Errno::NXIO) if missing_is_fine => all = false,
                mounted => {
                    *done |= bit;
                    let name = Path::of(&[entry.source, b" on ", entry.target]);
                    complain(log, AgentPhrase::CannotMount, name.as_bytes(), mounted);
                }
            }
        }
        bit <<= 1;
        true
    });
    all
}

fn mount_entry(
    root: &Root,
    entry: &FstabEntry<'_>,
    wanted: Flags,
    data: &[u8],
    memory: &mut [u8],
) -> Result<(), Errno> {
    if entry.kind == b"swap" || wanted.has_any(Flags::NOT_NOW) {
        return Ok(());
    }
    let mut flags = wanted.for_kernel();
    let (source, target) = (unescaped(entry.source), unescaped(entry.target));
    let strings = &mut [source.as_bytes(), target.as_bytes(), entry.kind, data];
    let found;
    if strings[1] == b"/" {
        // The kernel has mounted the root; set its options.
        flags |= mount::REMOUNT;
    } else {
        if let Some(tag) = Tag::of(strings[0]) {
            found = volumes::find(root, &tag, memory).ok_or(Errno::NOENT)?;
            strings[0] = &found;
        }
        if entry.kind == b"auto" {
            // The kernel has an error for what is not recognized.
            let found = volumes::super_block(root, strings[0], memory);
            strings[2] = found.map_or(entry.kind, |found| found.kind);
        }
    }
    let mut done = mount_at(root, strings, flags);
    // The kernel ignores MS_RDONLY in the call that makes a bind mount.
    if done.is_ok() && flags & mount::BIND != 0 && flags & mount::READ_ONLY != 0 {
        strings[3] = b"";
        done = mount_at(root, strings, flags | mount::REMOUNT);
    }
    let propagation = wanted.propagation();
    if done.is_ok() && propagation != 0 {
        done = mount::mount(&[b"none", strings[1], b"", b""], propagation);
    }
    done
}

// Modules.

fn load_modules(root: &Root, log: &mut Log) {
    // The directory of the running kernel's modules.
    let directory = root.directory_at(&[b"lib/modules/", SystemNames::now().release()]);
    let _ = root.lines_at(&[b"etc/modules"], &mut |line| {
        if let Some((name, parameters)) = modules::parse_etc_modules(line) {
            let loaded = match &directory {
                Ok(directory) => load(directory, name, parameters),
                Err(errno) => Err(*errno),
            };
            complain(log, AgentPhrase::CannotLoad, name, loaded);
        }
        true
    });
}

/// Loads a module, after the modules that it needs.
fn load(directory: &Root, name: &[u8], parameters: &[u8]) -> Result<(), Errno> {
    let mut loaded = Err(Errno::NOENT);
    let mut found = false;
    // Modules in files, then modules that are built into the kernel.
    for list in words(b"modules.dep modules.builtin") {
        if found {
            break;
        }
        directory.lines_at(&[list], &mut |line| {
            let module = modules::parse(line);
            let path = module.map_or(line, |module| module.path);
            found = modules::is_same_name(modules::name_of(path), name);
            if found {
                loaded = module.map_or(Ok(()), |module| {
                    for needed in module.load_order() {
                        load_file(directory, needed, b"")?;
                    }
                    load_file(directory, path, parameters)
                });
            }
            !found
        })?;
    }
    loaded
}

/// Loads the module in this file, unless it is loaded.
fn load_file(directory: &Root, path: &[u8], parameters: &[u8]) -> Result<(), Errno> {
    let file = directory.file_at(&[path])?;
    match mount::load_module(&file, parameters, !path.ends_with(b".ko")) {
        Err(Errno::EXIST) => Ok(()),
        loaded => loaded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn module_is_in_a_file_or_built_in_or_missing() {
        let tree = Tree::new();
        tree.directory("lib/modules/1");
        let inside = tree.root.directory_at(&[b"lib/modules/1"]).unwrap();
        let load = |name| load(&inside, name, b"");
        assert_eq!(load(b"x"), Err(Errno::NOENT));
        tree.file("lib/modules/1/modules.dep", "kernel/nowhere.ko:\n");
        let built_in = "kernel/fs/ext4/ext4.ko\n";
        tree.file("lib/modules/1/modules.builtin", built_in);
        assert_eq!(load(b"ext4"), Ok(()));
        assert_eq!(load(b"xfs"), Err(Errno::NOENT));
        assert_eq!(load(b"nowhere"), Err(Errno::NOENT));
    }

    #[test]
    fn entries_that_are_never_mounted_are_done_at_once() {
        let tree = Tree::new();
        tree.directory("proc/self");
        let table = "# nothing\n/dev/none none swap sw\n/dev/none /n ext4 noauto\n\
                     server:/x /far nfs _netdev\n";
        tree.file("etc/fstab", table);
        let mut done = 0;
        assert!(mount_pass(&tree.root, &mut Log::new(), &mut done, false));
        assert_eq!(done, 0b111);
    }
}
