//! One user on the leader of its home shard: what each node said of it, what others see of that, and when the user was
//! last seen.

use std::collections::{BTreeMap, BTreeSet};

use chat::ids::NodeId;
use chat::limits;
use chat::wire::{Audience, PresenceState};

use super::super::message::{Device, Facts, Shown, Watch};
use super::Now;

/// How a node stands to the user.
pub(super) struct Standing {
    pub(super) version: u64,
    /// Of the pull that it was last part of.
    pub(super) round: u64,
    pub(super) devices: Vec<Device>,
    pub(super) watch: Watch,
    /// What the node was told, if that is sure to have arrived.
    pub(super) told: Option<Shown>,
}

/// Nobody is there any more; others are told when that has lasted.
#[derive(Clone, Copy)]
struct Fade {
    until_ms: u64,
    /// When the last session was seen to end, in Unix milliseconds.
    seen_ms: u64,
}

#[derive(Default)]
pub(super) struct User {
    pub(super) standings: BTreeMap<NodeId, Standing>,
    /// What others saw while the user was there, until its end has lasted.
    last: Option<Shown>,
    fade: Option<Fade>,
    /// The user has come to its end under this leader: what a node was told before that is old.
    ended: bool,
    pub(super) facts: Option<Facts>,
    /// The number of the look that is awaited.
    pub(super) look: Option<u64>,
    /// The records have changed since they were looked at.
    pub(super) stale: bool,
    seen_ms: Option<u64>,
    unsaved_ms: Option<u64>,
}

impl User {
    /// What follows from what nodes said and from the time. `complete`: all of them have.
    pub(super) fn turn(&mut self, now: Now, complete: bool) {
        if let Some(visible) = self.visible() {
            self.last = Some(visible);
            (self.fade, self.unsaved_ms) = (None, None);
            return;
        }
        // Under an earlier leader the user was there, and may be on the way from one node to another.
        let held = |standing: &Standing| standing.watch == (Watch::Held { there: true });
        let was_there = self.last.is_some() || (!self.ended && self.standings.values().any(held));
        if was_there && self.fade.is_none() {
            self.fade = Some(Fade { until_ms: now.ms + limits::PRESENCE_FADE_MS, seen_ms: now.unix_ms });
        }
        if let Some(Fade { seen_ms, .. }) = self.fade.filter(|fade| complete && now.ms >= fade.until_ms) {
            (self.last, self.fade, self.ended) = (None, None, true);
            self.seen_ms = self.seen_ms.max(Some(seen_ms));
            self.unsaved_ms = Some(seen_ms);
        }
    }

    /// Of all devices together, if there is one.
    fn visible(&self) -> Option<Shown> {
        let devices = || self.standings.values().flat_map(|standing| &standing.devices);
        let away = devices().map(|device| device.away).min()?;
        let platforms: BTreeSet<&str> = devices().map(|device| device.platform.as_str()).collect();
        let platforms = platforms.into_iter().filter(|platform| !platform.is_empty()).map(str::to_owned).collect();
        let state = if away { PresenceState::Away } else { PresenceState::Online };
        Some(Shown { state, platforms, last_seen_ms: None })
    }

    /// What a node may be told now: nothing while it is not certain.
    pub(super) fn shown(&self, complete: bool, watch: Watch) -> Option<Shown> {
        let Facts { privacy, last_seen_ms } = self.facts?;
        if privacy.online == Audience::Nobody {
            // As of somebody who never was there.
            return Some(Shown::offline(None));
        }
        if let Some(last) = &self.last {
            return Some(last.clone());
        }
        let leaving = self.fade.is_some() && watch == (Watch::Held { there: true });
        if !complete || leaving {
            return None;
        }
        let last_seen_ms = last_seen_ms.max(self.seen_ms).filter(|_| privacy.last_seen == Audience::Everyone);
        Some(Shown::offline(last_seen_ms))
    }

    /// When the user was last seen, if that is to be written down now. Not as soon as it happens, if the last time is
    /// not long ago.
    pub(super) fn save(&mut self, now: Now) -> Option<u64> {
        let facts = self.facts.as_mut()?;
        let at_ms = self.unsaved_ms?;
        if facts.last_seen_ms.is_some_and(|written_ms| now.unix_ms < written_ms.saturating_add(limits::LAST_SEEN_MS)) {
            return None;
        }
        facts.last_seen_ms = facts.last_seen_ms.max(Some(at_ms));
        self.unsaved_ms.take()
    }

    pub(super) fn watched(&self) -> bool {
        self.standings.values().any(|standing| standing.watch != Watch::No)
    }

    /// The records are needed.
    pub(super) fn is_curious(&self) -> bool {
        let wanted = self.facts.is_none() && (self.watched() || self.unsaved_ms.is_some());
        self.look.is_none() && (wanted || self.stale)
    }

    /// Time alone will change something, or something is awaited.
    pub(super) fn is_restless(&self) -> bool {
        let untold = |standing: &Standing| standing.watch != Watch::No && standing.told.is_none();
        self.fade.is_some() || self.stale || self.unsaved_ms.is_some() || self.standings.values().any(untold)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.standings.is_empty() && self.fade.is_none() && self.unsaved_ms.is_none()
    }
}
