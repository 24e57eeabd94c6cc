//! The cluster's feature level as this node knows it ([`chat::level`], docs/adr/0022): which commands it proposes, which
//! peers it speaks with, and whether its own release is still recent enough.

use std::sync::atomic::{AtomicU16, Ordering};

use chat::command::Command;
use chat::ids::{NodeId, ShardId};
use chat::level;
use chat::state::query;
use storage::Engine;
use tokio::sync::watch;

use crate::StartError;
use crate::cluster::Cluster;
use crate::peer::hello::Levels;
use crate::proposer::ProposeError;
use crate::restore::RestoredView;

/// What this build supports, and what is switched on as far as is known here. That only rises, so that what is known may
/// be old but never wrong.
pub(crate) struct Level {
    supports: u16,
    on: AtomicU16,
    /// The cluster needs more than this build supports: the level it is at.
    outgrown: watch::Sender<Option<u16>>,
}

impl Level {
    pub(crate) fn new(supports: u16) -> Self {
        Self { supports, on: AtomicU16::new(level::OLDEST), outgrown: watch::Sender::new(None) }
    }

    pub(crate) fn on(&self) -> u16 {
        self.on.load(Ordering::Acquire)
    }

    /// The record says that `level` is switched on.
    pub(crate) fn raise(&self, level: u16) {
        self.on.fetch_max(level, Ordering::AcqRel);
        self.needed(level);
    }

    /// A member says that the cluster is at `level`.
    pub(crate) fn needed(&self, level: u16) {
        if level > self.supports {
            self.outgrown.send_replace(Some(level));
        }
    }

    pub(crate) fn outgrown(&self) -> Option<u16> {
        *self.outgrown.borrow()
    }

    /// Refuses a command that the log may not hold yet: members that do not know it could not go on.
    pub(crate) fn gate(&self, command: &Command) -> Result<(), ProposeError> {
        if level::allowed(command, self.on()) {
            return Ok(());
        }
        Err(ProposeError::NotSwitchedOn { level: level::needed(command) })
    }

    /// For the first words to a peer.
    pub(crate) fn greeting(&self) -> Levels {
        Levels { supports: self.supports, on: self.on() }
    }
}

/// Refuses to start on a state of a level that this build does not support, before anything of it is applied. What is
/// damaged says nothing here: it is repaired, and read again.
pub(crate) fn check(engine: &Engine, node: NodeId, supports: u16) -> Result<(), StartError> {
    let Ok(state) = engine.state(ShardId::META) else { return Ok(()) };
    match query::level(&RestoredView::of(state)) {
        Ok(level) if level > supports => Err(StartError::Outgrown { node, supports, level }),
        _ => Ok(()),
    }
}

impl Cluster {
    /// The feature level that is switched on, as far as this node has heard.
    pub fn level(&self) -> u16 {
        self.inner.level.on()
    }

    /// Returns once the cluster is at a feature level that this build does not support, if ever: that level. The node must
    /// end then, since it does not know what its log may hold.
    pub async fn outgrown(&self) -> u16 {
        let mut outgrown = self.inner.level.outgrown.subscribe();
        match outgrown.wait_for(Option::is_some).await.map(|level| *level) {
            Ok(Some(level)) => level,
            // The sender lives as long as this handle.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use chat::command::ClusterCommand;

    use super::*;

    #[test]
    fn the_level_only_rises_and_opens_the_gate() {
        let level = Level::new(2);
        let later = Command::Cluster(ClusterCommand::WithdrawJoinTokens);
        assert_eq!(level.gate(&later), Err(ProposeError::NotSwitchedOn { level: 2 }));
        assert_eq!(level.gate(&Command::Compare), Ok(()));
        level.raise(2);
        level.raise(1);
        assert_eq!((level.on(), level.gate(&later)), (2, Ok(())));
        assert_eq!(level.outgrown(), None);
        level.needed(3);
        assert_eq!((level.on(), level.outgrown()), (2, Some(3)), "a member's word ends this node, and opens nothing");
    }
}
