//! Futures that begin at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Polls `future` once before it is handed to an actor's context.
///
/// A context polls what is spawned on it in no particular order (it swaps finished futures out), but requests that
/// came one after the other must enter the next queue in that order. They do so in their first poll.
pub(crate) fn started<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    // Whoever awaits this polls again, and then with a waker that counts.
    let first = poll(future.as_mut());
    async move {
        match first {
            Poll::Ready(output) => output,
            Poll::Pending => future.await,
        }
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[test]
    fn what_is_started_first_queues_first_whoever_is_polled_first() {
        let (queue, mut waiting) = mpsc::channel(4);
        let (done, mut answer) = oneshot::channel::<()>();
        let first_queue = queue.clone();
        let first = started(async move { first_queue.send(1).await });
        let second = started(async move {
            queue.send(2).await.ok();
            answer.try_recv()
        });
        assert!(second.now_or_never().is_some());
        assert!(first.now_or_never().is_some());
        drop(done);
        assert_eq!((waiting.try_recv(), waiting.try_recv()), (Ok(1), Ok(2)));
    }
}
