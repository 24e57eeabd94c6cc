//! What a group actor looks up before it proposes, linearizably.

use std::collections::BTreeSet;

use chat::app::is_system;
use chat::command::Original;
use chat::errors::ErrorCode;
use chat::event::{BodyKind, Event, SequencedEvent};
use chat::ids::{AppId, ClientMsgId, ConversationId, ShardId, UserId};
use chat::limits;
use chat::state::query;
use chat::user::{ItemKey, ItemValue, Strangers, UserSettings};
use cluster::{Cluster, ProposeError, ShardView};
use futures_util::future::try_join_all;
use storage::StorageError;

use super::GroupKey;
use super::message::GroupFailure;
use crate::history::History;

/// Waits until this node shows everything committed in the shard before now.
async fn barrier(cluster: &Cluster, shard: ShardId) -> Result<(), GroupFailure> {
    match cluster.read_barrier(shard).await {
        Ok(_) => Ok(()),
        Err(ProposeError::Overloaded) => Err(GroupFailure::Overloaded { retry_after_ms: limits::FULL_RETRY_MS }),
        // Nothing has been proposed yet, whatever became of the read.
        Err(_) => Err(GroupFailure::Unavailable),
    }
}

/// All of them have accounts.
pub(super) async fn users_exist(cluster: Cluster, app: AppId, users: Vec<UserId>) -> Result<(), GroupFailure> {
    let shards: BTreeSet<_> = users.iter().map(|user| cluster.home_shard(&app, user)).collect();
    try_join_all(shards.into_iter().map(|shard| barrier(&cluster, shard))).await?;
    for user in &users {
        let view = cluster.view(cluster.home_shard(&app, user)).ok_or(GroupFailure::Internal)?;
        match query::account(&view, &app, user) {
            Ok(Some(_)) => {}
            Ok(None) => return Err(GroupFailure::Rejected(ErrorCode::UserNotFound)),
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(())
}

/// The peer has an account, and takes a first message from `user`, or (`asks`) lets itself be asked to be a contact.
pub(super) async fn peer_takes(
    cluster: Cluster,
    key: GroupKey,
    user: UserId,
    peer: UserId,
    asks: bool,
) -> Result<(), GroupFailure> {
    let GroupKey { app, conversation } = key;
    users_exist(cluster.clone(), app.clone(), vec![peer.clone()]).await?;
    let home = cluster.view(cluster.home_shard(&app, &peer)).ok_or(GroupFailure::Internal)?;
    let settings = match query::item(&home, &app, &peer, &ItemKey::Settings).map_err(unreadable)? {
        Some(ItemValue::Settings(settings)) => settings,
        _ => UserSettings::default(),
    };
    if user == peer || settings.strangers == Strangers::Welcome || asks && settings.strangers == Strangers::MayAsk {
        return Ok(());
    }
    let shard = cluster.conversation_shard(&app, &conversation);
    barrier(&cluster, shard).await?;
    let view = cluster.view(shard).ok_or(GroupFailure::Internal)?;
    let pair = query::pair(&view, &app, &conversation).map_err(unreadable)?;
    // Who was asked may answer by asking back.
    if pair.since_ms.is_some() || asks && pair.asked_by.as_ref() == Some(&peer) {
        return Ok(());
    }
    Err(GroupFailure::Rejected(ErrorCode::NotAccepted))
}

/// The message at `seq`. What is here is what it is; what is not may be about to be applied here.
pub(super) async fn find_original(
    history: History,
    cluster: Cluster,
    key: GroupKey,
    (user, id): (UserId, Option<ClientMsgId>),
    seq: u64,
) -> Result<Original, GroupFailure> {
    let shard = cluster.conversation_shard(&key.app, &key.conversation);
    let look = || {
        let (history, cluster, key, user) = (history.clone(), cluster.clone(), key.clone(), user.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let view = cluster.view(shard).ok_or(GroupFailure::Internal)?;
            admitted(&view, &key, &user, id)?;
            original(&history, &key, seq)
        });
        async { looked.await.unwrap_or(Err(GroupFailure::Internal)) }
    };
    match look().await {
        Err(GroupFailure::Rejected(_)) => {}
        found => return found,
    }
    barrier(&cluster, shard).await?;
    look().await
}

fn original(history: &History, key: &GroupKey, seq: u64) -> Result<Original, GroupFailure> {
    let span = history
        .events(&key.app, &key.conversation, seq, 1, usize::MAX)
        .map_err(|error| if error.is_repairable() { GroupFailure::Unavailable } else { GroupFailure::Internal })?;
    let found = span.events.into_iter().next().map(|shown| shown.event).filter(|event| event.seq == seq);
    let Some(SequencedEvent { time_ms, event, .. }) = found else {
        return Err(GroupFailure::Rejected(ErrorCode::EventNotFound));
    };
    let Event::Message { author, client_msg_id, body, relations } = event else {
        return Err(GroupFailure::Rejected(ErrorCode::EventNotFound));
    };
    // A recalled message has no kind any more, and the log says that it was recalled.
    let kind = body.map_or(BodyKind::Text, |body| body.kind);
    let fixed = relations.is_some_and(|relations| relations.is_fixed());
    Ok(Original { seq, author, client_msg_id, time_ms, kind, fixed, window_ms: u64::MAX })
}

/// The user is a member, or repeats a message from when they were one: the log then answers with its place.
pub(super) async fn may_ask(
    cluster: Cluster,
    key: GroupKey,
    user: UserId,
    message: Option<ClientMsgId>,
) -> Result<(), GroupFailure> {
    let shard = cluster.conversation_shard(&key.app, &key.conversation);
    barrier(&cluster, shard).await?;
    let view = cluster.view(shard).ok_or(GroupFailure::Internal)?;
    admitted(&view, &key, &user, message)
}

fn admitted(
    view: &ShardView,
    GroupKey { app, conversation }: &GroupKey,
    user: &UserId,
    message: Option<ClientMsgId>,
) -> Result<(), GroupFailure> {
    if is_member(view, app, conversation, user).map_err(unreadable)? {
        return Ok(());
    }
    match message {
        Some(id) if query::was_sent(view, app, conversation, user, id).map_err(unreadable)? => Ok(()),
        _ => Err(GroupFailure::Rejected(ErrorCode::NotAMember)),
    }
}

/// Whether the user is a member. The app itself need not be one of a conversation that there is: the log knows what it may.
pub(super) fn is_member(
    view: &ShardView,
    app: &AppId,
    conversation: &ConversationId,
    user: &UserId,
) -> Result<bool, StorageError> {
    if is_system(user) && conversation.peer_of(user).is_none() {
        return Ok(query::conversation(view, app, conversation)?.is_some());
    }
    Ok(query::member(view, app, conversation, user)?.is_some())
}

/// What is being repaired can be asked for again.
fn unreadable(error: StorageError) -> GroupFailure {
    if error.is_repairable() { GroupFailure::Unavailable } else { GroupFailure::Internal }
}
