//! Histograms for the usual HdrHistogram tools: the percentile distribution as text (`.hdr`, which the HdrHistogram
//! plotter reads) and a log of one interval with a tag per latency (`.hlog`, which the log analysers read).

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::summary::latency::HistogramError;
use crate::summary::{Latency, Summary};

/// Steps per halving of what is left to 100 %, as the reference implementation prints by default.
const STEPS: u32 = 5;
const US_PER_MS: f64 = 1_000.0;

#[derive(Debug, thiserror::Error)]
pub enum HdrError {
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    #[error("the interval log cannot be written: {0}")]
    Log(String),
}

/// A latency's name as part of a file's name: a summary may come from anywhere.
pub fn safe_name(name: &str) -> String {
    name.chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "-_".contains(letter) { letter } else { '-' })
        .collect()
}

/// As `Histogram.outputPercentileDistribution` of the Java implementation prints it, in milliseconds.
pub fn percentiles(latency: &Latency) -> Result<String, HdrError> {
    let histogram = latency.histogram()?;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(STEPS) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / US_PER_MS, step.quantile_iterated_to());
        let _ = write!(text, "{value:>12.3} {quantile:>14.12} {total:>10}");
        // The last line has no fourth column: it would be infinite.
        let _ = if quantile < 1.0 { writeln!(text, " {:>14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
    }
    footer(&mut text, &histogram);
    Ok(text)
}

fn footer(text: &mut String, histogram: &Histogram<u64>) {
    let ms = |us: f64| us / US_PER_MS;
    let (mean, deviation) = (ms(histogram.mean()), ms(histogram.stdev()));
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let (max, total) = (ms(histogram.max() as f64), histogram.len());
    let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {total:>12}]");
    let (buckets, sub_buckets) = (histogram.buckets(), 2 * 10u64.pow(histogram.sigfig().into()).next_power_of_two());
    let _ = writeln!(text, "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]");
}

/// One interval, the measured window; its values are microseconds, as its comment says.
pub fn interval_log(summary: &Summary) -> Result<String, HdrError> {
    let failed = |error: &dyn std::fmt::Debug| HdrError::Log(format!("{error:?}"));
    let start = UNIX_EPOCH + Duration::from_millis(summary.started_unix_ms);
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_start_time(start).with_base_time(start).with_max_value_divisor(US_PER_MS);
    builder.add_comment("values are microseconds; the maximum of each line is in milliseconds");
    let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).map_err(|error| failed(&error))?;
    let offset = Duration::from_secs_f64(summary.window.warmup_s.max(0.0));
    let measured = Duration::from_secs_f64(summary.window.measured_s.max(0.0));
    for (name, latency) in &summary.latencies {
        let histogram = latency.histogram()?;
        let name = safe_name(name);
        let tag = Tag::new(&name).ok_or_else(|| HdrError::Log(format!("{name} cannot be a tag")))?;
        writer.write_histogram(&histogram, offset, measured, Some(tag)).map_err(|error| failed(&error))?;
    }
    String::from_utf8(bytes).map_err(|error| failed(&error))
}
