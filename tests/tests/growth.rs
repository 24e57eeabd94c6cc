//! A cluster of one grows to three and five, and shrinks to three others, while people chat.

use std::time::Duration;

use anyhow::Result;
use bench::engine::{Load, Loop};
use bench::progress::Progress;
use bench::run::Plan;
use bench::run::growth::UP_AND_DOWN;
use bench::run::subject::Subject;
use bench::run::summarize::summarize;
use bench::spawn::SpawnOptions;
use bench::workload::Shape;

/// `campanile-bench growth --rate 500` is the same with more of everything.
#[test]
fn a_cluster_grows_and_shrinks_under_load_and_loses_nothing() -> Result<()> {
    let options = SpawnOptions { nodes: 1, shards: 8, tls: true };
    let pace = Some(Loop::Open { per_second: 100.0 });
    let load = Load::steady(pace, Duration::from_millis(500), Duration::from_secs(75), Duration::from_secs(60));
    let load = Load { log_acks: true, ..load };
    let mut plan = Plan::new("growth", Shape::groups(6, 5, 2), load);
    plan.logins = plan.shape.users as usize;
    let (subject, measured) = Subject::grow(options, &plan, &UP_AND_DOWN, Duration::from_secs(1), Progress::Silent)?;
    let described = subject.described();
    subject.stop(false, Progress::Silent);
    let summary = summarize(&plan, described, 1, measured);
    let checks = &summary.checks;
    assert_eq!((checks.broken(), summary.exit_code), (0, 0), "{checks:?} {:?}", summary.counts.errors);
    assert_eq!((checks.histories_equal, checks.digests_equal), (Some(true), Some(true)), "{checks:?}");
    assert!(summary.counts.reconnects > 0, "clients were sent elsewhere");
    Ok(())
}
