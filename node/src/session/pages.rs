//! How many pages of history and lists the node reads for clients at once. They are what can wait: under pressure they are
//! refused before messages are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chat::errors::ErrorCode;
use chat::limits::{PAGES_AT_ONCE, PAGES_AT_ONCE_PRESSED, PAGES_WAITING};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The node's turns. Clones share them.
#[derive(Clone)]
pub struct Pages {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// One of those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Pages {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(PAGES_AT_ONCE)), waiting: Arc::default() }
    }
}

impl Pages {
    /// A turn to read, held while it is read; `Overloaded` if too many wait for one, or if the node is `pressed` and some
    /// are being read.
    pub(crate) async fn turn(&self, pressed: bool) -> Result<OwnedSemaphorePermit, ErrorCode> {
        if pressed && self.turns.available_permits() + PAGES_AT_ONCE_PRESSED <= PAGES_AT_ONCE {
            return Err(ErrorCode::Overloaded);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= PAGES_WAITING {
            return Err(ErrorCode::Overloaded);
        }
        self.turns.clone().acquire_owned().await.map_err(|_| ErrorCode::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_read_so_many_at_once_wait_so_many_and_are_the_first_to_go() {
        let pages = Pages::default();
        let first = pages.turn(true).await.unwrap();
        let second = pages.turn(true).await.unwrap();
        assert_eq!(pages.turn(true).await.err(), Some(ErrorCode::Overloaded), "under pressure");
        let mut others = Vec::new();
        for _ in PAGES_AT_ONCE_PRESSED..PAGES_AT_ONCE {
            others.push(pages.turn(false).await.unwrap());
        }
        let mut waiting: Vec<_> = (0..PAGES_WAITING).map(|_| Box::pin(pages.turn(false))).collect();
        for turn in &mut waiting {
            assert!(futures_util::poll!(turn.as_mut()).is_pending());
        }
        assert_eq!(pages.turn(false).await.err(), Some(ErrorCode::Overloaded), "too many wait");
        drop(first);
        assert!(waiting.remove(0).await.is_ok());
        drop((second, others, waiting));
        assert_eq!(pages.waiting.load(Ordering::Relaxed), 0, "whoever gives up waits no more");
    }
}
