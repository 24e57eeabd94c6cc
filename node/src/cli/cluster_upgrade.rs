//! `campanile cluster upgrade`: which release each node runs, and switching on what all of them support.

use chat::level::{self, LEVELS};
use cluster::{ClusterStatus, PeerStatus};
use serde_json::json;

use super::args_nodes::UpgradeArgs;
use super::cluster_status::{admin_failure, somebody};
use super::output::{confirm, json, say, table};
use super::{Code, Exit, Failure};
use crate::nodes::api::Raise;

pub(super) async fn run(args: UpgradeArgs) -> Result<(), Failure> {
    let (admin, status) = somebody(&args.node).await?;
    let status = status.cluster;
    let wanted = args.to.unwrap_or(status.supported.min(level::NEWEST).max(status.level));
    if !args.json {
        say(report(&status, wanted));
    }
    if wanted > status.supported {
        return Err(not_supported(&status, wanted));
    }
    let nothing = wanted == status.level;
    let changes = !nothing && !args.dry_run;
    if changes {
        let question = format!("no node can go back to an earlier release after this; type {wanted} to go on: ");
        if !args.yes && !confirm(&question, &wanted.to_string()) {
            let failure = Failure::new(Code::Argument, Exit::Usage, "nothing was changed");
            return Err(failure.next("with --yes it is not asked"));
        }
        admin.raise(&Raise { level: wanted }).await.map_err(|error| admin_failure(&error))?;
    }
    if args.json {
        json(&json!({
            "level": if changes { wanted } else { status.level },
            "before": status.level,
            "supported": status.supported,
            "switched_on": brings(status.level, wanted).map(|(level, _)| level).collect::<Vec<_>>(),
            "dry_run": args.dry_run,
            "nodes": status.peers.iter().map(node_json).collect::<Vec<_>>(),
        }));
    } else {
        say(end(nothing, args.dry_run, wanted));
    }
    Ok(())
}

fn end(nothing: bool, dry_run: bool, wanted: u16) -> String {
    match (nothing, dry_run) {
        (true, _) => format!("\nnothing to switch on: the cluster is at feature level {wanted}"),
        (false, true) => "\nnothing was changed\nnext: campanile cluster upgrade without --dry-run".to_owned(),
        (false, false) => format!("\nthe cluster is at feature level {wanted}\nnext: campanile cluster status"),
    }
}

fn node_json(peer: &PeerStatus) -> serde_json::Value {
    json!({ "node": peer.node, "version": peer.release, "supports": peer.supports })
}

/// What lies between the level that is on and the one that is wanted.
fn brings(on: u16, wanted: u16) -> impl Iterator<Item = (u16, &'static str)> {
    LEVELS
        .iter()
        .filter(move |level| level.level > on && level.level <= wanted)
        .map(|level| (level.level, level.brings))
}

fn report(status: &ClusterStatus, wanted: u16) -> String {
    let mut rows = vec![["node", "version", "supports"].map(str::to_owned).to_vec()];
    rows.extend(status.peers.iter().map(|peer| {
        let supports = peer.supports.map_or_else(|| "not said".to_owned(), |supports| format!("level {supports}"));
        vec![peer.node.to_string(), peer.release.clone().unwrap_or_else(|| "not said".to_owned()), supports]
    }));
    let mut text = format!("cluster {} is at feature level {}\n\n{}", status.cluster, status.level, table(&rows));
    for (level, brings) in brings(status.level, wanted) {
        text.push_str(&format!("\n\nlevel {level} brings: {brings}"));
    }
    text
}

fn not_supported(status: &ClusterStatus, wanted: u16) -> Failure {
    let what = format!("not every node supports feature level {wanted}; all support {}", status.supported);
    let failure = Failure::new(Code::Argument, Exit::Refused, what);
    let behind = status.peers.iter().filter(|peer| peer.supports.is_none_or(|supports| supports < wanted));
    let why = |peer: &PeerStatus| match peer.supports {
        Some(supports) => format!("node {} supports {supports}: upgrade it, one node after the other", peer.node),
        None => format!("node {} has not said what it supports: start it, or remove it from the cluster", peer.node),
    };
    behind.map(why).fold(failure, Failure::detail).next("docs/OPERATIONS.md, \"Upgrades\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node: u64, supports: Option<u16>) -> PeerStatus {
        PeerStatus {
            node,
            address: String::new(),
            connected: true,
            leaving: false,
            state: "active".into(),
            zone: String::new(),
            client: String::new(),
            admin: String::new(),
            version: Some(3),
            release: supports.map(|level| format!("0.{level}.0")),
            supports,
            refused: None,
        }
    }

    fn status(level: u16, supported: u16, peers: Vec<PeerStatus>) -> ClusterStatus {
        let (shards, scrub) = Default::default();
        ClusterStatus { cluster: "c".into(), node: 1, level, supported, peers, shards, scrub }
    }

    #[test]
    fn an_operator_sees_who_runs_what_and_what_it_brings() {
        let text = report(&status(1, 2, vec![peer(1, Some(2)), peer(2, Some(3))]), 2);
        let expected = "\
cluster c is at feature level 1

node  version  supports
1     0.2.0    level 2
2     0.3.0    level 3

level 2 brings: ";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn whoever_holds_it_up_is_named() {
        let held = status(1, 1, vec![peer(1, Some(2)), peer(2, Some(1)), peer(3, None)]);
        let failure = not_supported(&held, 2).to_string();
        assert!(failure.contains("node 2 supports 1") && failure.contains("node 3 has not said"), "{failure}");
        assert!(!failure.contains("node 1 "), "{failure}");
    }
}
