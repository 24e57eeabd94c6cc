//! `campanile-bench scenario`: a load from a file, phase by phase.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bench::engine::{Load, Phase};
use bench::run::failover::{How, Kill, Kills, Victim};
use bench::slo::Slo;
use bench::workload::scenario::{self, Scenario};
use clap::Args;

use super::Failure;
use super::common::CommonArgs;

#[derive(Args)]
pub(super) struct ScenarioArgs {
    /// A scenario (TOML); bench/scenarios has examples.
    file: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
}

impl ScenarioArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let text =
            std::fs::read_to_string(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        let scenario = Scenario::parse(&text).with_context(|| format!("{} is no scenario", self.file.display()))?;
        let asks = scenario.phases.iter().any(|phase| phase.reads_per_s > 0.0 || phase.history_per_s > 0.0);
        if asks && self.common.system.is_some() {
            return Err(anyhow::anyhow!("the scenario reads, and the other systems have no reads like ours").into());
        }
        let kills = kills(&scenario);
        let (shape, parameters) = (scenario.shape.clone(), scenario.parameters.clone());
        let load = load(&scenario, kills.is_some());
        let mut plan = self.common.plan_of(&scenario.name, parameters, shape, load, scenario.payload_bytes);
        plan.phase_names = scenario.phases.iter().map(|phase| phase.name.clone()).collect();
        if kills.is_some() || scenario.phases.iter().any(|phase| phase.cut > 0.0) {
            // A herd does not queue.
            plan.logins = plan.shape.users as usize;
        }
        let mut slos: Vec<Slo> = scenario.slos.clone();
        slos.extend(self.common.slo.iter().cloned());
        self.common.run_judged(&plan, kills.as_ref(), &slos)
    }
}

fn load(scenario: &Scenario, log_acks: bool) -> Load {
    let phase = |(begin, phase): (Duration, &scenario::Phase)| Phase {
        begin,
        reads_per_s: phase.reads_per_s,
        history_per_s: phase.history_per_s,
        cut: phase.cut,
        ..Phase::of(phase.pace)
    };
    Load {
        phases: scenario.begins().into_iter().zip(&scenario.phases).map(phase).collect(),
        warmup: scenario.warmup,
        measured: scenario.duration(),
        drain: scenario.drain,
        logins_per_s: None,
        log_acks,
    }
}

fn kills(scenario: &Scenario) -> Option<Kills> {
    let phases = scenario.begins().into_iter().zip(&scenario.phases);
    let kill = |(at, phase): (Duration, &scenario::Phase)| {
        let kill = phase.kill.as_ref()?;
        let victim = match kill.victim {
            scenario::Victim::Leader => Victim::Leader,
            scenario::Victim::Node(node) => Victim::Node(node.into()),
        };
        Some(Kill { at, victim, how: How::Kill, restart_after: kill.restart_after })
    };
    let kills: Kills = phases.filter_map(kill).collect();
    (!kills.is_empty()).then_some(kills)
}
