//! Records of /run/utmp, as utmp(5) and glibc's bits/utmpx.h define them, in native byte order.
//!
//! There are two layouts. Where 64-bit and 32-bit programs share the file, session and time have 32
//! bits; elsewhere they have 64.
//!
//! Differences from qemu-ga: a user name of 32 bytes, which has no terminator, ends there, while qemu-ga
//! reads on into the host name; times of 32 bits are unsigned, as in glibc since 2.40, and last until
//! 2106.

use super::{array, until_nul};

/// `USER_PROCESS`, utmpx.h: the record of a login.
pub const USER_PROCESS: i16 = 7;

/// The layout of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// 32-bit times, 384 bytes: x86-64.
    Narrow,
    /// 64-bit times, 400 bytes: aarch64.
    Wide,
}

impl Layout {
    /// The layout of the C library on this architecture.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::Wide
    } else {
        Self::Narrow
    };

    /// Returns the size of a record.
    pub const fn record_bytes(self) -> usize {
        match self {
            Self::Narrow => 384,
            Self::Wide => 400,
        }
    }
}

/// One record. Borrows the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Type of the record: [`USER_PROCESS`] and others.
    pub kind: i16,
    /// Process ID.
    pub pid: i32,
    /// User name, at most 32 bytes; may be empty.
    pub user: &'a [u8],
    /// Time in seconds since the epoch.
    pub seconds: i64,
    /// Microseconds of that time.
    pub microseconds: i64,
}

/// Parses the record at the front of `bytes`; `None` if it is incomplete.
pub fn parse(bytes: &[u8], layout: Layout) -> Option<Record<'_>> {
    let record = bytes.get(..layout.record_bytes())?;
    let (seconds, microseconds) = match layout {
        Layout::Narrow => {
            let word = |at| array(record, at).map(u32::from_ne_bytes).map(i64::from);
            (word(340)?, word(344)?)
        }
        Layout::Wide => {
            let word = |at| array(record, at).map(i64::from_ne_bytes);
            (word(344)?, word(352)?)
        }
    };
    Some(Record {
        kind: i16::from_ne_bytes(array(record, 0)?),
        pid: i32::from_ne_bytes(array(record, 4)?),
        user: until_nul(record.get(44..76)?),
        seconds,
        microseconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const LAYOUTS: [Layout; 2] = [Layout::Narrow, Layout::Wide];

    fn records(file: &[u8], layout: Layout) -> impl Iterator<Item = Record<'_>> {
        let chunks = file.chunks(layout.record_bytes());
        chunks.map_while(move |bytes| parse(bytes, layout))
    }

    fn record(layout: Layout, kind: i16, user: &[u8], seconds: i64) -> Vec<u8> {
        let mut bytes = vec![0; layout.record_bytes()];
        bytes[0..2].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&4711i32.to_ne_bytes());
        bytes[8..13].copy_from_slice(b"pts/0");
        bytes[44..44 + user.len()].copy_from_slice(user);
        bytes[76..84].copy_from_slice(b"far-host");
        match layout {
            Layout::Narrow => {
                bytes[340..344].copy_from_slice(&(seconds as u32).to_ne_bytes());
                bytes[344..348].copy_from_slice(&250_000u32.to_ne_bytes());
            }
            Layout::Wide => {
                bytes[344..352].copy_from_slice(&seconds.to_ne_bytes());
                bytes[352..360].copy_from_slice(&250_000i64.to_ne_bytes());
            }
        }
        bytes
    }

    #[test]
    fn reads_records_of_both_layouts() {
        for layout in LAYOUTS {
            let long = [b'x'; 32];
            let file = [
                record(layout, USER_PROCESS, b"root", 1_700_000_050),
                record(layout, 2, b"reboot", 4_000_000_000),
                record(layout, USER_PROCESS, &long, 0),
                record(layout, USER_PROCESS, b"", 1),
            ]
            .concat();
            let all: Vec<_> = records(&file, layout).collect();
            let first = Record {
                kind: 7,
                pid: 4711,
                user: b"root",
                seconds: 1_700_000_050,
                microseconds: 250_000,
            };
            assert_eq!(all[0], first);
            assert_eq!((all[1].kind, all[1].seconds), (2, 4_000_000_000));
            assert_eq!(all[2].user, long);
            assert_eq!(all[3].user, b"");
            assert_eq!(records(&file[..file.len() - 1], layout).count(), 3);
        }
    }

    #[test]
    fn no_input_panics() {
        for layout in LAYOUTS {
            torture(&record(layout, 7, b"root", 1), |bytes| {
                assert!(records(bytes, layout).all(|record| record.user.len() <= 32));
            });
        }
    }
}
