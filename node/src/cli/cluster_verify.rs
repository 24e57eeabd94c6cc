//! `campanile cluster verify`: whether all replicas of every shard hold the same, each after one and the same entry.

use cluster::Comparison;

use super::args::VerifyArgs;
use super::cluster_status::{admin_failure, somebody};
use super::output::{json, say, table};
use super::{Code, Exit, Failure};

pub(super) async fn run(args: VerifyArgs) -> Result<(), Failure> {
    let (admin, status) = somebody(&args.node).await?;
    let mut comparisons = Vec::new();
    for shard in status.cluster.shards.iter().map(|shard| shard.shard) {
        comparisons.push(admin.verify(shard).await.map_err(|error| admin_failure(&error))?);
    }
    if args.json {
        json(&comparisons);
    } else {
        say(report(&comparisons));
    }
    verdict(&comparisons)
}

fn report(comparisons: &[Comparison]) -> String {
    let mut rows = vec![["shard", "entry", "records", "digest", "replicas"].map(str::to_owned).to_vec()];
    for comparison in comparisons {
        let records = comparison.replicas.iter().find_map(|replica| replica.records);
        let agreed = comparison.agreed.as_deref().map_or("none agreed", |digest| digest.get(..16).unwrap_or(digest));
        rows.push(vec![
            comparison.shard.to_string(),
            comparison.index.to_string(),
            records.map_or_else(|| "?".to_owned(), |records| records.to_string()),
            agreed.to_owned(),
            replicas(comparison),
        ]);
    }
    table(&rows)
}

fn replicas(comparison: &Comparison) -> String {
    let nodes = |nodes: &[u64]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (divergent, silent) = (comparison.divergent(), comparison.silent());
    let mut parts = Vec::new();
    if !divergent.is_empty() {
        parts.push(format!("DIFFERENT on node {}", nodes(&divergent)));
    }
    if !silent.is_empty() {
        parts.push(format!("no answer from node {}", nodes(&silent)));
    }
    if parts.is_empty() {
        parts.push(format!("{} equal", comparison.replicas.len()));
    }
    parts.join("; ")
}

/// Success says that every replica was compared and all are equal.
fn verdict(comparisons: &[Comparison]) -> Result<(), Failure> {
    let different = comparisons.iter().filter(|comparison| !comparison.divergent().is_empty()).count();
    if different > 0 {
        return Err(Failure::new(Code::Divergent, Exit::Failed, format!("replicas of {different} shards differ"))
            .next("a state that differs from most is rebuilt from another: campanile cluster status shows it, and verify afterwards that all are equal. Report it with the log of that node: this must not happen"));
    }
    let unheard = comparisons.iter().filter(|comparison| !comparison.silent().is_empty()).count();
    if unheard > 0 {
        let what = format!("{unheard} shards were not compared on all nodes");
        return Err(Failure::new(Code::NotCompared, Exit::Unreachable, what)
            .next("campanile cluster status shows which nodes are reachable"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chat::ids::ShardId;
    use cluster::Compared;

    use super::*;

    fn comparison(digests: [Option<&str>; 3], agreed: Option<&str>) -> Comparison {
        let replica = |(node, digest): (u64, Option<&str>)| Compared {
            node,
            digest: digest.map(str::to_owned),
            records: digest.map(|_| 7),
        };
        let replicas = (1..).zip(digests).map(replica).collect();
        Comparison { shard: ShardId(2), index: 40, replicas, agreed: agreed.map(str::to_owned) }
    }

    #[test]
    fn equal_replicas_are_a_success_and_nothing_less_is() {
        let equal = comparison([Some("aa"); 3], Some("aa"));
        let different = comparison([Some("aa"), Some("aa"), Some("bb")], Some("aa"));
        let silent = comparison([Some("aa"), None, Some("aa")], Some("aa"));
        let all = [equal, different, silent];
        let told = report(&all);
        for line in ["3 equal", "DIFFERENT on node 3", "no answer from node 2"] {
            assert!(told.contains(line), "{told}");
        }
        let [equal, different, silent] = &all;
        let exit =
            |comparison: &Comparison| verdict(std::slice::from_ref(comparison)).err().map(|failure| failure.exit);
        assert_eq!((exit(equal), exit(different), exit(silent)), (None, Some(Exit::Failed), Some(Exit::Unreachable)));
    }
}
