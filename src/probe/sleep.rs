//! The sleep modes that this machine supports, from /sys/power and /proc/swaps.
//!
//! The files are described in Documentation/ABI/testing/sysfs-power of the kernel. The host wakes a
//! guest as firmware wakes a machine, so modes that only an interrupt ends (`freeze`, s2idle) do
//! not count. Sleep on disk counts only if the next start finds the image: with a device to resume
//! from, and a swap area that is not zram.

use crate::base::text::cut;
use crate::sys::root::Root;

/// A sleep mode. Its number is its letter in [`NEEDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SleepMode {
    /// State in memory (S3).
    Ram = b'R',
    /// State on disk, machine off (S4).
    Disk = b'D',
    /// State on disk and in memory: the image on disk is read only after a loss of power.
    Hybrid = b'H',
}

/// The needs of the modes, each ended by a comma: the letters of its modes, a file, a text, and a
/// text that cancels one occurrence of the first. The file must contain more of the first text than
/// of the second. No file contains `\0`.
const NEEDS: &[u8] = b"RH sys/power/state mem \0,\
    RH sys/power/mem_sleep deep \0,\
    DH sys/power/state disk \0,\
    DH sys/power/disk shutdown \0,\
    DH sys/power/resume : \n0:0\n,\
    DH proc/swaps \n/ \n/dev/zram,\
    H sys/power/disk suspend \0";

/// Bytes read of a file: twice the longest list of choices, or several swap areas.
const FILE_BYTES: usize = 512;

/// Whether this machine supports a sleep mode.
pub fn supports(root: &Root, mode: SleepMode) -> bool {
    let mut needs = NEEDS;
    while !needs.is_empty() {
        let mut need = cut(&mut needs, b',');
        let mut next = || cut(&mut need, b' ');
        if next().contains(&(mode as u8)) && !outnumbers(root, next(), next(), next()) {
            return false;
        }
    }
    true
}

/// Whether a file contains `good` more often than `bad`, as if it began with a line feed.
fn outnumbers(root: &Root, file: &[u8], good: &[u8], bad: &[u8]) -> bool {
    let mut buffer = [b'\n'; FILE_BYTES];
    let read = root.read_at(&[file], &mut buffer[1..]).map(<[u8]>::len);
    let text = match read {
        Ok(len) => &buffer[..=len],
        // Kernels before 4.10 have no file `mem_sleep`, and always sleep deeply. The other needs do
        // not look for this text, so without their file they are not met.
        Err(_) => b"deep",
    };
    let count = |word: &[u8]| {
        text.windows(word.len())
            .filter(|part| *part == word)
            .count()
    };
    count(good) > count(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;

    #[test]
    fn supports_only_modes_that_the_host_can_end() {
        let path = std::env::temp_dir().join(format!("gaunt-sleep-{}", std::process::id()));
        fs::create_dir_all(path.join("sys/power")).unwrap();
        fs::create_dir_all(path.join("proc")).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        let supported = || {
            [SleepMode::Ram, SleepMode::Disk, SleepMode::Hybrid].map(|mode| supports(&root, mode))
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
            fs::write(path.join(file), text).unwrap();
            assert_eq!(supported(), expected, "{file}: {text}");
        }
        fs::remove_dir_all(path).unwrap();
    }
}
