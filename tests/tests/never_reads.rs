//! A client that never reads hurts nobody but itself: it is cut, its end is on record, and it resumes without a gap.

use anyhow::{Context, Result};
use campanile_client::ClientEvent;
use chat::ids::{ConversationId, GroupId};
use chat::limits;
use chat::wire::{Credentials, EventContent, Position, Target};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tests::raw::Raw;
use tests::{Stage, until, user};
use tokio::net::TcpSocket;
use uuid::Uuid;

/// Far more than the session's budget and all buffers on the way hold.
const MESSAGES: usize = 8 * limits::SESSION_CREDIT_BYTES / limits::TEXT_BYTES;

/// Logs in and resumes over a socket with a small buffer, and reads nothing after that.
async fn stuck(stage: &Stage, name: &str) -> Result<Raw> {
    let campanile_client::Auth::Fixed(Credentials::Token(token)) = stage.options(name, &[1])?.auth else {
        anyhow::bail!("the stage signs tokens");
    };
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4 * 1024)?;
    let mut raw = Raw::connect_with(socket, &stage.cluster.client_url(1)?, stage.cluster.ca_pem()).await?;
    let device = json!({"id": "stuck-1", "platform": "test"});
    raw.text(json!({"type": "login", "id": 1, "auth": {"token": token}, "device": device}).to_string()).await?;
    assert_eq!(raw.frame().await?["type"], "hello");
    raw.text(json!({"type": "resume", "id": 2}).to_string()).await?;
    assert_eq!(raw.frame().await?["type"], "resumed");
    Ok(raw)
}

/// Seqs of the next `count` messages heard.
async fn messages(events: &mut campanile_client::Events, count: usize) -> Result<Vec<u64>> {
    let mut seqs = Vec::with_capacity(count);
    while seqs.len() < count {
        let next = tokio::time::timeout(tests::DEADLINE, events.next()).await.context("an event in time")?;
        match next.context("a client that goes on")? {
            ClientEvent::Event(event) if matches!(event.content, EventContent::Message { .. }) => seqs.push(event.seq),
            _ => {}
        }
    }
    Ok(seqs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_cut_and_hurts_only_itself() -> Result<()> {
    let stage = Stage::start(1, 4).await?;
    let (speaker, _speaker_events) = stage.connect("speaker", &[1]).await?;
    let (_reader, mut reader_events) = stage.connect("reader", &[1]).await?;
    let stuck_client = stuck(&stage, "stuck").await?;
    let group = GroupId(Uuid::now_v7());
    speaker.create_group(group, "loud", vec![user("reader"), user("stuck")]).await?;
    let admin = stage.cluster.admin(1)?;
    assert_eq!(admin.status().await?.sessions, 3);

    // More is said than its buffers hold. Whoever reads hears everything, in order.
    let text = "x".repeat(limits::TEXT_BYTES);
    for _ in 0..MESSAGES / limits::SESSION_IN_FLIGHT {
        let sends = (0..limits::SESSION_IN_FLIGHT).map(|_| speaker.send_text(Target::Group(group), &text));
        try_join_all(sends).await?;
    }
    let said = MESSAGES / limits::SESSION_IN_FLIGHT * limits::SESSION_IN_FLIGHT;
    let expected: Vec<u64> = (2..).take(said).collect();
    assert_eq!(messages(&mut reader_events, said).await?, expected);

    // Its connection is cut from outside, although it still does not read.
    until("the stuck session is gone", async || Ok(admin.status().await?.sessions == 2)).await?;
    let log: Value = admin.get("/v1/security/log?limit=100").await?;
    let ends = |record: &&Value| record["event"]["session_ended"]["visit"]["user"] == "stuck";
    let end = log.as_array().context("records")?.iter().find(ends).context("the end is on record")?;
    assert_eq!(end["event"]["session_ended"]["reason"], "slow_consumer");
    drop(stuck_client);

    // It comes back with what it has, and gets the rest, each once.
    let mut options = stage.options("stuck", &[1])?;
    options.have = vec![Position { conversation: ConversationId::Group(group), seq: 1 }];
    let (_again, mut events) = campanile_client::Client::connect(options).await?;
    assert_eq!(messages(&mut events, said).await?, expected);
    Ok(())
}
