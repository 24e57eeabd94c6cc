//! The shards that this node leads. From every node it pulls how that stands to their users, as soon as it leads, when
//! the node comes back or asks for it, and takes what has changed from then on.

use std::collections::{BTreeMap, BTreeSet};

use chat::ids::{NodeId, ShardId};
use chat::limits;

use super::super::message::{Entry, Facts, PresenceNote, Status, UserKey, Watch};
use super::user::{Standing, User};
use super::{Effect, Now, Sight};

/// What is known of one node's part in one shard.
#[derive(Default)]
struct Source {
    /// The process that was pulled from last.
    incarnation: Option<u64>,
    /// What that process reported up to this version is in what was pulled.
    floor: u64,
    round: u64,
    pull: Option<Pull>,
    /// It is to be pulled from, anew if need be.
    wanted: bool,
    /// Everything was pulled once.
    known: bool,
    lost_ms: Option<u64>,
    /// It is lost for so long that nobody can be there.
    gone: bool,
}

struct Pull {
    number: u64,
    /// Its first page is here.
    begun: bool,
    after: Option<UserKey>,
    asked_ms: u64,
}

/// An answer to a pull.
pub(super) struct Page {
    pub(super) number: u64,
    pub(super) incarnation: u64,
    pub(super) version: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) more: bool,
}

#[derive(Default)]
struct Shard {
    sources: BTreeMap<NodeId, Source>,
    users: BTreeMap<UserKey, User>,
    /// Users to look at again.
    restless: BTreeSet<UserKey>,
    /// On their way to the nodes that hear of them.
    statuses: BTreeMap<NodeId, Vec<Status>>,
}

impl Shard {
    /// Whoever is on no node is nowhere.
    fn complete(&self) -> bool {
        !self.sources.is_empty() && self.sources.values().all(|source| source.known || source.gone)
    }

    /// Nothing that a node said holds any more, except what is of this round.
    fn forget(&mut self, node: NodeId, but_round: Option<u64>) -> Vec<UserKey> {
        let old = |user: &mut User| {
            let standing = user.standings.get(&node)?;
            if Some(standing.round) != but_round { user.standings.remove(&node) } else { None }
        };
        let touched = self.users.iter_mut().filter_map(|(key, user)| old(user).map(|_| key.clone()));
        touched.collect()
    }
}

pub(super) struct Home {
    node: NodeId,
    incarnation: u64,
    shards: u16,
    led: BTreeMap<ShardId, Shard>,
    /// Of pulls, looks and what is said to nodes.
    number: u64,
    notes: Vec<(NodeId, PresenceNote)>,
}

impl Home {
    pub(super) fn new(node: NodeId, shards: u16, incarnation: u64) -> Self {
        Self { node, incarnation, shards, led: BTreeMap::new(), number: 0, notes: Vec::new() }
    }

    pub(super) fn notes(&mut self) -> Vec<(NodeId, PresenceNote)> {
        for (shard, led) in &mut self.led {
            for (node, statuses) in std::mem::take(&mut led.statuses) {
                for statuses in statuses.chunks(limits::PRESENCE_PAGE) {
                    self.number += 1;
                    let (incarnation, stamp, statuses) = (self.incarnation, self.number, statuses.to_vec());
                    let note = PresenceNote::Changed { shard: *shard, incarnation, stamp, statuses };
                    self.notes.push((node, note));
                }
            }
        }
        std::mem::take(&mut self.notes)
    }

    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let complete = self.led.values().filter(|shard| shard.complete()).count();
        (self.led.len(), complete, self.led.values().map(|shard| shard.users.len()).sum())
    }

    // --- who leads, who is there ---------------------------------------------------------------------------------

    pub(super) fn tick(&mut self, now: Now, sight: &Sight, effects: &mut Vec<Effect>) {
        for (shard, leader) in sight.shards() {
            if leader == Some(self.node) {
                self.led.entry(shard).or_default();
            } else {
                self.led.remove(&shard);
            }
        }
        for shard in self.led.keys().copied().collect::<Vec<_>>() {
            let before = self.led.get(&shard).is_some_and(Shard::complete);
            for key in self.look_at_sources(now, shard, sight) {
                self.consider(now, shard, &key, effects);
            }
            let Some(led) = self.led.get_mut(&shard) else { continue };
            let restless = std::mem::take(&mut led.restless);
            // What was held back until now can be said.
            let all = (led.complete() != before).then(|| led.users.keys().cloned().collect::<Vec<_>>());
            for key in all.unwrap_or_else(|| restless.into_iter().collect()) {
                self.consider(now, shard, &key, effects);
            }
        }
    }

    /// Users of whom less is known than before.
    fn look_at_sources(&mut self, now: Now, shard: ShardId, sight: &Sight) -> Vec<UserKey> {
        let Some(led) = self.led.get_mut(&shard) else { return Vec::new() };
        let members: BTreeMap<NodeId, bool> = sight.nodes.iter().copied().collect();
        let (mut gone, mut wanted) = (Vec::new(), Vec::new());
        led.sources.retain(|node, _| {
            let member = members.contains_key(node);
            if !member {
                gone.push(*node);
            }
            member
        });
        for (node, reached) in members {
            let new = || Source { wanted: true, ..Source::default() };
            let source = led.sources.entry(node).or_insert_with(new);
            if reached || node == self.node {
                source.wanted |= source.lost_ms.take().is_some();
                source.gone = false;
                let overdue = |pull: &Pull| now.ms >= pull.asked_ms + limits::PRESENCE_AGAIN_MS;
                if source.wanted || source.pull.as_ref().is_some_and(overdue) {
                    wanted.push(node);
                }
                continue;
            }
            let lost_ms = *source.lost_ms.get_or_insert(now.ms);
            if !source.gone && now.ms >= lost_ms + limits::PRESENCE_LOST_MS {
                *source = Source { gone: true, lost_ms: Some(lost_ms), ..Source::default() };
                gone.push(node);
            }
        }
        let touched = gone.into_iter().flat_map(|node| led.forget(node, None)).collect();
        for node in wanted {
            self.ask(now, shard, node);
        }
        touched
    }

    /// Begins to pull, from the start if that is wanted, or asks once more for the page that is awaited.
    fn ask(&mut self, now: Now, shard: ShardId, node: NodeId) {
        let Some(source) = self.led.get_mut(&shard).and_then(|led| led.sources.get_mut(&node)) else { return };
        if std::mem::take(&mut source.wanted) {
            self.number += 1;
            source.pull = Some(Pull { number: self.number, begun: false, after: None, asked_ms: now.ms });
        }
        let Some(pull) = &mut source.pull else { return };
        pull.asked_ms = now.ms;
        let (number, after) = (pull.number, pull.after.clone());
        self.notes.push((node, PresenceNote::Pull { shard, number, after }));
    }

    pub(super) fn pull_anew(&mut self, shard: ShardId, node: NodeId) {
        if let Some(source) = self.led.get_mut(&shard).and_then(|led| led.sources.get_mut(&node)) {
            source.wanted = true;
        }
    }

    pub(super) fn lost(&mut self, peer: NodeId) {
        for led in self.led.values_mut() {
            if let Some(source) = led.sources.get_mut(&peer) {
                source.wanted = true;
            }
        }
    }

    // --- what nodes say ------------------------------------------------------------------------------------------

    pub(super) fn reported(
        &mut self,
        now: Now,
        from: NodeId,
        shard: ShardId,
        incarnation: u64,
        entries: Vec<Entry>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(led) = self.led.get_mut(&shard) else { return };
        let Some(source) = led.sources.get_mut(&from) else { return };
        if source.incarnation != Some(incarnation) {
            // It will be in what is pulled.
            source.wanted |= source.pull.is_none();
            return;
        }
        // Before the first page it belongs to what was pulled before: the page may know better.
        let pulling = source.pull.as_ref().filter(|pull| pull.begun);
        let (floor, round) = (source.floor, pulling.map_or(source.round, |pull| pull.number));
        for entry in entries.into_iter().filter(|entry| entry.version > floor) {
            let key = entry.key.clone();
            if self.stand(shard, from, entry, round) {
                self.consider(now, shard, &key, effects);
            }
        }
    }

    pub(super) fn paged(&mut self, now: Now, from: NodeId, shard: ShardId, page: Page, effects: &mut Vec<Effect>) {
        let Some(led) = self.led.get_mut(&shard) else { return };
        let Some(source) = led.sources.get_mut(&from) else { return };
        let Page { number, incarnation, version, entries, more } = page;
        // Of a pull that was begun anew, or asked for twice.
        let Some(pull) = source.pull.as_mut().filter(|pull| pull.number == number) else { return };
        let last = entries.last().map(|entry| entry.key.clone());
        if pull.begun && last.is_some() && last <= pull.after {
            return;
        }
        if pull.begun && source.incarnation != Some(incarnation) {
            source.wanted = true;
            return;
        }
        if !std::mem::replace(&mut pull.begun, true) {
            (source.floor, source.incarnation) = (version, Some(incarnation));
        }
        pull.after = last.or(pull.after.take());
        pull.asked_ms = now.ms;
        let after = pull.after.clone();
        let mut touched = Vec::new();
        for entry in entries {
            let key = entry.key.clone();
            if self.stand(shard, from, entry, number) {
                touched.push(key);
            }
        }
        if more {
            self.notes.push((from, PresenceNote::Pull { shard, number, after }));
        } else {
            touched.extend(self.pulled(shard, from, number));
        }
        for key in touched {
            self.consider(now, shard, &key, effects);
        }
    }

    /// Everything was pulled: what was not in it is no more.
    fn pulled(&mut self, shard: ShardId, node: NodeId, number: u64) -> Vec<UserKey> {
        let Some(led) = self.led.get_mut(&shard) else { return Vec::new() };
        let before = led.complete();
        if let Some(source) = led.sources.get_mut(&node) {
            (source.known, source.round, source.pull) = (true, number, None);
        }
        let forgotten = led.forget(node, Some(number));
        if led.complete() == before { forgotten } else { led.users.keys().cloned().collect() }
    }

    /// Takes an entry of a node, unless a newer one is there. True if something may follow from it.
    fn stand(&mut self, shard: ShardId, node: NodeId, entry: Entry, round: u64) -> bool {
        let Some(led) = self.led.get_mut(&shard) else { return false };
        if entry.is_empty() {
            let user = led.users.get_mut(&entry.key);
            return user.is_some_and(|user| user.standings.remove(&node).is_some());
        }
        let Entry { key, version, devices, watch } = entry;
        let user = led.users.entry(key).or_default();
        let newer = user.standings.get(&node).is_some_and(|known| known.round == round && known.version > version);
        if !newer {
            // Whoever says that it hears of the user is told again: it may have missed something.
            user.standings.insert(node, Standing { version, round, devices, watch, told: None });
        }
        !newer
    }

    // --- what follows --------------------------------------------------------------------------------------------

    fn consider(&mut self, now: Now, shard: ShardId, key: &UserKey, effects: &mut Vec<Effect>) {
        let Some(led) = self.led.get_mut(&shard) else { return };
        let complete = led.complete();
        let Some(user) = led.users.get_mut(key) else { return };
        user.turn(now, complete);
        if user.is_curious() {
            self.number += 1;
            user.look = Some(self.number);
            effects.push(Effect::Look { shard, key: key.clone(), number: self.number });
        }
        let nodes: Vec<(NodeId, Watch)> =
            user.standings.iter().map(|(node, standing)| (*node, standing.watch)).collect();
        for (node, watch) in nodes.into_iter().filter(|(_, watch)| *watch != Watch::No) {
            let Some(shown) = user.shown(complete, watch) else { continue };
            let Some(standing) = user.standings.get_mut(&node) else { continue };
            if standing.told.as_ref() != Some(&shown) {
                standing.told = Some(shown.clone());
                led.statuses.entry(node).or_default().push(Status { key: key.clone(), shown });
            }
        }
        if let Some(at_ms) = user.save(now) {
            effects.push(Effect::Save { shard, key: key.clone(), at_ms });
        }
        if user.is_restless() {
            led.restless.insert(key.clone());
        }
        if user.is_empty() {
            led.users.remove(key);
        }
    }

    fn user(&mut self, key: &UserKey) -> Option<(ShardId, &mut User)> {
        let shard = ShardId::of_user(&key.app, &key.user, self.shards);
        Some((shard, self.led.get_mut(&shard)?.users.get_mut(key)?))
    }

    pub(super) fn looked(
        &mut self,
        now: Now,
        key: &UserKey,
        number: u64,
        facts: Option<Facts>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((shard, user)) = self.user(key) else { return };
        // A later look sees more.
        if user.look != Some(number) {
            return;
        }
        user.look = None;
        if facts.is_some() {
            (user.facts, user.stale) = (facts, false);
            return self.consider(now, shard, key, effects);
        }
        // Tried again a moment later.
        if let Some(led) = self.led.get_mut(&shard) {
            led.restless.insert(key.clone());
        }
    }

    pub(super) fn privacy_set(&mut self, key: &UserKey, effects: &mut Vec<Effect>) {
        self.number += 1;
        let number = self.number;
        let Some((shard, user)) = self.user(key) else { return };
        (user.look, user.stale) = (Some(number), true);
        effects.push(Effect::Look { shard, key: key.clone(), number });
    }
}
