//! `campanile cluster scrub`: every stored record of the asked nodes is opened now, and what is damaged repaired.

use std::time::{Duration, Instant};

use chat::ids::NodeId;
use cluster::{ScrubProgress, ShardStatus};
use serde::Serialize;

use super::args::ScrubArgs;
use super::cluster_status::{admin_failure, targets};
use super::output::{json, say, table};
use super::{Code, Exit, Failure};
use crate::admin::{AdminClient, NodeStatus, shard_name};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(500);
/// How long repairs may go on after all was looked at.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(120);

/// What a node's scrub came to.
#[derive(Debug, Serialize)]
struct Scrubbed {
    node: NodeId,
    scrub: ScrubProgress,
    /// Damaged records found and repaired since the node started, whoever found them; and those still damaged.
    found: u64,
    repaired: u64,
    pending: u64,
    /// Shards with damage left, and why.
    stuck: Vec<String>,
}

pub(super) async fn run(args: ScrubArgs) -> Result<(), Failure> {
    let targets = targets(&args.node)?;
    for (_, admin) in &targets {
        admin.scrub().await.map_err(|error| admin_failure(&error))?;
    }
    let mut scrubbed = Vec::new();
    for (_, admin) in &targets {
        let status = if args.no_wait { status(admin).await? } else { ended(admin).await? };
        scrubbed.push(judge(&status));
    }
    if args.json {
        json(&scrubbed);
    } else {
        say(report(&scrubbed));
    }
    if args.no_wait { Ok(()) } else { verdict(&scrubbed) }
}

async fn status(admin: &AdminClient) -> Result<NodeStatus, Failure> {
    admin.status().await.map_err(|error| admin_failure(&error))
}

/// The status once everything was looked at, and repaired or not within a while.
async fn ended(admin: &AdminClient) -> Result<NodeStatus, Failure> {
    let mut since_end: Option<Instant> = None;
    loop {
        let status = status(admin).await?;
        if status.cluster.scrub.at.is_none() {
            let waited = since_end.get_or_insert_with(Instant::now).elapsed();
            let pending = status.cluster.shards.iter().any(|shard| shard.integrity.pending > 0);
            if !pending || waited > REPAIR_TIMEOUT {
                return Ok(status);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn judge(status: &NodeStatus) -> Scrubbed {
    let shards = &status.cluster.shards;
    let sum = |count: fn(&ShardStatus) -> u64| shards.iter().map(count).sum();
    let stuck = shards.iter().filter(|shard| shard.integrity.pending > 0).map(|shard| {
        let why = shard.integrity.stuck.as_deref().or(shard.integrity.last.as_deref()).unwrap_or("not repaired yet");
        format!("{}: {why}", shard_name(shard.shard))
    });
    Scrubbed {
        node: status.cluster.node,
        scrub: status.cluster.scrub.clone(),
        found: sum(|shard| shard.integrity.found),
        repaired: sum(|shard| shard.integrity.repaired),
        pending: sum(|shard| shard.integrity.pending),
        stuck: stuck.collect(),
    }
}

fn report(scrubbed: &[Scrubbed]) -> String {
    let head = ["node", "shards", "records", "bytes", "damaged", "repaired", "left"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for Scrubbed { node, scrub, repaired, pending, .. } in scrubbed {
        let numbers = [u64::from(scrub.shards_done), scrub.records, scrub.bytes, scrub.damaged, *repaired, *pending];
        rows.push([*node].into_iter().chain(numbers).map(|number| number.to_string()).collect());
    }
    let stuck = scrubbed.iter().flat_map(|node| node.stuck.iter().map(move |why| (node.node, why)));
    table(&rows) + &stuck.map(|(node, why)| format!("\nnode {node}, {why}")).collect::<String>()
}

/// Success says that every record was looked at, and that none is damaged any more.
fn verdict(scrubbed: &[Scrubbed]) -> Result<(), Failure> {
    if let Some((node, why)) = scrubbed.iter().find_map(|node| Some((node.node, node.scrub.failed.as_deref()?))) {
        return Err(Failure::new(
            Code::Damaged,
            Exit::Failed,
            format!("node {node} did not look at all records: {why}"),
        ));
    }
    let left: Vec<String> = scrubbed.iter().filter(|node| node.pending > 0).map(|node| node.node.to_string()).collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Damaged, Exit::Failed, format!("damaged records are left on node {}", left.join(", ")))
        .next("campanile cluster status shows why; a repair needs the other nodes, and goes on by itself"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubbed(damaged: u64, repaired: u64, pending: u64, failed: Option<&str>) -> Scrubbed {
        let failed = failed.map(str::to_owned);
        let scrub =
            ScrubProgress { shards_done: 5, records: 70, bytes: 9_000, damaged, failed, ..ScrubProgress::default() };
        let stuck = if pending > 0 { vec!["shard 2: nobody answers".to_owned()] } else { Vec::new() };
        Scrubbed { node: 2, scrub, found: damaged, repaired, pending, stuck }
    }

    #[test]
    fn only_a_whole_scrub_without_damage_left_is_a_success() {
        let exit = |scrubbed: Scrubbed| verdict(&[scrubbed]).err().map(|failure| failure.exit);
        assert_eq!(exit(scrubbed(0, 0, 0, None)), None);
        assert_eq!(exit(scrubbed(3, 3, 0, None)), None);
        assert_eq!(exit(scrubbed(3, 2, 1, None)), Some(Exit::Failed));
        assert_eq!(exit(scrubbed(0, 0, 0, Some("storage is closed"))), Some(Exit::Failed));
    }

    #[test]
    fn what_was_found_and_what_is_left_is_shown() {
        let expected = "\
node  shards  records  bytes  damaged  repaired  left
2     5       70       9000   3        2         1
node 2, shard 2: nobody answers";
        assert_eq!(report(&[scrubbed(3, 2, 1, None)]), expected);
    }
}
