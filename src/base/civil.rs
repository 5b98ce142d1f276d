//! Dates of the Gregorian calendar and days since 1970-01-01, without time zones.

/// Days of the months of a year.
pub fn month_lengths(is_leap: bool) -> [i64; 12] {
    let february = if is_leap { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// The first of January of `year`, in days since the epoch.
pub fn first_day(year: i64) -> i64 {
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

/// Whether February of `year` has 29 days.
pub fn is_leap(year: i64) -> bool {
    first_day(year.wrapping_add(1)).wrapping_sub(first_day(year)) == 366
}

/// The year in which a day since the epoch is.
pub fn year_of(day: i64) -> i64 {
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

/// The year, the month and the day of the month of a day since the epoch; the latter two from 0.
pub fn date_of(day: i64) -> (i64, i64, i64) {
    let year = year_of(day);
    let mut left = day.wrapping_sub(first_day(year));
    let mut month = 0i64;
    for len in month_lengths(is_leap(year)) {
        if left < len {
            break;
        }
        left = left.wrapping_sub(len);
        month = month.wrapping_add(1);
    }
    (year, month, left)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn every_day_has_the_date_after_that_of_the_day_before() {
        assert_eq!(date_of(0), (1970, 0, 0));
        assert_eq!(date_of(-1), (1969, 11, 30));
        assert_eq!(date_of(11_016), (2000, 1, 28));
        assert_eq!(date_of(20_782), (2026, 10, 24));
        assert_eq!(date_of(36_524), (2069, 11, 30));
        // Twice the 400 years after which the calendar repeats itself.
        let (mut year, mut month, mut day) = (1600, 0, 0);
        for number in first_day(1600)..first_day(2400) {
            assert_eq!(date_of(number), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                1 if leap => 29,
                1 => 28,
                3 | 5 | 8 | 10 => 30,
                _ => 31,
            };
            day += 1;
            if day == last {
                (day, month) = (0, month + 1);
            }
            if month == 12 {
                (month, year) = (0, year + 1);
            }
        }
    }
}
