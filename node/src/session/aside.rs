//! What a session does beside the log: its user's membership is looked up on this node, and the frame goes to every node.

use chat::command::UserCommand;
use chat::errors::ErrorCode;
use chat::ids::{AppId, ConversationId, UserId};
use chat::limits;
use chat::state::query;
use chat::state::record::Privacy;
use chat::wire::ServerFrame;
use cluster::ShardView;

use super::core::aside::{AsideAsk, AsideDone, Written};
use super::reads::{Reader, blocking, internal};
use super::{encode, login};
use crate::auth::Identity;

/// What is answered by `aside_done`.
pub(super) async fn done(reader: Reader, ask: AsideAsk) -> Result<AsideDone, ErrorCode> {
    let Identity { app, user } = reader.who.clone();
    match ask {
        AsideAsk::Typing(conversation) => {
            let members = members(&reader, &conversation).await?;
            if members > limits::TYPING_GROUP_MEMBERS {
                return Err(ErrorCode::LimitReached);
            }
            let frame = ServerFrame::Typing { conversation: conversation.clone(), user: user.clone() };
            reader.services.router.say_aside(app, conversation, Some(user), encode(&frame));
            Ok(AsideDone::Said)
        }
        AsideAsk::Signal(conversation, body) => {
            members(&reader, &conversation).await?;
            let frame = ServerFrame::Signal { conversation: conversation.clone(), from: user, body };
            reader.services.router.say_aside(app, conversation, None, encode(&frame));
            Ok(AsideDone::Said)
        }
        AsideAsk::Stream(conversation, Written { id, offset, text }) => {
            members(&reader, &conversation).await?;
            let (from, client_msg_id, at) = (user, id, conversation.clone());
            let frame = ServerFrame::Stream { conversation: at, from: from.clone(), client_msg_id, offset, text };
            reader.services.router.say_aside(app, conversation, Some(from), encode(&frame));
            Ok(AsideDone::Said)
        }
        AsideAsk::SetPrivacy(privacy) => set_privacy(&reader, privacy).await,
        AsideAsk::Keep(command) => {
            login::change(reader.services.clone(), reader.who.clone(), *command).await?;
            Ok(AsideDone::Said)
        }
        AsideAsk::Subscribe(_) | AsideAsk::Unsubscribe(_) | AsideAsk::Appear(_) => Ok(AsideDone::Said),
    }
}

/// How many members the conversation has; the user must be one, as far as this node knows.
async fn members(reader: &Reader, conversation: &ConversationId) -> Result<u64, ErrorCode> {
    let view = reader.view(reader.shard(conversation))?;
    let (Identity { app, user }, conversation) = (reader.who.clone(), conversation.clone());
    blocking(move || {
        let member = query::member(&view, &app, &conversation, &user).map_err(internal)?;
        let found = query::conversation(&view, &app, &conversation).map_err(internal)?;
        match (member, found) {
            (Some(_), Some(found)) if found.guarded => {
                taken_by_peer(&view, &app, &conversation, &user)?;
                Ok(found.members)
            }
            (Some(_), Some(found)) => Ok(found.members),
            _ => Err(ErrorCode::NotAMember),
        }
    })
    .await
}

/// Who is blocked is not heard beside the log either.
fn taken_by_peer(view: &ShardView, app: &AppId, conversation: &ConversationId, user: &UserId) -> Result<(), ErrorCode> {
    let Some(peer) = conversation.peer_of(user) else { return Ok(()) };
    let pair = query::pair(view, app, conversation).map_err(internal)?;
    if pair.blocked_by.iter().any(|(by, _)| by == peer) { Err(ErrorCode::NotAccepted) } else { Ok(()) }
}

async fn set_privacy(reader: &Reader, privacy: Privacy) -> Result<AsideDone, ErrorCode> {
    let command = UserCommand::SetPrivacy { privacy };
    login::change(reader.services.clone(), reader.who.clone(), command).await?;
    Ok(AsideDone::Privacy(privacy))
}
