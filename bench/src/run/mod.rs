//! A run: everybody logs in, the groups are made, the load runs, everything is checked.
//!
//! [`subject`]: what is loaded, a cluster of ours or a rival. [`watch`]: what is seen meanwhile. [`verify`]: histories and
//! replicas afterwards. [`summarize`]: the run as a summary.

pub mod campanile;
pub mod failover;
pub mod growth;
pub mod machine;
pub mod processes;
pub mod rival;
pub mod subject;
pub mod summarize;
pub mod verify;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::{Connector, Engine, Load, Outcome, Setup};
use crate::progress::Progress;
use crate::protocol::Protocol;
use crate::summary::{Checks, Mark};
use crate::usage::{Process, Span};
use crate::workload::Shape;

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
    #[error("the system to compare with failed")]
    System(#[from] crate::systems::SystemError),
    #[error("the load generator failed")]
    Engine(#[from] std::io::Error),
    /// The system does not serve as it should, whether or not it keeps its promises.
    #[error("{0}")]
    Unhealthy(String),
}

/// What is run, whatever the scenario is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Such as `group`, with what it was given: for the summary.
    pub scenario: String,
    pub parameters: BTreeMap<String, Value>,
    pub shape: Shape,
    pub load: Load,
    /// Of the load's phases.
    pub phase_names: Vec<String>,
    pub payload: usize,
    pub workers: usize,
    pub logins: usize,
    /// Users below this number log in before the load begins.
    pub first: u32,
    /// Accounts are made before anybody connects, so that memory for them does not count as the connections'.
    pub accounts_first: bool,
    /// How long everybody's login, and hearing of one's groups, may take.
    pub setup_within: Duration,
    /// Events of each group that are read back from every node at the end.
    pub read_back: usize,
}

impl Plan {
    /// A plan with what is usual for everything else.
    pub fn new(scenario: &str, shape: Shape, load: Load) -> Self {
        Self {
            scenario: scenario.to_owned(),
            parameters: BTreeMap::new(),
            load,
            phase_names: Vec::new(),
            payload: 200,
            workers: 1,
            logins: 64,
            first: shape.users,
            accounts_first: false,
            setup_within: Duration::from_secs(180),
            read_back: 400,
            shape,
        }
    }
}

/// What a load came to.
#[derive(Debug)]
pub struct Measured {
    pub started_unix_ms: u64,
    pub outcome: Outcome,
    pub timeline: Vec<watch::Moment>,
    pub servers: Vec<Span>,
    /// Connections when the load began, and what the servers' resident memory grew by until then, if it is known.
    pub connections: u64,
    pub connected_bytes: Option<u64>,
    /// What the servers' files grew by, if it is known.
    pub disk_bytes: Option<u64>,
    pub marks: Vec<Mark>,
    pub checks: Checks,
    /// Why the run is not what it was meant to be, though no promise is broken.
    pub unhealthy: Option<String>,
}

/// The part of a run that is the same for every system, between what is made before and what is checked after.
pub(crate) struct Stage<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) connector: Connector,
    pub(crate) processes: &'a [Process],
    /// Members who are told of their groups before the load begins.
    pub(crate) joining: u64,
    pub(crate) progress: Progress,
    /// Called when everything is ready for the load; which begins when it returns.
    pub(crate) gate: fn() -> Result<(), RunError>,
}

/// The load begins at once.
pub(crate) fn open_gate() -> Result<(), RunError> {
    Ok(())
}

impl Stage<'_> {
    /// `make_groups` is called once everybody is logged in; `conductor` while the load runs.
    pub(crate) fn play<P: Protocol>(
        &self,
        protocol: &Arc<P>,
        make_groups: impl FnOnce() -> Result<(), RunError>,
        conductor: &mut dyn watch::Conductor,
    ) -> Result<Measured, RunError> {
        let plan = self.plan;
        let started_unix_ms = crate::target::unix_ms();
        let setup = Setup {
            shape: plan.shape.clone(),
            connector: self.connector.clone(),
            payload: plan.payload,
            workers: plan.workers,
            logins: plan.logins,
            first: plan.first,
        };
        let before = resident(self.processes);
        let engine = Engine::start(protocol, setup)?;
        self.log_in(&engine)?;
        let connected = resident(self.processes);
        make_groups()?;
        self.join(&engine)?;
        (self.gate)()?;
        let mut marks = Vec::new();
        let (timeline, servers) = watch::watch(&engine, self, conductor, &mut marks);
        // Who only connects is measured at rest; where logins go on, what they cost is not told apart.
        let connected = match (plan.shape.groups.is_empty(), plan.first < plan.shape.users) {
            (_, true) => None,
            (true, false) => resident(self.processes),
            (false, false) => connected,
        };
        let outcome = engine.finish()?;
        Ok(Measured {
            started_unix_ms,
            outcome,
            timeline,
            servers,
            connections: u64::from(plan.shape.users),
            connected_bytes: before.zip(connected).map(|(before, after)| after.saturating_sub(before)),
            disk_bytes: None,
            marks,
            checks: Checks::default(),
            unhealthy: None,
        })
    }

    fn log_in(&self, engine: &Engine) -> Result<(), RunError> {
        let (users, within) = (u64::from(self.plan.first), self.plan.setup_within);
        engine.login();
        if wait(within, || engine.ready() >= users) {
            return Ok(());
        }
        let (ready, why) = (engine.ready(), engine.last_error().unwrap_or_else(|| "no answer".to_owned()));
        let text = format!("{ready} of {users} users could log in within {within:?}; the last failure: {why}");
        Err(RunError::Unhealthy(text))
    }

    fn join(&self, engine: &Engine) -> Result<(), RunError> {
        let (members, within) = (self.joining, self.plan.setup_within);
        engine.join();
        if wait(within, || engine.joined() >= members) {
            return Ok(());
        }
        let joined = engine.joined();
        Err(RunError::Unhealthy(format!("{joined} of {members} members heard of their groups within {within:?}")))
    }
}

/// Resident memory of all processes; none if there are none, or one cannot be read.
fn resident(processes: &[Process]) -> Option<u64> {
    let bytes = processes.iter().map(|process| process.usage().ok().map(|usage| usage.resident_bytes));
    bytes.sum::<Option<u64>>().filter(|bytes| *bytes > 0)
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
