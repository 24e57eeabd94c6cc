//! What an idle cluster costs grows with its nodes and not with its shards: real clusters of few and of many, side by side.
//!
//! `campanile-bench idle` is the same, longer.

use std::time::Duration;

use anyhow::Result;
use bench::idle;

const SHARDS: [u16; 2] = [16, 128];
/// Eight times the shards may cost this many times as much; with a clock and heartbeats for each it is four times.
const TIMES: f64 = 2.0;
/// Below it, clock ticks are all that is measured.
const NOTHING: f64 = 0.01;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_cluster_costs_by_its_nodes_and_not_by_its_shards() -> Result<()> {
    let idle = idle::run(3, &SHARDS, Duration::from_secs(16), Duration::from_secs(10)).await?;
    idle.iter().for_each(|idle| println!("{idle}"));
    let [few, many] = &idle[..] else { unreachable!("a cluster for each number") };
    assert!(many.cpu_share <= TIMES * few.cpu_share.max(NOTHING), "{idle:?}");
    Ok(())
}
