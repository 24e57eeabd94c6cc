//! What each request asks of whom, and what the client is told when it fails.

use chat::body::plain_body;
use chat::command::{MarksChange, UserCommand};
use chat::errors::ErrorCode;
use chat::event::{Life, Relations};
use chat::group::code_hash;
use chat::ids::{ConversationId, GroupId, UserId};
use chat::limits;
use chat::state::record::Privacy;
use chat::wire::{ReadMode, Request, Token};

use super::core::aside::{AsideAsk, Written};
use crate::group::{GroupAsk, GroupFailure};

/// A page of something, read on this node after a read barrier, or as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    History { conversation: ConversationId, after: u64, before: Option<u64>, limit: usize, read: ReadMode },
    Conversations { after: Option<ConversationId>, limit: usize, read: ReadMode },
    Members { group: GroupId, after: Option<UserId>, limit: usize, read: ReadMode },
    Devices,
    Group { group: GroupId, read: ReadMode },
    JoinRequests { group: GroupId, after: Option<UserId>, limit: usize },
    Bans { group: GroupId, after: Option<UserId>, limit: usize },
    Privacy,
    Pins { conversation: ConversationId, read: ReadMode },
    Items { after: u64, limit: usize },
    Profiles { users: Vec<UserId> },
    Readers { conversation: ConversationId, seq: u64, after: Option<UserId>, limit: usize },
    UnreadTotal,
}

/// A request by who answers it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sorted {
    /// The conversation's group actor.
    Group(ConversationId, GroupAsk),
    /// This node's replica.
    Page(Page),
    /// The user's own account.
    Account(UserCommand),
    Refresh(Token),
    /// Nothing of it goes into the conversation's log.
    Aside(AsideAsk),
    Ping,
    Logout,
    /// Belongs to an earlier phase.
    OutOfOrder,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused(pub(super) ErrorCode, pub(super) String);

/// Sorts a request of `user`, who is logged in. Its form has been checked by `chat::parse`.
/// Long because it has an arm for each type of request, and nothing else.
pub(super) fn sort(user: &UserId, request: Request) -> Result<Sorted, Refused> {
    let group = |group: GroupId, ask| Sorted::Group(group.into(), ask);
    let pair = |peer, ask| Sorted::Group(ConversationId::private(user.clone(), peer), ask);
    let keep = |command| Sorted::Aside(AsideAsk::Keep(Box::new(command)));
    Ok(match request {
        Request::Login { .. } | Request::Resume { .. } => Sorted::OutOfOrder,
        Request::Send { to, client_msg_id, body, reply_to, mentions, forwarded, only_to, expires_in_ms, burn } => {
            let (kind, plain) = plain_body(body);
            let life = Life { expires_in_ms, burn };
            let relations = Relations { reply_to, mentions, forwarded, only_to, life };
            let relations = (relations != Relations::default()).then(|| Box::new(relations));
            Sorted::Group(to.conversation(user), GroupAsk::Send { client_msg_id, kind, plain, relations })
        }
        Request::Edit { conversation, seq, client_msg_id, body } => {
            let (kind, plain) = plain_body(body);
            Sorted::Group(conversation, GroupAsk::Edit { seq, client_msg_id, kind, plain })
        }
        Request::Recall { conversation, seq } => Sorted::Group(conversation, GroupAsk::Recall { seq }),
        Request::React { conversation, seq, reaction, on } => {
            Sorted::Group(conversation, GroupAsk::React { seq, reaction, on })
        }
        Request::Pin { conversation, seq, on } => Sorted::Group(conversation, GroupAsk::Pin { seq, on }),
        Request::Pins { conversation, read } => Sorted::Page(Page::Pins { conversation, read }),
        Request::CreateGroup { group: id, name, members, kind } => {
            group(id, GroupAsk::CreateGroup { name, members, kind })
        }
        Request::Join { group: id, invite, text } => {
            group(id, GroupAsk::Join { invite: invite.as_deref().map(code_hash), text })
        }
        Request::Leave { group: id } => group(id, GroupAsk::Leave),
        Request::Invite { group: id, users } => group(id, GroupAsk::Invite { users }),
        Request::Kick { group: id, user } => group(id, GroupAsk::Kick { user }),
        Request::SetRole { group: id, user, role } => group(id, GroupAsk::SetRole { user, role }),
        Request::Read { conversation, seq } => Sorted::Group(conversation, GroupAsk::MarkRead { seq }),
        Request::History { conversation, after, before, limit, read } => {
            let limit = page(limit, limits::HISTORY_PAGE)?;
            Sorted::Page(Page::History { conversation, after, before, limit, read })
        }
        Request::Conversations { after, limit, read } => {
            Sorted::Page(Page::Conversations { after, limit: page(limit, limits::LIST_PAGE)?, read })
        }
        Request::Members { group, after, limit, read } => {
            Sorted::Page(Page::Members { group, after, limit: page(limit, limits::LIST_PAGE)?, read })
        }
        Request::Refresh { token } => Sorted::Refresh(token),
        Request::Devices => Sorted::Page(Page::Devices),
        Request::RevokeLogins { which } => Sorted::Account(UserCommand::RevokeLogins { which }),
        Request::Ping => Sorted::Ping,
        Request::Logout => Sorted::Logout,
        Request::Group { group, read } => Sorted::Page(Page::Group { group, read }),
        Request::ChangeGroup { group: id, change } => group(id, GroupAsk::ChangeGroup { change }),
        Request::Ban { group: id, user, duration_ms } => group(id, GroupAsk::Ban { user, duration_ms }),
        Request::Unban { group: id, user } => group(id, GroupAsk::Unban { user }),
        Request::Mute { group: id, user, duration_ms } => group(id, GroupAsk::Mute { user, duration_ms }),
        Request::Unmute { group: id, user } => group(id, GroupAsk::Unmute { user }),
        Request::SetNickname { group: id, nickname } => group(id, GroupAsk::SetNickname { nickname }),
        Request::AnswerJoin { group: id, user, accept } => group(id, GroupAsk::AnswerJoin { user, accept }),
        Request::AddInvite { group: id, code, life_ms, uses } => {
            group(id, GroupAsk::AddInvite { code: code_hash(&code), life_ms, uses })
        }
        Request::RevokeInvite { group: id, code } => group(id, GroupAsk::RevokeInvite { code: code_hash(&code) }),
        Request::Dissolve { group: id } => group(id, GroupAsk::Dissolve),
        Request::JoinRequests { group, after, limit } => {
            Sorted::Page(Page::JoinRequests { group, after, limit: page(limit, limits::LIST_PAGE)? })
        }
        Request::Bans { group, after, limit } => {
            Sorted::Page(Page::Bans { group, after, limit: page(limit, limits::LIST_PAGE)? })
        }
        Request::SubscribePresence { users } => Sorted::Aside(AsideAsk::Subscribe(users)),
        Request::UnsubscribePresence { users } => Sorted::Aside(AsideAsk::Unsubscribe(users)),
        Request::SetPresence { state } => Sorted::Aside(AsideAsk::Appear(state)),
        Request::SetPrivacy { last_seen, online } => Sorted::Aside(AsideAsk::SetPrivacy(Privacy { last_seen, online })),
        Request::GetPrivacy => Sorted::Page(Page::Privacy),
        Request::SetProfile { profile } => keep(UserCommand::SetProfile { profile }),
        Request::SetSettings { settings } => keep(UserCommand::SetSettings { settings }),
        Request::DescribeContact { user, remark, tags } => keep(UserCommand::DescribeContact { user, remark, tags }),
        Request::Mark { conversation, pinned, muted_until_ms, unread, draft } => {
            let change = MarksChange { pinned, muted_until_ms, unread, draft };
            keep(UserCommand::Mark { conversation, change })
        }
        Request::Profiles { users } => Sorted::Page(Page::Profiles { users }),
        Request::Sync { after, limit } => Sorted::Page(Page::Items { after, limit: page(limit, limits::ITEMS_PAGE)? }),
        Request::AskContact { user: peer, text } => pair(peer, GroupAsk::AskContact { text }),
        Request::AnswerContact { user: peer, accept } => pair(peer, GroupAsk::AnswerContact { accept }),
        Request::RemoveContact { user: peer } => pair(peer, GroupAsk::RemoveContact),
        Request::Block { user: peer } => pair(peer, GroupAsk::Block { on: true }),
        Request::Unblock { user: peer } => pair(peer, GroupAsk::Block { on: false }),
        Request::Delivered { conversation, seq } => Sorted::Group(conversation, GroupAsk::MarkDelivered { seq }),
        Request::DeleteForMe { conversation, first, last } => {
            Sorted::Group(conversation, GroupAsk::DeleteForMe { first, last })
        }
        Request::Readers { conversation, seq, after, limit } => {
            let limit = page(limit, limits::LIST_PAGE)?;
            Sorted::Page(Page::Readers { conversation, seq, after, limit })
        }
        Request::UnreadTotal => Sorted::Page(Page::UnreadTotal),
        Request::Typing { conversation } => Sorted::Aside(AsideAsk::Typing(conversation)),
        Request::Stream { to, client_msg_id, offset, text } => {
            Sorted::Aside(AsideAsk::Stream(to.conversation(user), Written { id: client_msg_id, offset, text }))
        }
        Request::Signal { to, body } => Sorted::Aside(AsideAsk::Signal(to.conversation(user), body)),
    })
}

/// Asking for more than a page holds gives a full page; asking for nothing is a mistake.
fn page(limit: Option<usize>, max: usize) -> Result<usize, Refused> {
    match limit {
        Some(0) => Err(Refused(ErrorCode::InvalidField, "limit: ask for at least one".to_owned())),
        Some(limit) => Ok(limit.min(max)),
        None => Ok(max),
    }
}

/// What the client is told of a failure: code, words and when to try again.
pub(super) fn failure(failure: GroupFailure) -> (ErrorCode, &'static str, Option<u64>) {
    match failure {
        GroupFailure::Rejected(code) => (code, rejection(code), None),
        GroupFailure::Overloaded { retry_after_ms } => {
            (ErrorCode::Overloaded, "a queue is full, nothing was done", Some(retry_after_ms))
        }
        GroupFailure::TooOften { retry_after_ms } => {
            (ErrorCode::RateLimited, "more is said here than may be", Some(retry_after_ms))
        }
        GroupFailure::NotLeader { .. } | GroupFailure::Unavailable | GroupFailure::OutOfTurn => {
            (ErrorCode::Unavailable, "the conversation's shard has no leader now, nothing was done", Some(500))
        }
        GroupFailure::Unknown => (ErrorCode::OutcomeUnknown, "no answer in time, it may have been done", None),
        GroupFailure::Internal => (ErrorCode::Internal, "the service failed, it may have been done", None),
    }
}

fn rejection(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NotAMember => "no such conversation, or you are not a member of it",
        ErrorCode::Forbidden => "your role does not allow it",
        ErrorCode::UserNotFound => "no such user",
        ErrorCode::IdConflict => "this client_msg_id was used with other content",
        ErrorCode::GroupExists => "this group id is taken",
        ErrorCode::AlreadyMember => "already a member",
        ErrorCode::OwnerMustStay => "make another member the owner first",
        ErrorCode::LimitReached => "a limit of the group, the message or a user's conversations is reached",
        ErrorCode::InvalidField => "this cannot be asked of this conversation or message",
        ErrorCode::EventNotFound => "no such event, or it is deleted or no message",
        ErrorCode::TooLate => "the message is too old for that",
        ErrorCode::MessageRecalled => "the message was recalled",
        ErrorCode::NotAccepted => "the other user does not take this from you",
        ErrorCode::SeqBeyondHead => "the conversation has no such event yet",
        ErrorCode::Muted => "you may not speak in this group now",
        ErrorCode::Banned => "banned from this group",
        ErrorCode::SlowMode => "too soon after your last message in this group",
        ErrorCode::InviteInvalid => "the invite does not hold, or no longer",
        ErrorCode::GroupDissolved => "the group is dissolved",
        _ => "the request was rejected",
    }
}

#[cfg(test)]
mod tests {
    use chat::event::{BodyKind, Mentions};
    use chat::ids::ClientMsgId;
    use chat::wire::{Body, Target};
    use uuid::Uuid;

    use super::*;

    fn alice() -> UserId {
        UserId::new("alice").unwrap()
    }

    #[test]
    fn a_private_message_goes_to_the_pairs_conversation() {
        let request = Request::Send {
            to: Target::User(UserId::new("Bob").unwrap()),
            client_msg_id: ClientMsgId(Uuid::from_u128(1)),
            body: Body::Action { text: "waves".to_owned() },
            reply_to: None,
            mentions: Mentions::default(),
            forwarded: None,
            only_to: Vec::new(),
            expires_in_ms: None,
            burn: false,
        };
        let Ok(Sorted::Group(conversation, GroupAsk::Send { kind, plain, .. })) = sort(&alice(), request) else {
            panic!("a send is for the group actor");
        };
        assert_eq!(conversation.to_string(), "p:Bob:alice");
        assert_eq!((kind, plain.as_ref()), (BodyKind::Action, b"waves".as_slice()));
    }

    #[test]
    fn large_pages_are_cut_and_empty_ones_refused() {
        let list = |limit| sort(&alice(), Request::Conversations { after: None, limit, read: ReadMode::Local });
        let page = |limit| Ok(Sorted::Page(Page::Conversations { after: None, limit, read: ReadMode::Local }));
        assert_eq!(list(Some(1_000_000)), page(limits::LIST_PAGE));
        assert_eq!(list(None), page(limits::LIST_PAGE));
        assert_eq!(list(Some(7)), page(7));
        assert_eq!(list(Some(0)).unwrap_err().0, ErrorCode::InvalidField);
    }
}
