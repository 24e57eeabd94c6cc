//! Pages about a group: its settings, who asks to join it, who is banned from it.

use bytestring::ByteString;
use chat::errors::ErrorCode;
use chat::event::Role;
use chat::ids::{ConversationId, GroupId, UserId};
use chat::state::query;
use chat::wire::ServerFrame;
use chat::wire::group::{Ban, GroupInfo, JoinRequest};
use cluster::ShardView;

use super::encode;
use super::reads::{Reader, internal};
use crate::auth::Identity;
use crate::socket::unix_ms;

impl Reader {
    pub(super) fn group(&self, re: u64, group: GroupId) -> Result<ByteString, ErrorCode> {
        let conversation = ConversationId::from(group);
        let view = self.view(self.shard(&conversation))?;
        let Identity { app, user } = &self.who;
        let member = query::member(&view, app, &conversation, user).map_err(internal)?.ok_or(ErrorCode::NotAMember)?;
        let found = query::conversation(&view, app, &conversation).map_err(internal)?;
        let settings = query::group_settings(&view, app, &conversation).map_err(internal)?;
        let (Some(found), Some(settings)) = (found, settings) else { return Err(ErrorCode::NotAMember) };
        let info = GroupInfo {
            group,
            name: found.name.unwrap_or_default(),
            kind: settings.kind,
            members: found.members,
            members_max: settings.kind.members_max(),
            created_by: found.created_by,
            created_ms: found.created_ms,
            admins: settings.admins.into_iter().collect(),
            join: settings.join,
            history: settings.history,
            rights: settings.rights,
            mute_all: settings.mute_all,
            slow_mode_ms: settings.slow_mode_ms,
            announcement: settings.announcement,
            attributes: settings.attributes,
            dissolved: settings.dissolved,
            muted_until_ms: (member.muted_until_ms > unix_ms()).then_some(member.muted_until_ms),
        };
        Ok(encode(&ServerFrame::Group { re, info }))
    }

    pub(super) fn join_requests(
        &self,
        re: u64,
        group: GroupId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<ByteString, ErrorCode> {
        let (view, conversation) = self.of_admin(group)?;
        let page = query::join_requests(&view, &self.who.app, &conversation, after.as_ref(), limit);
        let page = page.map_err(internal)?;
        let shown =
            page.items.into_iter().map(|(user, asked)| JoinRequest { user, time_ms: asked.time_ms, text: asked.text });
        Ok(encode(&ServerFrame::JoinRequests { re, group, requests: shown.collect(), more: page.more }))
    }

    pub(super) fn bans(
        &self,
        re: u64,
        group: GroupId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<ByteString, ErrorCode> {
        let (view, conversation) = self.of_admin(group)?;
        let page = query::bans(&view, &self.who.app, &conversation, after.as_ref(), limit).map_err(internal)?;
        let now_ms = unix_ms();
        let holds = page.items.into_iter().filter(|(_, ban)| ban.until_ms > now_ms);
        let shown = holds.map(|(user, ban)| {
            let until_ms = (ban.until_ms != u64::MAX).then_some(ban.until_ms);
            Ban { user, until_ms, by: ban.by }
        });
        Ok(encode(&ServerFrame::Bans { re, group, bans: shown.collect(), more: page.more }))
    }

    /// What is for the group's admins alone.
    fn of_admin(&self, group: GroupId) -> Result<(ShardView, ConversationId), ErrorCode> {
        let conversation = ConversationId::from(group);
        let view = self.view(self.shard(&conversation))?;
        let role = query::role(&view, &self.who.app, &conversation, &self.who.user).map_err(internal)?;
        match role {
            Some(role) if role >= Role::Admin => Ok((view, conversation)),
            Some(_) => Err(ErrorCode::Forbidden),
            None => Err(ErrorCode::NotAMember),
        }
    }
}
