//! guest-suspend-ram, -disk, -hybrid.
//!
//! Success is silent. A child asks the kernel to sleep and ends after the wake-up; the agent sleeps
//! with the guest and then answers again on the same port. The kernel syncs file systems first.
//! Freeze and thaw wait until the guest is awake, and a frozen guest does not sleep.
//!
//! Differences from qemu-ga: no program runs, so units and hooks that an init has for sleep do not
//! run either, and hybrid sleep needs no program. A sleep from which the guest could not wake is
//! refused before anything changes (`probe::sleep`).

use super::command::Work;
use super::common::outcome;
use crate::probe::sleep::{self, SleepMode};
use crate::sys::Errno;
use crate::sys::root::Root;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::Phrase;

/// The file that sets what the kernel does once the image is on the disk.
const CHOICES: &[u8] = b"sys/power/disk";

/// Sleeps in memory.
pub(super) const RAM: Work = |guest, _, _, reply| suspend(&guest.root, SleepMode::Ram, reply);

/// Sleeps on disk.
pub(super) const DISK: Work = |guest, _, _, reply| suspend(&guest.root, SleepMode::Disk, reply);

/// Sleeps in memory, with a copy on disk.
pub(super) const HYBRID: Work = |guest, _, _, reply| suspend(&guest.root, SleepMode::Hybrid, reply);

fn suspend(root: &Root, mode: SleepMode, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    if !sleep::supports(root, mode) {
        return Err(reply.fail(Phrase::CannotSleep));
    }
    outcome(reply, Phrase::SleepRefused, sleep_so(root, mode))
}

fn sleep_so(root: &Root, mode: SleepMode) -> Result<(), Errno> {
    if mode != SleepMode::Disk {
        match root.tell(&[b"sys/power/mem_sleep"], b"deep") {
            Ok(()) | Err(Errno::NOENT) => {}
            refused => return refused,
        }
    }
    if mode == SleepMode::Hybrid {
        root.tell(&[CHOICES], b"suspend")?;
    }
    let word: &[u8] = if mode == SleepMode::Ram {
        b"mem"
    } else {
        b"disk"
    };
    let slept = root.tell(&[b"sys/power/state"], word);
    if mode == SleepMode::Hybrid {
        // The kernel's default: by the firmware, if it can.
        let _ = root.tell(&[CHOICES], b"shutdown");
        let _ = root.tell(&[CHOICES], b"platform");
    }
    slept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sink::ByteSink;
    use crate::sys::testing::Tree;
    use std::fs;

    #[test]
    fn the_kernel_is_told_how_to_sleep_and_its_refusal_is_told_on() {
        for (mode, told) in [
            (SleepMode::Ram, ["deep", "", "mem"]),
            (SleepMode::Disk, ["", "", "disk"]),
            // The way that the machine goes down is put back when it is awake again.
            (SleepMode::Hybrid, ["deep", "platform", "disk"]),
        ] {
            let tree = Tree::new();
            let files = ["mem_sleep", "disk", "state"];
            let files = files.map(|name| tree.file(format!("sys/power/{name}"), ""));
            assert_eq!(sleep_so(&tree.root, mode), Ok(()));
            assert_eq!(
                files.clone().map(|file| fs::read_to_string(file).unwrap()),
                told
            );
            let [.., state] = &files;
            fs::remove_file(state).unwrap();
            tree.link("sys/power/state", "/dev/full");
            let mut out = heapless::Vec::<u8, 256>::new();
            let mut reply = Reply::new(&mut out);
            let refused = outcome(&mut reply, Phrase::SleepRefused, sleep_so(&tree.root, mode));
            reply.finish(refused.map(drop));
            let text = String::from_utf8(out.bytes().to_vec()).unwrap();
            let said = "suspend: cannot write to '/sys/power/state': No space left on device";
            assert!(text.contains(said), "{text}");
        }
    }
}
