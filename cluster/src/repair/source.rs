//! A replica's state given to a peer that rebuilds its own: as it is right after an entry at which all replicas make a
//! digest, so that the peer can compare what it got with what the others have.

use std::sync::Arc;
use std::time::Duration;

use chat::limits::{REPAIR_PART_TIMEOUT_MS, REPAIR_PARTS};
use parking_lot::Mutex;
use storage::{Applied, FrozenState, STATE_PIECE_BYTES, SnapshotChunk, StateDigest};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::health::Health;

const PART_TIMEOUT: Duration = Duration::from_millis(REPAIR_PART_TIMEOUT_MS);

/// A piece of the state, or at its end what all of it comes to.
pub(crate) enum Part {
    Pairs(SnapshotChunk),
    End(StateDigest),
}

struct Stream {
    applied: Applied,
    parts: tokio::sync::Mutex<Parts>,
    asked: Mutex<Instant>,
}

struct Parts {
    next: u64,
    waiting: mpsc::Receiver<Part>,
}

/// What a replica gives away: one copy at a time, and only while somebody asks for it.
#[derive(Default)]
pub(crate) struct Source {
    /// When a peer wished for a copy.
    wished: Mutex<Option<Instant>>,
    stream: watch::Sender<Option<Arc<Stream>>>,
}

impl Source {
    /// A peer wants the state as it is after the next comparison. A copy that was under way ends.
    pub(crate) fn wish(&self) {
        self.stream.send_replace(None);
        *self.wished.lock() = Some(Instant::now());
    }

    /// The replicas are compared: here is the state, if somebody wished for it.
    pub(crate) fn begin(self: &Arc<Self>, state: impl FnOnce() -> FrozenState, health: &Arc<Health>) {
        let wished = self.wished.lock().take();
        if wished.is_none_or(|wished| wished.elapsed() > PART_TIMEOUT) || health.is_quarantined() {
            return;
        }
        let state = state();
        let (sender, waiting) = mpsc::channel(REPAIR_PARTS);
        let stream = Arc::new(Stream {
            applied: state.applied().clone(),
            parts: tokio::sync::Mutex::new(Parts { next: 0, waiting }),
            asked: Mutex::new(Instant::now()),
        });
        let health = health.clone();
        tokio::task::spawn_blocking(move || send(state, &sender, &health));
        tokio::spawn(end_when_idle(self.clone(), stream.clone()));
        self.stream.send_replace(Some(stream));
    }

    /// Part `number` of the copy, once it is made. None if there is no such copy (any more).
    pub(crate) async fn part(&self, number: u64) -> Option<(Applied, Part)> {
        let mut streams = self.stream.subscribe();
        let begun = timeout(PART_TIMEOUT, streams.wait_for(Option::is_some)).await;
        let stream = begun.ok()?.ok()?.clone()?;
        *stream.asked.lock() = Instant::now();
        let mut parts = stream.parts.lock().await;
        if parts.next != number {
            return None;
        }
        parts.next += 1;
        let part = timeout(PART_TIMEOUT, parts.waiting.recv()).await.ok()??;
        Some((stream.applied.clone(), part))
    }
}

/// On the blocking pool: waits for the peer to take what is ready.
fn send(state: FrozenState, parts: &mpsc::Sender<Part>, health: &Health) {
    let (mut pairs, mut bytes) = (Vec::new(), 0);
    let flush =
        |pairs: &mut Vec<_>| parts.blocking_send(Part::Pairs(SnapshotChunk::State(std::mem::take(pairs)))).is_ok();
    let digest = state.read(|pair| {
        bytes += pair.0.len() + pair.1.len();
        pairs.push(pair);
        if bytes < STATE_PIECE_BYTES {
            return true;
        }
        bytes = 0;
        flush(&mut pairs)
    });
    match health.seen(digest) {
        Ok(Some(digest)) if flush(&mut pairs) => {
            // The peer may be gone.
            let _ = parts.blocking_send(Part::End(digest));
        }
        // What is cut off has no end: the peer takes another source.
        Ok(_) | Err(_) => {}
    }
}

/// A copy holds the state still in memory: a peer that does not go on asking has lost it.
async fn end_when_idle(source: Arc<Source>, stream: Arc<Stream>) {
    loop {
        let idle = stream.asked.lock().elapsed();
        let Some(left) = (2 * PART_TIMEOUT).checked_sub(idle) else { break };
        tokio::time::sleep(left).await;
        if Arc::strong_count(&stream) == 1 {
            return;
        }
    }
    source.stream.send_if_modified(|current| {
        let same = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &stream));
        if same {
            *current = None;
        }
        same
    });
}
