//! Whether all replicas of every shard hold the same state.

use std::time::Duration;

use chat::ids::ShardId;
use tokio::time::Instant;

use crate::target::Target;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One replica's state: shard, applied entry, digest.
type Replica = (ShardId, u64, String);

/// How replicas differ, if they still do after `within` without sends.
pub async fn differ(target: &Target, within: Duration) -> Option<String> {
    let deadline = Instant::now() + within;
    loop {
        let difference = match digests(target).await {
            Ok(replicas) => first_difference(&replicas),
            Err(error) => Some(error),
        };
        if difference.is_none() || Instant::now() >= deadline {
            return difference;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn digests(target: &Target) -> Result<Vec<Vec<Replica>>, String> {
    let mut nodes = Vec::new();
    for admin in &target.admins {
        let digests = admin.digests().await.map_err(|e| e.to_string())?;
        nodes.push(digests.into_iter().map(|d| (d.shard, d.applied, d.digest)).collect());
    }
    Ok(nodes)
}

fn first_difference(nodes: &[Vec<Replica>]) -> Option<String> {
    let first = nodes.first()?;
    for (other, replicas) in nodes.iter().enumerate().skip(1) {
        if replicas.len() != first.len() {
            return Some(format!("node 1 has {} shards, node {} has {}", first.len(), other + 1, replicas.len()));
        }
        if let Some((a, b)) = first.iter().zip(replicas).find(|(a, b)| a != b) {
            let tell = |(shard, applied, digest): &Replica| format!("shard {shard} at entry {applied} with {digest}");
            return Some(format!("node 1 has {}, node {} has {}", tell(a), other + 1, tell(b)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_differ_by_content_by_position_and_by_shards() {
        let node = |digest: &str| vec![(ShardId(1), 7, "aa".to_owned()), (ShardId(2), 9, digest.to_owned())];
        assert_eq!(first_difference(&[node("bb"), node("bb"), node("bb")]), None);
        let difference = first_difference(&[node("bb"), node("bb"), node("cc")]).unwrap();
        assert_eq!(difference, "node 1 has shard 2 at entry 9 with bb, node 3 has shard 2 at entry 9 with cc");
        assert!(first_difference(&[node("bb"), node("bb")[..1].to_vec()]).is_some());
    }
}
