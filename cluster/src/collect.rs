//! Removing log records that no message is read from any more, on each node for itself.
//!
//! First everything in use is marked: a walk over the index of the shard's conversations names the entries that kept
//! messages are read from. Then what Raft has let go of ([`crate::purge`]) and is not marked is removed. Both go piece by
//! piece with pauses. What is committed meanwhile lies behind what is looked at, and what is deleted meanwhile stays marked
//! until the next time: so the marks may be old, but never wrong. The state they were made from is made durable before
//! anything is removed, so that no replay brings back an index of what is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chat::ids::ShardId;
use chat::state::walk;
use storage::{LogStore, StorageError};
use tokio::time::{MissedTickBehavior, interval};

use crate::Housekeeping;
use crate::cluster::Inner;
use crate::housekeeping::PAUSE;
use crate::replica::Replica;

/// Index pages looked at in one piece.
const PAGES: usize = 128;
/// Entries that one pass looks at: bounds the memory of its marks to an eighth of so many bytes.
const WINDOW: u64 = 32 * 1024 * 1024;
/// A pass is worth it once so many entries have been let go of since the last one.
const STEP: u64 = 64;
/// Where nothing was deleted there is little to remove: it has its turn every so many times.
const RARELY: u32 = 24;
/// Stretches of entries and records removed at once, and entries looked at.
const STRETCHES: usize = 64;
const RECORDS: usize = 512;
const LOOKED_AT: u64 = 1024 * 1024;

/// How far a shard has been looked through.
#[derive(Default, Clone)]
struct Done {
    /// Where the next pass begins; 0 for the log's beginning.
    next: u64,
    /// What was let go of, and the last entry that deleted something, at the last pass.
    purged: u64,
    trimmed: u64,
    /// Of the last pass over the same entries: what was not marked then is gone.
    marks: Option<Arc<Marks>>,
    /// Turns without a pass.
    idle: u32,
}

/// Entries by index, from `first` on.
struct Marks {
    first: u64,
    bits: Vec<u64>,
}

impl Marks {
    fn new(first: u64, last: u64) -> Self {
        let words = (last - first) / 64 + 1;
        Self { first, bits: vec![0; usize::try_from(words).unwrap_or_default()] }
    }

    fn place(&self, index: u64) -> Option<(usize, u64)> {
        let at = index.checked_sub(self.first)?;
        Some((usize::try_from(at / 64).ok()?, 1 << (at % 64)))
    }

    fn mark(&mut self, index: u64) {
        if let Some((word, bit)) = self.place(index)
            && let Some(bits) = self.bits.get_mut(word)
        {
            *bits |= bit;
        }
    }

    /// Entries outside of what was looked at count as marked.
    fn has(&self, index: u64) -> bool {
        let word = self.place(index).and_then(|(word, bit)| Some(self.bits.get(word)? & bit));
        word.is_none_or(|bit| bit != 0)
    }
}

pub(crate) async fn run(inner: Arc<Inner>, housekeeping: Housekeeping) {
    let mut clock = interval(housekeeping.collect_every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut done: BTreeMap<ShardId, Done> = BTreeMap::new();
    loop {
        clock.tick().await;
        for replica in &inner.replicas {
            let before = done.entry(replica.shard).or_default();
            match pass(replica, before.clone()).await {
                Ok(after) => *before = after,
                Err(error) => tracing::warn!(shard = %replica.shard, %error, "log records were not collected"),
            }
        }
    }
}

/// One pass over a shard. Gives up when another node begins to get a copy: what that is read from stays.
async fn pass(replica: &Replica, mut done: Done) -> Result<Done, StorageError> {
    let purged = replica.log.bounds().purged.map_or(0, |position| position.index);
    let trimmed = replica.chores().trimmed;
    let worth = done.next > 0 || purged >= done.purged + STEP;
    let turn = done.next > 0 || done.marks.is_none() || trimmed != done.trimmed || done.idle >= RARELY;
    if !worth || !turn || replica.state.is_copied() {
        done.idle += 1;
        return Ok(done);
    }
    let log = replica.log.clone();
    let Some(first) = blocking(move || log.first_stored()).await?.map(|first| first.max(done.next)) else {
        return Ok(done);
    };
    if first > purged {
        return Ok(Done { purged, trimmed, ..Done::default() });
    }
    let last = purged.min(first.saturating_add(WINDOW));
    let marks = Arc::new(mark(replica, first, last).await?);
    let state = replica.state.clone();
    blocking(move || state.checkpoint()).await?;

    let (mut at, mut removed) = (Some(first), 0);
    while let Some(from) = at {
        if replica.state.is_copied() {
            return Ok(done);
        }
        let sweep = Sweep { log: replica.log.clone(), marks: marks.clone(), before: done.marks.clone(), last };
        let (next, step) = blocking(move || sweep.step(from)).await?;
        (at, removed) = (next, removed + step);
        tokio::time::sleep(PAUSE).await;
    }
    if removed > 0 {
        tracing::info!(event = "records_collected", shard = %replica.shard, removed, through = last, "log records removed");
    }
    if last < purged {
        // The rest comes next, from where this pass stopped.
        return Ok(Done { next: last + 1, marks: None, ..done });
    }
    let marks = (done.next == 0).then_some(marks);
    Ok(Done { next: 0, purged, trimmed, marks, idle: 0 })
}

/// Removing what is not marked, up to `last`.
struct Sweep {
    log: LogStore,
    marks: Arc<Marks>,
    before: Option<Arc<Marks>>,
    last: u64,
}

impl Sweep {
    /// Not marked, and not removed by the pass before.
    fn is_dead(&self, index: u64) -> bool {
        !self.marks.has(index) && self.before.as_ref().is_none_or(|before| before.has(index))
    }

    /// Removes some records from `from` on. Where to go on, none at the end, and how many were removed.
    fn step(&self, from: u64) -> Result<(Option<u64>, usize), StorageError> {
        let end = self.last.min(from.saturating_add(LOOKED_AT));
        let (mut at, mut removed, mut stretches) = (from, 0, 0);
        while at <= end && removed < RECORDS && stretches < STRETCHES {
            if !self.is_dead(at) {
                at += 1;
                continue;
            }
            let stop = (at..=end).find(|index| !self.is_dead(*index)).unwrap_or(end + 1);
            let step = self.log.collect(at, stop - 1, |index| self.marks.has(index))?;
            (at, removed, stretches) = (step.next.unwrap_or(stop), removed + step.removed, stretches + 1);
        }
        Ok(((at <= self.last).then_some(at), removed))
    }
}

/// Marks the entries from `first` to `last` that messages are read from.
async fn mark(replica: &Replica, first: u64, last: u64) -> Result<Marks, StorageError> {
    let mut marks = Marks::new(first, last);
    let mut after: Option<Bytes> = None;
    loop {
        let view = replica.view();
        let (back, next) = blocking(move || {
            let next = walk::entries_in_use(&view, after, PAGES, |index| marks.mark(index))?;
            Ok((marks, next))
        })
        .await?;
        marks = back;
        match next {
            Some(next) => after = Some(next),
            None => return Ok(marks),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Off the runtime's workers, which heartbeats need.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StorageError::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_or_was_not_looked_at_is_kept() {
        let mut marks = Marks::new(100, 300);
        for index in [0, 100, 163, 164, 300, 1_000] {
            marks.mark(index);
        }
        let kept: Vec<u64> = (100..=300).filter(|index| marks.has(*index)).collect();
        assert_eq!(kept, [100, 163, 164, 300]);
        assert!(marks.has(99) && marks.has(1_000));
    }
}
