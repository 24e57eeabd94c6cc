//! Real channel logs replayed on three processes, with the busiest shard's leader killed on the way.
//!
//! `campanile-bench replay ../shared/data/ubuntu-irc --spawn 3 --kill-leader-at 50%` is the whole of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bench::replay::{Place, ReplayOptions, run};
use bench::spawn::SpawnOptions;

/// Logs of about a hundred people each.
const LOGS: usize = 3;
/// Twice promise G11: the figure itself is measured with the harness (docs/BENCHMARKS.md), this finds a broken failover.
const PAUSE_MS: u64 = 6_000;

/// The logs beside the checkout, or the excerpt inside it.
#[expect(clippy::print_stdout, reason = "who reads the test's output should know what was not done")]
fn logs() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = here.join("../../shared/data/ubuntu-irc");
    if beside.is_dir() {
        return beside;
    }
    println!("SKIPPED the whole logs, which are not beside this checkout: an excerpt is replayed");
    here.join("../bench/tests/data")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_has_every_message_once_and_in_order_though_a_leader_is_killed() -> Result<()> {
    let mut options = ReplayOptions::new(logs(), Place::Spawn(SpawnOptions { nodes: 3, shards: 16, tls: true }));
    options.files = LOGS;
    options.kill_leader_at = Some(50);
    let report = run(options).await?;
    assert!(report.passed(), "{:?}", report.violations);
    assert_eq!((report.acked, report.unknown, report.not_sent), (report.messages as u64, 0, 0));
    assert!(report.messages > 0 && report.deliveries > report.acked);
    let kill = report.kill.context("a leader was killed")?;
    assert!(kill.longest_pause_ms < PAUSE_MS, "writes paused for {} ms", kill.longest_pause_ms);
    Ok(())
}
