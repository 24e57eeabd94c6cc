//! A node's own sessions and whom they hear of. Every change of how the node stands to a user is one entry with a higher
//! version, reported to the leader of the user's home shard.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use chat::ids::{NodeId, ShardId, UserId};
use chat::limits;
use chat::wire::{Appearance, PresenceState};

use super::super::message::{Device, Entry, PresenceNote, Shown, Status, UserKey, Watch};
use super::{Effect, Now, Sight};
use crate::fanout::message::SessionNumber;

struct Session {
    key: UserKey,
    platform: String,
    appearance: Appearance,
    subscriptions: BTreeSet<UserKey>,
    asks: VecDeque<Ask>,
}

/// A subscription that is not answered.
struct Ask {
    re: u64,
    users: Vec<UserKey>,
    until_ms: u64,
}

/// How this node stands to a user.
#[derive(Clone, Default)]
struct User {
    sessions: BTreeSet<SessionNumber>,
    watchers: BTreeSet<SessionNumber>,
    /// What the leader said last, while somebody hears of the user.
    known: Option<Shown>,
    version: u64,
    reported_ms: Option<u64>,
}

#[derive(Default, Clone)]
struct Leader {
    node: Option<NodeId>,
    /// It was told to pull.
    greeted: bool,
    /// Incarnation and stamp of what it said last.
    heard: Option<(u64, u64)>,
}

type Place = (ShardId, UserKey);

/// By shard, from shard 1 on, and then in the order in which they are pulled.
struct Users(Vec<BTreeMap<UserKey, User>>);

impl Users {
    fn get(&self, place: &Place) -> Option<&User> {
        self.0.get(index(place.0)?)?.get(&place.1)
    }

    fn get_mut(&mut self, place: &Place) -> Option<&mut User> {
        self.0.get_mut(index(place.0)?)?.get_mut(&place.1)
    }

    fn make(&mut self, place: &Place) -> Option<&mut User> {
        Some(self.0.get_mut(index(place.0)?)?.entry(place.1.clone()).or_default())
    }

    fn remove(&mut self, place: &Place) {
        if let Some(users) = index(place.0).and_then(|index| self.0.get_mut(index)) {
            users.remove(&place.1);
        }
    }

    fn all(&self) -> impl Iterator<Item = (&UserKey, &User)> {
        self.0.iter().flatten()
    }

    fn after(&self, shard: ShardId, after: Option<UserKey>) -> impl Iterator<Item = (&UserKey, &User)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = index(shard).and_then(|index| self.0.get(index));
        users.into_iter().flat_map(move |users| users.range((start.clone(), Bound::Unbounded)))
    }
}

fn index(shard: ShardId) -> Option<usize> {
    usize::from(shard.0).checked_sub(1)
}

pub(super) struct Local {
    incarnation: u64,
    shards: u16,
    version: u64,
    sessions: HashMap<SessionNumber, Session>,
    users: Users,
    /// Not yet reported.
    changed: BTreeSet<Place>,
    /// Sessions with an ask.
    asking: BTreeSet<SessionNumber>,
    leaders: Vec<Leader>,
    notes: Vec<(NodeId, PresenceNote)>,
}

impl Local {
    pub(super) fn new(shards: u16, incarnation: u64) -> Self {
        Self {
            incarnation,
            shards,
            version: 0,
            sessions: HashMap::new(),
            users: Users(vec![BTreeMap::new(); usize::from(shards)]),
            changed: BTreeSet::new(),
            asking: BTreeSet::new(),
            leaders: vec![Leader::default(); usize::from(shards)],
            notes: Vec::new(),
        }
    }

    pub(super) fn notes(&mut self) -> Vec<(NodeId, PresenceNote)> {
        std::mem::take(&mut self.notes)
    }

    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.sessions.len(), self.users.all().filter(|(_, user)| !user.watchers.is_empty()).count())
    }

    fn place(&self, key: UserKey) -> Place {
        (ShardId::of_user(&key.app, &key.user, self.shards), key)
    }

    // --- sessions ------------------------------------------------------------------------------------------------

    pub(super) fn came(&mut self, session: SessionNumber, key: UserKey, platform: String) {
        let place = self.place(key.clone());
        let (appearance, subscriptions, asks) = Default::default();
        self.sessions.insert(session, Session { key, platform, appearance, subscriptions, asks });
        if let Some(user) = self.users.make(&place) {
            user.sessions.insert(session);
            self.touch(place);
        }
    }

    pub(super) fn appears(&mut self, session: SessionNumber, appearance: Appearance) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        if std::mem::replace(&mut known.appearance, appearance) != appearance {
            let key = known.key.clone();
            self.touch(self.place(key));
        }
    }

    /// Only this session ends: others of the same user, here or elsewhere, are other sessions.
    pub(super) fn gone(&mut self, session: SessionNumber) {
        let Some(gone) = self.sessions.remove(&session) else { return };
        self.asking.remove(&session);
        for key in gone.subscriptions {
            self.unwatch(session, key);
        }
        let place = self.place(gone.key);
        if let Some(user) = self.users.get_mut(&place) {
            user.sessions.remove(&session);
        }
        self.touch(place);
    }

    pub(super) fn subscribe(
        &mut self,
        now: Now,
        session: SessionNumber,
        re: u64,
        users: Vec<UserId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(app) = self.sessions.get(&session).map(|session| session.key.app.clone()) else { return };
        let users: Vec<UserKey> = users.into_iter().map(|user| UserKey { app: app.clone(), user }).collect();
        for key in &users {
            let place = self.place(key.clone());
            let Some(user) = self.users.make(&place) else { continue };
            if user.watchers.insert(session) && user.watchers.len() == 1 {
                self.touch(place);
            }
        }
        if let Some(asking) = self.sessions.get_mut(&session) {
            asking.subscriptions.extend(users.iter().cloned());
            asking.asks.push_back(Ask { re, users, until_ms: now.ms + limits::PRESENCE_ANSWER_MS });
            self.asking.insert(session);
        }
        self.answer(Some(now), session, effects);
    }

    pub(super) fn unsubscribe(&mut self, session: SessionNumber, users: Vec<UserId>) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        let app = known.key.app.clone();
        let keys = users.into_iter().map(|user| UserKey { app: app.clone(), user });
        let keys: Vec<UserKey> = keys.filter(|key| known.subscriptions.remove(key)).collect();
        for key in keys {
            self.unwatch(session, key);
        }
    }

    fn unwatch(&mut self, session: SessionNumber, key: UserKey) {
        let place = self.place(key);
        let Some(user) = self.users.get_mut(&place) else { return };
        user.watchers.remove(&session);
        if user.watchers.is_empty() {
            // Nobody tells us of the user from now on.
            user.known = None;
            self.touch(place);
        }
    }

    fn touch(&mut self, place: Place) {
        self.version += 1;
        if let Some(user) = self.users.get_mut(&place) {
            user.version = self.version;
            self.changed.insert(place);
        }
    }

    /// Answers what a session asked, if all of it is known, or as far as it is when the time has come.
    fn answer(&mut self, now: Option<Now>, session: SessionNumber, effects: &mut Vec<Effect>) {
        let Some(asking) = self.sessions.get_mut(&session) else { return };
        let (users, shards) = (&self.users, self.shards);
        let known = |key: &UserKey| {
            let place = (ShardId::of_user(&key.app, &key.user, shards), key.clone());
            users.get(&place).and_then(|user| user.known.clone())
        };
        asking.asks.retain(|ask| {
            let due = now.is_some_and(|now| now.ms >= ask.until_ms);
            let shown: Vec<_> = ask.users.iter().filter_map(|key| Some((key.user.clone(), known(key)?))).collect();
            // Taken back meanwhile: there is nothing to wait for.
            let awaited = ask.users.iter().filter(|key| asking.subscriptions.contains(key)).count();
            if shown.len() < awaited && !due {
                return true;
            }
            effects.push(Effect::Answer { session, re: ask.re, users: shown });
            false
        });
        if asking.asks.is_empty() {
            self.asking.remove(&session);
        }
    }

    // --- leaders -------------------------------------------------------------------------------------------------

    pub(super) fn tick(&mut self, now: Now, own: NodeId, sight: &Sight, effects: &mut Vec<Effect>) {
        for (leader, (shard, node)) in self.leaders.iter_mut().zip(sight.shards()) {
            if leader.node != node {
                *leader = Leader { node, greeted: false, heard: None };
            }
            let Some(node) = node.filter(|node| *node == own || sight.reaches(*node)) else { continue };
            if !std::mem::replace(&mut leader.greeted, true) {
                self.notes.push((node, PresenceNote::Here { shard, incarnation: self.incarnation }));
            }
        }
        let asking: Vec<SessionNumber> = self.asking.iter().copied().collect();
        for session in asking {
            self.answer(Some(now), session, effects);
        }
    }

    /// What has changed, to those who lead. Of each user once in a while; the first change at once.
    pub(super) fn report(&mut self, now: Now) {
        let mut entries: BTreeMap<(NodeId, ShardId), Vec<Entry>> = BTreeMap::new();
        let places: Vec<Place> = self.changed.iter().cloned().collect();
        for place in places {
            let Some(leader) = self.leader(place.0).filter(|leader| leader.greeted) else { continue };
            let (Some(node), Some(user)) = (leader.node, self.users.get(&place)) else { continue };
            if user.reported_ms.is_some_and(|at_ms| now.ms < at_ms + limits::PRESENCE_REPORT_MS) {
                continue;
            }
            entries.entry((node, place.0)).or_default().push(self.entry(&place.1, user));
            self.changed.remove(&place);
            if let Some(user) = self.users.get_mut(&place) {
                // Whom somebody hears of is told at once; who comes and goes again and again is not.
                user.reported_ms = (!user.sessions.is_empty()).then_some(now.ms);
                if user.sessions.is_empty() && user.watchers.is_empty() {
                    self.users.remove(&place);
                }
            }
        }
        for ((node, shard), entries) in entries {
            for entries in entries.chunks(limits::PRESENCE_PAGE) {
                let (incarnation, entries) = (self.incarnation, entries.to_vec());
                self.notes.push((node, PresenceNote::Report { shard, incarnation, entries }));
            }
        }
    }

    fn leader(&self, shard: ShardId) -> Option<&Leader> {
        self.leaders.get(index(shard)?)
    }

    fn entry(&self, key: &UserKey, user: &User) -> Entry {
        let sessions = user.sessions.iter().filter_map(|session| self.sessions.get(session));
        let device = |session: &Session| match session.appearance {
            Appearance::Invisible => None,
            appearance => Some(Device { platform: session.platform.clone(), away: appearance == Appearance::Away }),
        };
        let watch = match &user.known {
            _ if user.watchers.is_empty() => Watch::No,
            None => Watch::Fresh,
            Some(shown) => Watch::Held { there: shown.state != PresenceState::Offline },
        };
        let devices = sessions.filter_map(device).collect();
        Entry { key: key.clone(), version: user.version, devices, watch }
    }

    pub(super) fn pulled(&mut self, from: NodeId, shard: ShardId, number: u64, after: Option<UserKey>) {
        let mut entries = self
            .users
            .after(shard, after)
            .map(|(key, user)| self.entry(key, user))
            .filter(|entry| !entry.is_empty())
            .take(limits::PRESENCE_PAGE + 1)
            .collect::<Vec<_>>();
        let more = entries.len() > limits::PRESENCE_PAGE;
        entries.truncate(limits::PRESENCE_PAGE);
        let (incarnation, version) = (self.incarnation, self.version);
        self.notes.push((from, PresenceNote::Page { shard, number, incarnation, version, entries, more }));
    }

    pub(super) fn changed(
        &mut self,
        from: NodeId,
        shard: ShardId,
        at: (u64, u64),
        statuses: Vec<Status>,
        effects: &mut Vec<Effect>,
    ) {
        let leader = index(shard).and_then(|index| self.leaders.get_mut(index));
        // Of a leader that we do not know yet: it will pull from us, and say it again.
        let Some(leader) = leader.filter(|leader| leader.node == Some(from)) else { return };
        let late = leader.heard.is_some_and(|(incarnation, stamp)| incarnation == at.0 && at.1 < stamp);
        if late {
            return;
        }
        leader.heard = Some(at);
        let mut answerable = BTreeSet::new();
        for Status { key, shown } in statuses {
            let user_id = key.user.clone();
            let Some(user) = self.users.get_mut(&(shard, key.clone())) else { continue };
            if user.watchers.is_empty() || user.known.as_ref() == Some(&shown) {
                continue;
            }
            let first = user.known.replace(shown.clone()).is_none();
            // Whose question is still open has it in the answer.
            let waits = |session: &SessionNumber| {
                let asks = self.sessions.get(session).map(|session| &session.asks);
                asks.is_some_and(|asks| asks.iter().any(|ask| ask.users.contains(&key)))
            };
            let (waiting, told): (Vec<_>, Vec<_>) = user.watchers.iter().partition(|session| first && waits(session));
            answerable.extend(waiting);
            if !told.is_empty() {
                effects.push(Effect::Push { sessions: told, user: user_id, shown });
            }
        }
        for session in answerable {
            self.answer(None, session, effects);
        }
    }

    pub(super) fn lost(&mut self, peer: NodeId) {
        for leader in self.leaders.iter_mut().filter(|leader| leader.node == Some(peer)) {
            leader.greeted = false;
        }
    }

    pub(super) fn repeat(&self) -> Vec<Effect> {
        let told = self.users.all().filter(|(_, user)| !user.watchers.is_empty());
        told.filter_map(|(key, user)| {
            let sessions = user.watchers.iter().copied().collect();
            Some(Effect::Push { sessions, user: key.user.clone(), shown: user.known.clone()? })
        })
        .collect()
    }
}
