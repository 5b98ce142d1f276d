//! The sleep modes that this machine supports, from /sys/power and /proc/swaps.
//!
//! The files are described in Documentation/ABI/testing/sysfs-power of the kernel. The host wakes a
//! guest as firmware wakes a machine, so modes that only an interrupt ends (`freeze`, s2idle) do
//! not count. Sleep on disk counts only if the next start finds the image: with a device to resume
//! from, and a swap area that is not zram.

use crate::sys::root::Root;

/// A sleep mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepMode {
    /// State in memory (S3).
    Ram,
    /// State on disk, machine off (S4).
    Disk,
    /// State on disk and in memory: the image on disk is read only after a loss of power.
    Hybrid,
}

/// Bytes read of a file: twice the longest list of choices, or several swap areas.
const FILE_BYTES: usize = 512;

/// Whether this machine supports a sleep mode.
pub fn supports(root: &Root, mode: SleepMode) -> bool {
    let has = |file: &[u8], word: &[u8]| outnumbers(root, file, word, None);
    let in_memory = || has(b"sys/power/state", b"mem") && has(b"sys/power/mem_sleep", b"deep");
    let on_disk = || {
        has(b"sys/power/state", b"disk")
            && has(b"sys/power/disk", b"shutdown")
            && outnumbers(root, b"sys/power/resume", b":", Some(b"\n0:0\n"))
            && outnumbers(root, b"proc/swaps", b"\n/", Some(b"\n/dev/zram"))
    };
    match mode {
        SleepMode::Ram => in_memory(),
        SleepMode::Disk => on_disk(),
        SleepMode::Hybrid => in_memory() && on_disk() && has(b"sys/power/disk", b"suspend"),
    }
}

/// Whether a file contains `word` more often than `cancel`, as if it began with a line feed. Each
/// `cancel` contains `word` once.
fn outnumbers(root: &Root, file: &[u8], word: &[u8], cancel: Option<&[u8]>) -> bool {
    let mut buffer = [b'\n'; FILE_BYTES];
    let read = root.read_at(&[file], &mut buffer[1..]).map(<[u8]>::len);
    let text = match read {
        Ok(len) => &buffer[..=len],
        // Kernels before 4.10 have no file `mem_sleep`, and always sleep deeply. No other file is
        // asked for this word, so a missing one has none of its words.
        Err(_) => b"deep",
    };
    let count = |word: &[u8]| {
        text.windows(word.len())
            .filter(|part| *part == word)
            .count()
    };
    count(word) > cancel.map_or(0, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn supports_only_modes_that_the_host_can_end() {
        let tree = Tree::new();
        tree.directory("sys/power");
        tree.directory("proc");
        let supported = || {
            [SleepMode::Ram, SleepMode::Disk, SleepMode::Hybrid]
                .map(|mode| supports(&tree.root, mode))
        };
        let steps = [
            ("sys/power/state", "freeze standby\n", [false, false, false]),
            ("sys/power/state", "freeze mem\n", [true, false, false]),
            ("sys/power/mem_sleep", "[s2idle]\n", [false, false, false]),
            (
                "sys/power/mem_sleep",
                "[s2idle] deep\n",
                [true, false, false],
            ),
            (
                "sys/power/mem_sleep",
                "s2idle [deep]\n",
                [true, false, false],
            ),
            ("sys/power/state", "freeze mem disk\n", [true, false, false]),
            ("sys/power/disk", "[disabled]\n", [true, false, false]),
            ("sys/power/resume", "0:0\n", [true, false, false]),
            ("proc/swaps", "Filename Type\n", [true, false, false]),
            (
                "sys/power/disk",
                "[platform] shutdown\n",
                [true, false, false],
            ),
            ("sys/power/resume", "254:3\n", [true, false, false]),
            (
                "proc/swaps",
                "Filename Type\n/dev/zram0 partition 1 0 100\n",
                [true, false, false],
            ),
            (
                "proc/swaps",
                "Filename Type\n/dev/zram0 partition 1 0 100\n/dev/vda3 partition 1 0 -2\n",
                [true, true, false],
            ),
            (
                "sys/power/disk",
                "[platform] shutdown suspend\n",
                [true, true, true],
            ),
            ("sys/power/mem_sleep", "[s2idle]\n", [false, true, false]),
        ];
        assert_eq!(supported(), [false; 3]);
        for (file, text, expected) in steps {
            tree.file(file, text);
            assert_eq!(supported(), expected, "{file}: {text}");
        }
    }
}
