//! Carrying what a conversation's shard owes its members' home shards: conversations entering and leaving their lists, and
//! how pairs of users stand to each other.
//!
//! The items are replicated state, written in the entry that caused them. Only the shard's leader delivers; a leader
//! that dies between delivering and marking makes the next one deliver again, which changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat::command::{Command, Owed};
use chat::ids::ShardId;
use chat::state::query;

use crate::cluster::Inner;
use crate::proposer::ProposeError;

/// Items taken at once; they must fit one entry even when all have one home.
const PAGE: usize = 128;
/// News of pairs in one command; their texts must fit one entry.
const NEWS: usize = 32;
/// Pause after a failed delivery.
const RETRY: Duration = Duration::from_millis(200);

/// Runs until the node stops: sleeps until the replica says that there may be something to carry.
pub(crate) async fn run(inner: Arc<Inner>, shard: ShardId) {
    let Some(replica) = inner.replica(shard) else { return };
    loop {
        replica.outbox_filled.notified().await;
        while replica.leader() == Some(inner.node) {
            match deliver_page(&inner, shard).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%shard, %error, "what is owed to other shards is not delivered yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Storage(#[from] storage::StorageError),
}

/// Delivers the oldest items; how many.
async fn deliver_page(inner: &Arc<Inner>, shard: ShardId) -> Result<usize, DeliverError> {
    let Some(replica) = inner.replica(shard) else { return Ok(0) };
    let items = query::outbox(&replica.view(), PAGE)?;
    let Some(through) = items.last().map(|(number, _)| *number) else { return Ok(0) };
    let count = items.len();
    let mut by_home: BTreeMap<ShardId, (Vec<_>, Vec<_>)> = BTreeMap::new();
    for (_, owed) in items {
        let (app, user) = owed.to();
        let (changes, news) = by_home.entry(ShardId::of_user(app, user, inner.shards)).or_default();
        match owed {
            Owed::List(change) => changes.push(change),
            Owed::Pair(told) => news.push(told),
        }
    }
    let commands = by_home.into_iter().flat_map(|(home, (changes, news))| {
        let changes = (!changes.is_empty()).then_some(Command::ListChanges { changes });
        let news = news.chunks(NEWS).map(|news| Command::PairNews { news: news.to_vec() });
        let commands: Vec<_> = changes.into_iter().chain(news).collect();
        commands.into_iter().map(move |command| (home, command))
    });
    let deliveries = commands.map(|(home, command)| inner.submit(home, command));
    for delivered in futures_util::future::join_all(deliveries).await {
        delivered?;
    }
    replica.proposer.propose(Command::OutboxDelivered { through }).await?;
    Ok(count)
}
