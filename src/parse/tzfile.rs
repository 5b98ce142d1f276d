//! Time zone files, as RFC 8536 (TZif, versions 1 to 4) describes them.
//!
//! The 64-bit data are used where there are any. After the last change, or where there is none, the
//! rule in the footer holds; without a rule (version 1), the last change does. Before the first
//! change, the first kind of time does.
//! Leap seconds (the files below `right/`) are not counted: the kernel's clock does not either.

use super::posix_tz::{self, Zone};
use super::{array, span, take, until_nul};

/// Bytes of the header before each of the two data blocks.
const HEADER_BYTES: usize = 44;

/// Puts what is in force at `unix_seconds`, according to the whole `file`, into `zone`; `None`, and
/// nothing, if it makes no sense.
#[inline(never)]
pub fn at<'a>(file: &'a [u8], unix_seconds: i64, zone: &mut Zone<'a>) -> Option<()> {
    let mut rest = file;
    let mut time_bytes = 4usize;
    loop {
        let header = take(&mut rest, HEADER_BYTES)?.strip_prefix(b"TZif")?;
        let mut counts = [0usize; 6];
        for (count, bytes) in counts.iter_mut().zip(header.get(16..)?.chunks_exact(4)) {
            *count = (instant(bytes) & 0xFFFF_FFFF) as usize;
        }
        // None is above 32 bits, so that no product of two is above 64.
        let [utc_flags, standard_flags, leaps, times, kinds, names] = counts;
        // Instants of change, ascending; for each of them, the kind of time that begins, one byte each;
        // the kinds of time, six bytes each; the abbreviations, each ended by a NUL.
        let mut changes = take(&mut rest, times.wrapping_mul(time_bytes))?;
        let begins = take(&mut rest, times)?;
        let kinds = take(&mut rest, kinds.wrapping_mul(6))?;
        let names = take(&mut rest, names)?;
        let leaps = leaps.wrapping_mul(time_bytes.wrapping_add(4));
        let flags = standard_flags.wrapping_add(utc_flags);
        take(&mut rest, leaps.wrapping_add(flags))?;
        let is_first_version = header.first() == Some(&0);
        if !is_first_version && time_bytes == 4 {
            time_bytes = 8;
            continue;
        }
        // The kind of time after the changes that are past.
        let mut kind = 0;
        let mut passed = 0usize;
        for begins in begins {
            if instant(take(&mut changes, time_bytes)?) > unix_seconds {
                break;
            }
            kind = usize::from(*begins);
            passed = passed.wrapping_add(1);
        }
        // The rule stands between two line feeds; it may be empty.
        if !is_first_version
            && passed == times
            && let Some((b'\n', rest)) = rest.split_first()
            && posix_tz::at(span(rest, |byte| byte != b'\n').0, unix_seconds, zone).is_some()
        {
            return Some(());
        }
        let [offset @ .., _is_daylight, name] = array::<6>(kinds, kind.wrapping_mul(6))?;
        let name = names.get(usize::from(name)..)?;
        *zone = (instant(&offset), until_nul(name));
        return Some(());
    }
}

/// A number with a sign, of as many bytes as there are, the highest first.
#[inline(never)]
fn instant(bytes: &[u8]) -> i64 {
    let sign = match bytes {
        [128..=255, ..] => -1,
        _ => 0,
    };
    bytes
        .iter()
        .fold(sign, |value, byte| value << 8 | i64::from(*byte))
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

    fn is(file: &[u8], unix_seconds: i64, offset: i64, name: &str) {
        assert_eq!(
            at(file, unix_seconds),
            Some((offset, name.as_bytes())),
            "{unix_seconds}"
        );
    }

    fn at(file: &[u8], unix_seconds: i64) -> Option<Zone<'_>> {
        let mut zone = (0, &b""[..]);
        super::at(file, unix_seconds, &mut zone)?;
        Some(zone)
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
