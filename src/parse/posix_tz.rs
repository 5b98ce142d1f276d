//! POSIX TZ strings, as POSIX.1-2024 (chapter 8.3), RFC 8536 (section 3.3.1) and tzset(3) describe
//! them: `EST5EDT,M3.2.0,M11.1.0`, `<+0330>-3:30`, `IST-2IDT,M3.4.4/26,M10.5.0`.
//!
//! As glibc has it: hours of an offset count up to 24, minutes and seconds up to 59; daylight saving
//! time is an hour ahead unless the string says otherwise; where a rule is missing, that of the USA
//! (`M3.2.0` and `M11.1.0`) stands in. Unlike glibc, a string with anything wrong in it is `None` as
//! a whole. Names of files and the leading colon are the caller's.

use super::{decimal, span};
use crate::base::civil::{approximate_year, days_before_month, first_day, is_leap};

const DAY_SECONDS: i64 = 86_400;

/// The offset from UTC in seconds (east is positive), and the abbreviation.
pub type Zone<'a> = (i64, &'a [u8]);

/// Puts what is in force at `unix_seconds` where `rule` holds into `zone`; `None`, and nothing, if it
/// makes no sense.
///
/// In place: handed from one to the other as a result it would be copied.
pub fn at<'a>(rule: &'a [u8], unix_seconds: i64, zone: &mut Zone<'a>) -> Option<()> {
    let mut text = Text(rule);
    let name = text.name()?;
    let standard = text.clock(24)?.wrapping_neg();
    if text.0.is_empty() {
        *zone = (standard, name);
        return Some(());
    }
    let daylight_name = text.name()?;
    let daylight = match text.0 {
        [] | [b',', ..] => standard.wrapping_add(3600),
        _ => text.clock(24)?.wrapping_neg(),
    };
    let mut changes = [Change::default(), Change::default()];
    let [begins, ends] = &mut changes;
    text.change(begins, b"3.2.0", standard)?;
    text.change(ends, b"11.1.0", daylight)?;
    if !text.0.is_empty() {
        return None;
    }
    *zone = if is_daylight(&changes, unix_seconds) {
        (daylight, daylight_name)
    } else {
        (standard, name)
    };
    Some(())
}

/// When clocks are changed, every year.
#[derive(Default)]
struct Change {
    /// `M`: the `numbers[1]`th weekday `numbers[2]` (Sunday is 0) of month `numbers[0]` (January is 1);
    /// week 5 is the last one. `J`: day `numbers[0]`, counted from 1, the 29th of February never
    /// being counted. Else that day, counted from 0 with the 29th of February where there is one.
    kind: u8,
    numbers: [i64; 3],
    /// UTC of that day. May be negative or beyond 24 hours.
    seconds: i64,
}

/// What is left of a string.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Takes `byte`, if it comes next.
    #[inline(never)]
    fn eat(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => self.0 = rest,
            _ => return false,
        }
        true
    }

    /// A name of at least three letters, or of letters, digits and signs between angle brackets.
    #[inline(never)]
    fn name(&mut self) -> Option<&'a [u8]> {
        let quoted = self.eat(b'<');
        let (name, rest) = span(self.0, |byte| {
            byte.is_ascii_alphabetic() || quoted && matches!(byte, b'0'..=b'9' | b'+' | b'-')
        });
        self.0 = rest;
        let ends = !quoted || self.eat(b'>');
        (ends && name.len() >= 3).then_some(name)
    }

    #[inline(never)]
    fn number(&mut self) -> Option<i64> {
        let (number, rest) = decimal(self.0)?;
        self.0 = rest;
        i64::try_from(number).ok()
    }

    /// A time `[+-]hh[:mm[:ss]]` in seconds; more hours than `hours_max` are that many.
    #[inline(never)]
    fn clock(&mut self, hours_max: i64) -> Option<i64> {
        let negative = self.eat(b'-');
        if !negative {
            self.eat(b'+');
        }
        let (mut seconds, mut unit, mut max) = (0i64, 3600i64, hours_max);
        loop {
            let value = self.number()?.min(max);
            seconds = seconds.wrapping_add(value.wrapping_mul(unit));
            if unit == 1 || !self.eat(b':') {
                break;
            }
            (unit, max) = (unit.wrapping_div(60), 59);
        }
        Some(if negative {
            seconds.wrapping_neg()
        } else {
            seconds
        })
    }

    /// A rule after its comma; where there is none, `missing`, an `M` rule. Its time is counted with
    /// `offset`, which holds before the change.
    #[inline(never)]
    fn change(&mut self, change: &mut Change, missing: &[u8], offset: i64) -> Option<()> {
        change.seconds = 2 * 3600;
        if self.eat(b',') && !self.0.is_empty() {
            for kind in b"JM" {
                if self.eat(*kind) {
                    change.kind = *kind;
                }
            }
            self.day(change)?;
            if self.eat(b'/') {
                // RFC 8536 allows 167 hours, a week less one.
                change.seconds = self.clock(167)?;
            }
        } else {
            change.kind = b'M';
            Text(missing).day(change)?;
        }
        change.seconds = change.seconds.wrapping_sub(offset);
        Some(())
    }

    /// The numbers of a day, with dots between.
    #[inline(never)]
    fn day(&mut self, change: &mut Change) -> Option<()> {
        let limits: &[(i64, i64)] = match change.kind {
            b'M' => &[(1, 12), (1, 5), (0, 6)],
            b'J' => &[(1, 365)],
            _ => &[(0, 365)],
        };
        let mut is_first = true;
        for (number, (min, max)) in change.numbers.iter_mut().zip(limits) {
            if !is_first && !self.eat(b'.') {
                return None;
            }
            is_first = false;
            *number = self.number()?;
            if !(*min..=*max).contains(number) {
                return None;
            }
        }
        Some(())
    }
}

/// Whether the last change before or at `unix_seconds` was to daylight saving time, the first of the
/// two `changes`.
///
/// Times of day reach into neighbouring years, and the year is a guess that may be one off, so the
/// changes of five years are looked at. Of two changes at one instant, that to daylight saving time
/// counts: this is how the whole year is declared daylight saving time.
fn is_daylight(changes: &[Change; 2], unix_seconds: i64) -> bool {
    let about = approximate_year(unix_seconds.div_euclid(DAY_SECONDS));
    let mut last = i64::MIN;
    for years in 0..5 {
        let year = about.wrapping_add(years).wrapping_sub(2);
        for (index, change) in changes.iter().enumerate() {
            let instant = change
                .day_in(year)
                .wrapping_mul(DAY_SECONDS)
                .wrapping_add(change.seconds);
            if instant <= unix_seconds {
                last = last.max(instant << 1 | i64::from(index == 0));
            }
        }
    }
    last & 1 != 0
}

impl Change {
    /// Its day of `year`, in days since the epoch.
    fn day_in(&self, year: i64) -> i64 {
        let first = first_day(year);
        let is_leap = is_leap(year);
        let [number, week, weekday] = self.numbers;
        first.wrapping_add(match self.kind {
            b'M' => {
                let begins = days_before_month(number, is_leap);
                // The epoch was a Thursday.
                let wait = weekday
                    .wrapping_sub(first.wrapping_add(begins))
                    .wrapping_sub(4)
                    .rem_euclid(7);
                let day = begins
                    .wrapping_add(wait)
                    .wrapping_add(week.wrapping_sub(1).wrapping_mul(7));
                if day >= days_before_month(number.wrapping_add(1), is_leap) {
                    day.wrapping_sub(7)
                } else {
                    day
                }
            }
            b'J' if !is_leap || number < 60 => number.wrapping_sub(1),
            _ => number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    fn text(rule: &str, unix_seconds: i64) -> Option<(i64, String)> {
        let mut zone = (0, &b""[..]);
        at(rule.as_bytes(), unix_seconds, &mut zone)?;
        let (offset, name) = zone;
        Some((offset, String::from_utf8(name.to_vec()).unwrap()))
    }

    fn is(rule: &str, unix_seconds: i64, offset: i64, name: &str) {
        assert_eq!(
            text(rule, unix_seconds),
            Some((offset, name.into())),
            "{rule} {unix_seconds}"
        );
    }

    #[test]
    fn fixed_offsets_hold_for_ever() {
        for instant in [i64::MIN, -1, 0, 1_700_000_000, i64::MAX] {
            is("XXX3", instant, -10_800, "XXX");
            is("<+05>-5", instant, 18_000, "+05");
            is("<+0545>-5:45", instant, 20_700, "+0545");
            is("XXX3:30:15", instant, -12_615, "XXX");
            is("XXX+25", instant, -86_400, "XXX");
            is("UTC0", instant, 0, "UTC");
        }
    }

    #[test]
    fn the_hour_of_change_is_exact() {
        // 2024: the USA changed on 10 March at 07:00 UTC and on 3 November at 06:00 UTC.
        let usa = "EST5EDT,M3.2.0,M11.1.0";
        is(usa, 1_710_053_999, -18_000, "EST");
        is(usa, 1_710_054_000, -14_400, "EDT");
        is(usa, 1_730_613_599, -14_400, "EDT");
        is(usa, 1_730_613_600, -18_000, "EST");
        // Sydney: daylight saving time spans the new year.
        let sydney = "AEST-10AEDT,M10.1.0,M4.1.0/3";
        is(sydney, 1_704_067_200, 39_600, "AEDT");
        is(sydney, 1_712_419_199, 39_600, "AEDT");
        is(sydney, 1_712_419_200, 36_000, "AEST");
        // Dublin: winter time is the exception, an hour back.
        is("IST-1GMT0,M10.5.0,M3.5.0/1", 1_704_067_200, 0, "GMT");
        is("IST-1GMT0,M10.5.0,M3.5.0/1", 1_720_000_000, 3_600, "IST");
    }

    #[test]
    fn missing_rules_are_those_of_the_usa() {
        for rule in ["EST5EDT", "EST5EDT,", "EST5EDT,M3.2.0", "EST5EDT4,M3.2.0,"] {
            is(rule, 1_700_000_000, -18_000, "EST");
            is(rule, 1_720_000_000, -14_400, "EDT");
        }
    }

    #[test]
    fn times_reach_beyond_the_day() {
        // Nuuk: 22:00 on the Saturday before the last Sunday of March 2024.
        let nuuk = "<-02>2<-01>,M3.5.0/-1,M10.5.0/0";
        is(nuuk, 1_711_846_799, -7_200, "-02");
        is(nuuk, 1_711_846_800, -3_600, "-01");
        // Jerusalem: 02:00 on the Friday after the fourth Thursday of March 2024.
        let jerusalem = "IST-2IDT,M3.4.4/26,M10.5.0";
        is(jerusalem, 1_711_670_399, 7_200, "IST");
        is(jerusalem, 1_711_670_400, 10_800, "IDT");
    }

    #[test]
    fn days_are_counted_with_and_without_leap_day() {
        // 1 March 2024 and 2023, midnight UTC.
        for (rule, instant) in [
            ("AAA0BBB,J60/0,J300/0", 1_709_251_200),
            ("AAA0BBB,60/0,J300/0", 1_709_251_200),
            ("AAA0BBB,J60/0,J300/0", 1_677_628_800),
            ("AAA0BBB,59/0,J300/0", 1_677_628_800),
        ] {
            is(rule, instant - 1, 0, "AAA");
            is(rule, instant, 3600, "BBB");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn a_whole_year_can_be_daylight_saving_time() {
        let mut instant = 1_600_000_000;
        while instant < 1_800_000_000 {
            is("XXX3EDT4,0/0,J365/23", instant, -14_400, "EDT");
            instant += 40_000;
        }
        is("XXX3EDT4,0/0,J365/23", 1_704_078_000, -14_400, "EDT");
        is("XXX3EDT4,0/0,J365/23", 1_704_081_600, -14_400, "EDT");
    }

    #[test]
    fn broken_strings_are_none() {
        for rule in [
            "",
            "XXX",
            "AB3",
            "<+5>-5",
            "<+05-5",
            "3",
            "XXX3 ",
            "XXX3:",
            "XXX3:foo",
            "EST5<>4",
            "EST5EDT,M13.2.0,M11.1.0",
            "EST5EDT,M3.6.0",
            "EST5EDT,M3.2.7",
            "EST5EDT,M3.2",
            "EST5EDT,J0",
            "EST5EDT,J366",
            "EST5EDT,366",
            "EST5EDT,M3.2.0/,M11.1.0",
            "EST5EDT,M3.2.0,M11.1.0junk",
            "XXX99999999999999999999",
        ] {
            assert_eq!(text(rule, 0), None, "{rule}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(b"<-02>2<-01>-1:30:00,M3.5.0/-1,J300/26:00", |bytes| {
            for instant in [i64::MIN, 0, 1_700_000_000, i64::MAX] {
                at(bytes, instant, &mut (0, b""));
            }
        });
        for instant in [i64::MIN, i64::MAX] {
            at(b"EST5EDT", instant, &mut (0, b""));
        }
    }
}
