//! The ways in which this machine can sleep and be woken again, from /sys/power and /proc/swaps.
//!
//! Documentation/ABI/testing/sysfs-power of the kernel says what is in these files. To sleep is asked
//! for by the host, which wakes the guest as firmware wakes a machine; what only an interrupt wakes
//! (`freeze`, s2idle) is no sleep in this sense. Sleep on disk counts only where the next start finds
//! the image: with a device to resume from and a swap area that is not in memory itself.

use crate::base::text::cut;
use crate::sys::root::Root;

/// How a machine sleeps, and its letter in [`NEEDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// In memory.
    Ram = b'R',
    /// On disk.
    Disk = b'D',
    /// On disk and in memory: if the power holds, nothing need be read.
    Hybrid = b'H',
}

/// What the modes need: a file that holds one text more often than another, which but for two of them
/// is one that no file holds.
const NEEDS: &[u8] = b"RH sys/power/state mem \0,\
    RH sys/power/mem_sleep deep \0,\
    DH sys/power/state disk \0,\
    DH sys/power/disk shutdown \0,\
    DH sys/power/resume : \n0:0\n,\
    DH proc/swaps \n/ \n/dev/zram,\
    H sys/power/disk suspend \0";

/// Room for what is looked at of a file: twice the longest list of choices, several swap areas.
const FILE_BYTES: usize = 512;

/// Whether this machine can sleep so.
pub fn can(root: &Root, mode: Mode) -> bool {
    let mut needs = NEEDS;
    while !needs.is_empty() {
        let mut need = cut(&mut needs, b',');
        let mut next = || cut(&mut need, b' ');
        if next().contains(&(mode as u8)) && !says_more(root, next(), next(), next()) {
            return false;
        }
    }
    true
}

/// Whether a file holds `good` more often than `bad`, a line feed before its first line counted in.
fn says_more(root: &Root, file: &[u8], good: &[u8], bad: &[u8]) -> bool {
    let mut buffer = [b'\n'; FILE_BYTES];
    let read = root.read_at(&[file], &mut buffer[1..]).map(<[u8]>::len);
    let text = match read {
        Ok(len) => &buffer[..=len],
        // Kernels before 4.10 have no choice of sleeps in memory; it is the deep one.
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
    fn only_a_sleep_that_can_end_is_one() {
        let path = std::env::temp_dir().join(format!("gaunt-sleep-{}", std::process::id()));
        fs::create_dir_all(path.join("sys/power")).unwrap();
        fs::create_dir_all(path.join("proc")).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        let can = || [Mode::Ram, Mode::Disk, Mode::Hybrid].map(|mode| can(&root, mode));
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
        assert_eq!(can(), [false; 3]);
        for (file, text, expected) in steps {
            fs::write(path.join(file), text).unwrap();
            assert_eq!(can(), expected, "{file}: {text}");
        }
        fs::remove_dir_all(path).unwrap();
    }
}
