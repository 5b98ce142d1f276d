//! Reads and sets the hardware clock, as described in rtc(4).
//!
//! Of several clocks it is the one from which the kernel set the system clock (`hctosys`), else the
//! one with the lowest number.
//!
//! Reading goes through sysfs: that needs no device node, and works while another process has the
//! node open. Setting needs the node.

use crate::base::civil;
use crate::base::text::{Digits, cut, parse_u32, parse_u64};
use crate::sys::clock::NS_PER_S;
use crate::sys::root::Root;
use crate::sys::rtc::{self, Time};
use crate::sys::{AsFd, Errno, OwnedFd, stream};

const DAY_S: u32 = 86_400;

/// Reads the clock. Returns nanoseconds since 1970: the middle of the second that the clock shows.
pub fn read_ns(root: &Root) -> Result<i64, Errno> {
    let file = open(root, b"sys/class/rtc/rtc", b"/since_epoch")?;
    let mut buffer = [0; 24];
    stream::read(&file, &mut buffer)?;
    let seconds = parse_u32(cut(&mut &buffer[..], b'\n')).ok_or(Errno::INVAL)?;
    Ok(i64::from(seconds) * NS_PER_S + NS_PER_S / 2)
}

/// Sets the clock to `unix_ns`, nanoseconds since 1970, rounded to seconds. Valid up to the year
/// 2106.
pub fn set(root: &Root, unix_ns: i64) -> Result<(), Errno> {
    let node = open(root, b"dev/rtc", b"")?;
    rtc::set(node.as_fd(), &time_of(unix_ns))
}

const CLASS: &[u8] = b"sys/class/rtc/";

/// Opens a file of the clock: `before`, the number of the clock, `behind`.
fn open(root: &Root, before: &[u8], behind: &[u8]) -> Result<OwnedFd, Errno> {
    let mut clock = u64::MAX;
    root.list_at(&[CLASS], &mut |name, _| {
        let Some(number) = name.strip_prefix(b"rtc").and_then(parse_u64) else {
            return true;
        };
        let mut flag = [0; 4];
        let _ = root.read_at(&[CLASS, name, b"/hctosys"], &mut flag);
        let is_system = flag[0] == b'1';
        if is_system || number < clock {
            clock = number;
        }
        !is_system
    })?;
    if clock == u64::MAX {
        return Err(Errno::NOENT);
    }
    root.file_at(&[before, Digits::unsigned(clock).as_bytes(), behind])
}

fn time_of(unix_ns: i64) -> Time {
    let seconds = unix_ns.wrapping_add(NS_PER_S / 2) / NS_PER_S;
    let seconds = u32::try_from(seconds).unwrap_or(0);
    let (year, month, day) = civil::date_of((seconds / DAY_S).into());
    let second = (seconds % DAY_S).cast_signed();
    Time {
        second: second % 60,
        minute: second / 60 % 60,
        hour: second / 3600,
        day: day as i32,
        month: month as i32 - 1,
        year: year as i32 - 1900,
        unused: [0; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn reads_and_sets_the_clock_of_the_system() {
        let tree = Tree::new();
        tree.directory("dev");
        assert_eq!(read_ns(&tree.root), Err(Errno::NOENT));
        assert_eq!(set(&tree.root, 0), Err(Errno::NOENT));
        tree.file("sys/class/rtc/rtc0/since_epoch", "1700000000\n");
        assert_eq!(read_ns(&tree.root), Ok(1_700_000_000_500_000_000));
        tree.file("sys/class/rtc/rtc0/since_epoch", "");
        assert_eq!(read_ns(&tree.root), Err(Errno::INVAL));
        tree.file("dev/rtc0", "");
        assert_eq!(set(&tree.root, 0), Err(Errno::NOTTY));
        // The second clock is the system's once its `hctosys` says so.
        tree.file("sys/class/rtc/rtc0/since_epoch", "1700000000\n");
        tree.file("sys/class/rtc/rtc1/since_epoch", "1800000000\n");
        assert_eq!(read_ns(&tree.root), Ok(1_700_000_000_500_000_000));
        tree.file("sys/class/rtc/rtc1/hctosys", "1\n");
        assert_eq!(read_ns(&tree.root), Ok(1_800_000_000_500_000_000));
    }

    #[test]
    fn rounds_times_to_the_nearest_second() {
        let time = |ns| {
            let time = time_of(ns);
            [
                time.year,
                time.month,
                time.day,
                time.hour,
                time.minute,
                time.second,
            ]
        };
        assert_eq!(time(0), [70, 0, 1, 0, 0, 0]);
        assert_eq!(time(951_782_399_499_999_999), [100, 1, 28, 23, 59, 59]);
        assert_eq!(time(951_782_399_500_000_000), [100, 1, 29, 0, 0, 0]);
        assert_eq!(time(3_155_759_999_000_000_000), [169, 11, 31, 23, 59, 59]);
    }
}
