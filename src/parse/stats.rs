//! Counters of disks and processors: lines of /proc/diskstats, as
//! Documentation/admin-guide/iostats.rst describes them, and of /proc/stat, as proc(5) does.
//!
//! Newer kernels have more columns. The number of columns decides, as in qemu-ga, how many numbers a
//! line yields: columns after the last known one are ignored, and a word that is not a number counts
//! as 0.

use super::next_word;
use crate::base::text::parse_u64;

/// Milliseconds of one tick: `USER_HZ` is 100 on every architecture.
const TICK_MS: u64 = 10;

/// The most numbers that a line yields: those of a disk.
const COLUMNS: usize = 17;

/// One line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatLine<'a> {
    /// Disk: major and minor number. Processor: its number, then 0.
    pub id: [u64; 2],
    /// The name of the disk, partition or processor.
    pub name: &'a [u8],
    numbers: [u64; COLUMNS],
    known: usize,
}

impl StatLine<'_> {
    /// The numbers after the name. Four numbers of a disk are reads, sectors read, writes and sectors
    /// written: the line of a partition in old kernels.
    pub fn numbers(&self) -> &[u64] {
        self.numbers.get(..self.known).unwrap_or_default()
    }

    /// Reads the numbers of a line, times `unit`. Returns how many columns the line has.
    fn read_numbers(&mut self, mut rest: &[u8], unit: u64) -> usize {
        let mut count = 0usize;
        while let Some(word) = next_word(&mut rest) {
            if let Some(slot) = self.numbers.get_mut(count) {
                *slot = parse_u64(word).unwrap_or(0).wrapping_mul(unit);
            }
            count = count.wrapping_add(1);
        }
        count
    }
}

/// Parses a line of /proc/diskstats.
pub fn parse_disk(line: &[u8]) -> Option<StatLine<'_>> {
    let mut rest = line;
    let mut disk = StatLine::default();
    for number in &mut disk.id {
        *number = parse_u64(next_word(&mut rest)?)?;
    }
    disk.name = next_word(&mut rest)?;
    disk.known = match disk.read_numbers(rest, 1) {
        0..4 => return None,
        4 => 4,
        5..11 => 0,
        11..15 => 11,
        15..17 => 15,
        _ => COLUMNS,
    };
    Some(disk)
}

/// Parses a line of /proc/stat, ticks as milliseconds; `None` if the line is not about one processor.
pub fn parse_cpu(line: &[u8]) -> Option<StatLine<'_>> {
    let mut rest = line;
    let mut cpu = StatLine {
        name: next_word(&mut rest)?,
        ..StatLine::default()
    };
    cpu.id[0] = parse_u64(cpu.name.strip_prefix(b"cpu")?)?;
    cpu.known = match cpu.read_numbers(rest, TICK_MS) {
        // Kernels with irq have softirq as well: report both.
        6 => 7,
        count => count.clamp(4, 10),
    };
    Some(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    /// The line of a disk with this many numbers after the name: 1, 2, 3...
    fn line(numbers: u64) -> String {
        let numbers: String = (1..=numbers).map(|number| format!(" {number}")).collect();
        format!(" 254       1 vda1{numbers}")
    }

    #[test]
    fn the_number_of_columns_decides_how_many_numbers_a_disk_has() {
        for (columns, known) in [
            (4, 4),
            (5, 0),
            (10, 0),
            (11, 11),
            (14, 11),
            (15, 15),
            (16, 15),
            (17, 17),
            (30, 17),
        ] {
            let line = line(columns);
            let disk = parse_disk(line.as_bytes()).unwrap();
            assert_eq!((disk.name, disk.id), (&b"vda1"[..], [254, 1]));
            let expected: Vec<u64> = (1..=known).collect();
            assert_eq!(disk.numbers(), expected, "{columns}");
        }
        for odd in [&line(3), "", "254 1", "x 1 vda 1 2 3 4", "8 : sda 1 2 3 4"] {
            assert_eq!(parse_disk(odd.as_bytes()), None);
        }
    }

    #[test]
    fn the_number_of_columns_decides_how_many_numbers_a_processor_has() {
        for (columns, known) in [
            (4, 4),
            (5, 5),
            (6, 7),
            (7, 7),
            (8, 8),
            (9, 9),
            (10, 10),
            (12, 10),
        ] {
            let numbers: String = (1..=columns).map(|number| format!(" {number}")).collect();
            let line = format!("cpu17{numbers}");
            let cpu = parse_cpu(line.as_bytes()).unwrap();
            assert_eq!((cpu.name, cpu.id), (&b"cpu17"[..], [17, 0]));
            let mut expected: Vec<u64> = (1..=known).map(|number| number * TICK_MS).collect();
            if columns == 6 {
                expected[6] = 0;
            }
            assert_eq!(cpu.numbers(), expected, "{columns}");
        }
        for odd in [
            "cpu  1 2 3 4 5",
            "intr 1 2 3",
            "",
            "cpux 1 2 3 4",
            "cp1 1 2 3 4",
        ] {
            assert_eq!(parse_cpu(odd.as_bytes()), None);
        }
    }

    #[test]
    fn no_input_panics() {
        torture(line(17).as_bytes(), |bytes| {
            _ = parse_disk(bytes).map(|disk| disk.numbers().len());
        });
        torture(b"cpu0 1 2 3 4 5 6 7 8 9 10", |bytes| {
            _ = parse_cpu(bytes).map(|cpu| cpu.numbers().len());
        });
    }
}
