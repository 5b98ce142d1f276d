//! POSIX TZ strings, as POSIX.1-2024 (chapter 8.3), RFC 8536 (section 3.3.1) and tzset(3) describe
//! them: `EST5EDT,M3.2.0,M11.1.0`, `<+0330>-3:30`, `IST-2IDT,M3.4.4/26,M10.5.0`.
//!
//! As glibc has it: hours of an offset count up to 24, minutes and seconds up to 59; daylight saving
//! time is an hour ahead unless the string says otherwise; where a rule is missing, that of the USA
//! (`M3.2.0` and `M11.1.0`) stands in. Unlike glibc, a string with anything wrong in it is `None` as
//! a whole. Names of files and the leading colon are the caller's.

use super::{decimal, span};

const DAY_SECONDS: i64 = 86_400;

/// Offset from UTC in seconds (east is positive) and the name of the time.
type Time<'a> = (i32, &'a [u8]);

/// The offset from UTC in seconds (east is positive) and the abbreviation in force at
/// `unix_seconds` where `rule` holds.
pub fn at(rule: &[u8], unix_seconds: i64) -> Option<(i32, &[u8])> {
    let zone = parse(rule)?;
    Some(match &zone.daylight {
        Some(daylight) if is_daylight(&zone, daylight, unix_seconds) => daylight.time,
        _ => zone.standard,
    })
}

/// What a string says.
struct Zone<'a> {
    standard: Time<'a>,
    daylight: Option<Daylight<'a>>,
}

/// Daylight saving time and its rules.
struct Daylight<'a> {
    time: Time<'a>,
    begins: Change,
    ends: Change,
}

/// When clocks are changed, every year.
struct Change {
    day: Day,
    /// Local time of that day, as it is before the change. May be negative or beyond 24 hours.
    seconds: i32,
}

/// A day of the year.
enum Day {
    /// Counted from 1, the 29th of February never being counted.
    Julian(i64),
    /// Counted from 0, the 29th of February being counted where there is one.
    Counted(i64),
    /// The `week`th `weekday` (Sunday is 0) of `month` (January is 1); week 5 is the last one.
    Weekday { month: u64, week: i64, weekday: i64 },
}

fn parse(text: &[u8]) -> Option<Zone<'_>> {
    let (name, text) = name(text)?;
    let (west, text) = offset(text)?;
    let standard = (west.wrapping_neg(), name);
    if text.is_empty() {
        return Some(Zone {
            standard,
            daylight: None,
        });
    }
    let (name, text) = self::name(text)?;
    let (east, text) = match offset(text) {
        Some((west, text)) => (west.wrapping_neg(), text),
        None => (standard.0.wrapping_add(3600), text),
    };
    let (begins, text) = change(text, 3, 2)?;
    let (ends, text) = change(text, 11, 1)?;
    let daylight = Daylight {
        time: (east, name),
        begins,
        ends,
    };
    text.is_empty().then_some(Zone {
        standard,
        daylight: Some(daylight),
    })
}

/// A name of at least three letters, or of letters, digits and signs between angle brackets.
fn name(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = match text.strip_prefix(b"<") {
        Some(text) => {
            let (name, rest) = span(text, |byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-')
            });
            (name, rest.strip_prefix(b">")?)
        }
        None => span(text, |byte| byte.is_ascii_alphabetic()),
    };
    (name.len() >= 3).then_some((name, rest))
}

/// An offset west of UTC.
fn offset(text: &[u8]) -> Option<(i32, &[u8])> {
    clock(text, 24)
}

/// A time `[+-]hh[:mm[:ss]]` in seconds; more hours than `hours_max` are that many.
fn clock(text: &[u8], hours_max: u64) -> Option<(i32, &[u8])> {
    let (negative, text) = match text {
        [b'-', text @ ..] => (true, text),
        [b'+', text @ ..] => (false, text),
        text => (false, text),
    };
    let (hours, mut rest) = decimal(text)?;
    let mut seconds = hours.min(hours_max).wrapping_mul(3600);
    for unit in [60, 1] {
        let Some(after) = rest.strip_prefix(b":") else {
            break;
        };
        let (value, after) = decimal(after)?;
        seconds = seconds.wrapping_add(value.min(59).wrapping_mul(unit));
        rest = after;
    }
    let seconds = i32::try_from(seconds).ok()?;
    Some((
        if negative {
            seconds.wrapping_neg()
        } else {
            seconds
        },
        rest,
    ))
}

/// A rule after its comma; where there is none, the `week`th Sunday of `month`.
fn change(text: &[u8], month: u64, week: i64) -> Option<(Change, &[u8])> {
    let usual = 2 * 3600;
    let Some(text) = text.strip_prefix(b",").filter(|text| !text.is_empty()) else {
        let day = Day::Weekday {
            month,
            week,
            weekday: 0,
        };
        return Some((
            Change {
                day,
                seconds: usual,
            },
            text.strip_prefix(b",").unwrap_or(text),
        ));
    };
    let (day, text) = day(text)?;
    let (seconds, text) = match text.strip_prefix(b"/") {
        // RFC 8536 allows 167 hours, a week less one.
        Some(text) => clock(text, 167)?,
        None => (usual, text),
    };
    Some((Change { day, seconds }, text))
}

/// A day: `Jn`, `n` or `Mm.w.d`.
fn day(text: &[u8]) -> Option<(Day, &[u8])> {
    let number = |text, min, max| {
        let (number, rest) = decimal(text)?;
        let number = i64::try_from(number)
            .ok()
            .filter(|number| (min..=max).contains(number))?;
        Some((number, rest))
    };
    match text {
        [b'J', text @ ..] => number(text, 1, 365).map(|(day, rest)| (Day::Julian(day), rest)),
        [b'M', text @ ..] => {
            let (month, rest) = number(text, 1, 12)?;
            let (week, rest) = number(rest.strip_prefix(b".")?, 1, 5)?;
            let (weekday, rest) = number(rest.strip_prefix(b".")?, 0, 6)?;
            Some((
                Day::Weekday {
                    month: month.unsigned_abs(),
                    week,
                    weekday,
                },
                rest,
            ))
        }
        text => number(text, 0, 365).map(|(day, rest)| (Day::Counted(day), rest)),
    }
}

/// Whether the last change before or at `unix_seconds` was to daylight saving time.
///
/// Times of day reach into neighbouring years, so the changes of three years are looked at. Of two
/// changes at one instant, that to daylight saving time counts: this is how the whole year is
/// declared daylight saving time.
fn is_daylight(zone: &Zone<'_>, daylight: &Daylight<'_>, unix_seconds: i64) -> bool {
    let this_year = year_of(unix_seconds.div_euclid(DAY_SECONDS));
    let mut last = (i64::MIN, false);
    for year in [
        this_year.wrapping_sub(1),
        this_year,
        this_year.wrapping_add(1),
    ] {
        for (change, offset_before, to_daylight) in [
            (&daylight.begins, zone.standard.0, true),
            (&daylight.ends, daylight.time.0, false),
        ] {
            let instant = change
                .day
                .in_year(year)
                .wrapping_mul(DAY_SECONDS)
                .wrapping_add(i64::from(change.seconds))
                .wrapping_sub(i64::from(offset_before));
            if instant <= unix_seconds {
                last = last.max((instant, to_daylight));
            }
        }
    }
    last.1
}

impl Day {
    /// This day of `year`, in days since the epoch.
    fn in_year(&self, year: i64) -> i64 {
        let first = first_day(year);
        let is_leap = first_day(year.wrapping_add(1)).wrapping_sub(first) == 366;
        match *self {
            Self::Counted(day) => first.wrapping_add(day),
            Self::Julian(day) => {
                let passed = i64::from(is_leap && day >= 60);
                first.wrapping_add(day).wrapping_sub(1).wrapping_add(passed)
            }
            Self::Weekday {
                month,
                week,
                weekday,
            } => {
                let lengths = month_lengths(is_leap);
                let passed = usize::try_from(month.saturating_sub(1)).unwrap_or(0);
                let begins = lengths
                    .iter()
                    .take(passed)
                    .fold(first, |day, len| day.wrapping_add(*len));
                let len = lengths.get(passed).copied().unwrap_or(31);
                // The epoch was a Thursday.
                let wait = weekday.wrapping_sub(begins).wrapping_sub(4).rem_euclid(7);
                let mut day = wait.wrapping_add(week.wrapping_sub(1).wrapping_mul(7));
                if day >= len {
                    day = day.wrapping_sub(7);
                }
                begins.wrapping_add(day)
            }
        }
    }
}

fn month_lengths(is_leap: bool) -> [i64; 12] {
    let february = if is_leap { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// The first of January of `year`, in days since the epoch.
fn first_day(year: i64) -> i64 {
    let before = year.wrapping_sub(1);
    let leap_days = before
        .div_euclid(4)
        .wrapping_sub(before.div_euclid(100))
        .wrapping_add(before.div_euclid(400));
    // Years and leap days from the year 1 to the epoch.
    year.wrapping_sub(1970)
        .wrapping_mul(365)
        .wrapping_add(leap_days)
        .wrapping_sub(477)
}

/// The year in which a day since the epoch is.
fn year_of(day: i64) -> i64 {
    // 400 years have 146,097 days; the guess is at most a year off.
    let periods = day.div_euclid(146_097);
    let within = day.rem_euclid(146_097);
    let guess = periods
        .wrapping_mul(400)
        .wrapping_add(within.wrapping_mul(400).div_euclid(146_097))
        .wrapping_add(1970);
    if first_day(guess) > day {
        guess.wrapping_sub(1)
    } else if first_day(guess.wrapping_add(1)) <= day {
        guess.wrapping_add(1)
    } else {
        guess
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    fn text(rule: &str, unix_seconds: i64) -> Option<(i32, String)> {
        let (offset, name) = at(rule.as_bytes(), unix_seconds)?;
        Some((offset, String::from_utf8(name.to_vec()).unwrap()))
    }

    fn is(rule: &str, unix_seconds: i64, offset: i32, name: &str) {
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
    fn years_and_their_first_days_agree() {
        assert_eq!(first_day(1970), 0);
        assert_eq!(first_day(2000), 10_957);
        for year in -1000..4000 {
            assert_eq!(year_of(first_day(year)), year);
            assert_eq!(year_of(first_day(year) - 1), year - 1);
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
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
