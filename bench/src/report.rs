//! What a run puts out, all of it made from its [`Summary`]: text for the terminal, and a directory of files.

pub mod csv;
pub mod hdr;
pub mod html;
pub mod numbers;
pub mod table;
pub mod terminal;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use crate::replay::report::{KillReport, Report, Violations};
use crate::summary::{FILE_NAME, Summary};

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot write {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the {latency} latencies cannot be written as a histogram")]
    Histogram { latency: String, source: hdr::HdrError },
}

/// Writes `summary.json`, `timeline.csv`, `report.html`, a `.hdr` per latency and `latencies.hlog` into `dir`, which is
/// made if it is not there.
pub fn write_all(dir: &Path, summary: &Summary) -> Result<(), WriteError> {
    let put = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|source| WriteError::File { path, source })
    };
    std::fs::create_dir_all(dir).map_err(|source| WriteError::File { path: dir.to_owned(), source })?;
    put(FILE_NAME, &summary.to_json())?;
    put("timeline.csv", &csv::timeline(summary))?;
    for (name, latency) in &summary.latencies {
        let text = hdr::percentiles(latency);
        let text = text.map_err(|source| WriteError::Histogram { latency: name.clone(), source })?;
        put(&format!("{}.hdr", hdr::safe_name(name)), &text)?;
    }
    let log = hdr::interval_log(summary);
    put("latencies.hlog", &log.map_err(|source| WriteError::Histogram { latency: "logged".to_owned(), source })?)?;
    put("report.html", &html::page(summary))
}
