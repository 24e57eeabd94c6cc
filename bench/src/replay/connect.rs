//! Everybody logs in and stays: one client and one receiving task per user.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use campanile_client::Client;
use futures_util::{StreamExt, TryStreamExt};

use super::run::Run;
use super::{ReplayError, ReplayOptions};
use crate::target::Target;

/// The clients in the order of the plan's users.
pub(super) async fn connect_all(
    options: &ReplayOptions,
    target: &Arc<Target>,
    run: &Arc<Run>,
) -> Result<Vec<Client>, ReplayError> {
    let users = 0..run.plan.users.len() as u32;
    let total = u64::from(users.end);
    let connecting = futures_util::stream::iter(users.map(|user| connect(options, target.clone(), run.clone(), user)))
        .buffered(options.logins.max(1))
        .try_collect();
    let connected = || run.tallies.connected.load(Ordering::Relaxed);
    options.progress.follow("logins", total, connected, connecting).await
}

async fn connect(
    options: &ReplayOptions,
    target: Arc<Target>,
    run: Arc<Run>,
    user: u32,
) -> Result<Client, ReplayError> {
    let name = &run.plan.users[user as usize];
    let first = (u64::from(user) ^ options.seed) as usize % target.urls.len().max(1);
    let mut client_options = target.client(name, "bench", first)?;
    client_options.request_timeout = options.send_timeout;
    let (client, mut events) = Client::connect(client_options)
        .await
        .map_err(|e| ReplayError::Unhealthy(format!("{name} cannot log in: {e}")))?;
    run.tallies.connected.fetch_add(1, Ordering::Relaxed);
    // Ends when the client is dropped, at the end of the run.
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            run.receive(user, &event);
        }
    });
    Ok(client)
}
