//! Nodes leave in good order and come back: drained by an operator, or restarted one after the other under load.

use std::time::Duration;

use anyhow::Result;
use bench::engine::{Load, Loop};
use bench::progress::Progress;
use bench::run::Plan;
use bench::run::failover::rolling;
use bench::run::subject::Subject;
use bench::run::summarize::summarize;
use bench::spawn::SpawnOptions;
use bench::workload::Shape;
use chat::wire::Target;
use node::admin::Drain;
use tests::{Stage, until, user};

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_leads_nothing_and_serves_nobody_until_it_resumes() -> Result<()> {
    let stage = Stage::start(3, 6).await?;
    let (alice, _events) = stage.connect("alice", &[1, 2]).await?;
    let (_bob, _bobs) = stage.connect("bob", &[3]).await?;
    let admin = stage.cluster.admin(1)?;
    until("node 1 leads", async || Ok(admin.status().await?.leads() > 0)).await?;

    admin.drain(&Drain { spread_ms: 200 }).await?;
    until("everything is given away", async || {
        let status = admin.status().await?;
        Ok(status.draining && status.sessions == 0 && status.leads() == 0)
    })
    .await?;
    let readiness = admin.ready().await?;
    assert!(!readiness.ready && readiness.reasons.iter().any(|why| why.contains("drained")), "{readiness:?}");
    let seen = stage.cluster.admin(2)?.status().await?;
    assert!(seen.cluster.peers.iter().any(|peer| peer.node == 1 && peer.leaving), "{:?}", seen.cluster.peers);
    assert!(seen.cluster.shards.iter().all(|shard| shard.leader.is_some_and(|leader| leader != 1)));

    // Whoever was there has connected elsewhere by itself.
    let sent = alice.send_text(Target::User(user("bob")), "still here").await?;
    assert_eq!(sent.seq, 1);

    admin.resume().await?;
    until("node 1 is ready and leads again", async || {
        Ok(admin.ready().await?.ready && admin.status().await?.leads() > 0)
    })
    .await?;
    let (carol, _carols) = stage.connect("carol", &[1]).await?;
    drop(carol);
    Ok(())
}

/// `campanile-bench failover --rolling --kills 9 --every 12s --rate 500` is the same, longer.
#[test]
fn a_rolling_restart_under_load_loses_nothing() -> Result<()> {
    let mut subject = Subject::spawn(SpawnOptions { nodes: 3, shards: 4, tls: true }, Progress::Silent)?;
    let every = Duration::from_secs(7);
    let pace = Some(Loop::Open { per_second: 100.0 });
    let load = Load::steady(pace, Duration::from_millis(500), every * 4, Duration::from_secs(60));
    let load = Load { log_acks: true, ..load };
    let mut plan = Plan::new("failover", Shape::groups(6, 5, 2), load);
    plan.logins = plan.shape.users as usize;
    let measured = subject.run(&plan, Some(&rolling(3, 3, every, Duration::from_millis(500))), Progress::Silent);
    let described = subject.described();
    subject.stop(false, Progress::Silent);
    let summary = summarize(&plan, described, 1, measured?);
    let checks = &summary.checks;
    assert_eq!((checks.broken(), summary.exit_code), (0, 0), "{checks:?} {:?}", summary.counts.errors);
    assert_eq!((checks.histories_equal, checks.digests_equal), (Some(true), Some(true)));
    assert!(summary.counts.reconnects > 0, "clients were sent elsewhere");
    Ok(())
}
