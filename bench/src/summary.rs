//! What a run writes down: the types of `summary.json`. Everything else that a run puts out (terminal table, CSV,
//! `.hdr`, `report.html`, `compare`) is made from this alone. Every name of a number ends with its unit.
//!
//! A reader ignores fields that it does not know, and refuses another schema version: fields may be added within a
//! version (with `serde(default)`), but never change their meaning. `docs/bench-summary.schema.json` says the same to
//! other programs.

pub mod figures;
pub mod latency;
pub mod median;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use latency::Latency;

/// The version that this program writes and reads.
pub const SCHEMA_VERSION: u32 = 1;
/// What the summary is called inside a run's directory.
pub const FILE_NAME: &str = "summary.json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub schema_version: u32,
    pub tool: Tool,
    /// Program and arguments, as they were given.
    pub command: Vec<String>,
    pub started_unix_ms: u64,
    pub machine: Machine,
    pub system: System,
    pub scenario: Scenario,
    pub window: Window,
    pub counts: Counts,
    /// All over the measured window.
    pub rates: Rates,
    /// By what was waited for: the names in [`latency::NAMES`].
    pub latencies: BTreeMap<String, Latency>,
    pub timeline: Vec<Second>,
    pub servers: Vec<Server>,
    pub cost: Cost,
    pub generator: Generator,
    pub checks: Checks,
    #[serde(default)]
    pub marks: Vec<Mark>,
    #[serde(default)]
    pub slos: Vec<SloResult>,
    /// What each of several runs came to; empty if there was one. The rest of the summary then shows the run whose
    /// rate of acks is the median, while `checks` and `counts.errors` cover all of them.
    #[serde(default)]
    pub runs: Vec<RunFigures>,
    /// 0 passed, 1 an SLO missed, 3 the target unhealthy, 4 a promise broken.
    pub exit_code: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

/// The machine that the generator ran on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cores: u32,
    pub memory_bytes: u64,
    pub kernel: String,
    pub cpu_model: String,
}

/// The system under test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    pub name: String,
    pub version: String,
    pub nodes: u32,
    /// Clients connect over TLS.
    pub tls: bool,
    /// What an ack means at this setting, in a sentence.
    pub promise: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    pub name: String,
    /// As given on the command line or in the file, defaults included: two runs with the same ones are comparable.
    pub parameters: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Left out of every figure.
    pub warmup_s: f64,
    pub measured_s: f64,
    /// From the last send until everything had arrived, or was given up.
    pub drain_s: f64,
}

/// Of the measured window, except `errors`: of the whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Connections that were logged in while measuring.
    pub connections: u64,
    pub logins: u64,
    pub reconnects: u64,
    pub sent: u64,
    pub acked: u64,
    pub delivered: u64,
    /// Every ack times the members that it is due to.
    pub expected_deliveries: u64,
    /// Reads of state and of history, in scenarios that have them.
    pub reads: u64,
    /// Open loop: the most messages that were due and not yet sent.
    pub backlog_peak: u64,
    /// By the code of the answer, or by what broke (`disconnected`, `timeout`).
    pub errors: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Open loop: what was asked for.
    pub intended_per_s: Option<f64>,
    pub sent_per_s: f64,
    pub acked_per_s: f64,
    pub delivered_per_s: f64,
    pub logins_per_s: f64,
}

/// One second of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// 0 is the first second of the measured window; the warm-up has negative ones.
    pub second: i32,
    pub sent: u64,
    pub acked: u64,
    pub delivered: u64,
    pub logins: u64,
    pub errors: u64,
    pub connections: u64,
    /// None where nothing was acked, delivered.
    pub ack_p50_ms: Option<f64>,
    pub ack_p99_ms: Option<f64>,
    pub delivery_p50_ms: Option<f64>,
    pub delivery_p99_ms: Option<f64>,
    /// In the order of `Summary::servers`.
    pub servers: Vec<ServerSecond>,
    /// All workers; 1 is one core.
    pub generator_cpu_share: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerSecond {
    /// 1 is one core; none while the process is dead.
    pub cpu_share: Option<f64>,
    pub rss_bytes: Option<u64>,
}

/// A process of the system under test; one that was killed and came back is one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub name: String,
    /// Used in the measured window.
    pub cpu_us: u64,
    pub rss_start_bytes: u64,
    pub rss_end_bytes: u64,
    pub rss_peak_bytes: u64,
}

/// None where it is unknown: servers on other machines, scenarios without sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// All servers together.
    pub server_cpu_us_per_ack: Option<f64>,
    pub server_cpu_us_per_delivery: Option<f64>,
    pub generator_cpu_us_per_ack: Option<f64>,
    pub generator_cpu_us_per_delivery: Option<f64>,
    /// Growth of all servers from none connected to all connected, for each connection.
    pub rss_bytes_per_connection: Option<f64>,
    /// Growth of all servers' data on disk, for each message acked.
    pub disk_bytes_per_message: Option<f64>,
}

/// How much of the machine the measuring itself took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    pub processes: u32,
    /// Each worker thread's, over the measured window; 1 is one core.
    pub worker_cpu_shares: Vec<f64>,
    /// How late the event loops' timers fired.
    pub timer_lag_p99_ms: f64,
    pub timer_lag_max_ms: f64,
    pub bottleneck: bool,
    /// Why it was, or how far it was from being one.
    pub verdict: String,
}

/// Promises, counted as often as they were broken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// Acked, and missing at a member or in a history.
    pub lost: u64,
    /// Delivered to a member twice, or twice in a history.
    pub duplicated: u64,
    /// Delivered to a member before what its order puts before it.
    pub reordered: u64,
    /// Delivered and never sent, or not as it was sent, or to somebody who is no member.
    pub phantom: u64,
    /// An order number that a member never saw.
    pub gaps: u64,
    /// Messages whose order number differs between two members, or from their ack.
    pub disagreed: u64,
    /// Answers that make no sense and the like; each has its note.
    pub other: u64,
    /// None where it was not compared.
    pub digests_equal: Option<bool>,
    pub histories_equal: Option<bool>,
    /// Details, and what could not be checked and why.
    pub notes: Vec<String>,
}

impl Checks {
    pub fn broken(&self) -> u64 {
        let unequal = [self.digests_equal, self.histories_equal].into_iter().filter(|equal| *equal == Some(false));
        let counted = [self.lost, self.duplicated, self.reordered, self.phantom, self.gaps, self.disagreed, self.other];
        counted.iter().sum::<u64>() + unequal.count() as u64
    }
}

/// Something that happened, to be shown beside the curves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds since the measured window began.
    pub at_s: f64,
    pub kind: MarkKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    Kill,
    Restart,
    LeaderChange,
    Phase,
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SloResult {
    /// As it was given.
    pub slo: String,
    /// In the metric's unit; none if the run has no such figure, which is a miss.
    pub value: Option<f64>,
    pub passed: bool,
}

/// One of several runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFigures {
    pub started_unix_ms: u64,
    /// By the names of [`figures::Figure`].
    pub figures: BTreeMap<String, f64>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} is no summary")]
    Format { path: PathBuf, source: serde_json::Error },
    #[error("{path} has schema version {found}; this program reads version {SCHEMA_VERSION}")]
    Version { path: PathBuf, found: u64 },
}

impl Summary {
    /// `path` is a summary or the directory of a run.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let text = std::fs::read_to_string(&path).map_err(|source| ReadError::File { path: path.clone(), source })?;
        Self::parse(&text, &path)
    }

    /// `path` is for the error's text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u64,
        }
        let format = |source| ReadError::Format { path: path.to_owned(), source };
        let Version { schema_version: found } = serde_json::from_str(text).map_err(format)?;
        if found != u64::from(SCHEMA_VERSION) {
            return Err(ReadError::Version { path: path.to_owned(), found });
        }
        serde_json::from_str(text).map_err(format)
    }

    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("all keys are text and all numbers finite or null");
        text + "\n"
    }
}
