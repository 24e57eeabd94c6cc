//! A run: everybody logs in, the groups are made, the load runs, everything is checked.

pub mod campanile;
pub mod plain;
pub mod watch;

use std::time::{Duration, Instant};

use crate::engine::{Engine, Load, Outcome};
use crate::progress::Progress;
use crate::usage::{Process, Span};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a run did not come to a result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Target(#[from] crate::target::TargetError),
    #[error(transparent)]
    Connector(#[from] crate::engine::ConnectorError),
    #[error("the cluster of the run's own failed")]
    Spawn(#[from] crate::spawn::SpawnError),
    #[error("the load generator failed")]
    Engine(#[from] std::io::Error),
    /// The system does not serve as it should, whether or not it keeps its promises.
    #[error("{0}")]
    Unhealthy(String),
}

/// What a load came to, before the final checks.
#[derive(Debug)]
pub struct Measured {
    pub outcome: Outcome,
    pub timeline: Vec<watch::Moment>,
    pub servers: Vec<Span>,
}

/// Everybody logs in.
pub fn log_in(engine: &Engine, users: u64, within: Duration, progress: Progress) -> Result<(), RunError> {
    engine.login();
    if wait(within, || engine.ready() >= users) {
        progress.say(&format!("{users} users are logged in"));
        return Ok(());
    }
    let (ready, why) = (engine.ready(), engine.last_error().unwrap_or_else(|| "no answer".to_owned()));
    Err(RunError::Unhealthy(format!("{ready} of {users} users could log in within {within:?}; the last failure: {why}")))
}

/// Everybody is told of their groups.
pub fn join(engine: &Engine, memberships: u64, within: Duration) -> Result<(), RunError> {
    engine.join();
    if wait(within, || engine.joined() >= memberships) {
        return Ok(());
    }
    let joined = engine.joined();
    Err(RunError::Unhealthy(format!("{joined} of {memberships} members heard of their groups within {within:?}")))
}

/// The load, with the servers watched beside it.
pub fn measure(
    engine: Engine,
    load: Load,
    processes: &[Process],
    progress: Progress,
) -> Result<Measured, RunError> {
    let (timeline, servers) = watch::watch(&engine, load, processes, progress);
    let outcome = engine.finish()?;
    Ok(Measured { outcome, timeline, servers })
}

/// Looks at a condition until it holds; says whether it came to hold in time.
fn wait(within: Duration, holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + within;
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    true
}
