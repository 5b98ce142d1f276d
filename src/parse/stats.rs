//! Rows of numbers in /proc: /proc/diskstats, as the kernel's `iostats` document describes it, and the
//! processors' lines of /proc/stat, as proc(5) does.
//!
//! Both have grown columns over time. Counted is what a line has, as qemu-ga does it; what is behind
//! the columns that are known is passed over, and what is not a number counts as 0.

use super::next_word;
use crate::base::text::parse_u64;

/// Milliseconds of a tick: USER_HZ is 100 on every architecture.
const TICK_MS: u64 = 10;

/// The most columns behind the name that are known: those of a disk.
const COLUMNS: usize = 17;

/// A line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row<'a> {
    /// Major and minor number of a disk; number of a processor, and nothing.
    pub id: [u64; 2],
    /// The name of the disk or partition, or of the processor.
    pub name: &'a [u8],
    numbers: [u64; COLUMNS],
    known: usize,
}

impl Row<'_> {
    /// The numbers behind the name, as many as belong to the columns of this line. Those of a disk
    /// are reads, sectors read, writes and sectors written if there are but four.
    pub fn numbers(&self) -> &[u64] {
        self.numbers.get(..self.known).unwrap_or_default()
    }
}

/// A line of /proc/diskstats, or, if it is about a `processor`, of /proc/stat, its ticks as
/// milliseconds; `None` if that is about something else. What was in `row` is written over.
pub fn row<'a>(line: &'a [u8], processor: bool, row: &mut Row<'a>) -> Option<()> {
    let mut rest = line;
    *row = Row::default();
    let mut unit = 1;
    if processor {
        unit = TICK_MS;
        row.name = next_word(&mut rest)?;
        row.id[0] = parse_u64(row.name.strip_prefix(b"cpu")?)?;
    } else {
        for number in &mut row.id {
            *number = parse_u64(next_word(&mut rest)?)?;
        }
        row.name = next_word(&mut rest)?;
    }
    let mut count = 0usize;
    while let Some(word) = next_word(&mut rest) {
        if let Some(slot) = row.numbers.get_mut(count) {
            *slot = parse_u64(word).unwrap_or(0).wrapping_mul(unit);
        }
        count = count.wrapping_add(1);
    }
    row.known = if processor {
        // irq and softirq come together.
        if count == 6 { 7 } else { count.clamp(4, 10) }
    } else {
        match count {
            0..4 => return None,
            4 => 4,
            5..11 => 0,
            11..15 => 11,
            15..17 => 15,
            _ => COLUMNS,
        }
    };
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    fn row(line: &[u8], processor: bool) -> Option<Row<'_>> {
        let mut row = Row::default();
        super::row(line, processor, &mut row).map(|()| row)
    }

    /// A disk's line with this many numbers behind the name: 1, 2, 3...
    fn line(numbers: u64) -> String {
        let numbers: String = (1..=numbers).map(|number| format!(" {number}")).collect();
        format!(" 254       1 vda1{numbers}")
    }

    #[test]
    fn the_columns_of_a_disk_are_counted() {
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
            let row = row(line.as_bytes(), false).unwrap();
            assert_eq!((row.name, row.id), (&b"vda1"[..], [254, 1]));
            let expected: Vec<u64> = (1..=known).collect();
            assert_eq!(row.numbers(), expected, "{columns}");
        }
        for odd in [&line(3), "", "254 1", "x 1 vda 1 2 3 4", "8 : sda 1 2 3 4"] {
            assert_eq!(row(odd.as_bytes(), false), None);
        }
    }

    #[test]
    fn the_columns_of_a_processor_are_counted() {
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
            let row = row(line.as_bytes(), true).unwrap();
            assert_eq!((row.name, row.id), (&b"cpu17"[..], [17, 0]));
            let mut expected: Vec<u64> = (1..=known).map(|number| number * TICK_MS).collect();
            if columns == 6 {
                expected[6] = 0;
            }
            assert_eq!(row.numbers(), expected, "{columns}");
        }
        for odd in [
            "cpu  1 2 3 4 5",
            "intr 1 2 3",
            "",
            "cpux 1 2 3 4",
            "cp1 1 2 3 4",
        ] {
            assert_eq!(row(odd.as_bytes(), true), None);
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(line(17).as_bytes(), |bytes| {
            _ = row(bytes, false).map(|row| row.numbers().len());
        });
        torture(b"cpu0 1 2 3 4 5 6 7 8 9 10", |bytes| {
            _ = row(bytes, true).map(|row| row.numbers().len());
        });
    }
}
