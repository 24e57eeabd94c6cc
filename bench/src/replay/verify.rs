//! After the last ack: what every member received, against what every node's history holds,
//! against what was acked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use campanile_client::{Client, Range};
use chat::wire::WireEvent;
use futures_util::{StreamExt, TryStreamExt};

use super::run::Run;
use super::setup::wait_until;
use super::{ReplayError, ReplayOptions};
use crate::check::replicas;
use crate::report::Violations;
use crate::roll::roll;
use crate::target::Target;

/// Histories read at once.
const READS_AT_ONCE: usize = 8;
/// Members still receive while something arrives at least this often.
const DELIVERY_SILENCE: Duration = Duration::from_secs(30);
/// How long replicas may take to agree once nothing is sent any more.
const DIGESTS_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn check(
    options: &ReplayOptions,
    target: &Arc<Target>,
    run: &Arc<Run>,
    violations: &mut Violations,
) -> Result<(), ReplayError> {
    let histories = read_histories(options, target, run, 0).await?;
    wait_for_deliveries(options, run, &histories).await;
    histories.iter().for_each(|history| history.report(run, violations));
    check_acks(run, &histories, violations);
    check_members(run, &histories, violations);
    for node in 1..target.urls.len() {
        for other in read_histories(options, target, run, node).await? {
            let first = &histories[other.group as usize];
            if (other.head, other.hash) != (first.head, first.hash) {
                let name = &run.plan.groups[other.group as usize].name;
                violations.add(format!(
                    "group {name}: the history of {} (head {}) differs from that of {} (head {})",
                    target.urls[node], other.head, target.urls[0], first.head
                ));
            }
        }
    }
    if !target.admins.is_empty() {
        check_digests(options, target, violations).await;
    }
    Ok(())
}

/// A group as one node tells it.
struct History {
    group: u32,
    head: u64,
    hash: u64,
    /// Of each message of the plan that is in it, the seq.
    seqs: Vec<(u32, u64)>,
    /// Events that are no message of the plan.
    strangers: u64,
    /// Events whose seq is not the next one.
    holes: u64,
}

impl History {
    fn take(&mut self, run: &Run, event: &WireEvent) {
        self.holes += u64::from(event.seq != self.head + 1);
        self.head = event.seq;
        self.hash = roll(self.hash, event);
        match run.planned(self.group, event) {
            Some(message) => self.seqs.push((message, event.seq)),
            None => self.strangers += 1,
        }
    }

    fn report(&self, run: &Run, violations: &mut Violations) {
        let name = &run.plan.groups[self.group as usize].name;
        violations.count(&format!("events of group {name} were never sent"), self.strangers);
        violations.count(&format!("seqs of group {name} are missing or repeated"), self.holes);
        // A send given up as unknown may be applied after its sender's next one.
        let unknown: HashSet<u32> = run.failed().iter().map(|failed| failed.message).collect();
        let mut last = HashMap::new();
        let mut disorder = 0;
        for (message, _) in self.seqs.iter().filter(|(message, _)| !unknown.contains(message)) {
            // The plan keeps each sender's order: a lower place after a higher one is out of order, or a repetition.
            let sender = run.plan.messages[*message as usize].sender;
            disorder += u64::from(last.insert(sender, *message).is_some_and(|before| before >= *message));
        }
        violations.count(&format!("messages of group {name} are out of their sender's order"), disorder);
    }
}

/// Every group's history, as the node at place `node` tells it, in the order of the groups.
async fn read_histories(
    options: &ReplayOptions,
    target: &Arc<Target>,
    run: &Arc<Run>,
    node: usize,
) -> Result<Vec<History>, ReplayError> {
    let groups = 0..run.plan.groups.len() as u32;
    let total = u64::from(groups.end);
    let read = std::sync::atomic::AtomicU64::new(0);
    let reading = futures_util::stream::iter(groups.map(|group| {
        let read = &read;
        async move {
            let history = read_history(target, run, node, group).await;
            read.fetch_add(1, Ordering::Relaxed);
            history
        }
    }))
    .buffered(READS_AT_ONCE)
    .try_collect();
    options.progress.follow(&format!("history {}", node + 1), total, || read.load(Ordering::Relaxed), reading).await
}

async fn read_history(target: &Target, run: &Run, node: usize, group: u32) -> Result<History, ReplayError> {
    let url = &target.urls[node];
    let name = &run.plan.groups[group as usize].name;
    let unhealthy = |e: &dyn std::fmt::Display| ReplayError::Unhealthy(format!("history of {name} from {url}: {e}"));
    let owner = &run.plan.users[run.plan.groups[group as usize].members[0] as usize];
    let options = target.client_of_node(owner, "bench-verify", node)?;
    let (client, _events) = Client::connect(options).await.map_err(|e| unhealthy(&e))?;
    let place = &run.groups[group as usize];
    let mut history = History { group, head: place.base(), hash: 0, seqs: Vec::new(), strangers: 0, holes: 0 };
    loop {
        let range = Range::After(history.head);
        let page = client.history(place.conversation.clone(), range).await.map_err(|e| unhealthy(&e))?;
        page.events.iter().for_each(|event| history.take(run, event));
        if !page.more {
            return Ok(history);
        }
        if page.events.is_empty() {
            return Err(unhealthy(&"it promises more and gives nothing"));
        }
    }
}

/// Waits until every member is at its groups' heads, or nothing arrives any more.
async fn wait_for_deliveries(options: &ReplayOptions, run: &Run, histories: &[History]) {
    let expected: u64 = histories
        .iter()
        .map(|h| (h.head - run.groups[h.group as usize].base()) * run.views(h.group).len() as u64)
        .sum();
    let received = || run.tallies.deliveries.load(Ordering::Relaxed);
    let arriving = async {
        let mut before = u64::MAX;
        // Each round waits for the end; a round in which nothing came at all is the last.
        while received() < expected && received() != before {
            before = received();
            wait_until(DELIVERY_SILENCE, || received() >= expected).await;
        }
    };
    options.progress.follow("deliveries", expected, received, arriving).await;
}

/// Every ack is in the history, at the seq it named, and nowhere else.
fn check_acks(run: &Run, histories: &[History], violations: &mut Violations) {
    let mut seq_of = vec![None; run.plan.messages.len()];
    let mut repeated = 0;
    for (message, seq) in histories.iter().flat_map(|history| &history.seqs) {
        repeated += u64::from(seq_of[*message as usize].replace(*seq).is_some());
    }
    violations.count("messages are in their history more than once", repeated);
    let (mut lost, mut moved) = (0, 0);
    for (message, found) in seq_of.iter().enumerate() {
        match (run.ledger.acked_seq(message as u32), found) {
            (Some(_), None) => lost += 1,
            (Some(acked), Some(found)) => moved += u64::from(acked != *found),
            (None, _) => {}
        }
    }
    violations.count("acked messages are lost", lost);
    violations.count("acked messages have another seq than their ack said", moved);
    let impossible =
        run.failed().iter().filter(|failed| !failed.unknown && seq_of[failed.message as usize].is_some()).count();
    violations.count("messages exist though their send was said to have failed", impossible as u64);
}

/// Every member received every message of its groups, once, in the order of the history.
fn check_members(run: &Run, histories: &[History], violations: &mut Violations) {
    let (mut short, mut different, mut disorder) = (0, 0, 0);
    for history in histories {
        let base = run.groups[history.group as usize].base();
        for view in run.views(history.group) {
            let (seq, hash) = view.position(base);
            short += u64::from(seq < history.head);
            different += u64::from(seq >= history.head && (seq, hash) != (history.head, history.hash));
            disorder += view.disorder();
        }
    }
    violations.count("memberships did not receive everything", short);
    violations.count("memberships received something else than the history", different);
    violations.count("deliveries were not the next of their group", disorder);
    violations.count("deliveries were of messages never sent", run.tallies.phantoms.load(Ordering::Relaxed));
    violations.count("conversations had to be read anew", run.tallies.resyncs.load(Ordering::Relaxed));
    violations.count("members were removed", run.tallies.removals.load(Ordering::Relaxed));
    violations.count("clients were closed for good", run.tallies.closed.load(Ordering::Relaxed));
}

/// All replicas of every shard come to the same state.
async fn check_digests(options: &ReplayOptions, target: &Target, violations: &mut Violations) {
    match replicas::differ(target, DIGESTS_WITHIN).await {
        None => options.progress.say("the replicas' digests are equal on all nodes"),
        Some(difference) => {
            violations.add(format!("replicas differ after {} s: {difference}", DIGESTS_WITHIN.as_secs()));
        }
    }
}

#[cfg(test)]
mod tests;
