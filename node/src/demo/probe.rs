//! A writer per shard that never stops: what it finds out is how long writes pause and what is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use campanile_client::{Client, Range};
use chat::ids::{ClientMsgId, ConversationId, GroupId, NodeId, ShardId, UserId};
use chat::wire::{Body, EventContent, Target, WireEvent};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::ledger::{Acked, Ledger};
use super::people::{AnyError, Connector, fixed_id, main_app};

/// Between two messages to one shard: in quiet times, and while a fault is measured.
const QUIET: Duration = Duration::from_millis(1_000);
const DENSE: Duration = Duration::from_millis(25);

/// One group per shard, one message at a time in each.
pub(super) struct Probe {
    client: Client,
    shards: BTreeMap<ShardId, Arc<Watched>>,
    pace: Arc<AtomicU64>,
    /// Ends with the probe.
    _writers: JoinSet<()>,
}

struct Watched {
    group: GroupId,
    ledger: Mutex<Ledger>,
}

/// What reading back came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    pub(super) acked: usize,
    pub(super) lost: usize,
}

pub(super) fn probe_user() -> UserId {
    UserId::new("probe").expect("the literal is a user id")
}

impl Probe {
    pub(super) async fn start(client: &Client, shards: u16) -> Result<Self, AnyError> {
        let now = Instant::now();
        let pace = Arc::new(AtomicU64::new(millis(QUIET)));
        let mut watched = BTreeMap::new();
        let mut writers = JoinSet::new();
        for (shard, group) in groups(shards) {
            client.create_group(group, format!("probe of shard {shard}"), Vec::new()).await?;
            let one = Arc::new(Watched { group, ledger: Mutex::new(Ledger::new(now)) });
            writers.spawn(write(client.clone(), one.clone(), pace.clone()));
            watched.insert(shard, one);
        }
        Ok(Self { client: client.clone(), shards: watched, pace, _writers: writers })
    }

    /// The node that the writers are connected to.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.client.session().map(|session| session.node)
    }

    /// Writes often, so that a pause is measured finely.
    pub(super) fn watch_closely(&self) {
        self.pace.store(millis(DENSE), Ordering::Relaxed);
    }

    pub(super) fn relax(&self) {
        self.pace.store(millis(QUIET), Ordering::Relaxed);
    }

    /// The fault happens now.
    pub(super) fn fault(&self) {
        let now = Instant::now();
        self.shards.values().for_each(|watched| watched.ledger.lock().fault(now));
    }

    /// How long writes to each shard have paused since the fault; none for shards where they still do.
    pub(super) fn pauses(&self) -> BTreeMap<ShardId, Option<Duration>> {
        self.shards.iter().map(|(shard, watched)| (*shard, watched.ledger.lock().pause())).collect()
    }

    /// Everything acknowledged and not yet counted.
    pub(super) fn acked(&self) -> Snapshot {
        let of = |watched: &Arc<Watched>| (watched.group, watched.ledger.lock().acked());
        Snapshot(self.shards.iter().map(|(shard, watched)| (*shard, of(watched))).collect())
    }

    /// These have been counted.
    pub(super) fn forget(&self, counted: &Snapshot) {
        for (shard, (_, acked)) in &counted.0 {
            if let (Some(watched), Some(last)) = (self.shards.get(shard), acked.last()) {
                watched.ledger.lock().forget_through(last.seq);
            }
        }
    }
}

/// What was acknowledged up to a moment, in order of seq.
pub(super) struct Snapshot(BTreeMap<ShardId, (GroupId, Vec<Acked>)>);

impl Snapshot {
    /// Reads history back from one node and counts what was acknowledged but is not there as it was.
    pub(super) async fn count(&self, connector: &Connector) -> Result<Counted, AnyError> {
        let client = connector.connect(&probe_user()).await?;
        let mut counted = Counted::default();
        for (group, acked) in self.0.values() {
            let Some(first) = acked.first() else { continue };
            let stored = read_from(&client, (*group).into(), first.seq).await?;
            counted.acked += acked.len();
            counted.lost += lost(acked, &stored);
        }
        Ok(counted)
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// For each shard a group that lives in it.
fn groups(shards: u16) -> BTreeMap<ShardId, GroupId> {
    let app = main_app();
    let mut found = BTreeMap::new();
    for number in 0.. {
        if found.len() == usize::from(shards) {
            break;
        }
        let group = GroupId(fixed_id(3, number));
        found.entry(ShardId::of_conversation(&app, &group.into(), shards)).or_insert(group);
    }
    found
}

async fn write(client: Client, watched: Arc<Watched>, pace: Arc<AtomicU64>) {
    loop {
        let (id, began) = (ClientMsgId(Uuid::now_v7()), Instant::now());
        let body = Body::Text { text: "ding".to_owned() };
        // What is not acknowledged is nobody's promise; the next one tells whether writing works again.
        if let Ok(sent) = client.send_with_id(Target::Group(watched.group), id, body).await {
            watched.ledger.lock().ack(Acked { seq: sent.seq, id }, began, Instant::now());
        }
        pause(&pace, began).await;
    }
}

/// Until it is time for the next message. A pace that is quickened meanwhile counts at once.
async fn pause(pace: &AtomicU64, began: Instant) {
    while began.elapsed() < Duration::from_millis(pace.load(Ordering::Relaxed)) {
        tokio::time::sleep(DENSE).await;
    }
}

/// Everything from `seq` on that this node has.
async fn read_from(client: &Client, conversation: ConversationId, seq: u64) -> Result<Vec<WireEvent>, AnyError> {
    let mut events: Vec<WireEvent> = Vec::new();
    loop {
        let after = events.last().map_or(seq - 1, |event| event.seq);
        let page = client.history(conversation.clone(), Range::After(after)).await?;
        let ended = page.events.is_empty() || !page.more;
        events.extend(page.events);
        if ended {
            return Ok(events);
        }
    }
}

/// How many acknowledged messages are not stored under their seq with their id. Both in order of seq.
fn lost(acked: &[Acked], stored: &[WireEvent]) -> usize {
    let stored: BTreeMap<u64, ClientMsgId> = stored
        .iter()
        .filter_map(|event| match &event.content {
            EventContent::Message { client_msg_id, .. } => Some((event.seq, *client_msg_id)),
            _ => None,
        })
        .collect();
    acked.iter().filter(|acked| stored.get(&acked.seq) != Some(&acked.id)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_a_group_of_its_own() {
        let groups = groups(16);
        assert_eq!(groups.keys().map(|shard| shard.0).collect::<Vec<_>>(), (1..=16).collect::<Vec<_>>());
        let app = main_app();
        assert!(groups.iter().all(|(shard, group)| ShardId::of_conversation(&app, &(*group).into(), 16) == *shard));
    }

    #[test]
    fn a_missing_message_and_one_with_another_id_are_lost() {
        let id = |n| ClientMsgId(Uuid::from_u128(n));
        let event = |seq, n| WireEvent {
            conversation: ConversationId::Group(GroupId(Uuid::nil())),
            seq,
            time_ms: 0,
            content: EventContent::message(probe_user(), id(n), Body::Text { text: String::new() }),
        };
        let acked: Vec<_> = (1..=4).map(|n| Acked { seq: n, id: id(u128::from(n)) }).collect();
        let stored = [event(1, 1), event(2, 99), event(4, 4), event(5, 5)];
        assert_eq!(lost(&acked, &stored), 2);
        assert_eq!(lost(&acked, &[1, 2, 3, 4].map(|n| event(n, n.into()))), 0);
    }
}
