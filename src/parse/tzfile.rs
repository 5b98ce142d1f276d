//! Time zone files, as RFC 8536 (TZif, versions 1 to 4) describes them.
//!
//! The 64-bit data are used where there are any. After the last change, or where there is none, the
//! rule in the footer holds; without a rule (version 1), the last change does. Before the first
//! change, the first kind of time does.
//! Leap seconds (the files below `right/`) are not counted: the kernel's clock does not either.

use super::{posix_tz, take, until_nul};

/// Bytes of the header before each of the two data blocks.
const HEADER_BYTES: usize = 44;

/// The offset from UTC in seconds (east is positive) and the abbreviation in force at
/// `unix_seconds`, according to the whole `file`.
pub fn at(file: &[u8], unix_seconds: i64) -> Option<(i32, &[u8])> {
    let mut rest = file;
    let (version, mut block) = block(&mut rest, 4)?;
    if version != 0 {
        (_, block) = self::block(&mut rest, 8)?;
    }
    let mut times = block.times.chunks_exact(if version == 0 { 4 } else { 8 });
    let count = times.len();
    let passed = times
        .position(|time| instant(time) > unix_seconds)
        .unwrap_or(count);
    let ruled = if version != 0 && passed == count {
        posix_tz::at(footer(rest), unix_seconds)
    } else {
        None
    };
    ruled.or_else(|| block.last(passed))
}

/// A number with a sign, of as many bytes as there are, the highest first.
fn instant(bytes: &[u8]) -> i64 {
    let sign = match bytes {
        [128..=255, ..] => -1,
        _ => 0,
    };
    bytes
        .iter()
        .fold(sign, |value, byte| value << 8 | i64::from(*byte))
}

/// The parts of a data block that are of use.
struct Block<'a> {
    /// Instants of change, ascending.
    times: &'a [u8],
    /// For each of them, the kind of time that begins, one byte each.
    begins: &'a [u8],
    /// The kinds of time, six bytes each.
    kinds: &'a [u8],
    /// The abbreviations, each ended by a NUL.
    names: &'a [u8],
}

/// Takes a header and its data block, with times of `time_bytes` each; the version comes along.
fn block<'a>(rest: &mut &'a [u8], time_bytes: usize) -> Option<(u8, Block<'a>)> {
    let header = take(rest, HEADER_BYTES)?.strip_prefix(b"TZif")?;
    let (version, header) = header.split_first()?;
    let mut counts = [0; 6];
    for (count, bytes) in counts.iter_mut().zip(header.get(15..)?.chunks_exact(4)) {
        *count = usize::try_from(instant(bytes) & 0xFFFF_FFFF).ok()?;
    }
    let [utc_flags, standard_flags, leaps, times, kinds, names] = counts;
    let block = Block {
        times: take(rest, times.checked_mul(time_bytes)?)?,
        begins: take(rest, times)?,
        kinds: take(rest, kinds.checked_mul(6)?)?,
        names: take(rest, names)?,
    };
    take(rest, leaps.checked_mul(time_bytes.checked_add(4)?)?)?;
    take(rest, standard_flags)?;
    take(rest, utc_flags)?;
    Some((*version, block))
}

impl<'a> Block<'a> {
    /// The time in force after `passed` changes.
    fn last(&self, passed: usize) -> Option<(i32, &'a [u8])> {
        let kind = match passed.checked_sub(1) {
            Some(last) => usize::from(*self.begins.get(last)?),
            None => 0,
        };
        let (kinds, _) = self.kinds.as_chunks();
        let [a, b, c, d, _is_daylight, name] = *kinds.get(kind)?;
        let name = self.names.get(usize::from(name)..)?;
        Some((i32::from_be_bytes([a, b, c, d]), until_nul(name)))
    }
}

/// The rule between the two line feeds at the end; may be empty.
fn footer(rest: &[u8]) -> &[u8] {
    let rule = rest
        .strip_prefix(b"\n")
        .and_then(|rest| super::lines(rest).next());
    rule.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    // Built by zic from the public-domain time zone database, release 2025b; New_York and Dublin
    // are slim (what the footer says is not spelled out), the others fat.
    const NEW_YORK: &[u8] = include_bytes!("../../tests/fixtures/tz/New_York");
    const DUBLIN: &[u8] = include_bytes!("../../tests/fixtures/tz/Dublin");
    const KATHMANDU: &[u8] = include_bytes!("../../tests/fixtures/tz/Kathmandu");
    const UTC: &[u8] = include_bytes!("../../tests/fixtures/tz/UTC");

    fn is(file: &[u8], unix_seconds: i64, offset: i32, name: &str) {
        assert_eq!(
            at(file, unix_seconds),
            Some((offset, name.as_bytes())),
            "{unix_seconds}"
        );
    }

    #[test]
    fn changes_spelled_out_are_exact() {
        // 1995: 2 April at 07:00 UTC, 29 October at 06:00 UTC.
        is(NEW_YORK, 796_805_999, -18_000, "EST");
        is(NEW_YORK, 796_806_000, -14_400, "EDT");
        is(NEW_YORK, 814_946_399, -14_400, "EDT");
        is(NEW_YORK, 814_946_400, -18_000, "EST");
        is(KATHMANDU, 504_901_799, 19_800, "+0530");
        is(KATHMANDU, 504_901_800, 20_700, "+0545");
        is(DUBLIN, 0, 3_600, "IST");
    }

    #[test]
    fn the_footer_rules_after_the_last_change() {
        is(NEW_YORK, 1_710_053_999, -18_000, "EST");
        is(NEW_YORK, 1_710_054_000, -14_400, "EDT");
        is(NEW_YORK, 4_108_000_000, -18_000, "EST");
        is(DUBLIN, 1_720_000_000, 3_600, "IST");
        is(DUBLIN, 1_704_067_200, 0, "GMT");
        is(KATHMANDU, i64::MAX, 20_700, "+0545");
        is(UTC, i64::MIN, 0, "UTC");
        is(UTC, 1_700_000_000, 0, "UTC");
    }

    #[test]
    fn before_the_first_change_local_mean_time_holds() {
        is(NEW_YORK, i64::MIN, -17_762, "LMT");
        is(KATHMANDU, -1_577_943_677, 20_476, "LMT");
    }

    #[test]
    fn version_1_files_have_32_bits_and_no_rule() {
        let mut file = KATHMANDU.to_vec();
        file[4] = 0;
        is(&file, 504_901_799, 19_800, "+0530");
        is(&file, 4_000_000_000, 20_700, "+0545");
    }

    #[test]
    fn a_rule_that_is_broken_or_missing_leaves_the_last_change() {
        let end = DUBLIN.iter().rposition(|byte| *byte == b'M').unwrap();
        let mut file = DUBLIN.to_vec();
        file[end] = b'?';
        let last_known = at(&file, i64::MAX).unwrap();
        assert_eq!(at(&DUBLIN[..end], 4_000_000_000).unwrap(), last_known);
    }

    #[test]
    fn what_is_no_time_zone_file_is_none() {
        assert_eq!(at(b"", 0), None);
        assert_eq!(at(&[b'x'; 200], 0), None);
        assert_eq!(at(&NEW_YORK[..NEW_YORK.len() / 2], 0), None);
        let mut huge = UTC.to_vec();
        huge[20..44].fill(0xff);
        assert_eq!(at(&huge, 0), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for file in [KATHMANDU, DUBLIN] {
            torture(file, |bytes| {
                for instant in [i64::MIN, 0, 1_700_000_000, i64::MAX] {
                    at(bytes, instant);
                }
            });
        }
    }
}
