//! A leader stands still for 15 s (SIGSTOP), the others go on without it, and it wakes up believing that it still leads.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use campanile_client::Range;
use chat::ids::{ConversationId, NodeId, ShardId};
use chat::wire::Target;
use node::local::LocalCluster;
use rustix::process::{Pid, Signal, kill_process};
use tests::{Stage, app, until, user};

const SHARDS: u16 = 4;
const FROZEN: Duration = Duration::from_secs(15);

fn signal(cluster: &LocalCluster, node: NodeId, signal: Signal) -> Result<()> {
    let pid = cluster.pid(node).and_then(|pid| Pid::from_raw(pid as i32)).context("the node runs")?;
    Ok(kill_process(pid, signal)?)
}

async fn leader(stage: &Stage, asked: NodeId, shard: ShardId) -> Result<Option<NodeId>> {
    let status = stage.cluster.admin(asked)?.status().await?;
    Ok(status.cluster.shards.iter().find(|seen| seen.shard == shard).and_then(|seen| seen.leader))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_wakes_up_shows_and_acks_nothing_stale() -> Result<()> {
    let mut stage = Stage::start(3, SHARDS).await?;
    let conversation = ConversationId::private(user("alice"), user("bob"));
    let shard = ShardId::of_conversation(&app(), &conversation, SHARDS);
    let frozen = leader(&stage, 1, shard).await?.context("a leader")?;
    let awake: Vec<NodeId> = stage.cluster.nodes().into_iter().filter(|node| *node != frozen).collect();

    // Bob sits on the node that will stand still, on two devices; alice does not.
    let (alice, _alices) = stage.connect("alice", &awake).await?;
    let (bob, _bobs) = stage.connect("bob", &[frozen]).await?;
    let (bob_too, _bobs_too) = stage.connect("bob", &[frozen]).await?;
    let to_bob = || Target::User(user("bob"));
    let mut last = alice.send_text(to_bob(), "before").await?.seq;

    signal(&stage.cluster, frozen, Signal::STOP)?;
    let since = Instant::now();
    // What they ask meanwhile waits in the sockets: it is the first that the node sees when it wakes up.
    let reading = tokio::spawn({
        let (bob, conversation) = (bob.clone(), conversation.clone());
        async move { bob.history(conversation, Range::After(0)).await }
    });
    let writing = tokio::spawn(async move { bob_too.send_text(Target::User(user("alice")), "from a dream").await });
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    while since.elapsed() < FROZEN {
        pace.tick().await;
        let sent = alice.send_text(to_bob(), format!("while you sleep, {last}")).await?;
        assert_eq!(sent.seq, last + 1, "nothing is lost and nothing comes twice");
        last = sent.seq;
    }
    let new = leader(&stage, awake[0], shard).await?;
    assert!(new.is_some_and(|leader| leader != frozen), "{new:?}");
    signal(&stage.cluster, frozen, Signal::CONT)?;

    // The read was asked for before the end, but is answered after it: it must show all that was acked by then.
    let page = reading.await??;
    assert!(page.head >= last, "a stale read: {} of {last}", page.head);
    let written = writing.await??;
    assert_eq!(written.seq, last + 1);
    let sent = alice.send_text(to_bob(), "good morning").await?;
    assert_eq!(sent.seq, last + 2);
    until("bob sees it all", async || Ok(bob.history(conversation.clone(), Range::After(0)).await?.head == sent.seq))
        .await?;
    stage.equal_digests().await
}
