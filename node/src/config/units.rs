//! Durations and sizes as people write them: `250ms`, `5s`, `64 MiB`. A bare number is refused, because
//! its unit would be a guess.

use std::time::Duration;

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// `100ms`, `5s`, `2m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, &DURATIONS, "a duration such as \"250ms\", \"5s\", \"2m\" or \"1h\"").map(Duration::from_millis)
}

/// `512 KiB`, `64MiB`, `2 GB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    scaled(text, &SIZES, "a size such as \"512 KiB\", \"64 MiB\" or \"2 GB\"")
}

fn scaled(text: &str, units: &[(&str, u64)], expected: &str) -> Result<u64, String> {
    let digits = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.trim()[digits.len()..].trim();
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    match (digits.parse::<u64>(), factor) {
        (Ok(number), Some(factor)) => number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large")),
        (Ok(_), None) if unit.is_empty() => Err(format!("{text:?} has no unit; write {expected}")),
        _ => Err(format!("{text:?} is not {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_required() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration(" 2 m "), Ok(Duration::from_secs(120)));
        assert_eq!(size("64 MiB"), Ok(64 << 20));
        assert_eq!(size("1GB"), Ok(1_000_000_000));
        assert!(duration("250").unwrap_err().contains("has no unit"));
        for bad in ["", "ms", "5 weeks", "-1s", "1.5s", "é"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert!(size("99999999999999999 GiB").unwrap_err().contains("too large"));
    }
}
