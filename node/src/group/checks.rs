//! What a group actor looks up before it proposes, linearizably.

use std::collections::BTreeSet;

use chat::errors::ErrorCode;
use chat::ids::{AppId, ClientMsgId, ShardId, UserId};
use chat::limits;
use chat::state::query;
use cluster::{Cluster, ProposeError};
use futures_util::future::try_join_all;

use super::GroupKey;
use super::message::GroupFailure;

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

/// The user is a member, or repeats a message from when they were one: the log then answers with its place.
pub(super) async fn may_ask(
    cluster: Cluster,
    key: GroupKey,
    user: UserId,
    message: Option<ClientMsgId>,
) -> Result<(), GroupFailure> {
    let GroupKey { app, conversation } = key;
    let shard = cluster.conversation_shard(&app, &conversation);
    barrier(&cluster, shard).await?;
    let view = cluster.view(shard).ok_or(GroupFailure::Internal)?;
    if query::member(&view, &app, &conversation, &user).map_err(unreadable)?.is_some() {
        return Ok(());
    }
    match message {
        Some(id) if query::was_sent(&view, &app, &conversation, &user, id).map_err(unreadable)? => Ok(()),
        _ => Err(GroupFailure::Rejected(ErrorCode::NotAMember)),
    }
}

/// What is being repaired can be asked for again.
fn unreadable(error: storage::StorageError) -> GroupFailure {
    if error.is_repairable() { GroupFailure::Unavailable } else { GroupFailure::Internal }
}
