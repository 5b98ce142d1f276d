//! Records of /run/utmp, as utmp(5) and glibc's bits/utmpx.h lay them out, in the byte order of this
//! machine.
//!
//! There are two layouts of 64-bit systems: those that share the file with 32-bit programs keep 32
//! bits for session and time (and so do all 32-bit systems), the others have 64.
//!
//! Differences from qemu-ga: a user name of 32 bytes, which has no NUL, ends there; 32-bit times are
//! unsigned, as in glibc since 2.40, and last until 2106.

use super::{array, take, until_nul};

/// `USER_PROCESS`, utmpx.h: somebody is logged in.
pub const USER_PROCESS: i16 = 7;

/// How long the fields of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// 384 bytes: x86-64.
    Narrow,
    /// 400 bytes: aarch64.
    Wide,
}

impl Layout {
    /// The one that the C library of this processor uses.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::Wide
    } else {
        Self::Narrow
    };

    /// Bytes of a record.
    pub const fn record_bytes(self) -> usize {
        match self {
            Self::Narrow => 384,
            Self::Wide => 400,
        }
    }
}

/// What a record says. Borrows the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is about: [`USER_PROCESS`] and others.
    pub kind: i16,
    /// The process.
    pub pid: i32,
    /// The user, at most 32 bytes; may be empty.
    pub user: &'a [u8],
    /// When, since the epoch.
    pub seconds: i64,
    /// When, beyond the seconds.
    pub microseconds: i64,
}

/// The records in `bytes`; an incomplete one at the end is left out.
pub fn records(mut bytes: &[u8], layout: Layout) -> impl Iterator<Item = Record<'_>> {
    core::iter::from_fn(move || parse(take(&mut bytes, layout.record_bytes())?, layout))
}

/// The record that `bytes` begin with, if it is complete.
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
    fn records_of_both_layouts_read_back() {
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
    fn no_bytes_make_it_panic() {
        for layout in LAYOUTS {
            torture(&record(layout, 7, b"root", 1), |bytes| {
                assert!(records(bytes, layout).all(|record| record.user.len() <= 32));
            });
        }
    }
}
