//! Taking up conversations without a gap: first the fan-out follows them, then it is read where they stand. Whatever
//! is committed before the reading is in what is read; whatever is committed after it reaches the session live.

use chat::errors::ErrorCode;
use chat::ids::ConversationId;
use chat::limits;
use chat::state::query;
use chat::wire::ReadMode;

use super::core::Standing;
use super::reads::{Reader, blocking, internal};
use crate::auth::Identity;
use crate::fanout::LocalFanOut;
use crate::fanout::message::SessionNumber;

/// Where all conversations of the user stand. The session is registered before the list is read, so that what enters
/// it meanwhile is heard of.
pub(super) async fn resume(
    reader: Reader,
    fan_out: LocalFanOut,
    session: SessionNumber,
) -> Result<Vec<Standing>, ErrorCode> {
    let (listed, _) = reader.list(None, limits::USER_CONVERSATIONS, ReadMode::Linearizable).await?;
    standings(reader, fan_out, session, listed).await
}

/// Where one conversation stands; `None` if the user is not a member.
pub(super) async fn add(
    reader: Reader,
    fan_out: LocalFanOut,
    session: SessionNumber,
    conversation: ConversationId,
) -> Result<Option<Standing>, ErrorCode> {
    Ok(standings(reader, fan_out, session, vec![conversation]).await?.pop())
}

async fn standings(
    reader: Reader,
    fan_out: LocalFanOut,
    session: SessionNumber,
    conversations: Vec<ConversationId>,
) -> Result<Vec<Standing>, ErrorCode> {
    fan_out.follow(session, &conversations);
    reader.reach(&conversations, ReadMode::Linearizable).await?;
    blocking(move || {
        let mut standings = Vec::with_capacity(conversations.len());
        for conversation in conversations {
            standings.extend(standing(&reader, conversation)?);
        }
        Ok(standings)
    })
    .await
}

/// The conversation's own shard knows who is a member; the list only says where to look.
fn standing(reader: &Reader, conversation: ConversationId) -> Result<Option<Standing>, ErrorCode> {
    let view = reader.view(reader.shard(&conversation))?;
    let Identity { app, user } = &reader.who;
    let member = query::member(&view, app, &conversation, user).map_err(internal)?;
    let found = query::conversation(&view, app, &conversation).map_err(internal)?;
    let (Some(member), Some(found)) = (member, found) else { return Ok(None) };
    let oldest = query::visible_from(&view, app, &conversation, &member).map_err(internal)?;
    Ok(Some(Standing { conversation, head: found.head, joined: member.joined, oldest }))
}
