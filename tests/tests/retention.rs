//! Retention on real processes: messages are deleted on every node alike, clients are told, the log and its records go, and
//! a node that was away for longer than the log reaches back catches up by a copy of the state while the others work.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bench::progress::Progress;
use bench::soak::{self, Flat, SoakOptions};
use campanile_client::{Client, ClientEvent, Events, Range};
use chat::ids::{ConversationId, NodeId};
use chat::wire::{EventContent, Position, ResyncReason, Target};
use futures_util::future::try_join_all;
use node::admin::{AdminClient, Policy, RetentionChange, RetentionOf, RetentionStatus};
use tests::{Stage, app, until, user};

/// What takes minutes otherwise.
const HURRIED: &str = r#"
[retention]
sweep_every = "300ms"
purge_every = "300ms"
collect_every = "500ms"
log_keep_entries = 100
"#;
/// Messages at once.
const ROW: usize = 8;
const KEPT: u64 = 40;

async fn stage(nodes: u16, shards: u16) -> Result<Stage> {
    Stage::configured(nodes, shards, HURRIED).await
}

fn talk(a: &str, b: &str) -> ConversationId {
    ConversationId::private(user(a), user(b))
}

/// Sends `count` messages, many at once, and checks that each has its place.
async fn say(client: &Client, to: &str, count: usize) -> Result<u64> {
    let mut last = 0;
    for row in (0..count).collect::<Vec<_>>().chunks(ROW) {
        let target = || Target::User(user(to));
        let sent = try_join_all(row.iter().map(|n| client.send_text(target(), format!("message {n}")))).await?;
        last = sent.iter().map(|sent| sent.seq).max().unwrap_or(last);
    }
    Ok(last)
}

async fn keep(admin: &AdminClient, conversation: Option<ConversationId>, max_count: Option<u64>) -> Result<()> {
    let policy = Some(Policy { max_age_ms: None, max_count });
    admin.set_retention(&RetentionChange { app: app(), conversation, policy }).await?;
    Ok(())
}

async fn status(admin: &AdminClient, conversation: &ConversationId) -> Result<RetentionStatus> {
    Ok(admin.retention(&RetentionOf { app: app(), conversation: Some(conversation.clone()) }).await?)
}

/// Waits until nothing of the conversation is left but what is to be kept.
async fn trimmed(admin: &AdminClient, conversation: &ConversationId, kept: u64) -> Result<u64> {
    let mut oldest = 0;
    until("the conversation is trimmed", async || {
        let status = status(admin, conversation).await?;
        oldest = status.oldest_seq.context("it exists")?;
        Ok(oldest + kept == status.head.context("it exists")? + 1)
    })
    .await?;
    Ok(oldest)
}

/// Entries of all shards that a node has let go of.
async fn purged(stage: &Stage, node: NodeId) -> Result<u64> {
    let status = stage.cluster.admin(node)?.status().await?;
    Ok(status.cluster.shards.iter().map(|shard| shard.purged).sum())
}

fn log_says(path: &Path, what: &str) -> Result<bool> {
    Ok(std::fs::read_to_string(path)?.contains(what))
}

/// The next events of a conversation; resyncs are written down among them.
async fn followed(events: &mut Events, conversation: &ConversationId, through: u64) -> Result<String> {
    let mut story = String::new();
    loop {
        match events.next().await.context("the client goes on")? {
            ClientEvent::MustResync { conversation: of, reason: ResyncReason::Retention, next_seq } => {
                ensure!(of == *conversation);
                writeln!(story, "resync {next_seq}")?;
            }
            ClientEvent::Event(event) if event.conversation == *conversation => {
                ensure!(matches!(event.content, EventContent::Message { .. }));
                writeln!(story, "{}", event.seq)?;
                if event.seq == through {
                    return Ok(story);
                }
            }
            _ => {}
        }
    }
}

fn expected(resync: Option<u64>, seqs: impl Iterator<Item = u64>) -> String {
    let resync = resync.map(|seq| format!("resync {seq}\n")).unwrap_or_default();
    seqs.fold(resync, |story, seq| story + &seq.to_string() + "\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_deleted_everywhere_and_clients_are_told() -> Result<()> {
    let mut stage = stage(3, 2).await?;
    let admin = stage.cluster.admin(1)?;
    let (alice, _events) = stage.connect("alice", &[1]).await?;
    let (_, bobs) = stage.connect("bob", &[2]).await?;
    let (ab, ac) = (talk("alice", "bob"), talk("alice", "carol"));
    let (_carol, _carols) = stage.connect("carol", &[3]).await?;
    drop(bobs);
    let last = say(&alice, "bob", 200).await?;
    say(&alice, "carol", 100).await?;

    // The app's policy, and a conversation's own instead of it.
    keep(&admin, Some(ac.clone()), None).await?;
    keep(&admin, None, Some(KEPT)).await?;
    let oldest = trimmed(&admin, &ab, KEPT).await?;
    assert_eq!(oldest, last - KEPT + 1);
    let kept = status(&admin, &ac).await?;
    assert_eq!(
        (kept.oldest_seq, kept.head, kept.own_policy.map(|own| own.max_count)),
        (Some(1), Some(100), Some(None))
    );
    stage.equal_digests().await?;

    // Every node reads the same, and says what is gone.
    for node in 1..=3 {
        let mut options = stage.options("bob", &[node])?;
        options.have = vec![Position { conversation: ab.clone(), seq: 10 }];
        let (bob, mut events) = Client::connect(options).await?;
        assert_eq!(followed(&mut events, &ab, last).await?, expected(Some(oldest), oldest..=last), "node {node}");
        let page = bob.history(ab.clone(), Range::After(0)).await?;
        let seqs: Vec<u64> = page.events.iter().map(|event| event.seq).collect();
        assert_eq!((seqs, page.oldest_seq, page.more), ((oldest..=last).collect(), oldest, false));
        let page = bob.history(ab.clone(), Range::Before(oldest + 2)).await?;
        assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [oldest, oldest + 1]);
        assert!(!page.more);
        let unread = bob.conversations(None).await?.items[0].unread;
        assert_eq!(unread, KEPT);
    }
    // A retry of what is deleted is still the same message.
    assert_eq!(say(&alice, "bob", 1).await?, last + 1);
    keep(&admin, None, None).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_too_long_catches_up_by_a_copy_under_load() -> Result<()> {
    let mut stage = stage(3, 1).await?;
    let admin = stage.cluster.admin(1)?;
    let (alice, _events) = stage.connect("alice", &[1, 2]).await?;
    let (_bob, mut bobs) = stage.connect("bob", &[2, 1]).await?;
    let ab = talk("alice", "bob");
    keep(&admin, None, Some(KEPT)).await?;
    let before = say(&alice, "bob", 300).await?;
    stage.cluster.kill(3)?;

    // Longer away than the log reaches back, and everything it had is deleted meanwhile.
    let away = stage.cluster.admin(2)?.status().await?.cluster.shards[1].last;
    until("the log is let go of", async || {
        say(&alice, "bob", 100).await?;
        Ok(stage.cluster.admin(2)?.status().await?.cluster.shards[1].purged > away + 100)
    })
    .await?;
    until("records are collected", async || {
        say(&alice, "bob", ROW).await?;
        log_says(&stage.cluster.log(1), "records_collected")
    })
    .await?;

    // It comes back under load, and the load goes on.
    stage.cluster.start(3)?;
    let mut slowest = std::time::Duration::ZERO;
    let (cluster, node3) = (&stage.cluster, stage.cluster.admin(3)?);
    until("node 3 is ready", async || {
        let begun = std::time::Instant::now();
        say(&alice, "bob", ROW).await?;
        slowest = slowest.max(begun.elapsed());
        Ok(node3.ready().await.is_ok_and(|readiness| readiness.ready)
            && log_says(&cluster.log(3), "snapshot received")?)
    })
    .await?;
    assert!(slowest < std::time::Duration::from_secs(5), "a row took {slowest:?} while a copy was sent");
    let last = say(&alice, "bob", 10).await?;
    stage.equal_digests().await?;
    let oldest = trimmed(&admin, &ab, KEPT).await?;
    assert!(purged(&stage, 3).await? > 0);

    // Who was there all the time and reads late has everything in order, but what was deleted before it was read: that is said.
    let mut next = 1;
    for line in followed(&mut bobs, &ab, last).await?.lines() {
        match line.strip_prefix("resync ") {
            Some(oldest) => next = oldest.parse()?,
            None => {
                assert_eq!(line.parse::<u64>()?, next);
                next += 1;
            }
        }
    }
    // Who reads at the node that came back sees what is kept.
    let mut options = stage.options("bob", &[3])?;
    options.have = vec![Position { conversation: ab.clone(), seq: before }];
    let (_bob, mut events) = Client::connect(options).await?;
    assert_eq!(followed(&mut events, &ab, last).await?, expected(Some(oldest), oldest..=last));
    Ok(())
}

/// `campanile-bench soak` is the same, longer: ten million messages.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_stays_flat_while_much_is_said() -> Result<()> {
    let options = SoakOptions {
        nodes: 3,
        shards: 2,
        groups: 3,
        messages: 12_000,
        keep: 100,
        window: 32,
        text_bytes: 100,
        id_window_ms: 300_000,
        samples: 4,
    };
    let samples = soak::run(&options, Progress::Silent).await?;
    assert_eq!(samples.len(), 4);
    let flat = Flat::of(&samples, 3 * 100).context("there are samples")?;
    assert_eq!(flat, Flat { memory: true, disk: true, kept: true }, "{samples:?}");
    Ok(())
}
