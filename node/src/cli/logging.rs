//! The node's own log, to standard error: for people on a terminal, as JSON elsewhere.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSection};

pub(super) fn start(config: &LogSection) {
    // The configuration was checked: a filter that does not parse is not here.
    let filter = EnvFilter::try_new(&config.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second start in one process (tests) keeps the first log.
    let started = if json { log.json().try_init() } else { log.try_init() };
    drop(started);
}
