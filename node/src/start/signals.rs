//! The signals that ask a node to stop.

use tokio::sync::watch;

/// Hears of them from when it was made, also while nobody asks.
pub(super) struct StopSignals(watch::Receiver<bool>);

impl StopSignals {
    pub(super) fn listen() -> Self {
        let (tell, told) = watch::channel(false);
        actix::spawn(async move {
            first().await;
            tell.send_replace(true);
            // Whoever asks later is told the same.
            tell.closed().await;
        });
        Self(told)
    }

    /// Returns once the node was asked to stop.
    pub(super) async fn told(&mut self) {
        if self.0.wait_for(|told| *told).await.is_err() {
            // The task lives as long as this.
            std::future::pending().await
        }
    }

    pub(super) fn is_told(&self) -> bool {
        *self.0.borrow()
    }
}

async fn first() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without signals a node can only be killed, which it survives.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
