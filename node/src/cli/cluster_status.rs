//! `campanile cluster status`: one node's view, or all nodes' of a cluster directory, side by side.

use std::collections::{BTreeMap, BTreeSet};

use chat::ids::{NodeId, ShardId};
use cluster::{ClusterStatus, Integrity, Room, ShardDigest};
use serde::Serialize;

use super::args::{NodesArgs, StatusArgs};
use super::output::{json, say, table};
use super::{Code, Exit, Failure, load_config, read_file, read_secret};
use crate::admin::{AdminClient, AdminError, NodeStatus, StorageStatus, shard_name};
use crate::local::LocalCluster;

/// What one asked node said.
#[derive(Debug, Serialize)]
struct Answer {
    /// Where it was asked.
    admin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<NodeStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digests: Option<Vec<ShardDigest>>,
    /// Why it said nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn run(args: StatusArgs) -> Result<(), Failure> {
    let targets = targets(&args.node)?;
    let mut answers = Vec::new();
    let mut last_error = None;
    for (admin, client) in targets {
        let (answer, error) = ask(admin, &client, args.digests).await;
        answers.push(answer);
        last_error = error.or(last_error);
    }
    if let (true, Some(error)) = (answers.iter().all(|answer| answer.status.is_none()), last_error) {
        return Err(admin_failure(&error));
    }
    if args.json {
        json(&answers);
    } else {
        say(report(&answers));
        say(next(&args));
    }
    Ok(())
}

pub(super) fn targets(args: &NodesArgs) -> Result<Vec<(String, AdminClient)>, Failure> {
    if let Some(dir) = &args.dir {
        let cluster = LocalCluster::open(dir)
            .map_err(|error| Failure::new(Code::File, Exit::Configuration, error.to_string()).because(&error))?;
        let of = |node| Ok((cluster.admin_url(node)?, cluster.admin(node)?));
        let targets: Result<_, crate::local::LocalError> = cluster.nodes().into_iter().map(of).collect();
        return targets.map_err(|error| Failure::new(Code::File, Exit::Configuration, error.to_string()));
    }
    if let Some(path) = &args.config {
        return Ok(vec![from_config(path)?]);
    }
    let (Some(url), Some(ca), Some(token)) = (&args.admin, &args.ca, &args.token_file) else {
        return Err(Failure::new(Code::Argument, Exit::Usage, "--admin needs --ca and --token-file"));
    };
    Ok(vec![(url.clone(), connect(url, &read_file(ca)?, &read_secret(token)?)?)])
}

/// A node that answers, and what it says: the first of those asked.
pub(super) async fn somebody(args: &NodesArgs) -> Result<(AdminClient, NodeStatus), Failure> {
    let mut last: Option<AdminError> = None;
    for (_, admin) in targets(args)? {
        match admin.status().await {
            Ok(status) => return Ok((admin, status)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| Failure::new(Code::Argument, Exit::Usage, "no node to ask"), |error| admin_failure(&error)))
}

/// A client of the node that a configuration describes.
pub(super) fn from_config(path: &std::path::Path) -> Result<(String, AdminClient), Failure> {
    let config = load_config(path)?;
    let url = format!("https://{}", config.admin.listen);
    let client = connect(&url, &read_file(&config.peer.ca)?, &read_secret(&config.admin.token_file)?)?;
    Ok((url, client))
}

fn connect(url: &str, ca: &[u8], token: &str) -> Result<AdminClient, Failure> {
    AdminClient::new(url, ca, token)
        .map_err(|error| Failure::new(Code::Argument, Exit::Configuration, error.to_string()).because(&error))
}

/// What an operator is told when the admin listener does not do as asked.
pub(super) fn admin_failure(error: &AdminError) -> Failure {
    let message = error.to_string();
    match error {
        AdminError::Refused { problem } => Failure {
            number: problem.code,
            exit: Exit::Refused,
            message: format!("{}: {}", problem.name, problem.message),
            details: Vec::new(),
            next: None,
        },
        AdminError::Unauthorized { .. } => Failure::new(Code::AdminToken, Exit::Refused, message)
            .next("name the token file of this very cluster: its admin.token"),
        AdminError::Form { .. } => Failure::new(Code::AdminForm, Exit::Failed, message)
            .next("use the `campanile` of the version that the node runs"),
        AdminError::Url { .. } | AdminError::Ca => Failure::new(Code::Argument, Exit::Configuration, message),
        _ => Failure::new(Code::AdminUnreachable, Exit::Unreachable, message)
            .because(error)
            .next("is the node running? campanile node start --config FILE"),
    }
}

async fn ask(admin: String, client: &AdminClient, with_digests: bool) -> (Answer, Option<AdminError>) {
    let mut answer = Answer { admin, status: None, digests: None, error: None };
    let result = async {
        answer.status = Some(client.status().await?);
        if with_digests {
            answer.digests = Some(client.digests().await?);
        }
        Ok(())
    }
    .await;
    let error: Option<AdminError> = result.err();
    answer.error = error.as_ref().map(ToString::to_string);
    (answer, error)
}

fn report(answers: &[Answer]) -> String {
    let mut parts = Vec::new();
    let known: Vec<(&Answer, &NodeStatus)> =
        answers.iter().filter_map(|answer| Some((answer, answer.status.as_ref()?))).collect();
    if let Some((_, first)) = known.first() {
        let cluster = &first.cluster;
        parts.push(format!(
            "cluster {}, as node {} sees it (campanile {}), feature level {}{}",
            cluster.cluster,
            cluster.node,
            first.version,
            cluster.level,
            upgrade(cluster)
        ));
        parts.push(nodes(answers, first));
        parts.push(shards(&known));
        parts.extend(damage(&known));
        parts.extend(compactions(&known));
    }
    if known.iter().any(|(answer, _)| answer.digests.is_some()) {
        parts.push(digests(&known));
    }
    parts.join("\n\n")
}

/// What all nodes support beyond what is switched on.
fn upgrade(cluster: &ClusterStatus) -> String {
    if cluster.supported <= cluster.level {
        return String::new();
    }
    format!("\nupgrade available, to feature level {}: run campanile cluster upgrade", cluster.supported)
}

fn nodes(answers: &[Answer], seen_by: &NodeStatus) -> String {
    let mut rows = vec![
        ["node", "peers at", "zone", "state", "reachable", "sessions", "on disk", "up"].map(str::to_owned).to_vec(),
    ];
    for peer in &seen_by.cluster.peers {
        let own = answers.iter().filter_map(|a| a.status.as_ref()).find(|status| status.cluster.node == peer.node);
        let room = own.map_or(Room::Ample, |status| status.storage.room);
        let reachable = match (peer.connected, room, peer.leaving) {
            (true, Room::Full, _) => "yes, disk full",
            (true, Room::Tight, _) => "yes, disk nearly full",
            (true, _, true) => "yes, drained",
            (true, Room::Low, false) => "yes, disk low",
            (true, Room::Ample, false) => "yes",
            (false, ..) => "no",
        };
        let zone = if peer.zone.is_empty() { "-" } else { &peer.zone };
        let mut row: Vec<String> = vec![peer.node.to_string(), peer.address.clone()];
        row.extend([zone, &peer.state, reachable].map(str::to_owned));
        row.extend(own.map_or_else(Vec::new, |status| {
            vec![status.sessions.to_string(), on_disk(&status.storage), seconds(status.uptime_ms)]
        }));
        rows.push(row);
    }
    let silent = answers.iter().filter(|answer| answer.status.is_none());
    let silent =
        silent.map(|answer| format!("\nno status from {}: {}", answer.admin, answer.error.as_deref().unwrap_or("")));
    let refused = seen_by.cluster.peers.iter().filter_map(|peer| {
        let why = peer.refused.as_ref().filter(|_| !peer.connected)?;
        Some(format!("\nnode {} is not understood: {why}", peer.node))
    });
    table(&rows) + &refused.collect::<String>() + &silent.collect::<String>()
}

/// Shards as the first node sees them, and how far each asked node's replica is behind the furthest one.
fn shards(known: &[(&Answer, &NodeStatus)]) -> String {
    let mut head = ["shard", "leader", "term", "applied"].map(str::to_owned).to_vec();
    head.extend(known.iter().map(|(_, status)| format!("lag on {}", status.cluster.node)));
    let mut rows = vec![head];
    for shard in &known[0].1.cluster.shards {
        let applied: Vec<Option<u64>> = known.iter().map(|(_, status)| applied(status, shard.shard)).collect();
        let furthest = applied.iter().flatten().max().copied().unwrap_or(0).max(shard.last);
        let leader = shard.leader.map_or_else(|| "none".to_owned(), |node| node.to_string());
        let mut row = vec![shard.shard.to_string(), leader, shard.term.to_string(), furthest.to_string()];
        row.extend(applied.iter().map(|at| at.map_or_else(|| "?".to_owned(), |at| (furthest - at).to_string())));
        rows.push(row);
    }
    table(&rows)
}

/// What was found damaged and what became of it, and scrubs; nothing if there was neither.
fn damage(known: &[(&Answer, &NodeStatus)]) -> Option<String> {
    let mut lines = Vec::new();
    for (_, status) in known {
        let node = status.cluster.node;
        for shard in &status.cluster.shards {
            let Integrity { found, repaired, dropped, pending, quarantined, last, stuck } = &shard.integrity;
            if *found == 0 {
                continue;
            }
            let name = shard_name(shard.shard);
            let state = match (quarantined, pending) {
                (true, _) => ", its state is not shown and being rebuilt".to_owned(),
                (false, 0) => String::new(),
                (false, pending) => format!(", {pending} being repaired"),
            };
            let removed = match dropped {
                0 => String::new(),
                dropped => format!(", {dropped} removed that nobody needed"),
            };
            let last = last.as_ref().map_or_else(String::new, |last| format!("; last: {last}"));
            let stuck = stuck.as_ref().map_or_else(String::new, |why| format!("; not repaired yet: {why}"));
            lines.push(format!(
                "DAMAGE on node {node}, {name}: {found} found, {repaired} repaired{removed}{state}{last}{stuck}"
            ));
        }
        let scrub = &status.cluster.scrub;
        if scrub.began_ms > 0 {
            let at = scrub.at.map_or_else(|| "ended".to_owned(), |shard| format!("at {}", shard_name(shard)));
            let (records, bytes, damaged) = (scrub.records, bytes(scrub.bytes), scrub.damaged);
            let failed = scrub.failed.as_ref().map_or_else(String::new, |why| format!(", early: {why}"));
            lines.push(format!("scrub on node {node}: {at}{failed}, {records} records ({bytes}), {damaged} damaged"));
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn applied(status: &NodeStatus, shard: ShardId) -> Option<u64> {
    status.cluster.shards.iter().find(|replica| replica.shard == shard).map(|replica| replica.applied)
}

/// Digests at the same applied index must be equal; at different ones they say nothing yet.
fn digests(known: &[(&Answer, &NodeStatus)]) -> String {
    let mut by_shard: BTreeMap<ShardId, Vec<(NodeId, &ShardDigest)>> = BTreeMap::new();
    for (answer, status) in known {
        for digest in answer.digests.iter().flatten() {
            by_shard.entry(digest.shard).or_default().push((status.cluster.node, digest));
        }
    }
    let mut rows = vec![["shard", "applied", "records", "digest", "replicas"].map(str::to_owned).to_vec()];
    for (shard, replicas) in by_shard {
        let first = replicas[0].1;
        let verdict = verdict(&replicas);
        let digest = first.digest.get(..16).unwrap_or(&first.digest).to_owned();
        rows.push(vec![shard.to_string(), first.applied.to_string(), first.records.to_string(), digest, verdict]);
    }
    table(&rows)
}

fn verdict(replicas: &[(NodeId, &ShardDigest)]) -> String {
    let indexes: BTreeSet<u64> = replicas.iter().map(|(_, digest)| digest.applied).collect();
    let states: BTreeSet<&str> = replicas.iter().map(|(_, digest)| digest.digest.as_str()).collect();
    match (replicas.len(), indexes.len(), states.len()) {
        (1, ..) => "one asked".to_owned(),
        (count, 1, 1) => format!("{count} equal"),
        (_, 1, _) => {
            let each = replicas.iter().map(|(node, digest)| format!("{node}: {}", digest.digest));
            format!("DIFFERENT at the same index: {}", each.collect::<Vec<_>>().join(", "))
        }
        _ => "at different indexes; ask again when writes are quiet".to_owned(),
    }
}

fn on_disk(storage: &StorageStatus) -> String {
    match storage.compaction_due {
        true => format!("{}, {} % dead", bytes(storage.bytes_on_disk), storage.dead_percent),
        false => bytes(storage.bytes_on_disk),
    }
}

/// Which databases should be compacted, and what their nodes wait for.
fn compactions(known: &[(&Answer, &NodeStatus)]) -> Option<String> {
    let due = known.iter().filter(|(_, status)| status.storage.compaction_due);
    let lines: Vec<String> = due
        .map(|(_, status)| {
            let (node, waits) = (status.cluster.node, status.storage.compaction_waits.as_deref());
            let waits = waits.map_or_else(|| "does so next".to_owned(), |waits| format!("waits: {waits}"));
            format!("node {node} is to compact its database, and {waits}")
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{:.1} KiB", count as f64 / 1_024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

fn seconds(uptime_ms: u64) -> String {
    match uptime_ms / 1_000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3_600),
    }
}

fn next(args: &StatusArgs) -> String {
    match &args.node.dir {
        Some(dir) if !args.digests => {
            format!("\nnext: campanile cluster status --dir {} --digests compares the replicas", dir.display())
        }
        _ => "\nnext: campanile send --help, campanile tail --help".to_owned(),
    }
}

#[cfg(test)]
#[path = "cluster_status_tests.rs"]
mod tests;
