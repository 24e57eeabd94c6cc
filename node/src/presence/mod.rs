//! The presence actor, one per node: who is there, and who hears of it. Nothing of it is stored but when a user was last
//! seen; it is best effort, and right again by itself after a leader or a node is gone (docs/adr/0021).
//!
//! - `core`: what it does, pure. [`message`]: what it may be told, and what nodes tell each other.

mod core;
pub(crate) mod message;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler};
use bytes::Bytes;
use chat::command::{Command, UserCommand};
use chat::ids::{NodeId, ShardId};
use chat::limits;
use chat::state::query;
use chat::wire::ServerFrame;
use cluster::Cluster;
use parking_lot::Mutex;
use uuid::Uuid;

use self::core::{Core, Effect, Now, Sight};
use self::message::{Facts, Input, LookAtInbox, PresenceNote, UserKey};
pub use message::PresenceInfo;

use crate::fanout::{Aside, FanOutHandle, PresenceNews};
use crate::session::encode;
use crate::socket::{now_ms, unix_ms};

/// Between two looks at the cluster and at what time has changed.
const TICK: Duration = Duration::from_millis(100);
/// Between two counts of what there is, for the status.
const SHOW: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Inbox {
    inputs: Vec<Input>,
    /// How many of them are notes of other nodes.
    notes: usize,
    /// A note had no room.
    missed: bool,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    actor: OnceLock<Addr<Presence>>,
    info: Mutex<PresenceInfo>,
}

/// What the rest of the node holds of presence.
#[derive(Clone, Default)]
pub struct PresenceHandle(Arc<Shared>);

/// What the actor sends notes with, framed as all notes between nodes are.
pub(crate) type Frame = fn(PresenceNote) -> Bytes;

pub(crate) struct Presence {
    core: Core,
    cluster: Cluster,
    fan_out: FanOutHandle,
    frame: Frame,
    shared: Arc<Shared>,
    /// Answers that a worker had no room for: one for each request that sessions hold, and those are bounded.
    stuck: VecDeque<Arc<Aside>>,
    /// A worker had no room for news: all of it is told again.
    behind: bool,
}

impl PresenceHandle {
    /// Starts the actor, once per node. What was said until then waits in its inbox.
    pub(crate) fn start(&self, arbiter: &ArbiterHandle, cluster: Cluster, fan_out: FanOutHandle, frame: Frame) {
        let (shared, incarnation) = (self.0.clone(), Uuid::new_v4().as_u64_pair().0);
        let actor = Presence::start_in_arbiter(arbiter, move |_| Presence {
            core: Core::new(cluster.node(), cluster.shards(), incarnation),
            cluster,
            fan_out,
            frame,
            shared,
            stuck: VecDeque::new(),
            behind: false,
        });
        // The node is composed once.
        let _ = self.0.actor.set(actor);
    }

    pub(crate) fn say(&self, input: Input) {
        let mut inbox = self.0.inbox.lock();
        if matches!(input, Input::Told { .. }) {
            if inbox.notes >= limits::PRESENCE_INBOX {
                inbox.missed = true;
                return;
            }
            inbox.notes += 1;
        }
        inbox.inputs.push(input);
        drop(inbox);
        if let Some(actor) = self.0.actor.get() {
            // Full: what is in the mailbox looks at the inbox.
            let _ = actor.try_send(LookAtInbox);
        }
    }

    /// As of a moment ago.
    pub fn observable_state(&self) -> PresenceInfo {
        *self.0.info.lock()
    }
}

impl Presence {
    fn look(&mut self) {
        let Inbox { inputs, missed, .. } = std::mem::take(&mut *self.shared.inbox.lock());
        // Somebody else's look took it.
        if inputs.is_empty() && !missed {
            return;
        }
        let now = now();
        for input in inputs {
            self.core.input(now, input);
        }
        if missed {
            tracing::warn!(event = "presence_behind", "too much was said about presence: all of it is asked for anew");
            self.cluster.reached().iter().for_each(|(node, _)| self.core.lost(*node));
        }
        let effects = self.core.settle(now);
        self.act(effects);
    }

    fn tick(&mut self) {
        self.catch_up();
        self.look();
        let now = now();
        self.core.tick(now, &self.sight());
        let effects = self.core.settle(now);
        self.act(effects);
    }

    fn sight(&self) -> Sight {
        let leaders = (1..=self.cluster.shards()).map(|shard| self.cluster.leader(ShardId(shard))).collect();
        Sight { leaders, nodes: self.cluster.reached() }
    }

    fn act(&mut self, effects: Vec<Effect>) {
        let mut looks = Vec::new();
        for effect in effects {
            match effect {
                Effect::Tell { to, note } => self.tell(to, note),
                Effect::Look { shard, key, number } => looks.push((shard, key, number)),
                Effect::Save { shard, key, at_ms } => self.save(shard, key, at_ms),
                effect @ (Effect::Push { .. } | Effect::Answer { .. }) => self.pass_on(effect),
            }
        }
        if !looks.is_empty() {
            self.read(looks);
        }
    }

    fn tell(&mut self, to: NodeId, note: PresenceNote) {
        if self.cluster.tell(to, (self.frame)(note)).is_err() {
            self.core.lost(to);
        }
    }

    fn pass_on(&mut self, effect: Effect) {
        let news = match effect {
            Effect::Push { sessions, user, shown } => {
                let users = vec![shown.of(user.clone())];
                let frame = encode(&ServerFrame::Presence { re: None, users });
                PresenceNews::Change { sessions, user, frame }
            }
            Effect::Answer { session, re, users } => {
                let users = users.into_iter().map(|(user, shown)| shown.of(user)).collect();
                let frame = encode(&ServerFrame::Presence { re: Some(re), users });
                PresenceNews::Answer { session, re, frame }
            }
            Effect::Tell { .. } | Effect::Look { .. } | Effect::Save { .. } => return,
        };
        let answer = matches!(news, PresenceNews::Answer { .. });
        let aside = Arc::new(Aside::Presence(news));
        if self.fan_out.tell(&aside) {
            return;
        }
        self.behind = true;
        if answer {
            self.stuck.push_back(aside);
        }
    }

    /// Once more, what there was no room for.
    fn catch_up(&mut self) {
        if !std::mem::take(&mut self.behind) {
            return;
        }
        while let Some(answer) = self.stuck.pop_front() {
            if !self.fan_out.tell(&answer) {
                self.stuck.push_front(answer);
                self.behind = true;
                return;
            }
        }
        let news = self.core.repeat();
        self.act(news);
    }

    /// Looks at users' records, off this thread.
    fn read(&self, looks: Vec<(ShardId, UserKey, u64)>) {
        let (cluster, handle) = (self.cluster.clone(), PresenceHandle(self.shared.clone()));
        tokio::task::spawn_blocking(move || {
            for (shard, key, number) in looks {
                let facts = facts(&cluster, shard, &key);
                handle.say(Input::Looked { key, number, facts });
            }
        });
    }

    fn save(&self, shard: ShardId, key: UserKey, at_ms: u64) {
        let (cluster, UserKey { app, user }) = (self.cluster.clone(), key);
        actix::spawn(async move {
            let command = Command::User { app, user, command: UserCommand::SeeUser { at_ms } };
            if let Err(error) = cluster.submit(shard, command).await {
                tracing::warn!(%error, "when a user was last seen was not written down");
            }
        });
    }
}

fn facts(cluster: &Cluster, shard: ShardId, key: &UserKey) -> Option<Facts> {
    let view = cluster.view(shard)?;
    let privacy = query::privacy(&view, &key.app, &key.user);
    let last_seen_ms = query::last_seen(&view, &key.app, &key.user);
    let both = privacy.and_then(|privacy| Ok(Facts { privacy, last_seen_ms: last_seen_ms? }));
    both.inspect_err(|error| tracing::warn!(%error, "a user's wish for privacy cannot be read now")).ok()
}

fn now() -> Now {
    Now { ms: now_ms(), unix_ms: unix_ms() }
}

impl Actor for Presence {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(TICK, |presence, _| presence.tick());
        context.run_interval(SHOW, |presence, _| *presence.shared.info.lock() = presence.core.info());
    }
}

impl Handler<LookAtInbox> for Presence {
    type Result = ();

    fn handle(&mut self, _: LookAtInbox, _: &mut Self::Context) {
        self.look();
    }
}
