//! Scenarios of one's own: a TOML file that says who talks to whom, and phase by phase how much. `bench/scenarios` has
//! examples. Unknown keys are refused with their line and the nearest right key; all problems are told at once.

mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use toml::de::DeTable;

use self::reader::{Problem, Table};
use super::{GroupShape, Shape};
use crate::engine::Loop;
use crate::slo::Slo;

const PHASES_MAX: usize = 100;
const COUNT_MAX: u32 = 100_000;
const MEMBERS_MAX: u32 = 10_000;
const USERS_MAX: u64 = 1_000_000;
const WINDOW_MAX: u32 = 4_096;
const RATE_MAX: f64 = 1e7;
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);
const SHORTEST_PHASE: Duration = Duration::from_millis(100);

/// A load in phases on one set of users.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub name: String,
    pub description: String,
    pub shape: Shape,
    /// Bytes of a message's text.
    pub payload_bytes: usize,
    /// The first phase runs so long before anything is measured.
    pub warmup: Duration,
    /// How long what is on its way may take after the last phase.
    pub drain: Duration,
    pub slos: Vec<Slo>,
    pub phases: Vec<Phase>,
    /// The file as it was understood, for the summary.
    pub parameters: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    pub name: String,
    pub duration: Duration,
    /// None: nobody sends.
    pub pace: Option<Loop>,
    /// Over all users, a second.
    pub reads_per_s: f64,
    pub history_per_s: f64,
    /// The share of all connections that is cut when the phase begins; they come back by themselves.
    pub cut: f64,
    /// Killed (SIGKILL) when the phase begins.
    pub kill: Option<Kill>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    pub victim: Victim,
    /// Until it is started again.
    pub restart_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The node that leads the busiest shard.
    Leader,
    /// From 1.
    Node(u16),
}

/// Everything that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ScenarioError(pub Vec<Problem>);

impl Scenario {
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let document = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            ScenarioError(vec![Problem::new(text, at, error.message().to_owned())])
        })?;
        let mut root = Table::new(text, document.get_ref(), String::new(), 0);
        let scenario = read(&mut root);
        let problems = root.finish();
        match scenario {
            Some(scenario) if problems.is_empty() => Ok(scenario),
            _ => Err(ScenarioError(problems)),
        }
    }

    /// Without warm-up and drain.
    pub fn duration(&self) -> Duration {
        self.phases.iter().map(|phase| phase.duration).sum()
    }

    /// When each phase begins, counted from the beginning of the measured window.
    pub fn begins(&self) -> Vec<Duration> {
        let mut begin = Duration::ZERO;
        let begins = self.phases.iter().map(|phase| {
            let this = begin;
            begin += phase.duration;
            this
        });
        begins.collect()
    }
}

/// None if something needed is missing or wrong; the table then has the problem.
fn read(root: &mut Table<'_, '_>) -> Option<Scenario> {
    let (least, most) = (crate::protocol::NUMBER_DIGITS as u32, chat::limits::TEXT_BYTES as u32);
    let name = root.text("name");
    let description = root.text("description").unwrap_or_default();
    let payload_bytes = root.integer("payload_bytes", least..=most).unwrap_or(200);
    let warmup = root.duration("warmup", Duration::ZERO..=LONGEST).unwrap_or(Duration::from_secs(2));
    let drain = root.duration("drain", Duration::ZERO..=LONGEST).unwrap_or(Duration::from_secs(15));
    let slos = root.texts("slo").into_iter().filter_map(|(at, text)| match text.parse::<Slo>() {
        Ok(slo) => Some(slo),
        Err(error) => root.problem(at, format!("slo: {error}")),
    });
    let slos = slos.collect();
    let mut parameters = BTreeMap::from([("payload_bytes".to_owned(), json!(payload_bytes))]);
    let shape = shape(root, &mut parameters);
    let mut phases = Vec::new();
    for mut table in root.tables("phase") {
        phases.extend(phase(&mut table));
        root.take_problems(table);
    }
    if phases.is_empty() && !root.has_problems() {
        return root.problem(0, "a scenario needs at least one [[phase]]".to_owned());
    }
    if phases.len() > PHASES_MAX {
        return root.problem(0, format!("{} phases, at most {PHASES_MAX}", phases.len()));
    }
    let sending = phases.iter().any(|phase| phase.pace.is_some());
    if sending && shape.groups.is_empty() && !root.has_problems() {
        return root.problem(0, "phases send, and there is nobody to send to: add [[groups]] or [pairs]".to_owned());
    }
    parameters.insert("phases".to_owned(), phases.iter().map(told).collect());
    let name = name.or_else(|| root.missing("name"))?;
    let payload_bytes = payload_bytes as usize;
    Some(Scenario { name, description, shape, payload_bytes, warmup, drain, slos, phases, parameters })
}

/// Users of different parts are different users.
fn shape(root: &mut Table<'_, '_>, parameters: &mut BTreeMap<String, Value>) -> Shape {
    let mut shape = Shape::default();
    let mut groups = Vec::new();
    for mut table in root.tables("groups") {
        let count = table.integer("count", 1..=COUNT_MAX).unwrap_or(1);
        let members = table.integer("members", 2..=MEMBERS_MAX);
        let members = members.or_else(|| table.missing("members")).unwrap_or(2);
        let senders = table.integer("senders", 1..=members).unwrap_or(1);
        if u64::from(shape.users) + u64::from(count) * u64::from(members) <= USERS_MAX {
            append(&mut shape, Shape::groups(count, members, senders));
        } else {
            table.problem::<()>(table.at(), format!("more than {USERS_MAX} users"));
        }
        groups.push(json!({"count": count, "members": members, "senders": senders}));
        root.take_problems(table);
    }
    if !groups.is_empty() {
        parameters.insert("groups".to_owned(), groups.into());
    }
    for (name, key) in [("pairs", "count"), ("idle", "users")] {
        let Some(mut table) = root.table(name) else { continue };
        let number = table.integer(key, 1..=COUNT_MAX);
        if let Some(number) = number.or_else(|| table.missing(key)) {
            append(&mut shape, if name == "pairs" { Shape::pairs(number) } else { Shape::idle(number) });
            parameters.insert(name.to_owned(), json!(number));
        }
        root.take_problems(table);
    }
    if shape.users == 0 && !root.has_problems() {
        root.problem::<()>(0, "nobody is there: add [[groups]], [pairs] or [idle]".to_owned());
    }
    shape
}

fn append(shape: &mut Shape, more: Shape) {
    let first = shape.users;
    let moved = |users: Vec<u32>| users.into_iter().map(|user| user + first).collect();
    shape.users += more.users;
    shape.groups.extend(more.groups.into_iter().map(|group| GroupShape {
        members: moved(group.members),
        senders: moved(group.senders),
        private: group.private,
    }));
}

fn phase(table: &mut Table<'_, '_>) -> Option<Phase> {
    let name = table.text("name");
    let duration = table.duration("duration", SHORTEST_PHASE..=LONGEST);
    let rate = table.number("rate", RATE_MAX).filter(|rate| *rate > 0.0);
    let window = table.integer("window", 1..=WINDOW_MAX);
    let pace = match (rate, window) {
        (Some(_), Some(_)) => {
            return table
                .problem(table.at(), "a phase has a rate (open loop) or a window (closed loop), not both".to_owned());
        }
        (Some(per_second), None) => Some(Loop::Open { per_second }),
        (None, Some(window)) => Some(Loop::Closed { window }),
        (None, None) => None,
    };
    let reads_per_s = table.number("reads_per_s", RATE_MAX).unwrap_or_default();
    let history_per_s = table.number("history_per_s", RATE_MAX).unwrap_or_default();
    let cut = table.share("cut_connections").unwrap_or_default();
    let kill = kill(table);
    let name = name.or_else(|| table.missing("name"))?;
    let duration = duration.or_else(|| table.missing("duration"))?;
    Some(Phase { name, duration, pace, reads_per_s, history_per_s, cut, kill })
}

fn kill(table: &mut Table<'_, '_>) -> Option<Kill> {
    let victim = table.text("kill");
    let restart_after = table.duration("restart_after", Duration::ZERO..=LONGEST);
    let Some(victim) = victim else {
        if restart_after.is_some() {
            table.problem::<()>(table.at(), "restart_after: nobody is killed here".to_owned());
        }
        return None;
    };
    let victim = match victim.strip_prefix("node-").and_then(|number| number.parse().ok()).filter(|number| *number > 0)
    {
        Some(number) => Victim::Node(number),
        None if victim == "leader" => Victim::Leader,
        None => return table.problem(table.at(), format!("kill: expected \"leader\" or \"node-2\", found {victim:?}")),
    };
    Some(Kill { victim, restart_after: restart_after.unwrap_or(Duration::from_secs(3)) })
}

/// As it stands in a summary.
fn told(phase: &Phase) -> Value {
    let mut told = json!({"name": phase.name, "duration_s": phase.duration.as_secs_f64()});
    let mut add = |name: &str, value: Value| told[name] = value;
    match phase.pace {
        Some(Loop::Open { per_second }) => add("rate", json!(per_second)),
        Some(Loop::Closed { window }) => add("window", json!(window)),
        None => {}
    }
    for (name, value) in
        [("reads_per_s", phase.reads_per_s), ("history_per_s", phase.history_per_s), ("cut_connections", phase.cut)]
    {
        if value > 0.0 {
            add(name, json!(value));
        }
    }
    if let Some(Kill { victim, restart_after }) = &phase.kill {
        let victim = match victim {
            Victim::Leader => "leader".to_owned(),
            Victim::Node(number) => format!("node-{number}"),
        };
        add("kill", json!(victim));
        add("restart_after_s", json!(restart_after.as_secs_f64()));
    }
    told
}
