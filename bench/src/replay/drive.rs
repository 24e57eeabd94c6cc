//! Sends the messages: handed out in the plan's order, one at a time per sender, a bounded number overall.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use campanile_client::{Client, SendError};
use chat::wire::Target;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ReplayOptions;
use super::run::{FailedSend, Run};
use crate::plan::Pace;
use crate::target::unix_ms;

/// A message handed to its sender; its permit goes back when the send has ended.
type Handed = (u32, OwnedSemaphorePermit);

/// Returns how long it took.
pub(super) async fn send_everything(options: &ReplayOptions, run: &Arc<Run>, clients: &[Client]) -> Duration {
    let mut senders = JoinSet::new();
    let queues: Vec<mpsc::UnboundedSender<Handed>> = clients
        .iter()
        .map(|client| {
            // Bounded by the permits, not by the queue.
            let (queue, handed) = mpsc::unbounded_channel();
            senders.spawn(send_in_order(run.clone(), client.clone(), handed));
            queue
        })
        .collect();
    let start = Instant::now();
    run.tallies.first_send_us.store(run.now_us(), Ordering::Relaxed);
    let total = run.plan.messages.len() as u64;
    let sending = async {
        hand_out(options, run, queues, start).await;
        while senders.join_next().await.is_some() {}
    };
    options.progress.follow("acks", total, || run.tallies.acked.load(Ordering::Relaxed), sending).await;
    start.elapsed()
}

async fn hand_out(options: &ReplayOptions, run: &Run, queues: Vec<mpsc::UnboundedSender<Handed>>, start: Instant) {
    let window = Arc::new(Semaphore::new(options.in_flight.max(1)));
    for (message, plan) in run.plan.messages.iter().enumerate() {
        if let Pace::Times(times) = options.pace {
            tokio::time::sleep_until(start + Duration::from_millis(plan.offset_ms / u64::from(times.max(1)))).await;
        }
        let Ok(permit) = window.clone().acquire_owned().await else { return };
        // A sender's task ends only after its queue.
        let _ = queues[plan.sender as usize].send((message as u32, permit));
    }
}

async fn send_in_order(run: Arc<Run>, client: Client, mut handed: mpsc::UnboundedReceiver<Handed>) {
    while let Some((message, permit)) = handed.recv().await {
        send(&run, &client, message).await;
        drop(permit);
    }
}

async fn send(run: &Run, client: &Client, message: u32) {
    let plan = &run.plan.messages[message as usize];
    let group = &run.groups[plan.group as usize];
    let id = run.ledger.id(message, unix_ms());
    let sent_us = run.now_us();
    run.ledger.sent(message, sent_us);
    run.meters.sent(group.shard, sent_us);
    let outcome = client.send_with_id(Target::Group(group.id), id, plan.body.clone()).await;
    let now_us = run.now_us();
    match outcome {
        Ok(sent) => {
            run.ledger.acked(message, sent.seq);
            run.meters.ended(group.shard, Some(now_us - sent_us), now_us);
            run.tallies.acked.fetch_add(1, Ordering::Relaxed);
            run.tallies.duplicate_acks.fetch_add(u64::from(sent.duplicate), Ordering::Relaxed);
        }
        Err(error) => {
            run.meters.ended(group.shard, None, now_us);
            let unknown = matches!(error, SendError::Unknown { .. });
            run.fail(FailedSend { message, unknown, kind: kind(&error) });
        }
    }
}

/// What all failures of this kind have in common.
fn kind(error: &SendError) -> String {
    let (outcome, last) = match error {
        SendError::Unknown { last, .. } => ("unknown", last.as_ref()),
        SendError::NotSent { last, .. } => ("not sent", last.as_ref()),
        SendError::Rejected { error } => ("refused", Some(error)),
        SendError::TooLarge { .. } => ("too large", None),
    };
    last.map_or_else(|| outcome.to_owned(), |last| format!("{outcome}, last answer C{} {}", last.code, last.name))
}
