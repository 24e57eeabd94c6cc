//! Writers that remember what was acknowledged to them, and look for it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use campanile_client::{Client, Events, Range, SendError};
use chat::ids::{ClientMsgId, ConversationId};
use chat::wire::{Body, EventContent, Target};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{Stage, until, user};

/// Acked: conversation → (seq, id). Unknown: ids that may or may not be there.
#[derive(Default)]
struct Written {
    acked: BTreeMap<ConversationId, BTreeSet<(u64, ClientMsgId)>>,
    unknown: BTreeSet<ClientMsgId>,
}

/// Users who write to each other in a ring, one message after the other.
pub struct Writers {
    clients: Vec<(Client, Events)>,
    running: Vec<JoinHandle<Written>>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
}

impl Writers {
    /// Each connects to another node first.
    pub async fn start(stage: &Stage, writers: usize) -> Result<Self> {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = Vec::new();
        for number in 0..writers {
            let home = (number % 3 + 1) as u64;
            let nodes = [home, home % 3 + 1, (home + 1) % 3 + 1];
            clients.push(stage.connect(&format!("writer{number}"), &nodes).await?);
        }
        let running = clients.iter().enumerate().map(|(number, (client, _))| {
            let to = Target::User(user(&format!("writer{}", (number + 1) % writers)));
            tokio::spawn(write(client.clone(), to, stop.clone(), count.clone()))
        });
        Ok(Self { running: running.collect(), clients, stop, count })
    }

    pub fn client(&self, number: usize) -> &Client {
        &self.clients[number].0
    }

    /// Messages acknowledged so far.
    pub fn acked(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until `more` messages were acknowledged from now on.
    pub async fn more(&self, more: usize) -> Result<()> {
        let enough = self.acked() + more;
        until("more messages are acked", async || Ok(self.acked() >= enough)).await
    }

    /// Ends the writers; everything that was acknowledged must be in the histories, once and in its place.
    pub async fn nothing_is_lost(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for (writer, (client, _)) in self.running.into_iter().zip(&self.clients) {
            for (conversation, acked) in &writer.await?.acked {
                let found = history(client, conversation).await?;
                let ids: BTreeSet<_> = found.iter().map(|(_, id)| *id).collect();
                ensure!(ids.len() == found.len(), "a message is there twice in {conversation}");
                let found: BTreeSet<_> = found.into_iter().collect();
                let lost: Vec<_> = acked.difference(&found).collect();
                ensure!(lost.is_empty(), "acked and lost in {conversation}: {lost:?}");
            }
        }
        Ok(())
    }
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
