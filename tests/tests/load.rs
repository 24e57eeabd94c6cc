//! A small load by the harness's event loop on three real processes: everything that is checked and measured is there.
//!
//! `campanile-bench group --spawn 3 --groups 4 --members 5 --senders 2 --window 1` is the same, larger.

use std::time::Duration;

use anyhow::{Context, Result};
use bench::engine::{Load, Loop, Phase};
use bench::progress::Progress;
use bench::run::Plan;
use bench::run::subject::Subject;
use bench::run::summarize::summarize;
use bench::spawn::SpawnOptions;
use bench::summary::Summary;
use bench::workload::Shape;

/// A second of load, over TLS; half way all connections are cut.
#[test]
fn a_load_is_measured_and_every_promise_checked() -> Result<()> {
    let spawn = SpawnOptions { nodes: 3, shards: 4, tls: true };
    let mut subject = Subject::spawn(spawn, Progress::Silent)?;
    let pace = Some(Loop::Closed { window: 1 });
    let second = Duration::from_secs(1);
    let mut load = Load::steady(pace, Duration::from_millis(200), second, Duration::from_secs(30));
    load.phases.push(Phase { begin: second / 2, cut: 1.0, ..Phase::of(pace) });
    let plan = Plan::new("group", Shape::groups(4, 5, 2), load);
    let measured = subject.run(&plan, None, Progress::Silent);
    let described = subject.described();
    subject.stop(false, Progress::Silent);
    check(&summarize(&plan, described, 1, measured?))
}

fn check(summary: &Summary) -> Result<()> {
    let checks = &summary.checks;
    assert_eq!((checks.broken(), summary.exit_code), (0, 0), "{checks:?} {:?}", summary.counts.errors);
    assert_eq!((checks.histories_equal, checks.digests_equal), (Some(true), Some(true)));
    assert_eq!((summary.counts.connections, summary.counts.reconnects), (20, 20));
    let latency = |name: &str| summary.latencies.get(name).with_context(|| format!("no {name} latencies"));
    let (ack, delivery) = (latency("ack")?, latency("delivery")?);
    assert!(ack.count > 0 && delivery.count == ack.count * 5, "{} acks, {} deliveries", ack.count, delivery.count);
    assert_eq!(latency("reconnect")?.count, 20);
    assert_eq!(summary.servers.len(), 3);
    assert!(summary.servers.iter().all(|server| server.rss_end_bytes > 0));
    assert!(summary.system.tls && summary.generator.worker_cpu_shares.len() == 1);
    Ok(())
}
