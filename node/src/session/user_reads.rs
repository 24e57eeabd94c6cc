//! Pages about users: what they keep, their profiles, who read what, and how much is unread.

use std::collections::BTreeSet;

use bytestring::ByteString;
use chat::errors::ErrorCode;
use chat::ids::{ConversationId, ShardId, UserId};
use chat::limits;
use chat::state::query;
use chat::user::{ItemKey, ItemValue};
use chat::wire::{ReadMode, Reader as Receipts, ServerFrame, UserProfile};

use super::encode;
use super::reads::{Reader, barriers, blocking, internal};
use crate::auth::Identity;

/// Members looked at in one go.
const MEMBERS_STEP: usize = 500;

impl Reader {
    pub(super) async fn items(self, re: u64, after: u64, limit: usize) -> Result<ByteString, ErrorCode> {
        let home = self.services.cluster.home_shard(&self.who.app, &self.who.user);
        barriers(&self.services.cluster, [home].into()).await?;
        let view = self.view(home)?;
        blocking(move || {
            let Identity { app, user } = &self.who;
            let page = query::items(&view, app, user, after, limit).map_err(internal)?;
            let query::Items { items, version, more, reset } = page;
            let items = items.into_iter().map(Into::into).collect();
            Ok(encode(&ServerFrame::Synced { re, items, version, more, reset }))
        })
        .await
    }

    pub(super) async fn profiles(self, re: u64, users: Vec<UserId>) -> Result<ByteString, ErrorCode> {
        let home = |user: &UserId| self.services.cluster.home_shard(&self.who.app, user);
        let shards: BTreeSet<ShardId> = users.iter().map(home).collect();
        barriers(&self.services.cluster, shards).await?;
        blocking(move || {
            let mut profiles = Vec::with_capacity(users.len());
            for user in users {
                let view = self.view(self.services.cluster.home_shard(&self.who.app, &user))?;
                let item = query::item(&view, &self.who.app, &user, &ItemKey::Profile).map_err(internal)?;
                if let Some(ItemValue::Profile(profile)) = item {
                    profiles.push(UserProfile { user, profile });
                }
            }
            Ok(encode(&ServerFrame::Profiles { re, profiles }))
        })
        .await
    }

    /// Counts by looking at the members: nothing is written for it when somebody reads.
    pub(super) fn readers(
        &self,
        re: u64,
        conversation: ConversationId,
        seq: u64,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<ByteString, ErrorCode> {
        let (head, visible) = self.standing_of_member(&conversation)?;
        if seq < visible || seq > head {
            return Err(ErrorCode::EventNotFound);
        }
        let view = self.view(self.shard(&conversation))?;
        let app = &self.who.app;
        let found = query::conversation(&view, app, &conversation).map_err(internal)?.ok_or(ErrorCode::NotAMember)?;
        if found.members > limits::READERS_MEMBERS {
            return Err(ErrorCode::LimitReached);
        }
        let (mut read, mut delivered, mut more) = (0, 0, false);
        let (mut readers, mut last): (Vec<Receipts>, Option<UserId>) = (Vec::new(), None);
        loop {
            let page = query::members(&view, app, &conversation, last.as_ref(), MEMBERS_STEP).map_err(internal)?;
            last = page.items.last().map(|(user, _)| user.clone());
            for (user, member) in page.items {
                let receipts = Receipts { user, read: member.read, delivered: member.delivered.max(member.read) };
                read += u64::from(receipts.read >= seq);
                delivered += u64::from(receipts.delivered >= seq);
                let wanted = receipts.delivered >= seq && after.as_ref().is_none_or(|after| receipts.user > *after);
                more |= wanted && readers.len() == limit;
                if wanted && !more {
                    readers.push(receipts);
                }
            }
            if !page.more {
                break;
            }
        }
        Ok(encode(&ServerFrame::Readers { re, conversation, seq, read, delivered, readers, more }))
    }

    /// Of all conversations in the list.
    pub(super) async fn unread_total(self, re: u64) -> Result<ByteString, ErrorCode> {
        let (listed, _) = self.list(None, limits::USER_CONVERSATIONS, ReadMode::Linearizable).await?;
        self.reach(&listed, ReadMode::Linearizable).await?;
        blocking(move || {
            let (mut unread, mut mentions, mut conversations) = (0, 0, 0);
            for conversation in listed {
                let Some(item) = self.item(conversation)? else { continue };
                unread += item.unread;
                mentions += item.mentions;
                conversations += u64::from(item.unread > 0);
            }
            Ok(encode(&ServerFrame::UnreadTotal { re, unread, mentions, conversations }))
        })
        .await
    }
}
