//! Time zone files, as RFC 8536 (TZif, versions 1 to 4) describes them.
//!
//! Versions from 2 on have two data blocks: the second one, with 64-bit times, is used. Before the first
//! transition the first local time type holds; after the last one the TZ string in the footer; without a
//! footer (version 1) or with an invalid one, the last transition. Leap seconds (files below `right/`)
//! are ignored: the kernel's clock has none.

use super::posix_tz::{self, Zone};
use super::{array, span, take, until_nul};

/// Size of the header of a data block.
const HEADER_BYTES: usize = 44;

/// Returns offset and abbreviation at `unix_seconds`; `None` if `file` is not a valid time zone file.
pub fn at(file: &[u8], unix_seconds: i64) -> Option<Zone<'_>> {
    let mut rest = file;
    let mut time_bytes = 4usize;
    loop {
        let header = take(&mut rest, HEADER_BYTES)?.strip_prefix(b"TZif")?;
        let mut counts = [0usize; 6];
        for (count, bytes) in counts.iter_mut().zip(header.get(16..)?.chunks_exact(4)) {
            *count = (signed(bytes) & 0xFFFF_FFFF) as usize;
        }
        // No count has more than 32 bits, so no product below overflows 64 bits.
        let [utc_flags, standard_flags, leaps, times, types, names] = counts;
        let mut transitions = take(&mut rest, times.wrapping_mul(time_bytes))?;
        let transition_types = take(&mut rest, times)?;
        let types = take(&mut rest, types.wrapping_mul(6))?;
        let names = take(&mut rest, names)?;
        let leaps = leaps.wrapping_mul(time_bytes.wrapping_add(4));
        let flags = standard_flags.wrapping_add(utc_flags);
        take(&mut rest, leaps.wrapping_add(flags))?;
        let is_first_version = header.first() == Some(&0);
        if !is_first_version && time_bytes == 4 {
            time_bytes = 8;
            continue;
        }
        // Find the last transition that is not after `unix_seconds`.
        let mut current = 0;
        let mut passed = 0usize;
        for transition_type in transition_types {
            if signed(take(&mut transitions, time_bytes)?) > unix_seconds {
                break;
            }
            current = usize::from(*transition_type);
            passed = passed.wrapping_add(1);
        }
        // The footer is a TZ string between two line feeds. It may be empty.
        if !is_first_version
            && passed == times
            && let Some((b'\n', footer)) = rest.split_first()
            && let Some(zone) = posix_tz::at(span(footer, |byte| byte != b'\n').0, unix_seconds)
        {
            return Some(zone);
        }
        let [offset @ .., _is_daylight, name] = array::<6>(types, current.wrapping_mul(6))?;
        let name = names.get(usize::from(name)..)?;
        return Some((signed(&offset), until_nul(name)));
    }
}

/// Reads a signed big-endian number of any length up to eight bytes.
fn signed(bytes: &[u8]) -> i64 {
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

    // Compiled by zic from the public-domain time zone database, release 2025b. New_York and Dublin are
    // slim (transitions that follow from the footer are left out), the others fat.
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

    #[test]
    fn listed_transitions_are_exact_to_the_second() {
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
    fn the_footer_holds_after_the_last_transition() {
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
    fn the_first_local_time_type_holds_before_the_first_transition() {
        is(NEW_YORK, i64::MIN, -17_762, "LMT");
        is(KATHMANDU, -1_577_943_677, 20_476, "LMT");
    }

    #[test]
    fn version_1_files_have_32_bit_times_and_no_footer() {
        let mut file = KATHMANDU.to_vec();
        file[4] = 0;
        is(&file, 504_901_799, 19_800, "+0530");
        is(&file, 4_000_000_000, 20_700, "+0545");
    }

    #[test]
    fn without_a_valid_footer_the_last_transition_holds() {
        let end = DUBLIN.iter().rposition(|byte| *byte == b'M').unwrap();
        let mut file = DUBLIN.to_vec();
        file[end] = b'?';
        let last_known = at(&file, i64::MAX).unwrap();
        assert_eq!(at(&DUBLIN[..end], 4_000_000_000).unwrap(), last_known);
    }

    #[test]
    fn invalid_files_are_none() {
        assert_eq!(at(b"", 0), None);
        assert_eq!(at(&[b'x'; 200], 0), None);
        assert_eq!(at(&NEW_YORK[..NEW_YORK.len() / 2], 0), None);
        let mut huge = UTC.to_vec();
        huge[20..44].fill(0xff);
        assert_eq!(at(&huge, 0), None);
    }

    #[test]
    fn no_input_panics() {
        for file in [KATHMANDU, DUBLIN] {
            torture(file, |bytes| {
                for instant in [i64::MIN, 0, 1_700_000_000, i64::MAX] {
                    at(bytes, instant);
                }
            });
        }
    }
}
