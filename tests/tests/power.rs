//! All three nodes are killed at once under load, and come back with every acknowledged message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use campanile_client::{Client, Range, SendError};
use chat::ids::{ClientMsgId, ConversationId};
use chat::wire::{Body, EventContent, Target};
use tests::{Stage, until, user};
use uuid::Uuid;

const WRITERS: usize = 6;

/// Acked: conversation → (seq, id). Unknown: ids that may or may not be there.
#[derive(Default)]
struct Written {
    acked: BTreeMap<ConversationId, BTreeSet<(u64, ClientMsgId)>>,
    unknown: BTreeSet<ClientMsgId>,
}

async fn write(client: Client, to: Target, stop: Arc<AtomicBool>, count: Arc<AtomicUsize>) -> Written {
    let mut written = Written::default();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let id = ClientMsgId(Uuid::now_v7());
        let body = Body::Text { text: format!("line {number}") };
        match client.send_with_id(to.clone(), id, body).await {
            Ok(sent) => {
                assert!(!sent.duplicate || number > 1);
                written.acked.entry(sent.conversation).or_default().insert((sent.seq, id));
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(SendError::Unknown { .. }) => {
                written.unknown.insert(id);
            }
            Err(_) => {}
        }
    }
    written
}

async fn history(client: &Client, conversation: &ConversationId) -> Result<Vec<(u64, ClientMsgId)>> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = client.history(conversation.clone(), Range::After(after)).await?;
        for event in &page.events {
            ensure!(event.seq == after + 1, "a gap before {}", event.seq);
            after = event.seq;
            if let EventContent::Message { client_msg_id, .. } = &event.content {
                all.push((event.seq, *client_msg_id));
            }
        }
        if !page.more {
            return Ok(all);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acked_message_survives_the_death_of_all_nodes() -> Result<()> {
    let mut stage = Stage::start(3, 4).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for number in 0..WRITERS {
        let home = (number % 3 + 1) as u64;
        let nodes = [home, home % 3 + 1, (home + 1) % 3 + 1];
        clients.push(stage.connect(&format!("writer{number}"), &nodes).await?);
    }
    let mut writers = Vec::new();
    for (number, (client, _)) in clients.iter().enumerate() {
        let to = Target::User(user(&format!("writer{}", (number + 1) % WRITERS)));
        writers.push(tokio::spawn(write(client.clone(), to, stop.clone(), count.clone())));
    }
    until("some messages are acked", async || Ok(count.load(Ordering::Relaxed) > 200)).await?;

    for node in 1..=3 {
        stage.cluster.kill(node)?;
    }
    let before = count.load(Ordering::Relaxed);
    stage.cluster.start_all()?;
    stage.cluster.wait_all_ready(Duration::from_secs(60)).await?;
    until("writes resume", async || Ok(count.load(Ordering::Relaxed) > before + 100)).await?;
    stop.store(true, Ordering::Relaxed);

    for (number, writer) in writers.into_iter().enumerate() {
        let written = writer.await?;
        for (conversation, acked) in &written.acked {
            let found = history(&clients[number].0, conversation).await?;
            let ids: BTreeSet<_> = found.iter().map(|(_, id)| *id).collect();
            ensure!(ids.len() == found.len(), "a message is there twice in {conversation}");
            let found: BTreeSet<_> = found.into_iter().collect();
            let lost: Vec<_> = acked.difference(&found).collect();
            ensure!(lost.is_empty(), "acked and lost in {conversation}: {lost:?}");
        }
    }
    stage.equal_digests().await
}
