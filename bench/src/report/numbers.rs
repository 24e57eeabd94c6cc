//! Numbers as people read them: three significant digits, thousands told apart, units that fit.

use crate::summary::figures::Unit;

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Three significant digits, and all of those before the point.
pub fn significant(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() {
        return "?".to_owned();
    }
    let decimals = match size {
        0.0 => return "0".to_owned(),
        _ if size >= 99.95 => {
            let sign = if number < 0.0 { "-" } else { "" };
            return format!("{sign}{}", count(size.round() as u64));
        }
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{number:.decimals$}")
}

/// `0.45` as `450 µs`, `13.21` as `13.2 ms`, `1200` as `1.20 s`.
pub fn duration_ms(ms: f64) -> String {
    match ms.abs() {
        0.0 => "0 ms".to_owned(),
        size if size < 0.9995 => format!("{} µs", significant(ms * 1e3)),
        size if size < 999.5 => format!("{} ms", significant(ms)),
        _ => format!("{} s", significant(ms / 1e3)),
    }
}

pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let value = if unit == 0 { count(value.max(0.0).round() as u64) } else { significant(value) };
    format!("{value} {}", UNITS[unit])
}

/// A share of one core.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() < 9.95 && percent != 0.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// Ticks of axes: no more digits than needed. `12000` as `12 k`.
pub fn short(number: f64) -> String {
    let (value, unit) = match number.abs() {
        size if size >= 1e6 => (number / 1e6, " M"),
        size if size >= 1e4 => (number / 1e3, " k"),
        _ => (number, ""),
    };
    let text = format!("{value:.3}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Ticks of latency axes: `10 ms`, `0.5 ms`, `2 s`.
pub fn short_ms(ms: f64) -> String {
    match ms {
        _ if ms >= 1e3 => format!("{} s", short(ms / 1e3)),
        _ if ms >= 0.1 => format!("{} ms", short(ms)),
        _ => format!("{} µs", short(ms * 1e3)),
    }
}

/// A figure with its unit.
pub fn with_unit(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ms => duration_ms(value),
        Unit::PerSecond => format!("{} /s", significant(value)),
        Unit::Us => format!("{} µs", significant(value)),
        Unit::Bytes => bytes(value),
        Unit::Share => percent(value),
        Unit::Count if value.fract() == 0.0 && value >= 0.0 => count(value as u64),
        Unit::Count => significant(value),
    }
}

/// Seconds since 1970 as `2027-01-15 08:00:00 UTC`.
pub fn utc(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / 86_400_000, unix_ms / 1_000 % 86_400);
    let (year, month, day) = civil(days as i64);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3_600, second / 60 % 60, second % 60)
}

/// Days since 1970 as year, month, day: `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date
/// Algorithms".
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_enough_and_none_before_the_point_is_lost() {
        let shown = [0.0, 0.0123, 0.9996, 1.234, 9.996, 12.34, 99.96, 123.4, 1234567.8, -1234.0, f64::NAN];
        let wanted = ["0", "0.012", "1.00", "1.23", "10.0", "12.3", "100", "123", "1,234,568", "-1,234", "?"];
        assert_eq!(shown.map(significant), wanted);
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn units_fit_the_size() {
        assert_eq!(
            [0.0, 0.45, 0.9999, 13.21, 999.7, 1_200.0].map(duration_ms),
            ["0 ms", "450 µs", "1.00 ms", "13.2 ms", "1.00 s", "1.20 s"]
        );
        assert_eq!([0.0, 912.0, 9_830.0, 5e7, 3e9].map(bytes), ["0 B", "912 B", "9.60 KiB", "47.7 MiB", "2.79 GiB"]);
        assert_eq!([0.0, 0.0312, 0.31, 1.7].map(percent), ["0 %", "3.1 %", "31 %", "170 %"]);
        assert_eq!([0.05, 0.5, 10.0, 2_000.0].map(short_ms), ["50 µs", "0.5 ms", "10 ms", "2 s"]);
        assert_eq!([0.0, 0.5, 250.0, 5_000.0, 12_500.0, 2e6].map(short), ["0", "0.5", "250", "5000", "12.5 k", "2 M"]);
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!((with_unit(82.0, Unit::Count), with_unit(2.5, Unit::Count)), ("82".to_owned(), "2.50".to_owned()));
        assert_eq!(
            (with_unit(0.31, Unit::Share), with_unit(17_712.0, Unit::PerSecond)),
            ("31 %".to_owned(), "17,712 /s".to_owned())
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_800_000_000_000), "2027-01-15 08:00:00 UTC");
    }
}
