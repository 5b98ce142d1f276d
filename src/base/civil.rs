//! The Gregorian calendar: dates and days since 1970-01-01, without time zones.

/// Returns the days from the epoch to 1 January of `year`.
pub fn first_day(year: i64) -> i64 {
    let before = year.wrapping_sub(1);
    let centuries = before.div_euclid(100);
    let leap_days = (before >> 2)
        .wrapping_sub(centuries)
        .wrapping_add(centuries >> 2);
    // Between the year 1 and the epoch there are 477 leap days.
    year.wrapping_sub(1970)
        .wrapping_mul(365)
        .wrapping_add(leap_days)
        .wrapping_sub(477)
}

/// Whether February of `year` has 29 days.
pub fn is_leap(year: i64) -> bool {
    first_day(year.wrapping_add(1)).wrapping_sub(first_day(year)) == 366
}

/// Returns the days of a year before its `month` (January is 1).
///
/// Each month has 30 days; the long ones, which are odd up to July and even from August on, have one
/// more; February has one or two less.
pub fn days_before_month(month: i64, is_leap: bool) -> i64 {
    let long = month.wrapping_add(month >> 3) >> 1;
    let short = match month {
        ..=2 => 0,
        _ => 2i64.wrapping_sub(is_leap.into()),
    };
    month
        .wrapping_sub(1)
        .wrapping_mul(30)
        .wrapping_add(long)
        .wrapping_sub(short)
}

/// Returns the year of a day since the epoch, or the year before or after it: 400 years have 146,097 days.
pub fn approximate_year(day: i64) -> i64 {
    day.wrapping_mul(400).div_euclid(146_097).wrapping_add(1970)
}

/// Returns year, month and day of the month, both counted from 1, of a day since the epoch.
pub fn date_of(day: i64) -> (i64, i64, i64) {
    let mut year = approximate_year(day).wrapping_add(1);
    while first_day(year) > day {
        year = year.wrapping_sub(1);
    }
    let day = day.wrapping_sub(first_day(year));
    let mut month = 12;
    loop {
        let before = days_before_month(month, is_leap(year));
        if before <= day {
            return (year, month, day.wrapping_sub(before).wrapping_add(1));
        }
        month = month.wrapping_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_days_and_leap_years_agree_with_the_calendar() {
        assert_eq!(first_day(1970), 0);
        assert_eq!(first_day(2000), 10_957);
        for year in (-1000..4000).step_by(if cfg!(miri) { 199 } else { 1 }) {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            assert_eq!(is_leap(year), leap, "{year}");
            for day in [first_day(year), first_day(year + 1) - 1] {
                assert!((year - 1..=year + 1).contains(&approximate_year(day)));
                assert_eq!(date_of(day).0, year);
            }
        }
    }

    #[test]
    fn dates_of_consecutive_days_are_consecutive() {
        assert_eq!(date_of(0), (1970, 1, 1));
        assert_eq!(date_of(-1), (1969, 12, 31));
        assert_eq!(date_of(11_016), (2000, 2, 29));
        assert_eq!(date_of(20_782), (2026, 11, 25));
        assert_eq!(date_of(36_524), (2069, 12, 31));
        // The calendar repeats itself after 400 years.
        let (mut year, mut month, mut day) = (1600, 1, 1);
        let end = first_day(if cfg!(miri) { 1601 } else { 2400 });
        for number in first_day(1600)..end {
            assert_eq!(date_of(number), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
