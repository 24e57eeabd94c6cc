//! Conversation → group actor, on the node that leads the conversation's shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use actix::prelude::SendError;
use actix::{Actor, Addr, ArbiterHandle};
use chat::ids::ShardId;
use chat::limits;
use cluster::Cluster;
use parking_lot::Mutex;
use serde::Serialize;
use storage::BodySealer;

use crate::group::message::{Observe, Retire};
use crate::group::{GroupActor, GroupFailure, GroupKey, GroupRequest, GroupState};
use crate::rates::Rates;

struct Held {
    /// Shared, not cloned: actix gives every clone of an address a place beyond the mailbox's limit.
    actor: Arc<Addr<GroupActor>>,
    generation: u64,
}

/// Makes group actors when they are first asked for, spreads them over arbiters, and makes new ones for those that died.
pub struct Directory {
    arbiters: Vec<ArbiterHandle>,
    sealer: BodySealer,
    rates: Arc<Rates>,
    /// Known once the cluster has started, which needs the directory first.
    cluster: OnceLock<Cluster>,
    groups: Mutex<HashMap<GroupKey, Held>>,
    generations: AtomicU64,
    next_arbiter: AtomicUsize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DirectoryState {
    pub groups: usize,
    /// Group actors made since the process started.
    pub made: u64,
}

impl Directory {
    /// `arbiters` must not be empty; group actors run on them.
    pub fn new(arbiters: Vec<ArbiterHandle>, sealer: BodySealer, rates: Arc<Rates>) -> Arc<Self> {
        assert!(!arbiters.is_empty(), "group actors need an arbiter");
        Arc::new(Self {
            arbiters,
            sealer,
            rates,
            cluster: OnceLock::new(),
            groups: Mutex::default(),
            generations: AtomicU64::new(0),
            next_arbiter: AtomicUsize::new(0),
        })
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Until then every request is answered `Unavailable`.
    pub fn attach(&self, cluster: Cluster) {
        // A second cluster cannot come: the node is composed once.
        let _ = self.cluster.set(cluster);
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.get()
    }

    /// Puts the request into its group actor's mailbox, without waiting, or answers why it is not.
    pub(crate) fn ask(self: &Arc<Self>, key: GroupKey, request: GroupRequest) {
        let refuse = |request: GroupRequest, failure| request.reply.send(Err(failure));
        let Some(cluster) = self.cluster.get() else { return refuse(request, GroupFailure::Unavailable) };
        let shard = cluster.conversation_shard(&key.app, &key.conversation);
        let leader = cluster.leader(shard);
        if leader != Some(cluster.node()) {
            return refuse(request, GroupFailure::NotLeader { leader });
        }
        let actor = match self.actor(cluster, &key) {
            Ok(actor) => actor,
            Err(failure) => return refuse(request, failure),
        };
        let request = match actor.try_send(request) {
            Ok(()) => return,
            Err(SendError::Full(request)) => {
                return refuse(request, GroupFailure::Overloaded { retry_after_ms: limits::FULL_RETRY_MS });
            }
            Err(SendError::Closed(request)) => request,
        };
        // It died. The log has everything that matters of it.
        self.groups.lock().remove(&key);
        match self.actor(cluster, &key) {
            Ok(actor) => {
                if let Err(refused) = actor.try_send(request) {
                    refuse(refused.into_inner(), GroupFailure::Unavailable);
                }
            }
            Err(failure) => refuse(request, failure),
        }
    }

    fn actor(self: &Arc<Self>, cluster: &Cluster, key: &GroupKey) -> Result<Arc<Addr<GroupActor>>, GroupFailure> {
        let mut groups = self.groups.lock();
        if let Some(held) = groups.get(key) {
            return Ok(held.actor.clone());
        }
        if groups.len() >= limits::NODE_GROUPS {
            return Err(GroupFailure::Overloaded { retry_after_ms: 1_000 });
        }
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let arbiter = self.next_arbiter.fetch_add(1, Ordering::Relaxed) % self.arbiters.len();
        let group = GroupActor::new(key.clone(), generation, cluster.clone(), self.sealer.clone(), self.clone());
        let actor = Arc::new(GroupActor::start_in_arbiter(&self.arbiters[arbiter], move |_| group));
        groups.insert(key.clone(), Held { actor: actor.clone(), generation });
        Ok(actor)
    }

    /// The actor is idle: the next request gets a new one.
    pub(crate) fn release(&self, key: &GroupKey, generation: u64) {
        let mut groups = self.groups.lock();
        if groups.get(key).is_some_and(|held| held.generation == generation) {
            groups.remove(key);
        }
    }

    pub(crate) fn holds(&self, key: &GroupKey, generation: u64) -> bool {
        self.groups.lock().get(key).is_some_and(|held| held.generation == generation)
    }

    /// This node no longer leads the shard.
    pub(crate) fn retire(&self, shard: ShardId) {
        let Some(cluster) = self.cluster.get() else { return };
        let mut groups = self.groups.lock();
        let led = |key: &GroupKey| cluster.conversation_shard(&key.app, &key.conversation) == shard;
        for (_, held) in groups.extract_if(|key, _| led(key)) {
            // Full: the actor finds out by itself that it is no longer held.
            let _ = held.actor.try_send(Retire);
        }
    }

    /// The states of up to `limit` group actors, in no order.
    pub async fn group_states(&self, limit: usize) -> Vec<GroupState> {
        let actors: Vec<_> = self.groups.lock().values().take(limit).map(|held| held.actor.clone()).collect();
        let states = actors.iter().map(|actor| actor.send(Observe));
        futures_util::future::join_all(states).await.into_iter().flatten().collect()
    }

    pub fn observable_state(&self) -> DirectoryState {
        DirectoryState { groups: self.groups.lock().len(), made: self.generations.load(Ordering::Relaxed) }
    }
}
