//! What a node still takes while its disk fills up. The node above measures; this is what follows from it.
//!
//! First it leads nothing: others order what is written, and it only follows. With less room still it takes no entry
//! either, so that what is left stays for closing cleanly, for votes and for the metadata group. An entry that a follower
//! does not take was not acknowledged by it, and comes again; heartbeats are taken, so it does not stand for election.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use chat::command::Command;
use chat::ids::ShardId;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Inner};
use crate::leave::{self, Why};
use crate::peer::message::Request;
use crate::proposer::ProposeError;

/// How much room the disk of a node has, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Room {
    #[default]
    Ample,
    /// Somebody should look after it.
    Low,
    /// The node leads nothing and proposes nothing that users write.
    Tight,
    /// It takes no entries of other leaders either.
    Full,
}

impl Room {
    pub fn may_lead(self) -> bool {
        self < Self::Tight
    }

    pub fn may_follow(self) -> bool {
        self < Self::Full
    }
}

/// The present room, read wherever something would be written.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU8);

impl Gauge {
    fn set(&self, room: Room) {
        self.0.store(room as u8, Ordering::Relaxed);
    }

    pub(crate) fn room(&self) -> Room {
        match self.0.load(Ordering::Relaxed) {
            0 => Room::Ample,
            1 => Room::Low,
            2 => Room::Tight,
            _ => Room::Full,
        }
    }

    /// What users write is refused without room; what the cluster needs for itself, and what may make room, is not.
    pub(crate) fn admit(&self, command: &Command) -> Result<(), ProposeError> {
        match command {
            Command::Conversation { .. } | Command::User { .. } if !self.room().may_lead() => {
                Err(ProposeError::Overloaded)
            }
            _ => Ok(()),
        }
    }

    /// Whether a peer's request may be served.
    pub(crate) fn takes(&self, request: &Request) -> bool {
        let grows = match request {
            Request::Append { append, .. } => !append.records.is_empty(),
            Request::Snapshot { .. } => true,
            _ => false,
        };
        !grows || request.shard() == Some(ShardId::META) || self.room().may_follow()
    }
}

impl Cluster {
    /// Sets how much room this node has. Leadership is handed over within `within` if there is not enough for it, and
    /// as often as an election gives it back; with room again the node leads what balance gives it.
    pub async fn set_room(&self, room: Room, within: Duration) {
        let inner: &Arc<Inner> = &self.inner;
        inner.room.set(room);
        if leave::rest(inner, Why::NoRoom, !room.may_lead()).await && !room.may_lead() {
            leave::hand_over(inner, within).await;
        }
    }

    /// Whether another node is there that is not leaving, resting or short of room.
    pub fn somebody_else_leads(&self) -> bool {
        let inner = &self.inner;
        let table = inner.table();
        let others = table.ids().filter(|node| *node != inner.node);
        others.into_iter().any(|node| inner.connected(node) && !inner.leaving.contains(node))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chat::command::UserCommand;
    use chat::ids::{AppId, UserId};
    use storage::{LogPayload, LogPosition, LogRecord};

    use super::*;
    use crate::consensus::types::VoteRecord;
    use crate::peer::message::Append;

    fn append(shard: u16, records: u64) -> Request {
        let record = |index| LogRecord {
            position: LogPosition { term: 1, node: 1, index },
            payload: LogPayload::Batch(Bytes::from_static(b"entry")),
        };
        let records = (0..records).map(record).collect();
        let vote = VoteRecord { term: 1, node: 1, committed: true };
        Request::Append { shard: ShardId(shard), append: Append { vote, previous: None, records, committed: None } }
    }

    #[test]
    fn the_less_room_the_less_is_taken_and_heartbeats_and_the_metadata_group_always() {
        let gauge = Gauge::default();
        let (app, user) = (AppId::new("main").unwrap(), UserId::new("alice").unwrap());
        let write = Command::User { app, user, command: UserCommand::SetPassword { password: None } };
        let mut seen = Vec::new();
        for room in [Room::Ample, Room::Low, Room::Tight, Room::Full] {
            gauge.set(room);
            assert_eq!(gauge.room(), room);
            seen.push((gauge.admit(&write).is_ok(), gauge.takes(&append(3, 1))));
            assert!(gauge.takes(&append(3, 0)) && gauge.takes(&append(0, 1)));
            assert!(gauge.admit(&Command::OutboxDelivered { through: 1 }).is_ok());
        }
        assert_eq!(seen, [(true, true), (true, true), (false, true), (false, false)]);
    }
}
