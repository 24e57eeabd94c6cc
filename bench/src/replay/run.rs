//! What all tasks of a run share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use campanile_client::ClientEvent;
use chat::ids::{AppId, ConversationId, GroupId, ShardId};
use chat::wire::{EventContent, WireEvent};
use tokio::time::Instant;
use uuid::Uuid;

use crate::ledger::Ledger;
use crate::meters::Meters;
use crate::plan::Plan;
use crate::roll::View;

/// A group of the run.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) conversation: ConversationId,
    pub(crate) shard: ShardId,
    /// The last seq of the setup; messages follow. `u64::MAX` until the setup is done.
    base: AtomicU64,
}

impl Group {
    pub(crate) fn base(&self) -> u64 {
        self.base.load(Ordering::Acquire)
    }

    pub(crate) fn set_base(&self, seq: u64) {
        self.base.store(seq, Ordering::Release);
    }
}

/// Counters that tasks add to.
#[derive(Default)]
pub(crate) struct Tallies {
    pub(crate) connected: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) duplicate_acks: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    /// When the first send left and the last delivery came, in microseconds of the run's clock.
    pub(crate) first_send_us: AtomicU64,
    pub(crate) last_delivery_us: AtomicU64,
    pub(crate) phantoms: AtomicU64,
    pub(crate) resyncs: AtomicU64,
    pub(crate) removals: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) closed: AtomicU64,
}

/// A send that got no ack.
#[derive(Debug, Clone)]
pub(crate) struct FailedSend {
    pub(crate) message: u32,
    /// Whether the message may exist nevertheless.
    pub(crate) unknown: bool,
    /// Why, without what differs from message to message.
    pub(crate) kind: String,
}

pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) ledger: Ledger,
    pub(crate) meters: Meters,
    pub(crate) groups: Vec<Group>,
    pub(crate) tallies: Tallies,
    by_conversation: HashMap<ConversationId, u32>,
    /// One per membership; group by group, in the order of the group's members.
    views: Vec<View>,
    /// Of each group, where its views begin.
    first_view: Vec<usize>,
    /// Of each user, its groups and the places of its views.
    seats: Vec<Vec<(u32, usize)>>,
    failed: Mutex<Vec<FailedSend>>,
    started: Instant,
}

impl Run {
    pub(crate) fn new(plan: Plan, run: u32, shards: u16, app: &AppId) -> Self {
        let groups: Vec<Group> = plan.groups.iter().map(|_| new_group(app, shards)).collect();
        let mut seats = vec![Vec::new(); plan.users.len()];
        let (mut views, mut first_view) = (Vec::new(), Vec::new());
        for (group, group_plan) in plan.groups.iter().enumerate() {
            first_view.push(views.len());
            for member in &group_plan.members {
                seats[*member as usize].push((group as u32, views.len()));
                views.push(View::default());
            }
        }
        Self {
            ledger: Ledger::new(run, plan.messages.len()),
            meters: Meters::new(shards),
            by_conversation: groups.iter().enumerate().map(|(n, g)| (g.conversation.clone(), n as u32)).collect(),
            groups,
            tallies: Tallies::default(),
            views,
            first_view,
            seats,
            failed: Mutex::new(Vec::new()),
            started: Instant::now(),
            plan,
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// Members' views of a group, in the order of its members.
    pub(crate) fn views(&self, group: u32) -> &[View] {
        let first = self.first_view[group as usize];
        &self.views[first..first + self.plan.groups[group as usize].members.len()]
    }

    /// From the first send to the last delivery.
    pub(crate) fn delivering_s(&self) -> f64 {
        let from_us = self.tallies.first_send_us.load(Ordering::Relaxed);
        let to_us = self.tallies.last_delivery_us.load(Ordering::Relaxed);
        to_us.saturating_sub(from_us) as f64 / 1e6
    }

    pub(crate) fn listed(&self) -> u64 {
        self.views.iter().filter(|view| view.is_listed()).count() as u64
    }

    pub(crate) fn fail(&self, failed: FailedSend) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
    }

    pub(crate) fn failed(&self) -> Vec<FailedSend> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something a user's client said.
    pub(crate) fn receive(&self, user: u32, event: &ClientEvent) {
        let one = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match event {
            ClientEvent::Event(event) => self.deliver(user, event),
            ClientEvent::ConversationAdded { conversation, .. } => {
                if let Some((_, view)) = self.seat(user, conversation) {
                    view.list();
                }
            }
            ClientEvent::MustResync { conversation, .. } if self.is_ours(conversation) => one(&self.tallies.resyncs),
            ClientEvent::ConversationRemoved { conversation } if self.is_ours(conversation) => {
                one(&self.tallies.removals);
            }
            ClientEvent::Disconnected { .. } => one(&self.tallies.disconnects),
            ClientEvent::Closed { .. } => one(&self.tallies.closed),
            ClientEvent::MustResync { .. }
            | ClientEvent::ConversationRemoved { .. }
            | ClientEvent::ReadMoved { .. }
            | ClientEvent::DeliveredMoved { .. }
            | ClientEvent::ItemsChanged { .. }
            | ClientEvent::DeletedForMe { .. }
            | ClientEvent::Stream { .. }
            | ClientEvent::JoinAsked { .. }
            | ClientEvent::Presence { .. }
            | ClientEvent::Typing { .. }
            | ClientEvent::Signal { .. }
            | ClientEvent::Reconnected
            | ClientEvent::Goaway { .. } => {}
        }
    }

    fn deliver(&self, user: u32, event: &WireEvent) {
        let Some((group, view)) = self.seat(user, &event.conversation) else { return };
        view.list();
        let base = self.groups[group as usize].base();
        if event.seq <= base {
            return;
        }
        view.take(base, event);
        self.tallies.deliveries.fetch_add(1, Ordering::Relaxed);
        match self.planned(group, event).and_then(|message| self.ledger.sent_us(message)) {
            Some(sent_us) => {
                let now_us = self.now_us();
                self.tallies.last_delivery_us.fetch_max(now_us, Ordering::Relaxed);
                self.meters.delivered(user, now_us.saturating_sub(sent_us));
            }
            None => {
                self.tallies.phantoms.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The planned message that an event of a group is, if it is one, word for word.
    pub(crate) fn planned(&self, group: u32, event: &WireEvent) -> Option<u32> {
        let EventContent::Message { from, client_msg_id, body, .. } = &event.content else { return None };
        let message = self.ledger.message(client_msg_id)?;
        let plan = &self.plan.messages[message as usize];
        let same =
            plan.group == group && self.plan.users[plan.sender as usize] == *from && body.as_ref() == Some(&plan.body);
        same.then_some(message)
    }

    fn is_ours(&self, conversation: &ConversationId) -> bool {
        self.by_conversation.contains_key(conversation)
    }

    /// A user's view of a conversation, if it is a group of this run and the user a member.
    fn seat(&self, user: u32, conversation: &ConversationId) -> Option<(u32, &View)> {
        let group = *self.by_conversation.get(conversation)?;
        let (_, place) = self.seats[user as usize].iter().find(|(g, _)| *g == group)?;
        Some((group, &self.views[*place]))
    }
}

fn new_group(app: &AppId, shards: u16) -> Group {
    let id = GroupId(Uuid::now_v7());
    let conversation = ConversationId::Group(id);
    let shard = ShardId::of_conversation(app, &conversation, shards);
    Group { id, shard, conversation, base: AtomicU64::new(u64::MAX) }
}
