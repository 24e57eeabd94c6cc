//! Damaged log records that nobody needs: Raft has let go of them and no message is read from them any more. The other
//! members may have removed theirs already, so there is nothing to take them from; here they are removed, too, as
//! [`crate::collect`] would sooner or later.

use std::collections::BTreeSet;

use bytes::Bytes;
use chat::state::walk;
use storage::{Damage, StorageError};
use tokio::time::sleep;

use super::records::LogRepair;
use crate::collect::blocking;
use crate::consensus::state_machine::ShardView;
use crate::housekeeping::PAUSE;

/// Index pages looked at in one piece.
const PAGES: usize = 128;

impl LogRepair {
    /// Removes those of the damaged records that nobody needs; whether the one at `index` was among them. One walk over the
    /// shard's index for all of them.
    pub(super) async fn drop_needless(&self, index: u64) -> Result<bool, StorageError> {
        let purged = self.log.bounds().purged.map_or(0, |position| position.index);
        // Who gets a copy of the state now may be read from it.
        if index > purged || self.state.is_copied() {
            return Ok(false);
        }
        let mut suspects = self.health.damaged_records(purged);
        suspects.insert(index);
        let needless = self.without_readers(suspects).await?;
        if needless.is_empty() {
            return Ok(false);
        }
        // After a crash no replay may bring back an index of what is gone.
        let state = self.state.clone();
        blocking(move || state.checkpoint()).await?;
        for index in &needless {
            let (log, index) = (self.log.clone(), *index);
            blocking(move || log.collect(index, index, |_| false)).await?;
            self.health.dropped(Damage::Log { index });
        }
        Ok(needless.contains(&index))
    }

    /// Those of the records that no message is read from.
    async fn without_readers(&self, mut suspects: BTreeSet<u64>) -> Result<BTreeSet<u64>, StorageError> {
        let view = ShardView::new(self.state.clone(), self.health.clone());
        let mut after: Option<Bytes> = None;
        while !suspects.is_empty() {
            let view = view.clone();
            let piece = blocking(move || {
                let next = walk::entries_in_use(&view, after, PAGES, |index| {
                    suspects.remove(&index);
                })?;
                Ok((suspects, next))
            });
            let (left, next) = piece.await?;
            suspects = left;
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
            sleep(PAUSE).await;
        }
        Ok(suspects)
    }
}
