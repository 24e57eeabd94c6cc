//! Presence, decided without a clock or a network. A node has two parts in it, and both are here:
//!
//! - `local`: its own sessions, whom they hear of, and what the leaders of those users' home shards said last.
//! - `home`: of each shard that it leads, what it pulled from every node; `user` is one user of such a shard.
//!
//! What one part tells the other on the same node takes the same way as between nodes.

mod home;
mod local;
#[cfg(test)]
mod tests;
mod user;

use chat::ids::{NodeId, ShardId, UserId};

use self::home::Home;
use self::local::Local;
use super::message::{Input, PresenceInfo, PresenceNote, Shown, UserKey};
use crate::fanout::message::SessionNumber;

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// If it cannot be sent, that is a connection lost.
    Tell { to: NodeId, note: PresenceNote },
    /// Read the user's records; answered by `Input::Looked` with the same number.
    Look { shard: ShardId, key: UserKey, number: u64 },
    /// Write down when the user was last seen.
    Save { shard: ShardId, key: UserKey, at_ms: u64 },
    /// To these sessions of this node: a user has changed.
    Push { sessions: Vec<SessionNumber>, user: UserId, shown: Shown },
    /// To this session: the answer to a subscription.
    Answer { session: SessionNumber, re: u64, users: Vec<(UserId, Shown)> },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Of this process's clock: for waiting.
    pub(super) ms: u64,
    /// For people.
    pub(super) unix_ms: u64,
}

/// What a node sees of its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// Whom it takes for the leader of each shard, from shard 1 on.
    pub(super) leaders: Vec<Option<NodeId>>,
    /// The members, itself included, and whether it reaches them.
    pub(super) nodes: Vec<(NodeId, bool)>,
}

impl Sight {
    fn reaches(&self, node: NodeId) -> bool {
        self.nodes.iter().any(|(other, reached)| *other == node && *reached)
    }

    /// The shards and their leaders.
    fn shards(&self) -> impl Iterator<Item = (ShardId, Option<NodeId>)> {
        (1..).map(ShardId).zip(self.leaders.iter().copied())
    }
}

pub(super) struct Core {
    node: NodeId,
    local: Local,
    home: Home,
    effects: Vec<Effect>,
}

impl Core {
    /// `incarnation` is of this process and no other.
    pub(super) fn new(node: NodeId, shards: u16, incarnation: u64) -> Self {
        let local = Local::new(shards, incarnation);
        Self { node, local, home: Home::new(node, shards, incarnation), effects: Vec::new() }
    }

    pub(super) fn input(&mut self, now: Now, input: Input) {
        match input {
            Input::Came { session, key, platform } => self.local.came(session, key, platform),
            Input::Appears { session, appearance } => self.local.appears(session, appearance),
            Input::Gone { session } => self.local.gone(session),
            Input::Subscribe { session, re, users } => {
                self.local.subscribe(now, session, re, users, &mut self.effects);
            }
            Input::Unsubscribe { session, users } => self.local.unsubscribe(session, users),
            Input::Told { from, note } => self.told(now, from, note),
            Input::Lost { peer } => self.lost(peer),
            Input::Looked { key, number, facts } => self.home.looked(now, &key, number, facts, &mut self.effects),
            Input::PrivacySet { key } => self.home.privacy_set(&key, &mut self.effects),
        }
    }

    /// From time to time: what follows from the time and the cluster. Not for every input: there may be many.
    pub(super) fn tick(&mut self, now: Now, sight: &Sight) {
        self.home.tick(now, sight, &mut self.effects);
        self.local.tick(now, self.node, sight, &mut self.effects);
    }

    /// After inputs or a tick: what is to be done.
    pub(super) fn settle(&mut self, now: Now) -> Vec<Effect> {
        self.local.report(now);
        loop {
            let notes: Vec<_> = self.local.notes().into_iter().chain(self.home.notes()).collect();
            if notes.is_empty() {
                return std::mem::take(&mut self.effects);
            }
            for (to, note) in notes {
                if to == self.node {
                    self.told(now, to, note);
                } else {
                    self.effects.push(Effect::Tell { to, note });
                }
            }
        }
    }

    /// What was said to a node may not have arrived.
    pub(super) fn lost(&mut self, peer: NodeId) {
        self.local.lost(peer);
        self.home.lost(peer);
    }

    /// Some pushes came to nothing: what every session is to know, once more.
    pub(super) fn repeat(&self) -> Vec<Effect> {
        self.local.repeat()
    }

    pub(super) fn info(&self) -> PresenceInfo {
        let (sessions, watched) = self.local.sizes();
        let (homes, complete, users) = self.home.sizes();
        PresenceInfo { sessions, watched, homes, complete, users }
    }

    fn told(&mut self, now: Now, from: NodeId, note: PresenceNote) {
        match note {
            PresenceNote::Pull { shard, number, after } => self.local.pulled(from, shard, number, after),
            PresenceNote::Changed { shard, incarnation, stamp, statuses } => {
                self.local.changed(from, shard, (incarnation, stamp), statuses, &mut self.effects);
            }
            PresenceNote::Here { shard, .. } => self.home.pull_anew(shard, from),
            PresenceNote::Report { shard, incarnation, entries } => {
                self.home.reported(now, from, shard, incarnation, entries, &mut self.effects);
            }
            PresenceNote::Page { shard, number, incarnation, version, entries, more } => {
                let page = home::Page { number, incarnation, version, entries, more };
                self.home.paged(now, from, shard, page, &mut self.effects);
            }
        }
    }
}
