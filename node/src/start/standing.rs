//! Nodes that come, are promoted and go, for the security log: the cluster decides that by itself once an operator has
//! asked for it, and every node records what it hears.

use std::collections::BTreeMap;

use chat::ids::NodeId;
use cluster::PeerStatus;

/// Where each node of the cluster stands: `joining`, `active` or `leaving`.
#[derive(Debug, Default)]
pub(super) struct Standing(Option<BTreeMap<NodeId, String>>);

impl Standing {
    /// What has changed since the last look, as it is to be recorded; nothing at the first one.
    pub(super) fn look(&mut self, peers: &[PeerStatus]) -> Vec<(NodeId, String)> {
        let now: BTreeMap<NodeId, String> = peers.iter().map(|peer| (peer.node, peer.state.clone())).collect();
        let Some(before) = self.0.replace(now.clone()) else { return Vec::new() };
        let changed = now.iter().filter(|(node, state)| before.get(node) != Some(state));
        let gone = before.keys().filter(|node| !now.contains_key(node)).map(|node| (*node, "removed".to_owned()));
        changed.map(|(node, state)| (*node, state.clone())).chain(gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(states: &[(NodeId, &str)]) -> Vec<PeerStatus> {
        let peer = |(node, state): &(NodeId, &str)| PeerStatus {
            node: *node,
            address: String::new(),
            connected: true,
            leaving: false,
            state: (*state).to_owned(),
            zone: String::new(),
            client: String::new(),
            admin: String::new(),
            version: None,
            release: None,
            supports: None,
            refused: None,
        };
        states.iter().map(peer).collect()
    }

    #[test]
    fn each_change_is_told_once() {
        let mut standing = Standing::default();
        assert_eq!(standing.look(&peers(&[(1, "active")])), []);
        let joined = standing.look(&peers(&[(1, "active"), (2, "joining")]));
        assert_eq!(joined, [(2, "joining".to_owned())]);
        assert_eq!(standing.look(&peers(&[(1, "active"), (2, "joining")])), []);
        let changed = standing.look(&peers(&[(1, "leaving"), (2, "active")]));
        assert_eq!(changed, [(1, "leaving".to_owned()), (2, "active".to_owned())]);
        assert_eq!(standing.look(&peers(&[(2, "active")])), [(1, "removed".to_owned())]);
    }
}
