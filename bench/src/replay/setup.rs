//! Makes the groups and waits until every member hears of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use campanile_client::{Client, Range};
use chat::ids::UserId;
use chat::limits;
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::run::Run;
use super::{ReplayError, ReplayOptions};

/// Groups made at once.
const GROUPS_AT_ONCE: usize = 8;
/// How long the members' lists may take to follow.
const LISTED_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn make_groups(options: &ReplayOptions, run: &Run, clients: &[Client]) -> Result<(), ReplayError> {
    let made = AtomicU64::new(0);
    let groups = 0..run.plan.groups.len() as u32;
    let total = u64::from(groups.end);
    let making = futures_util::stream::iter(groups.map(|group| make_group(run, clients, group, &made)))
        .buffer_unordered(GROUPS_AT_ONCE)
        .try_collect::<()>();
    options.progress.follow("groups", total, || made.load(Ordering::Relaxed), making).await?;

    let memberships = run.plan.memberships() as u64;
    let listing = wait_until(LISTED_WITHIN, || run.listed() == memberships);
    if options.progress.follow("members", memberships, || run.listed(), listing).await {
        return Ok(());
    }
    let missing = memberships - run.listed();
    let within = LISTED_WITHIN.as_secs();
    Err(ReplayError::Unhealthy(format!(
        "{missing} of {memberships} members heard nothing of their group in {within} s"
    )))
}

async fn make_group(run: &Run, clients: &[Client], group: u32, made: &AtomicU64) -> Result<(), ReplayError> {
    let plan = &run.plan.groups[group as usize];
    let group = &run.groups[group as usize];
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        ReplayError::Unhealthy(format!("cannot {what} group {}: {e}", plan.name))
    };
    let owner = &clients[plan.members[0] as usize];
    let others: Vec<UserId> = plan.members[1..].iter().map(|member| run.plan.users[*member as usize].clone()).collect();
    let mut pages = others.chunks(limits::INVITE_USERS);
    let first = pages.next().unwrap_or_default().to_vec();
    owner.create_group(group.id, plan.name.clone(), first).await.map_err(|e| failed("create", &e))?;
    for page in pages {
        owner.invite(group.id, page.to_vec()).await.map_err(|e| failed("invite members to", &e))?;
    }
    let head = owner.history(group.conversation.clone(), Range::After(0)).await.map_err(|e| failed("read", &e))?.head;
    group.set_base(head);
    made.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Looks at a condition until it holds; says whether it came to hold in time.
pub(super) async fn wait_until(within: Duration, holds: impl Fn() -> bool) -> bool {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + within;
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    true
}
