//! Values on the command line.

use std::time::Duration;

/// `500ms`, `10s`, `30m`, `2h`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time such as 500ms, 10s, 30m or 2h".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3_600)),
        _ => Err(wrong()),
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected how many a second, more than 0".to_owned())
}

pub(super) fn payload(text: &str) -> Result<usize, String> {
    let (least, most) = (bench::protocol::NUMBER_DIGITS, chat::limits::TEXT_BYTES);
    let bytes = text.parse().ok().filter(|bytes| (least..=most).contains(bytes));
    bytes.ok_or_else(|| format!("expected {least} to {most} bytes: a message carries its number"))
}

pub(super) fn workers(text: &str) -> Result<usize, String> {
    let workers = text.parse().ok().filter(|workers| (1..=256).contains(workers));
    workers.ok_or_else(|| "expected 1 to 256".to_owned())
}

/// `NAME=PID`.
pub(super) fn process(text: &str) -> Result<bench::usage::Process, String> {
    let wrong = || "expected NAME=PID, such as node-1=4711".to_owned();
    let (name, pid) = text.split_once('=').ok_or_else(wrong)?;
    Ok(bench::usage::Process { name: name.to_owned(), pid: pid.parse().map_err(|_| wrong())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!((duration("10"), duration("10s")), (Ok(Duration::from_secs(10)), Ok(Duration::from_secs(10))));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("10 parsecs").is_err() && duration("").is_err() && duration("s").is_err());
        assert_eq!(process("n1=12").map(|process| process.pid), Ok(12));
        assert!(process("n1").is_err());
    }
}
