use std::path::Path;

use super::figures::{Figure, Unit, all};
use super::latency::{NAMES, QUANTILES};
use super::{ReadError, Summary, sample};

const GOLDEN: &str = include_str!("../../tests/golden/summary-v1.json");

fn parse(text: &str) -> Result<Summary, ReadError> {
    Summary::parse(text, Path::new("summary.json"))
}

/// `GOLDEN=write` writes it anew, for a field that was added.
#[test]
fn the_golden_file_holds_the_layout() {
    if std::env::var_os("GOLDEN").is_some() {
        let mut summary = sample::summary();
        summary.timeline.truncate(2);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/summary-v1.json");
        std::fs::write(path, summary.to_json()).unwrap();
        return;
    }
    let read = parse(GOLDEN).unwrap();
    let written = read.to_json();
    let differing = written.lines().zip(GOLDEN.lines()).find(|(written, golden)| written != golden);
    assert_eq!(differing, None, "a field was renamed, removed, or added without a new golden file");
    assert_eq!(written.len(), GOLDEN.len());
    let ack = &read.latencies["ack"];
    let histogram = ack.histogram().unwrap();
    assert_eq!((histogram.len(), histogram.value_at_quantile(0.5) as f64 / 1e3), (ack.count, ack.p50_ms));
}

#[test]
fn later_fields_are_ignored_and_later_versions_are_refused() {
    let later = GOLDEN.replacen("\"tool\": {", "\"weather\": [1, {}],\n\"tool\": {\"mood\": \"good\",", 1);
    let later = later.replacen("\"kill\"", "\"earthquake\"", 1);
    assert_eq!(parse(&later).unwrap().counts, sample::summary().counts);
    let error = parse(&GOLDEN.replacen("\"schema_version\": 1", "\"schema_version\": 2", 1)).unwrap_err();
    assert_eq!(error.to_string(), "summary.json has schema version 2; this program reads version 1");
    assert_eq!(parse("{}").unwrap_err().to_string(), "summary.json is no summary");
}

#[test]
fn every_figure_is_found_by_its_name() {
    let summary = sample::summary();
    assert_eq!(summary.figure("ack_p99.9"), Some(summary.latencies["ack"].p999_ms));
    assert_eq!((summary.figure("errors"), summary.figure("acked_rate")), (Some(190.0), Some(499.5)));
    assert_eq!((summary.figure("login_p99"), summary.figure("ack"), summary.figure("x_p99")), (None, None, None));
    let latencies = all().iter().filter(|figure| figure.unit == Unit::Ms && figure.name != "timer_lag_p99").count();
    assert_eq!(latencies, NAMES.len() * QUANTILES.len());
    assert!(Figure::named("server_cpu_per_delivery").is_some() && Figure::named("nonsense").is_none());
}

#[test]
fn several_runs_show_the_median_one_and_hide_no_broken_promise() {
    let run = |rate: f64, lost: u64| {
        let mut run = sample::summary();
        run.rates.acked_per_s = rate;
        run.checks.lost = lost;
        run.exit_code = if lost > 0 { 4 } else { 0 };
        run
    };
    let all = Summary::of_runs(vec![run(30.0, 0), run(10.0, 2), run(20.0, 0)]).unwrap();
    assert_eq!((all.rates.acked_per_s, all.figure("acked_rate")), (20.0, Some(20.0)));
    assert_eq!((all.checks.lost, all.figure("lost"), all.exit_code), (2, Some(2.0), 4));
    assert_eq!(all.runs_of("acked_rate"), [30.0, 10.0, 20.0]);
    assert_eq!(all.counts.errors["disconnected"], 510);
    let even = Summary::of_runs(vec![run(10.0, 0), run(20.0, 0)]).unwrap();
    assert_eq!((even.rates.acked_per_s, even.figure("acked_rate")), (10.0, Some(15.0)));
    assert_eq!(Summary::of_runs(vec![run(1.0, 0)]).unwrap(), run(1.0, 0), "one run is itself");
    assert!(Summary::of_runs(Vec::new()).is_none());
}
