//! The metadata group's record of nodes: who may join, who is there, and which of them vote in which shard.

use super::overlay::{Overlay, Step, Stop, require};
use super::record::{ClusterSettings, JoinToken, Node, NodeState, Placement, Record, Roster};
use super::{View, done, key, level, made, turn};
use crate::command::{ClusterCommand, NodeFacts, Outcome};
use crate::errors::ErrorCode;
use crate::ids::{NodeId, ShardId};
use crate::limits;

pub(super) fn apply<V: View>(work: &mut Overlay<'_, V>, command: &ClusterCommand) -> Step<Outcome, V> {
    establish(work)?;
    match command {
        ClusterCommand::AddJoinToken { secret, expires_ms, uses } => add_token(work, secret, *expires_ms, *uses),
        ClusterCommand::JoinNode { secret, key, facts } => join(work, secret, key, facts),
        ClusterCommand::DescribeNode { node, facts } => describe(work, *node, facts),
        ClusterCommand::PromoteNode { node } => promote(work, *node),
        ClusterCommand::RemoveNode { node } => remove(work, *node),
        ClusterCommand::ForgetNode { node } => forget(work, *node),
        ClusterCommand::Place { shard, voters } => place(work, *shard, voters),
        ClusterCommand::Rebalance { wanted, replicas } => rebalance(work, *wanted, *replicas),
        ClusterCommand::DescribeBuild { node, level, version } => level::describe(work, *node, *level, version),
        ClusterCommand::SetLevel { level } => level::set(work, *level),
        ClusterCommand::WithdrawJoinTokens => withdraw_tokens(work),
        ClusterCommand::TakeTurn { node, for_ms } => turn::take(work, *node, *for_ms),
        ClusterCommand::EndTurn { node } => turn::end(work, *node),
        ClusterCommand::Found { .. }
        | ClusterCommand::FoundAt { .. }
        | ClusterCommand::RegisterApp { .. }
        | ClusterCommand::App { .. }
        | ClusterCommand::Restored { .. } => Err(Stop::Rejected(ErrorCode::Internal)),
    }
}

/// Writes down the nodes that the cluster was founded with, before the first command about nodes.
fn establish<V: View>(work: &mut Overlay<'_, V>) -> Step<(), V> {
    if work.load::<Roster>(&key::roster())?.is_some() {
        return Ok(());
    }
    let Some(settings) = work.load::<ClusterSettings>(&key::cluster_settings())? else { return Ok(()) };
    for (id, node) in founders(&settings) {
        work.store(key::node(id), &node);
    }
    work.store(key::roster(), &first_roster(&settings));
    Ok(())
}

/// Forgets the nodes of the cluster that a backup was made of. Their ids are not given again either.
pub(super) fn begin_anew<V: View>(work: &mut Overlay<'_, V>, settings: &ClusterSettings) -> Step<(), V> {
    let before = work.load::<Roster>(&key::roster())?;
    for prefix in [key::nodes(), key::placements(), key::join_tokens(), key::builds()] {
        for (key, _) in work.scan(&prefix, usize::MAX)? {
            work.remove(key);
        }
    }
    work.remove(key::turn());
    for (id, node) in founders(settings) {
        work.store(key::node(id), &node);
    }
    let roster = first_roster(settings);
    let before = before.unwrap_or(roster);
    work.store(key::roster(), &Roster { next: roster.next.max(before.next), replicas: before.replicas, ..roster });
    Ok(())
}

/// The nodes that a cluster began with.
pub(super) fn founders(settings: &ClusterSettings) -> Vec<(NodeId, Node)> {
    let founder = |(id, peer): &(NodeId, String)| {
        let facts = NodeFacts { peer: peer.clone(), ..NodeFacts::default() };
        (*id, Node { facts, state: NodeState::Active, since_ms: settings.founded_ms, key: [0; 32] })
    };
    settings.nodes.iter().map(founder).collect()
}

pub(super) fn first_roster(settings: &ClusterSettings) -> Roster {
    let next = settings.nodes.iter().map(|(id, _)| *id).max().unwrap_or_default() + 1;
    Roster { next, replicas: limits::REPLICAS_DEFAULT, rebalance: false }
}

fn roster<V: View>(work: &Overlay<'_, V>) -> Step<Roster, V> {
    work.load::<Roster>(&key::roster())?.ok_or(Stop::Rejected(ErrorCode::Unavailable))
}

fn node<V: View>(work: &Overlay<'_, V>, id: NodeId) -> Step<Option<Node>, V> {
    work.load(&key::node(id))
}

/// The node, if it is in one of these states.
pub(super) fn node_in<V: View>(work: &Overlay<'_, V>, id: NodeId, states: &[NodeState]) -> Step<Node, V> {
    match node(work, id)? {
        Some(node) if states.contains(&node.state) => Ok(node),
        Some(_) => Err(Stop::Rejected(ErrorCode::Forbidden)),
        None => Err(Stop::Rejected(ErrorCode::InvalidField)),
    }
}

/// Every node that is not gone.
pub(super) fn present<V: View>(work: &Overlay<'_, V>) -> Step<Vec<(NodeId, Node)>, V> {
    let next = roster(work)?.next;
    let mut present = Vec::new();
    for id in 0..next {
        if let Some(node) = node(work, id)?.filter(|node| node.state != NodeState::Removed) {
            present.push((id, node));
        }
    }
    Ok(present)
}

fn set_state<V: View>(work: &mut Overlay<'_, V>, id: NodeId, node: Node, state: NodeState) {
    let node = Node { state, since_ms: work.time_ms, ..node };
    work.store(key::node(id), &node);
}

fn add_token<V: View>(work: &mut Overlay<'_, V>, secret: &[u8; 32], expires_ms: u64, uses: u32) -> Step<Outcome, V> {
    let lifetime = expires_ms.saturating_sub(work.time_ms);
    require(uses > 0 && lifetime > 0 && lifetime <= limits::JOIN_TOKEN_LIFETIME_MS, ErrorCode::InvalidField)?;
    let known = work.scan(&key::join_tokens(), limits::JOIN_TOKENS)?;
    let (over, valid): (Vec<_>, Vec<_>) =
        known.into_iter().partition(|(_, token)| JoinToken::from_bytes(token).expires_ms <= work.time_ms);
    require(valid.len() < limits::JOIN_TOKENS, ErrorCode::LimitReached)?;
    for (key, _) in over {
        work.remove(key);
    }
    work.store(key::join_token(secret), &JoinToken { expires_ms, uses });
    Ok(done(false))
}

fn withdraw_tokens<V: View>(work: &mut Overlay<'_, V>) -> Step<Outcome, V> {
    let tokens = work.scan(&key::join_tokens(), limits::JOIN_TOKENS)?;
    let none = tokens.is_empty();
    for (key, _) in tokens {
        work.remove(key);
    }
    Ok(done(none))
}

fn join<V: View>(
    work: &mut Overlay<'_, V>,
    secret: &[u8; 32],
    public_key: &[u8; 32],
    facts: &NodeFacts,
) -> Step<Outcome, V> {
    require(facts.fits(), ErrorCode::InvalidField)?;
    let token_key = key::join_token(secret);
    let token = work.load::<JoinToken>(&token_key)?;
    let token = token.ok_or(Stop::Rejected(ErrorCode::BadCredentials))?;
    require(token.expires_ms > work.time_ms, ErrorCode::TokenExpired)?;
    let present = present(work)?;
    // Its first attempt was taken and it did not hear of it.
    if let Some((id, _)) = present.iter().find(|(_, node)| node.key == *public_key) {
        return Ok(Outcome::Applied { seq: *id, duplicate: true });
    }
    require(token.uses > 0, ErrorCode::BadCredentials)?;
    require(present.len() < limits::NODES_MAX, ErrorCode::LimitReached)?;
    require(present.iter().all(|(_, node)| node.facts.peer != facts.peer), ErrorCode::IdConflict)?;
    let roster = roster(work)?;
    let node = Node { facts: facts.clone(), state: NodeState::Joining, since_ms: work.time_ms, key: *public_key };
    work.store(key::node(roster.next), &node);
    work.store(key::roster(), &Roster { next: roster.next + 1, ..roster });
    work.store(token_key, &JoinToken { uses: token.uses - 1, ..token });
    Ok(made(roster.next))
}

fn describe<V: View>(work: &mut Overlay<'_, V>, id: NodeId, facts: &NodeFacts) -> Step<Outcome, V> {
    require(facts.fits(), ErrorCode::InvalidField)?;
    let node = node_in(work, id, &[NodeState::Joining, NodeState::Active, NodeState::Leaving])?;
    let same = node.facts == *facts;
    if !same {
        let node = Node { facts: facts.clone(), ..node };
        work.store(key::node(id), &node);
    }
    Ok(done(same))
}

fn promote<V: View>(work: &mut Overlay<'_, V>, id: NodeId) -> Step<Outcome, V> {
    let node = node_in(work, id, &[NodeState::Joining, NodeState::Active])?;
    if node.state == NodeState::Active {
        return Ok(done(true));
    }
    set_state(work, id, node, NodeState::Active);
    rebalance(work, true, 0)?;
    Ok(done(false))
}

fn remove<V: View>(work: &mut Overlay<'_, V>, id: NodeId) -> Step<Outcome, V> {
    let node = node_in(work, id, &[NodeState::Joining, NodeState::Active, NodeState::Leaving])?;
    if node.state == NodeState::Leaving {
        return Ok(done(true));
    }
    let others = present(work)?.into_iter().filter(|(other, node)| *other != id && node.state == NodeState::Active);
    // Somebody must be left to hold what it holds.
    require(others.count() > 0, ErrorCode::Forbidden)?;
    set_state(work, id, node, NodeState::Leaving);
    Ok(done(false))
}

fn forget<V: View>(work: &mut Overlay<'_, V>, id: NodeId) -> Step<Outcome, V> {
    let node = node_in(work, id, &[NodeState::Leaving, NodeState::Removed])?;
    if node.state == NodeState::Removed {
        return Ok(done(true));
    }
    set_state(work, id, node, NodeState::Removed);
    // What it had was given to whoever could take it at the time.
    rebalance(work, true, 0)?;
    Ok(done(false))
}

fn place<V: View>(work: &mut Overlay<'_, V>, shard: ShardId, voters: &[NodeId]) -> Step<Outcome, V> {
    let settings = work.load::<ClusterSettings>(&key::cluster_settings())?;
    require(settings.is_some_and(|settings| shard.0 <= settings.shards), ErrorCode::InvalidField)?;
    require((1..=limits::NODES_MAX).contains(&voters.len()), ErrorCode::InvalidField)?;
    for (at, voter) in voters.iter().enumerate() {
        require(!voters[..at].contains(voter), ErrorCode::InvalidField)?;
        node_in(work, *voter, &[NodeState::Active])?;
    }
    let (key, wanted) = (key::placement(shard), Placement { voters: voters.to_vec() });
    let same = work.load::<Placement>(&key)?.as_ref() == Some(&wanted);
    if !same {
        work.store(key, &wanted);
    }
    Ok(done(same))
}

fn rebalance<V: View>(work: &mut Overlay<'_, V>, wanted: bool, replicas: u8) -> Step<Outcome, V> {
    let before = roster(work)?;
    let replicas = if replicas == 0 { before.replicas } else { replicas };
    // An even number survives no more failures than the odd one below it.
    require(replicas % 2 == 1 && usize::from(replicas) <= limits::NODES_MAX, ErrorCode::InvalidField)?;
    let after = Roster { replicas, rebalance: wanted, ..before };
    if after != before {
        work.store(key::roster(), &after);
    }
    Ok(done(after == before))
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, no, ok};
    use super::*;
    use crate::command::Command;

    const SECRET: [u8; 32] = [1; 32];

    fn founded() -> Shard {
        let mut meta = Shard::default();
        let nodes = vec![(1, "one:1".to_owned())];
        let found = ClusterCommand::Found { cluster: "c".to_owned(), shards: 4, stream_epoch: 1, nodes };
        assert_eq!(meta.one(Command::Cluster(found)), ok(0));
        meta
    }

    fn facts(peer: &str) -> NodeFacts {
        NodeFacts { peer: peer.to_owned(), ..NodeFacts::default() }
    }

    fn join(meta: &mut Shard, key: u8, peer: &str) -> Outcome {
        meta.one(Command::Cluster(ClusterCommand::JoinNode { secret: SECRET, key: [key; 32], facts: facts(peer) }))
    }

    fn token(meta: &mut Shard, lifetime_ms: u64, uses: u32) -> Outcome {
        let expires_ms = (meta.index + 1) * 1_000 + lifetime_ms;
        meta.one(Command::Cluster(ClusterCommand::AddJoinToken { secret: SECRET, expires_ms, uses }))
    }

    fn states(meta: &Shard) -> Vec<(NodeId, NodeState)> {
        query::nodes(&meta.state).unwrap().into_iter().map(|(id, node)| (id, node.state)).collect()
    }

    #[test]
    fn a_token_lets_in_as_many_as_it_says_until_it_expires() {
        let mut meta = founded();
        assert_eq!(join(&mut meta, 2, "two:1"), no(ErrorCode::BadCredentials));
        assert_eq!(token(&mut meta, 0, 1), no(ErrorCode::InvalidField));
        assert_eq!(token(&mut meta, limits::JOIN_TOKEN_LIFETIME_MS + 1, 1), no(ErrorCode::InvalidField));
        assert_eq!(token(&mut meta, 5_500, 1), ok(0));
        assert_eq!(join(&mut meta, 2, ""), no(ErrorCode::InvalidField));
        assert_eq!(join(&mut meta, 2, "one:1"), no(ErrorCode::IdConflict), "another node's address");
        assert_eq!(join(&mut meta, 2, "two:1"), ok(2));
        assert_eq!(join(&mut meta, 2, "two:1"), again(2), "it did not hear the answer");
        assert_eq!(join(&mut meta, 3, "three:1"), no(ErrorCode::BadCredentials), "used up");
        assert_eq!(join(&mut meta, 3, "three:1"), no(ErrorCode::TokenExpired));
        assert_eq!(states(&meta), [(1, NodeState::Active), (2, NodeState::Joining)]);
    }

    #[test]
    fn an_id_is_never_given_twice() {
        let mut meta = founded();
        token(&mut meta, 100_000, 10);
        assert_eq!(join(&mut meta, 2, "two:1"), ok(2));
        let act = |meta: &mut Shard, command| meta.one(Command::Cluster(command));
        assert_eq!(act(&mut meta, ClusterCommand::RemoveNode { node: 1 }), no(ErrorCode::Forbidden), "nobody is left");
        assert_eq!(act(&mut meta, ClusterCommand::ForgetNode { node: 2 }), no(ErrorCode::Forbidden), "it was not told");
        assert_eq!(act(&mut meta, ClusterCommand::PromoteNode { node: 2 }), ok(0));
        assert_eq!(act(&mut meta, ClusterCommand::RemoveNode { node: 2 }), ok(0));
        assert_eq!(act(&mut meta, ClusterCommand::PromoteNode { node: 2 }), no(ErrorCode::Forbidden));
        assert_eq!(act(&mut meta, ClusterCommand::ForgetNode { node: 2 }), ok(0));
        assert_eq!(act(&mut meta, ClusterCommand::ForgetNode { node: 2 }), again(0));
        assert_eq!(act(&mut meta, ClusterCommand::RemoveNode { node: 9 }), no(ErrorCode::InvalidField));
        assert_eq!(join(&mut meta, 2, "two:1"), ok(3), "the same machine is another node");
        assert_eq!(states(&meta), [(1, NodeState::Active), (2, NodeState::Removed), (3, NodeState::Joining)]);
    }

    #[test]
    fn a_shard_is_placed_on_active_nodes_once_each() {
        let mut meta = founded();
        token(&mut meta, 100_000, 1);
        join(&mut meta, 2, "two:1");
        let place = |meta: &mut Shard, shard, voters: &[NodeId]| {
            meta.one(Command::Cluster(ClusterCommand::Place { shard: ShardId(shard), voters: voters.to_vec() }))
        };
        assert_eq!(place(&mut meta, 1, &[1, 2]), no(ErrorCode::Forbidden), "it has not caught up");
        meta.one(Command::Cluster(ClusterCommand::PromoteNode { node: 2 }));
        assert!(query::roster(&meta.state).unwrap().unwrap().rebalance);
        assert_eq!(place(&mut meta, 1, &[2, 1]), ok(0));
        assert_eq!(place(&mut meta, 1, &[2, 1]), again(0));
        for bad in [&[][..], &[1, 1], &[7]] {
            assert_eq!(place(&mut meta, 1, bad), no(ErrorCode::InvalidField));
        }
        assert_eq!(place(&mut meta, 5, &[1]), no(ErrorCode::InvalidField), "there is no such shard");
        let placed = query::placements(&meta.state, 10).unwrap();
        assert_eq!(placed, [(ShardId(1), vec![2, 1])]);
        let even = ClusterCommand::Rebalance { wanted: true, replicas: 4 };
        assert_eq!(meta.one(Command::Cluster(even)), no(ErrorCode::InvalidField));
    }
}
