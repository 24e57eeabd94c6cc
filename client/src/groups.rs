//! What admins do with groups, and what members may see of them.

use chat::errors::ErrorCode;
use chat::group::GroupChange;
use chat::ids::{GroupId, UserId};
use chat::wire::group::{Ban, GroupInfo, JoinRequest};
use chat::wire::{ReadMode, Request, ServerFrame};

use crate::client::{Changed, Client};
use crate::error::RequestError;

impl Client {
    /// What the group is like.
    pub async fn group(&self, group: GroupId) -> Result<GroupInfo, RequestError> {
        match *self.ask(&Request::Group { group, read: ReadMode::default() }).await? {
            ServerFrame::Group { info, .. } => Ok(info),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    pub async fn change_group(&self, group: GroupId, change: GroupChange) -> Result<Changed, RequestError> {
        self.change(Request::ChangeGroup { group, change }, group, None).await
    }

    /// Joins with the code of an invite.
    pub async fn join_with(&self, group: GroupId, code: impl Into<String>) -> Result<Changed, RequestError> {
        let request = Request::Join { group, invite: Some(code.into()), text: String::new() };
        self.change(request, group, Some(ErrorCode::AlreadyMember)).await
    }

    /// Asks the admins to be let in, with some words.
    pub async fn ask_to_join(&self, group: GroupId, text: impl Into<String>) -> Result<Changed, RequestError> {
        let request = Request::Join { group, invite: None, text: text.into() };
        self.change(request, group, Some(ErrorCode::AlreadyMember)).await
    }

    pub async fn answer_join(&self, group: GroupId, user: UserId, accept: bool) -> Result<Changed, RequestError> {
        let done = if accept { ErrorCode::AlreadyMember } else { ErrorCode::UserNotFound };
        self.change(Request::AnswerJoin { group, user, accept }, group, Some(done)).await
    }

    /// `code` is this side's secret: random, from `INVITE_CODE_BYTES_MIN` characters on.
    pub async fn add_invite(
        &self,
        group: GroupId,
        code: impl Into<String>,
        life_ms: u64,
        uses: u32,
    ) -> Result<Changed, RequestError> {
        self.change(Request::AddInvite { group, code: code.into(), life_ms, uses }, group, None).await
    }

    pub async fn revoke_invite(&self, group: GroupId, code: impl Into<String>) -> Result<Changed, RequestError> {
        self.change(Request::RevokeInvite { group, code: code.into() }, group, None).await
    }

    /// Without a duration: for good.
    pub async fn ban(&self, group: GroupId, user: UserId, duration_ms: Option<u64>) -> Result<Changed, RequestError> {
        self.change(Request::Ban { group, user, duration_ms }, group, None).await
    }

    pub async fn unban(&self, group: GroupId, user: UserId) -> Result<Changed, RequestError> {
        self.change(Request::Unban { group, user }, group, None).await
    }

    /// Without a duration: for good.
    pub async fn mute(&self, group: GroupId, user: UserId, duration_ms: Option<u64>) -> Result<Changed, RequestError> {
        self.change(Request::Mute { group, user, duration_ms }, group, None).await
    }

    pub async fn unmute(&self, group: GroupId, user: UserId) -> Result<Changed, RequestError> {
        self.change(Request::Unmute { group, user }, group, None).await
    }

    /// This user's own name in the group.
    pub async fn set_nickname(&self, group: GroupId, nickname: Option<String>) -> Result<Changed, RequestError> {
        self.change(Request::SetNickname { group, nickname }, group, None).await
    }

    pub async fn dissolve(&self, group: GroupId) -> Result<Changed, RequestError> {
        self.change(Request::Dissolve { group }, group, None).await
    }

    /// Those after `after` who ask to join, and whether there are more.
    pub async fn join_requests(
        &self,
        group: GroupId,
        after: Option<UserId>,
    ) -> Result<(Vec<JoinRequest>, bool), RequestError> {
        match *self.ask(&Request::JoinRequests { group, after, limit: None }).await? {
            ServerFrame::JoinRequests { requests, more, .. } => Ok((requests, more)),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    /// Those after `after` who are banned, and whether there are more.
    pub async fn bans(&self, group: GroupId, after: Option<UserId>) -> Result<(Vec<Ban>, bool), RequestError> {
        match *self.ask(&Request::Bans { group, after, limit: None }).await? {
            ServerFrame::Bans { bans, more, .. } => Ok((bans, more)),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }
}
