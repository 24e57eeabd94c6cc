//! A latency distribution: the usual quantiles, and the whole histogram for those who want others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// What is waited for: from a send (open loop: from when it was due) to its ack, to each member's having it, to the
/// last member's having it; a login; an answered read of state; a page of history; a lost connection's being back in
/// service; no acks at all after a kill.
pub const NAMES: [&str; 8] = ["ack", "delivery", "completion", "login", "read", "history", "reconnect", "pause"];
/// The quantiles' names in metrics, and in [`Latency::quantile_ms`].
pub const QUANTILES: [&str; 6] = ["p50", "p90", "p99", "p99.9", "max", "mean"];

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    #[serde(rename = "p99.9_ms")]
    pub p999_ms: f64,
    pub max_ms: f64,
    pub mean_ms: f64,
    /// HdrHistogram V2 with deflate, in base64; its values are microseconds.
    pub histogram: String,
}

#[derive(Debug, thiserror::Error)]
pub enum HistogramError {
    #[error("the histogram is not base64")]
    Base64(#[from] base64::DecodeError),
    #[error("the histogram is not HdrHistogram V2: {0:?}")]
    Format(hdrhistogram::serialization::DeserializeError),
}

impl Latency {
    /// `histogram` holds microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1_000.0;
        let quantile = |q: f64| ms(histogram.value_at_quantile(q));
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("a Vec takes every byte");
        Self {
            count: histogram.len(),
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: ms(histogram.max()),
            mean_ms: ms(histogram.mean().round() as u64),
            histogram: STANDARD.encode(bytes),
        }
    }

    /// In microseconds.
    pub fn histogram(&self) -> Result<Histogram<u64>, HistogramError> {
        let bytes = STANDARD.decode(&self.histogram)?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(HistogramError::Format)
    }

    /// One of [`QUANTILES`].
    pub fn quantile_ms(&self, name: &str) -> Option<f64> {
        Some(match name {
            "p50" => self.p50_ms,
            "p90" => self.p90_ms,
            "p99" => self.p99_ms,
            "p99.9" => self.p999_ms,
            "max" => self.max_ms,
            "mean" => self.mean_ms,
            _ => return None,
        })
    }
}
