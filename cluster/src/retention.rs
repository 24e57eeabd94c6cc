//! Deleting what is kept no longer. The leader of a shard goes through its conversations in the background, decides by the
//! policies and its clock where each one's kept events are to begin, and proposes that: so every replica deletes the same.
//! A while later the ids of what was deleted are forgotten in the same way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chat::codec::{self, Kind};
use chat::command::{Command, EntryBatch, RetentionCommand};
use chat::ids::{AppId, ConversationId};
use chat::limits;
use chat::retention::Retention;
use chat::state::query::{self, Located};
use chat::state::walk;
use futures_util::future::join_all;
use storage::{LogPayload, LogStore, StorageError};
use tokio::time::{MissedTickBehavior, interval};

use crate::Housekeeping;
use crate::cluster::Inner;
use crate::collect::blocking;
use crate::consensus::state_machine::ShardView;
use crate::housekeeping::PAUSE;
use crate::replica::Replica;

/// Conversations looked at in one piece.
const PAGE: usize = 64;
/// Times that one piece is looked at before the walk goes on: a conversation far above what is kept takes several.
const ROUNDS: u32 = 64;
/// Commands at once that forget ids of one conversation.
const FORGETS: usize = 8;

/// The first seq that is to be kept. `time_of` gives the time of an event, none if it cannot be read; times are taken to
/// grow with the seqs. No further from `oldest` than one command may go.
pub(crate) fn oldest_to_keep<E>(
    retention: Retention,
    (oldest, head): (u64, u64),
    now_ms: u64,
    mut time_of: impl FnMut(u64) -> Result<Option<u64>, E>,
) -> Result<u64, E> {
    let end = (head + 1).min(oldest.saturating_add(limits::TRIM_EVENTS));
    let start = retention.oldest_by_count(head).min(end).max(oldest);
    let Some(time_ms) = retention.oldest_time_ms(now_ms) else { return Ok(start) };
    let mut is_old = |seq| Ok(time_of(seq)?.is_some_and(|time| time < time_ms));
    // The oldest one first: usually it stays, and nothing else need be read.
    if start >= end || !is_old(start)? {
        return Ok(start);
    }
    // `old` goes, `young` stays.
    let (mut old, mut young) = (start, end);
    while old + 1 < young {
        let middle = old + (young - old) / 2;
        if is_old(middle)? {
            old = middle;
        } else {
            young = middle;
        }
    }
    Ok(young)
}

pub(crate) async fn run(inner: Arc<Inner>, housekeeping: Housekeeping) {
    let mut clock = interval(housekeeping.sweep_every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        for replica in &inner.replicas {
            if let Err(error) = sweep(&inner, replica).await {
                tracing::warn!(shard = %replica.shard, %error, "retention looks through the shard later");
            }
        }
    }
}

/// The policies of the apps, as this node's replica of the metadata group has them.
#[derive(Clone)]
struct Policies {
    meta: ShardView,
    apps: BTreeMap<AppId, AppPolicy>,
}

/// What holds for an app.
#[derive(Clone, Copy)]
struct AppPolicy {
    retention: Retention,
    /// How long ids are remembered after their messages were deleted, in milliseconds.
    id_window_ms: u64,
}

impl Policies {
    fn of_app(&mut self, app: &AppId) -> Result<AppPolicy, StorageError> {
        if let Some(known) = self.apps.get(app) {
            return Ok(*known);
        }
        let retention = query::app_retention(&self.meta, app)?;
        let policy = AppPolicy { retention, id_window_ms: query::id_window(&self.meta, app)? };
        self.apps.insert(app.clone(), policy);
        Ok(policy)
    }

    fn any(&self) -> Result<bool, StorageError> {
        let apps = query::apps(&self.meta, usize::MAX)?;
        for (app, _) in apps {
            if !query::app_retention(&self.meta, &app)?.keeps_for_ever() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Goes through one shard, as long as this node leads it.
async fn sweep(inner: &Inner, replica: &Replica) -> Result<(), StorageError> {
    let Some(meta) = inner.replicas.first().map(Replica::view) else { return Ok(()) };
    expire(inner, replica, &meta).await?;
    let (view, policies) = (replica.view(), Policies { meta, apps: BTreeMap::new() });
    let asked = policies.clone();
    if !blocking(move || Ok(walk::has_retention(&view)? || asked.any()?)).await? {
        return Ok(());
    }
    let (mut after, mut rounds): (Option<Bytes>, u32) = (None, 0);
    while replica.leader() == Some(inner.node) {
        let piece =
            Piece { view: replica.view(), log: replica.log.clone(), policies: policies.clone(), now_ms: now_ms() };
        let from = after.clone();
        let Planned { commands, again, next } = blocking(move || piece.plan(from)).await?;
        let done = join_all(commands.into_iter().map(|command| replica.proposer.propose(Command::Retention(command))));
        if let Some(error) = done.await.into_iter().find_map(Result::err) {
            tracing::debug!(shard = %replica.shard, %error, "retention goes on next time");
            return Ok(());
        }
        rounds += 1;
        if !again || rounds >= ROUNDS {
            rounds = 0;
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Takes away the messages of one shard whose time is over. They are shown to nobody already.
async fn expire(inner: &Inner, replica: &Replica, meta: &ShardView) -> Result<(), StorageError> {
    while replica.leader() == Some(inner.node) {
        let (view, meta) = (replica.view(), meta.clone());
        let look = move || {
            let mut commands = Vec::new();
            for (app, _) in query::apps(&meta, usize::MAX)? {
                let left = limits::EXPIRE_AT_ONCE - commands.len();
                for (at_ms, conversation, seq) in query::expired(&view, &app, now_ms(), left)? {
                    commands.push(RetentionCommand::Expire { app: app.clone(), conversation, seq, at_ms });
                }
            }
            Ok::<_, StorageError>(commands)
        };
        let commands = blocking(look).await?;
        let last = commands.len() < limits::EXPIRE_AT_ONCE;
        let done = join_all(commands.into_iter().map(|command| replica.proposer.propose(Command::Retention(command))));
        if let Some(error) = done.await.into_iter().find_map(Result::err) {
            tracing::debug!(shard = %replica.shard, %error, "messages whose time is over are taken away next time");
            return Ok(());
        }
        if last {
            return Ok(());
        }
    }
    Ok(())
}

/// What is looked at in one go, on the blocking pool.
struct Piece {
    view: ShardView,
    log: LogStore,
    policies: Policies,
    now_ms: u64,
}

struct Planned {
    commands: Vec<RetentionCommand>,
    /// One command was not enough for one of the conversations.
    again: bool,
    next: Option<Bytes>,
}

impl Piece {
    fn plan(mut self, after: Option<Bytes>) -> Result<Planned, StorageError> {
        let walk::Piece { items, next } = walk::conversations(&self.view, after, PAGE)?;
        let mut planned = Planned { commands: Vec::new(), again: false, next };
        for (app, conversation, record) in items {
            let policy = self.policies.of_app(&app)?;
            let own = query::conversation_retention(&self.view, &app, &conversation)?;
            let retention = own.unwrap_or(policy.retention);
            let window_ms = policy.id_window_ms;
            let floor = query::floor(&self.view, &app, &conversation)?;
            let range = (floor.oldest_seq, record.head);
            let time_of = |seq| self.time_of(&app, &conversation, seq);
            let oldest_seq = oldest_to_keep(retention, range, self.now_ms, time_of)?;
            planned.again |= oldest_seq >= floor.oldest_seq + limits::TRIM_EVENTS;
            let below = floor.forgettable(self.now_ms, window_ms);
            if below > 0 {
                let commands = forget(&self.view, &app, &conversation, below, window_ms)?;
                planned.again |= commands.len() == FORGETS;
                planned.commands.extend(commands);
            }
            if oldest_seq > floor.oldest_seq {
                planned.commands.push(trim(app, conversation, oldest_seq, window_ms));
            }
        }
        Ok(planned)
    }

    /// When an event happened.
    fn time_of(&self, app: &AppId, conversation: &ConversationId, seq: u64) -> Result<Option<u64>, StorageError> {
        let located = query::locate(&self.view, app, conversation, seq, 1)?;
        let log_index = match located.into_iter().next() {
            Some(Located::Inline(_, time_ms, _)) => return Ok(Some(time_ms)),
            Some(Located::Message { log_index, .. }) => log_index,
            None => return Ok(None),
        };
        let Some(record) = self.log.get(log_index)? else { return Ok(None) };
        let LogPayload::Batch(bytes) = &record.payload else { return Ok(None) };
        // What does not decode is not deleted by its age: that is for whoever repairs it.
        Ok(codec::decode::<EntryBatch>(Kind::Entry, bytes).ok().map(|batch| batch.time_ms))
    }
}

/// The window that every cluster has is not said: earlier feature levels know no other.
fn trim(app: AppId, conversation: ConversationId, oldest_seq: u64, window_ms: u64) -> RetentionCommand {
    match window_ms {
        limits::DEDUPE_WINDOW_MS => RetentionCommand::Trim { app, conversation, oldest_seq },
        _ => RetentionCommand::TrimWithin { app, conversation, oldest_seq, window_ms },
    }
}

/// Commands that forget the ids of messages below `below`, [`FORGETS`] at most. Where nothing is to be forgotten there is
/// none, but the last: that says that all are.
fn forget(
    view: &ShardView,
    app: &AppId,
    conversation: &ConversationId,
    below: u64,
    window_ms: u64,
) -> Result<Vec<RetentionCommand>, StorageError> {
    let mut commands = Vec::new();
    let mut after: Option<Bytes> = None;
    while commands.len() < FORGETS {
        let pages = walk::ids(view, app, conversation, after.as_deref(), limits::FORGET_PAGES)?;
        let full = pages.len() == limits::FORGET_PAGES;
        let through = pages.last().filter(|_| full).map(|page| page.place.clone());
        if through.is_none() || pages.iter().any(|page| page.newest_seq < below) {
            let (app, conversation) = (app.clone(), conversation.clone());
            let (after, through) = (after.clone(), through.clone());
            commands.push(match window_ms {
                limits::DEDUPE_WINDOW_MS => RetentionCommand::Forget { app, conversation, below, after, through },
                _ => RetentionCommand::ForgetWithin { app, conversation, below, after, through, window_ms },
            });
        }
        match through {
            Some(through) => after = Some(through),
            None => break,
        }
    }
    Ok(commands)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Event `n` happened at `10 * n`.
    fn oldest(retention: Retention, range: (u64, u64), now_ms: u64) -> (u64, u32) {
        let mut reads = 0;
        let found = oldest_to_keep::<()>(retention, range, now_ms, |seq| {
            reads += 1;
            Ok(Some(10 * seq))
        });
        (found.unwrap(), reads)
    }

    fn policy(max_age_ms: Option<u64>, max_count: Option<u64>) -> Retention {
        Retention { max_age_ms, max_count }
    }

    #[test]
    fn the_stricter_of_age_and_count_decides() {
        assert_eq!(oldest(Retention::FOR_EVER, (1, 500), 9_000), (1, 0));
        assert_eq!(oldest(policy(None, Some(100)), (1, 500), 9_000), (401, 0));
        assert_eq!(oldest(policy(Some(1_000), None), (1, 500), 5_000).0, 400, "at 4000 and later");
        assert_eq!(oldest(policy(Some(1_000), Some(50)), (1, 500), 5_000).0, 451);
        assert_eq!(oldest(policy(Some(1_000), Some(300)), (1, 500), 5_000).0, 400);
    }

    #[test]
    fn usually_one_event_is_read_and_a_few_otherwise() {
        assert_eq!(oldest(policy(Some(1_000), None), (400, 500), 5_000), (400, 1));
        assert!(oldest(policy(Some(1_000), None), (1, 500), 5_000).1 <= 10);
    }

    #[test]
    fn all_may_go_and_no_more_at_once_than_a_command_deletes() {
        assert_eq!(oldest(policy(Some(1_000), None), (1, 500), 90_000).0, 501);
        assert_eq!(oldest(policy(Some(1_000), None), (501, 500), 90_000), (501, 0));
        let far = 10 * limits::TRIM_EVENTS;
        assert_eq!(oldest(policy(None, Some(1)), (7, far), 0).0, 7 + limits::TRIM_EVENTS);
        assert_eq!(oldest(policy(Some(1_000), None), (7, far), u64::MAX).0, 7 + limits::TRIM_EVENTS);
    }

    #[test]
    fn what_cannot_be_read_is_not_old() {
        let found = oldest_to_keep::<()>(policy(Some(1_000), None), (5, 50), 90_000, |_| Ok(None));
        assert_eq!(found, Ok(5));
    }
}
