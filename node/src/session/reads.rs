//! What a session reads of this node's replicas: pages for the client, and what it missed itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use chat::errors::ErrorCode;
use chat::ids::{ConversationId, GroupId, ShardId, UserId};
use chat::limits;
use chat::state::{query, record};
use chat::wire::{ConversationItem, DeviceItem, Member, ReadMode, ResyncReason, ServerFrame};
use cluster::{Cluster, ProposeError, ShardView};
use futures_util::future::try_join_all;
use storage::StorageError;

use super::message::LiveEvent;
use super::requests::Page;
use super::{Services, encode};
use crate::auth::Identity;
use crate::history::{HistoryError, Shown, Span, Viewer};
use crate::socket::unix_ms;

/// Between two attempts to read what is being repaired.
const REPAIR_PAUSE: Duration = Duration::from_millis(200);

/// What a session lagged behind in.
#[derive(Debug)]
pub(super) struct Backfill {
    /// What is before it is deleted.
    pub(super) oldest_seq: u64,
    pub(super) events: Vec<LiveEvent>,
}

/// One read on behalf of one user.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) services: Arc<Services>,
    pub(super) who: Identity,
}

/// Bounds anything a client waits for.
pub(super) async fn within_deadline<T>(work: impl Future<Output = Result<T, ErrorCode>>) -> Result<T, ErrorCode> {
    let deadline = Duration::from_millis(limits::REQUEST_TIMEOUT_MS);
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(ErrorCode::Unavailable))
}

/// Storage is read on the blocking pool, never on an arbiter.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorCode> + Send + 'static,
) -> Result<T, ErrorCode> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ErrorCode::Internal))
}

/// Waits until this node shows everything that was committed in these shards before now.
pub(super) async fn barriers(cluster: &Cluster, shards: BTreeSet<ShardId>) -> Result<(), ErrorCode> {
    let barrier = async |shard| match cluster.read_barrier(shard).await {
        Ok(_) => Ok(()),
        Err(ProposeError::Overloaded) => Err(ErrorCode::Overloaded),
        Err(ProposeError::Storage | ProposeError::NotSwitchedOn { .. }) => Err(ErrorCode::Internal),
        Err(ProposeError::NotLeader { .. } | ProposeError::Unavailable | ProposeError::Unknown) => {
            Err(ErrorCode::Unavailable)
        }
    };
    try_join_all(shards.into_iter().map(barrier)).await.map(drop)
}

/// A fault of the service: the reason is for the log, not for the client. What is being repaired can be read soon.
pub(super) fn internal(error: impl Into<HistoryError>) -> ErrorCode {
    let error = error.into();
    if error.is_repairable() {
        tracing::warn!(%error, "a session's read waits for a repair");
        return ErrorCode::Unavailable;
    }
    tracing::error!(%error, "a session's read failed");
    ErrorCode::Internal
}

impl Reader {
    fn cluster(&self) -> &Cluster {
        &self.services.cluster
    }

    pub(super) fn shard(&self, conversation: &ConversationId) -> ShardId {
        self.cluster().conversation_shard(&self.who.app, conversation)
    }

    pub(super) fn view(&self, shard: ShardId) -> Result<ShardView, ErrorCode> {
        self.cluster().view(shard).ok_or(ErrorCode::Internal)
    }

    /// Waits for the shards of these conversations, unless the page may be as this node has it.
    pub(super) async fn reach(&self, conversations: &[ConversationId], read: ReadMode) -> Result<(), ErrorCode> {
        if read == ReadMode::Local {
            return Ok(());
        }
        let shards = conversations.iter().map(|conversation| self.shard(conversation)).collect();
        barriers(self.cluster(), shards).await
    }

    /// The user's list after `after`; and whether there is more of it.
    pub(super) async fn list(
        &self,
        after: Option<ConversationId>,
        limit: usize,
        read: ReadMode,
    ) -> Result<(Vec<ConversationId>, bool), ErrorCode> {
        let home = self.cluster().home_shard(&self.who.app, &self.who.user);
        if read == ReadMode::Linearizable {
            barriers(self.cluster(), [home].into()).await?;
        }
        let (view, who) = (self.view(home)?, self.who.clone());
        blocking(move || {
            let page = query::conversations(&view, &who.app, &who.user, after.as_ref(), limit).map_err(internal)?;
            Ok((page.items, page.more))
        })
        .await
    }

    /// The answer to a page request, encoded; before it what the client must know to understand it.
    pub(super) async fn page(self, re: u64, page: Page) -> Result<Vec<ByteString>, ErrorCode> {
        let _turn = self.services.pages.turn(self.cluster().is_pressed()).await?;
        match page {
            Page::History { conversation, after, before, limit, read } => {
                self.reach(std::slice::from_ref(&conversation), read).await?;
                blocking(move || self.history(re, conversation, after, before, limit, read)).await
            }
            Page::Conversations { after, limit, read } => {
                let (listed, more) = self.list(after, limit, read).await?;
                self.reach(&listed, read).await?;
                blocking(move || self.conversations(re, listed, more, read)).await.map(|frame| vec![frame])
            }
            Page::Privacy => self.privacy(re).await,
            Page::Items { after, limit } => self.items(re, after, limit).await.map(|frame| vec![frame]),
            Page::Profiles { users } => self.profiles(re, users).await.map(|frame| vec![frame]),
            Page::UnreadTotal => self.unread_total(re).await.map(|frame| vec![frame]),
            Page::Readers { conversation, seq, after, limit } => {
                self.reach(std::slice::from_ref(&conversation), ReadMode::Linearizable).await?;
                let readers = move || self.readers(re, conversation, seq, after, limit);
                blocking(readers).await.map(|frame| vec![frame])
            }
            Page::Pins { conversation, read } => {
                self.reach(std::slice::from_ref(&conversation), read).await?;
                blocking(move || self.pins(re, conversation, read)).await.map(|frame| vec![frame])
            }
            Page::Members { group, after, limit, read } => {
                self.reach(&[group.into()], read).await?;
                blocking(move || self.members(re, group, after, limit, read)).await.map(|frame| vec![frame])
            }
            Page::Devices => {
                let home = self.cluster().home_shard(&self.who.app, &self.who.user);
                barriers(self.cluster(), [home].into()).await?;
                blocking(move || self.devices(re, home)).await.map(|frame| vec![frame])
            }
            Page::Group { group, read } => {
                self.reach(&[group.into()], read).await?;
                blocking(move || self.group(re, group)).await.map(|frame| vec![frame])
            }
            Page::JoinRequests { group, after, limit } => {
                self.reach(&[group.into()], ReadMode::Linearizable).await?;
                blocking(move || self.join_requests(re, group, after, limit)).await.map(|frame| vec![frame])
            }
            Page::Bans { group, after, limit } => {
                self.reach(&[group.into()], ReadMode::Linearizable).await?;
                blocking(move || self.bans(re, group, after, limit)).await.map(|frame| vec![frame])
            }
        }
    }

    async fn privacy(self, re: u64) -> Result<Vec<ByteString>, ErrorCode> {
        let Identity { app, user } = self.who.clone();
        let home = self.cluster().home_shard(&app, &user);
        barriers(self.cluster(), [home].into()).await?;
        let view = self.view(home)?;
        blocking(move || {
            let record::Privacy { last_seen, online } = query::privacy(&view, &app, &user).map_err(internal)?;
            Ok(vec![encode(&ServerFrame::Privacy { re, last_seen, online })])
        })
        .await
    }

    fn history(
        &self,
        re: u64,
        conversation: ConversationId,
        after: u64,
        before: Option<u64>,
        limit: usize,
        read: ReadMode,
    ) -> Result<Vec<ByteString>, ErrorCode> {
        let (head, visible) = self.standing_of_member(&conversation)?;
        let (from, limit) = match before {
            None => ((after + 1).max(visible), limit),
            Some(before) => {
                let end = before.min(head + 1);
                let from = end.saturating_sub(limit as u64).max(after + 1).max(visible);
                (from, end.saturating_sub(from) as usize)
            }
        };
        let history = &self.services.history;
        // Backwards the page ends at `before`, so what does not fit is cut at its beginning.
        let max_bytes = if before.is_some() { usize::MAX } else { limits::HISTORY_PAGE_BYTES };
        let span = history.events(&self.who.app, &conversation, from, limit, max_bytes).map_err(internal)?;
        let Span { oldest_seq, mut events } = span;
        let oldest_seq = oldest_seq.max(visible);
        // Backwards no further than asked, even if what is kept begins behind it.
        events.retain(|event| before.is_none_or(|before| event.seq() < before));
        if before.is_some() {
            cut_front(&mut events, limits::HISTORY_PAGE_BYTES);
        }
        let first = events.first().map_or(from, Shown::seq);
        let more = match before {
            Some(_) => first > oldest_seq.max(after + 1),
            None => events.last().map_or(from.max(oldest_seq) - 1, Shown::seq) < head,
        };
        // Who holds something and goes on from there would take the next event for the one behind it.
        let gap =
            before.is_none() && after > 0 && after + 1 < oldest_seq && events.first().is_none_or(|e| e.seq() > from);
        let resync = gap.then(|| ServerFrame::MustResync {
            conversation: conversation.clone(),
            reason: ResyncReason::Retention,
            oldest_seq,
        });
        let viewer = self.viewer(&conversation)?;
        let opened = events.iter().map(|event| history.encoder().show(event, &viewer));
        let events = opened.collect::<Result<_, _>>().map_err(internal)?;
        let page = ServerFrame::History { re, conversation, events, head, more, oldest_seq, read, as_of_seq: head };
        Ok(resync.iter().chain([&page]).map(encode).collect())
    }

    fn pins(&self, re: u64, conversation: ConversationId, read: ReadMode) -> Result<ByteString, ErrorCode> {
        // Read first: what is shown then takes at least this much into account.
        let (as_of_seq, visible) = self.standing_of_member(&conversation)?;
        let view = self.view(self.shard(&conversation))?;
        let (history, viewer) = (&self.services.history, self.viewer(&conversation)?);
        let mut events = Vec::new();
        for seq in query::pins(&view, &self.who.app, &conversation).map_err(internal)? {
            if seq < visible {
                continue;
            }
            let span = history.events(&self.who.app, &conversation, seq, 1, usize::MAX).map_err(internal)?;
            // Deleted a moment ago: there is another one in its place.
            let pinned = span.events.iter().filter(|event| event.seq() == seq);
            let opened = pinned.map(|event| history.encoder().show(event, &viewer));
            events.extend(opened.collect::<Result<Vec<_>, _>>().map_err(internal)?);
        }
        Ok(encode(&ServerFrame::Pins { re, conversation, events, read, as_of_seq }))
    }

    /// The user, looking at the conversation now.
    fn viewer(&self, conversation: &ConversationId) -> Result<Viewer<'_>, ErrorCode> {
        let (view, Identity { app, user }) = (self.view(self.shard(conversation))?, &self.who);
        let deleted = query::deleted(&view, app, conversation, user).map_err(internal)?;
        Ok(Viewer::member(user, deleted, unix_ms()))
    }

    /// The conversation's head, and the first event that the user may read.
    pub(super) fn standing_of_member(&self, conversation: &ConversationId) -> Result<(u64, u64), ErrorCode> {
        let view = self.view(self.shard(conversation))?;
        let Identity { app, user } = &self.who;
        let member = query::member(&view, app, conversation, user).map_err(internal)?.ok_or(ErrorCode::NotAMember)?;
        let found = query::conversation(&view, app, conversation).map_err(internal)?.ok_or(ErrorCode::NotAMember)?;
        let visible = query::visible_from(&view, app, conversation, &member).map_err(internal)?;
        Ok((found.head, visible))
    }

    fn devices(&self, re: u64, home: ShardId) -> Result<ByteString, ErrorCode> {
        let Identity { app, user } = &self.who;
        let devices = query::devices(&self.view(home)?, app, user).map_err(internal)?;
        let shown = devices.into_iter().map(|(id, device)| DeviceItem {
            id,
            platform: device.platform,
            name: device.name,
            first_seen_ms: device.first_seen_ms,
            last_login_ms: device.last_login_ms,
        });
        Ok(encode(&ServerFrame::Devices { re, devices: shown.collect() }))
    }

    fn conversations(
        &self,
        re: u64,
        listed: Vec<ConversationId>,
        more: bool,
        read: ReadMode,
    ) -> Result<ByteString, ErrorCode> {
        let mut items = Vec::with_capacity(listed.len());
        for conversation in listed {
            // The list lives in another shard and may be a moment behind a removal.
            items.extend(self.item(conversation)?);
        }
        Ok(encode(&ServerFrame::Conversations { re, items, more, read }))
    }

    pub(super) fn item(&self, conversation: ConversationId) -> Result<Option<ConversationItem>, ErrorCode> {
        let view = self.view(self.shard(&conversation))?;
        let Identity { app, user } = &self.who;
        let member = query::member(&view, app, &conversation, user).map_err(internal)?;
        let found = query::conversation(&view, app, &conversation).map_err(internal)?;
        let (Some(member), Some(found)) = (member, found) else { return Ok(None) };
        let oldest_seq = query::visible_from(&view, app, &conversation, &member).map_err(internal)?;
        let mentions = query::mentions(&view, app, &conversation, user, &member, oldest_seq).map_err(internal)?;
        Ok(Some(ConversationItem {
            mentions,
            conversation,
            name: found.name,
            head: found.head,
            read: member.read,
            unread: member.unread(found.head, oldest_seq),
            joined: member.joined,
            role: member.role,
            members: found.members,
        }))
    }

    fn members(
        &self,
        re: u64,
        group: GroupId,
        after: Option<UserId>,
        limit: usize,
        read: ReadMode,
    ) -> Result<ByteString, ErrorCode> {
        let conversation = ConversationId::from(group);
        // Read first: what is shown then takes at least this much into account.
        let (as_of_seq, _) = self.standing_of_member(&conversation)?;
        let view = self.view(self.shard(&conversation))?;
        let app = &self.who.app;
        let page = query::members(&view, app, &conversation, after.as_ref(), limit).map_err(internal)?;
        let now_ms = unix_ms();
        let shown = |(user, member): (UserId, record::Member)| {
            let nickname = query::nickname(&view, app, &conversation, &user)?;
            let muted_until_ms = (member.muted_until_ms > now_ms).then_some(member.muted_until_ms);
            Ok(Member { user, role: member.role, joined: member.joined, nickname, muted_until_ms })
        };
        let members: Result<_, StorageError> = page.items.into_iter().map(shown).collect();
        let members = members.map_err(internal)?;
        Ok(encode(&ServerFrame::Members { re, group, members, more: page.more, read, as_of_seq }))
    }

    /// The next events of a conversation that the session lags behind in. No barrier: this replica has applied what
    /// the session heard of. No check of membership either: an event that removes the user ends the conversation.
    pub(super) async fn backfill(self, conversation: ConversationId, after: u64) -> Result<Backfill, ErrorCode> {
        within_deadline(async {
            loop {
                match self.clone().backfill_once(conversation.clone(), after).await {
                    // It is being repaired.
                    Err(ErrorCode::Unavailable) => tokio::time::sleep(REPAIR_PAUSE).await,
                    done => return done,
                }
            }
        })
        .await
    }

    async fn backfill_once(self, conversation: ConversationId, after: u64) -> Result<Backfill, ErrorCode> {
        blocking(move || {
            let history = &self.services.history;
            let (limit, max_bytes) = (limits::HISTORY_PAGE, limits::HISTORY_PAGE_BYTES);
            let span = history.events(&self.who.app, &conversation, after + 1, limit, max_bytes).map_err(internal)?;
            let Span { oldest_seq, events } = span;
            let viewer = self.viewer(&conversation)?;
            let live = |shown: &Shown| {
                let event = history.encoder().show(shown, &viewer)?;
                Ok(LiveEvent::new(&shown.event, encode(&ServerFrame::Event { event })))
            };
            let events = events.iter().map(live).collect::<Result<_, _>>();
            events.map(|events| Backfill { oldest_seq, events }).map_err(|error: HistoryError| internal(error))
        })
        .await
    }
}

/// Drops events at the front until the rest fits `max_bytes`; at least the last one stays.
fn cut_front(events: &mut Vec<Shown>, max_bytes: usize) {
    let mut bytes = 0;
    let fitting = events.iter().rev().take_while(|event| {
        bytes += event.json_bound();
        bytes <= max_bytes
    });
    let keep = fitting.count().max(1).min(events.len());
    events.drain(..events.len() - keep);
}
