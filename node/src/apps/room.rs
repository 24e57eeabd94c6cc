//! Whether an app may have more of something. Each shard counts what it holds, and every node holds every shard: so a node adds up
//! what it has applied. What is being made at the same moment is not in the sum yet, so that an app may come to have a few more.

use chat::errors::ErrorCode;
use chat::ids::{AppId, ConversationId, ShardId};
use chat::state::record::AppCounts;
use chat::state::{apps, query};
use cluster::{Cluster, ShardView};
use storage::StorageError;

use crate::group::{GroupAsk, GroupFailure, GroupKey};

/// Why there may not be more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRoom {
    #[error("the app has as many as it may have")]
    Full,
    #[error("the app's record cannot be read")]
    Unreadable(#[from] StorageError),
}

/// How much of the app there is, as this node has applied it.
pub(crate) fn counts(cluster: &Cluster, app: &AppId) -> Result<AppCounts, StorageError> {
    let mut sum = AppCounts::default();
    for view in (1..=cluster.shards()).filter_map(|shard| cluster.view(ShardId(shard))) {
        let AppCounts { users, groups } = apps::counts(&view, app)?;
        sum.users += users;
        sum.groups += groups;
    }
    Ok(sum)
}

/// Whether the app may have one more user.
pub(crate) fn for_user(cluster: &Cluster, app: &AppId) -> Result<(), NoRoom> {
    if users_left(cluster, app)? == 0 { Err(NoRoom::Full) } else { Ok(()) }
}

/// How many more users the app may have.
pub(crate) fn users_left(cluster: &Cluster, app: &AppId) -> Result<u64, StorageError> {
    let Some(record) = super::record(cluster, app)? else { return Ok(u64::MAX) };
    Ok(record.settings.users_max.saturating_sub(counts(cluster, app)?.users))
}

/// Whether the app allows what would make a group, or one of its groups larger.
pub(crate) fn for_group(
    cluster: &Cluster,
    view: &ShardView,
    key: &GroupKey,
    ask: &GroupAsk,
) -> Result<(), GroupFailure> {
    match grown(cluster, view, key, ask) {
        Ok(()) => Ok(()),
        Err(NoRoom::Full) => Err(GroupFailure::Rejected(ErrorCode::LimitReached)),
        Err(NoRoom::Unreadable(error)) if error.is_repairable() => Err(GroupFailure::Unavailable),
        Err(NoRoom::Unreadable(_)) => Err(GroupFailure::Internal),
    }
}

fn grown(cluster: &Cluster, view: &ShardView, key: &GroupKey, ask: &GroupAsk) -> Result<(), NoRoom> {
    let GroupKey { app, conversation: id } = key;
    let more = match ask {
        GroupAsk::CreateGroup { members, .. } => members.len() as u64 + 1,
        GroupAsk::Invite { users } => users.len() as u64,
        GroupAsk::Join { .. } | GroupAsk::AnswerJoin { accept: true, .. } => 1,
        _ => return Ok(()),
    };
    let Some(settings) = super::record(cluster, app)?.map(|record| record.settings) else { return Ok(()) };
    let conversation = query::conversation(view, app, id)?;
    let members = match (&conversation, ask) {
        // The same creation again is answered as the first one.
        (Some(_), GroupAsk::CreateGroup { .. }) => return Ok(()),
        (None, GroupAsk::CreateGroup { .. }) if counts(cluster, app)?.groups >= settings.groups_max => {
            return Err(NoRoom::Full);
        }
        (conversation, _) => conversation.as_ref().map_or(0, |conversation| conversation.members),
    };
    if members + more <= settings.group_members_max {
        return Ok(());
    }
    // Who is a member already takes no room.
    let new = new_members(view, app, id, ask)?;
    if members + new.unwrap_or(more) > settings.group_members_max { Err(NoRoom::Full) } else { Ok(()) }
}

/// Those of an invite who are no members.
fn new_members(
    view: &ShardView,
    app: &AppId,
    id: &ConversationId,
    ask: &GroupAsk,
) -> Result<Option<u64>, StorageError> {
    let GroupAsk::Invite { users } = ask else { return Ok(None) };
    let mut new = 0;
    for user in users {
        new += u64::from(query::member(view, app, id, user)?.is_none());
    }
    Ok(Some(new))
}
