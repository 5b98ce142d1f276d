//! POSIX TZ strings, as POSIX.1-2024 (chapter 8.3), RFC 8536 (section 3.3.1) and tzset(3) describe
//! them: `EST5EDT,M3.2.0,M11.1.0`, `<+0330>-3:30`, `IST-2IDT,M3.4.4/26,M10.5.0`.
//!
//! As in glibc, an offset has at most 24 hours, 59 minutes and 59 seconds; daylight saving time is one
//! hour ahead unless the string has an offset for it; a missing rule is that of the USA (`M3.2.0` and
//! `M11.1.0`). Unlike glibc, a string with any error is `None` as a whole. A leading colon and names of
//! files are not accepted.

use super::{decimal, span};
use crate::base::civil::{approximate_year, days_before_month, first_day, is_leap};

const DAY_SECONDS: i64 = 86_400;

/// Offset from UTC in seconds, positive east of Greenwich, and abbreviation.
pub type Zone<'a> = (i64, &'a [u8]);

/// Returns offset and abbreviation at `unix_seconds`; `None` if `rule` is not a valid TZ string.
pub fn at(rule: &[u8], unix_seconds: i64) -> Option<Zone<'_>> {
    let mut parser = Parser { rest: rule };
    let name = parser.name()?;
    let standard = parser.clock(24)?.wrapping_neg();
    if parser.rest.is_empty() {
        return Some((standard, name));
    }
    let daylight_name = parser.name()?;
    let daylight = match parser.rest {
        [] | [b',', ..] => standard.wrapping_add(3600),
        _ => parser.clock(24)?.wrapping_neg(),
    };
    let begins = parser.transition(b"3.2.0", standard)?;
    let ends = parser.transition(b"11.1.0", daylight)?;
    if !parser.rest.is_empty() {
        return None;
    }
    Some(if is_daylight([&begins, &ends], unix_seconds) {
        (daylight, daylight_name)
    } else {
        (standard, name)
    })
}

/// A transition to or from daylight saving time, every year.
#[derive(Default)]
struct Transition {
    /// The format of the day:
    /// - `M`: month `numbers[0]` (January is 1), week `numbers[1]` (5 is the last one), weekday
    ///   `numbers[2]` (Sunday is 0);
    /// - `J`: day `numbers[0]` of the year, counted from 1, 29 February is never counted;
    /// - 0: day `numbers[0]` of the year, counted from 0, 29 February is counted in leap years.
    kind: u8,
    numbers: [i64; 3],
    /// Seconds after 00:00 UTC of that day; may be negative or more than a day.
    seconds: i64,
}

/// A parser of the rest of a TZ string.
struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    /// Takes `byte` if it is next. Returns whether it was.
    // Out of line: one copy of the code is smaller.
    #[inline(never)]
    fn accept(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => self.rest = rest,
            _ => return false,
        }
        true
    }

    /// Takes an abbreviation: three or more letters, or letters, digits and signs in angle brackets.
    fn name(&mut self) -> Option<&'a [u8]> {
        let is_quoted = self.accept(b'<');
        let (name, rest) = span(self.rest, |byte| {
            byte.is_ascii_alphabetic() || is_quoted && matches!(byte, b'0'..=b'9' | b'+' | b'-')
        });
        self.rest = rest;
        let is_closed = !is_quoted || self.accept(b'>');
        (is_closed && name.len() >= 3).then_some(name)
    }

    fn number(&mut self) -> Option<i64> {
        let (number, rest) = decimal(self.rest)?;
        self.rest = rest;
        i64::try_from(number).ok()
    }

    /// Takes a time `[+-]hh[:mm[:ss]]`. Returns seconds. Hours are limited to `hours_max`.
    fn clock(&mut self, hours_max: i64) -> Option<i64> {
        let is_negative = self.accept(b'-');
        if !is_negative {
            self.accept(b'+');
        }
        let (mut seconds, mut unit, mut max) = (0i64, 3600i64, hours_max);
        loop {
            let value = self.number()?.min(max);
            seconds = seconds.wrapping_add(value.wrapping_mul(unit));
            if unit == 1 || !self.accept(b':') {
                break;
            }
            (unit, max) = (unit.wrapping_div(60), 59);
        }
        Some(if is_negative {
            seconds.wrapping_neg()
        } else {
            seconds
        })
    }

    /// Takes a comma and a rule. If it is missing, `default` is used, an `M` rule. `offset` is the offset
    /// from UTC before the transition.
    fn transition(&mut self, default: &[u8], offset: i64) -> Option<Transition> {
        let mut transition = Transition {
            seconds: 2 * 3600,
            ..Transition::default()
        };
        if self.accept(b',') && !self.rest.is_empty() {
            for kind in b"JM" {
                if self.accept(*kind) {
                    transition.kind = *kind;
                }
            }
            self.day(&mut transition)?;
            if self.accept(b'/') {
                // RFC 8536 allows up to 167 hours.
                transition.seconds = self.clock(167)?;
            }
        } else {
            transition.kind = b'M';
            Parser { rest: default }.day(&mut transition)?;
        }
        transition.seconds = transition.seconds.wrapping_sub(offset);
        Some(transition)
    }

    /// Takes the numbers of a day, separated by dots, in the format `transition.kind`.
    fn day(&mut self, transition: &mut Transition) -> Option<()> {
        let limits: &[(i64, i64)] = match transition.kind {
            b'M' => &[(1, 12), (1, 5), (0, 6)],
            b'J' => &[(1, 365)],
            _ => &[(0, 365)],
        };
        let mut is_first = true;
        for (number, (min, max)) in transition.numbers.iter_mut().zip(limits) {
            if !is_first && !self.accept(b'.') {
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

/// Whether the last transition before or at `unix_seconds` is the first of the two, which begins
/// daylight saving time.
///
/// Looks at five years, because times of day reach into neighbouring years and the year is approximate.
/// If both transitions happen at one instant, the first one counts: strings declare a whole year to be
/// daylight saving time that way.
fn is_daylight(transitions: [&Transition; 2], unix_seconds: i64) -> bool {
    let approximate = approximate_year(unix_seconds.div_euclid(DAY_SECONDS));
    // Instant, shifted left by one bit, plus 1 if daylight saving time begins there.
    let mut last = i64::MIN;
    for offset in -2..3 {
        let year = approximate.wrapping_add(offset);
        for (index, transition) in transitions.iter().enumerate() {
            let instant = transition
                .day_in(year)
                .wrapping_mul(DAY_SECONDS)
                .wrapping_add(transition.seconds);
            if instant <= unix_seconds {
                last = last.max(instant << 1 | i64::from(index == 0));
            }
        }
    }
    last & 1 != 0
}

impl Transition {
    /// Returns its day in `year`, in days since the epoch.
    fn day_in(&self, year: i64) -> i64 {
        let first = first_day(year);
        let is_leap = is_leap(year);
        let [number, week, weekday] = self.numbers;
        first.wrapping_add(match self.kind {
            b'M' => {
                let month = days_before_month(number, is_leap);
                // Days from the first of the month to the first such weekday. The epoch was a Thursday.
                let to_weekday = weekday
                    .wrapping_sub(first.wrapping_add(month))
                    .wrapping_sub(4)
                    .rem_euclid(7);
                let day = month
                    .wrapping_add(to_weekday)
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
        let (offset, name) = at(rule.as_bytes(), unix_seconds)?;
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
    fn a_string_without_rules_has_a_fixed_offset() {
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
    fn transitions_are_exact_to_the_second() {
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
    fn times_may_lie_outside_their_day() {
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
    fn days_of_the_year_include_leap_days_or_not() {
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
    fn invalid_strings_are_none() {
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
    fn no_input_panics() {
        torture(b"<-02>2<-01>-1:30:00,M3.5.0/-1,J300/26:00", |bytes| {
            for instant in [i64::MIN, 0, 1_700_000_000, i64::MAX] {
                at(bytes, instant);
            }
        });
        for instant in [i64::MIN, i64::MAX] {
            at(b"EST5EDT", instant);
        }
    }
}
