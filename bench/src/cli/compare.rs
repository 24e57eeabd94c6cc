//! `campanile-bench compare` and `report`: what was measured before, read again.

use std::path::PathBuf;

use anyhow::Context;
use bench::compare::compare;
use bench::report::{terminal, write_all};
use bench::summary::Summary;
use clap::Args;

use super::{Failure, print};

#[derive(Args)]
pub(super) struct Compare {
    /// A summary.json, or the directory of a run.
    first: PathBuf,
    /// What is compared with it.
    second: PathBuf,
    /// Compare different workloads all the same.
    #[arg(long)]
    force: bool,
    /// Write the comparison there too, as a page with both latency curves.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Exit with 1 if a figure got worse by more than the noise.
    #[arg(long)]
    fail_on_worse: bool,
}

#[derive(Args)]
pub(super) struct Report {
    /// A summary.json, or the directory of a run.
    summary: PathBuf,
    /// Write all files of a report there: summary.json, report.html, timeline.csv, *.hdr.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Compare {
    pub(super) fn run(&self) -> Result<u8, Failure> {
        let read = |path: &PathBuf| Summary::read(path).map_err(anyhow::Error::from);
        let (first, second) = (read(&self.first)?, read(&self.second)?);
        let comparison = compare(&first, &second, self.force).map_err(anyhow::Error::from)?;
        print(&comparison.text());
        if let Some(path) = &self.html {
            std::fs::write(path, comparison.html()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(u8::from(self.fail_on_worse && comparison.worse() > 0))
    }
}

impl Report {
    /// The exit code is that of reading, not of the run that is read.
    pub(super) fn run(&self) -> Result<u8, Failure> {
        let summary = Summary::read(&self.summary).map_err(anyhow::Error::from)?;
        print(&terminal::text(&summary));
        if let Some(dir) = &self.out {
            write_all(dir, &summary).map_err(anyhow::Error::from)?;
        }
        Ok(0)
    }
}
