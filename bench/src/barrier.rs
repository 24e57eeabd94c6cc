//! Bans that race sends: whoever is banned receives nothing that has a later seq than the ban, from any node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use campanile_client::{Client, ClientEvent, Events};
use chat::ids::{ConversationId, GroupId, UserId};
use chat::wire::{EventContent, Target as To};
use futures_util::StreamExt;
use futures_util::stream;
use serde::Serialize;
use uuid::Uuid;

use crate::target::Target;

/// Unanswered sends of each sender.
const WINDOW: usize = 8;
/// In one of so many rounds the banned user's client does not read for a while, so that the ban finds it lagging.
const LAG_EVERY: u64 = 10;
const LAG: Duration = Duration::from_millis(100);
/// For one event that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bans {
    pub rounds: u64,
    /// Messages acknowledged to the senders.
    pub sent: u64,
    /// Messages that the banned user received while a member.
    pub received: u64,
    /// Bans after which the user received something that came later.
    pub leaked: u64,
    /// Events that reached the user after an invitation although they came before it.
    pub early: u64,
}

/// On each node of `target` somebody sends without pause; an admin bans one more member and lets that user in again,
/// `rounds` times. The user sits on one node after the other.
pub async fn run(target: &Target, rounds: u64) -> Result<Bans> {
    let nodes = target.urls.len();
    let group = GroupId(Uuid::now_v7());
    let (admin, mut admins) = connect(target, "ringer", 0).await?;
    let senders = (0..nodes).map(|node| UserId::new(format!("sender{node}"))).collect::<Result<Vec<_>, _>>()?;
    let mut running = tokio::task::JoinSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for (node, name) in senders.iter().enumerate() {
        clients.push(connect(target, name.as_str(), node).await?);
    }
    let guest = UserId::new("guest")?;
    let (seat, mut heard) = connect(target, guest.as_str(), nodes - 1).await?;
    admin.create_group(group, "barrier", senders).await?;
    for (client, events) in clients {
        running.spawn(send(client, events, group, stop.clone()));
    }
    running.spawn(async move {
        while admins.next().await.is_some() {}
        Ok(0)
    });
    let mut bans = Bans { rounds, ..Bans::default() };
    for round in 0..rounds {
        let joined = admin.invite(group, vec![guest.clone()]).await?.seq.context("an invitation has a seq")?;
        wait_for(&mut heard, group, joined, &mut bans).await?;
        if round % LAG_EVERY == 0 {
            tokio::time::sleep(LAG).await;
        }
        let (banned, last) = tokio::try_join!(
            async { Ok(admin.ban(group, guest.clone(), None).await?) },
            until_removed(&mut heard, group, &mut bans)
        )?;
        bans.leaked += u64::from(last > banned.seq.context("a ban has a seq")?);
        admin.unban(group, guest.clone()).await?;
    }
    stop.store(true, Ordering::Relaxed);
    drop((admin, seat));
    while let Some(sent) = running.join_next().await {
        bans.sent += sent??;
    }
    Ok(bans)
}

async fn connect(target: &Target, name: &str, node: usize) -> Result<(Client, Events)> {
    let options = target.client_of_node(&UserId::new(name)?, &format!("{name}-1"), node)?;
    Client::connect(options).await.with_context(|| format!("{name} connects"))
}

async fn send(client: Client, mut events: Events, group: GroupId, stop: Arc<AtomicBool>) -> Result<u64> {
    let reading = tokio::spawn(async move { while events.next().await.is_some() {} });
    let more = || !stop.load(Ordering::Relaxed);
    let sends = stream::iter(std::iter::from_fn(|| more().then_some(())));
    let sends = sends.map(|()| client.send_text(To::Group(group), "ding")).buffer_unordered(WINDOW);
    let mut sends = std::pin::pin!(sends);
    let mut sent = 0;
    while let Some(done) = sends.next().await {
        done?;
        sent += 1;
    }
    reading.abort();
    Ok(sent)
}

async fn next(events: &mut Events) -> Result<ClientEvent> {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.context("nothing came in time")?;
    event.context("the client ended")
}

/// Until something that was said after joining has come.
async fn wait_for(events: &mut Events, group: GroupId, joined: u64, bans: &mut Bans) -> Result<()> {
    loop {
        match next(events).await? {
            ClientEvent::Event(event) if event.conversation == ConversationId::Group(group) => {
                // Nothing between the ban before and this joining.
                bans.early += u64::from(event.seq < joined);
                if matches!(event.content, EventContent::Message { .. }) {
                    bans.received += 1;
                    return Ok(());
                }
            }
            ClientEvent::Closed { why, .. } => bail!("the guest was closed: {why}"),
            _ => {}
        }
    }
}

/// Until the user is told of the removal, which is the last thing to come. The seq of the last event.
async fn until_removed(events: &mut Events, group: GroupId, bans: &mut Bans) -> Result<u64> {
    let mut last = 0;
    loop {
        match next(events).await? {
            ClientEvent::Event(event) if event.conversation == ConversationId::Group(group) => {
                last = event.seq;
                bans.received += u64::from(matches!(event.content, EventContent::Message { .. }));
            }
            ClientEvent::ConversationRemoved { .. } => return Ok(last),
            ClientEvent::Closed { why, .. } => bail!("the guest was closed: {why}"),
            _ => {}
        }
    }
}
