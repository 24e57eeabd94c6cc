//! Several times more messages than three real nodes can take: what is taken is done in time, what is not is refused, nothing
//! is lost, and whoever logs in, resumes or administers is still answered.
//!
//! `campanile-bench group --spawn 3 --groups 200 --members 4 --senders 4 --rate 50000` is the same, larger.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bench::engine::{Load, Loop};
use bench::progress::Progress;
use bench::run::Plan;
use bench::run::subject::Subject;
use bench::run::summarize::summarize;
use bench::summary::Summary;
use bench::target::TargetOptions;
use bench::usage::Process;
use bench::workload::Shape;
use tests::{Stage, app};

/// Of what the cluster can take, this much is asked of it.
const TIMES: f64 = 4.0;
/// What must be left is far from the nine tenths of a machine of its own, which are measured (docs/BENCHMARKS.md) and not tested:
/// here the load generator runs on the same cores and makes four times as many requests in the second run. A cluster whose
/// queues grow until everything in them is too late leaves next to nothing.
const GOODPUT: f64 = 0.05;
/// The deadline of a request inside the cluster.
const CONTROL: Duration = Duration::from_millis(chat::limits::REQUEST_TIMEOUT_MS);
const MEMORY_BYTES: u64 = 1 << 30;

fn subject(stage: &Stage) -> Result<Subject> {
    let cluster = &stage.cluster;
    let admins = cluster.nodes().into_iter().map(|node| cluster.admin(node)).collect::<Result<_, _>>()?;
    let options = TargetOptions {
        urls: cluster.client_urls(),
        ca_pem: cluster.ca_pem().to_vec(),
        app_key_pem: cluster.app_key_pem().to_owned(),
        app: app(),
        admins,
    };
    let process = |node| Some(Process { name: format!("node {node}"), pid: cluster.pid(node)? });
    Ok(Subject::target(options, cluster.nodes().into_iter().filter_map(process).collect())?)
}

fn measure(mut subject: Subject, pace: Loop) -> Result<Summary> {
    let load = Load::steady(Some(pace), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(120));
    let plan = Plan::new("group", Shape::groups(150, 4, 4), load);
    let measured = subject.run(&plan, None, Progress::Silent);
    let described = subject.described();
    subject.stop(false, Progress::Silent);
    Ok(summarize(&plan, described, 1, measured?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_cluster_does_what_it_can_and_answers_those_who_manage_it() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let closed = subject(&stage)?;
    let peak = tokio::task::spawn_blocking(move || measure(closed, Loop::Closed { window: 4 })).await??;
    let peak_per_s = peak.rates.acked_per_s;

    let flooded = subject(&stage)?;
    let pace = Loop::Open { per_second: peak_per_s * TIMES };
    let flood = tokio::task::spawn_blocking(move || measure(flooded, pace));
    let (mut worst, mut count) = (Duration::ZERO, 0);
    while !flood.is_finished() {
        let begun = Instant::now();
        stage.cluster.admin(1 + count % 3)?.status().await.context("the status of an overloaded node")?;
        // A login, and all of `resume`.
        let (client, _events) = stage.connect(&format!("visitor{}", count % 8), &[1 + count % 3]).await?;
        drop(client);
        worst = worst.max(begun.elapsed());
        count += 1;
    }
    let flood = flood.await??;
    let acked_per_s = flood.rates.acked_per_s;
    let memory = flood.servers.iter().map(|server| server.rss_peak_bytes).max().unwrap_or(0);
    println!(
        "peak {peak_per_s:.0}/s; at {TIMES} times that {acked_per_s:.0}/s acked ({:.0} %), {count} logins and states, the \
         slowest {worst:?}, {} MiB",
        100.0 * acked_per_s / peak_per_s,
        memory >> 20,
    );
    assert_eq!(flood.checks.broken(), 0, "{:?} {:?}", flood.checks, flood.counts.errors);
    assert!(acked_per_s >= GOODPUT * peak_per_s, "{:?}", flood.counts.errors);
    assert!(count > 0 && worst < CONTROL, "{worst:?}");
    assert!(memory < MEMORY_BYTES, "{memory}");
    Ok(())
}
