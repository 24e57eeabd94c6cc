//! After the last delivery: what every node's history holds of every group, against what was sent and acked; and whether
//! the replicas are the same. What members received was checked as it came.

use std::sync::Arc;
use std::time::Duration;

use campanile_client::{Client, Range};
use chat::ids::{ConversationId, UserId};
use chat::limits;
use chat::wire::WireEvent;
use futures_util::{StreamExt, TryStreamExt};

use super::{Measured, Plan, RunError};
use crate::check::replicas;
use crate::progress::Progress;
use crate::protocol::campanile::Campanile;
use crate::target::Target;

/// Groups read at once.
const READS_AT_ONCE: usize = 16;
/// Groups whose histories are read, spread evenly; the members of the others were checked as their messages came.
const GROUPS_READ: usize = 200;
/// How long replicas may take to agree once nothing is sent any more.
const DIGESTS_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn check(
    target: &Target,
    protocol: &Arc<Campanile>,
    users: &[String],
    plan: &Plan,
    measured: &mut Measured,
    progress: Progress,
) -> Result<(), RunError> {
    let groups = plan.shape.groups.len();
    let step = groups.div_ceil(GROUPS_READ).max(1);
    let numbers: Vec<usize> = (0..groups).step_by(step).collect();
    if numbers.len() < groups {
        let note = format!("the histories of {} of {groups} groups were read back, spread evenly", numbers.len());
        measured.checks.notes.push(note);
    }
    let expected = expected(plan, measured);
    let histories = read_all(target, protocol, users, plan, &numbers).await?;
    let mut equal = true;
    for (number, nodes) in numbers.iter().zip(&histories) {
        let name = protocol.conversation(*number as u32);
        equal &= judge(name, &expected[*number], nodes, measured);
    }
    measured.checks.histories_equal = (!numbers.is_empty()).then_some(equal);
    if target.admins.len() > 1 {
        let difference = replicas::differ(target, DIGESTS_WITHIN).await;
        measured.checks.digests_equal = Some(difference.is_none());
        match difference {
            None => progress.say("the histories and the replicas' digests were compared on all nodes"),
            Some(difference) => measured.checks.notes.push(format!("replicas differ: {difference}")),
        }
    }
    Ok(())
}

/// What a group's history may hold.
struct Expected {
    /// Events of its making.
    base: u64,
    /// Messages acked, and sent.
    acked: u64,
    sent: u64,
}

fn expected(plan: &Plan, measured: &Measured) -> Vec<Expected> {
    let mut unanswered = vec![0u64; measured.outcome.lanes.len()];
    for number in &measured.outcome.unanswered {
        unanswered[number.lane as usize] += 1;
    }
    let mut lane = 0;
    let group = |group: &crate::workload::GroupShape| {
        let lanes = lane..lane + group.senders.len();
        lane = lanes.end;
        let sent: u64 = measured.outcome.lanes[lanes.clone()].iter().map(|sent| u64::from(*sent)).sum();
        let unanswered: u64 = unanswered[lanes].iter().sum();
        let invited = group.members.len().saturating_sub(1);
        // One event for the creation with the first page of members, one for each page more.
        let base = if group.private { 0 } else { invited.div_ceil(limits::INVITE_USERS).max(1) as u64 };
        Expected { base, acked: sent - unanswered, sent }
    };
    plan.shape.groups.iter().map(group).collect()
}

/// A group as one node tells it: its head, and its last events.
struct History {
    node: String,
    head: u64,
    events: Vec<WireEvent>,
}

/// Whether all nodes tell the same, and it is what was sent.
fn judge(name: &str, expected: &Expected, nodes: &[History], measured: &mut Measured) -> bool {
    let Some(first) = nodes.first() else { return true };
    let messages = first.head.saturating_sub(expected.base);
    let checks = &mut measured.checks;
    if messages < expected.acked {
        let lost = expected.acked - messages;
        checks.lost += lost;
        checks.notes.push(format!("{lost} acked messages are not in the history of {name}"));
    }
    if messages > expected.sent {
        let more = messages - expected.sent;
        checks.duplicated += more;
        checks.notes.push(format!("the history of {name} holds {more} messages more than were sent"));
    }
    let mut equal = true;
    for other in &nodes[1..] {
        if (other.head, &other.events) != (first.head, &first.events) {
            equal = false;
            checks.notes.push(format!("the history of {name} differs between {} and {}", first.node, other.node));
        }
    }
    let holes = first.events.windows(2).filter(|pair| pair[1].seq != pair[0].seq + 1).count() as u64;
    let ends = u64::from(first.events.last().is_some_and(|event| event.seq != first.head));
    if holes + ends > 0 {
        checks.gaps += holes + ends;
        checks.notes.push(format!("the history of {name} has holes"));
    }
    equal
}

/// Of each group, its history by each node.
async fn read_all(
    target: &Target,
    protocol: &Campanile,
    users: &[String],
    plan: &Plan,
    numbers: &[usize],
) -> Result<Vec<Vec<History>>, RunError> {
    let reading = numbers.iter().map(|number| async move {
        let group = &plan.shape.groups[*number];
        let name = protocol.conversation(*number as u32);
        let mut histories = Vec::new();
        for (node, url) in target.urls.iter().enumerate() {
            let failed = |e: &dyn std::fmt::Display| RunError::Unhealthy(format!("history of {name} from {url}: {e}"));
            let reader = UserId::new(users[group.members[0] as usize].as_str()).map_err(|e| failed(&e))?;
            let options = target.client_of_node(&reader, "bench-verify", node)?;
            let (client, _events) = Client::connect(options).await.map_err(|e| failed(&e))?;
            let conversation: ConversationId = name.parse().map_err(|e| failed(&e))?;
            let history = read(&client, conversation, url, plan.read_back).await.map_err(|e| failed(&e))?;
            histories.push(history);
        }
        Ok::<_, RunError>(histories)
    });
    futures_util::stream::iter(reading).buffered(READS_AT_ONCE).try_collect().await
}

/// The last events of a conversation. One without messages may not exist, which is an empty history.
async fn read(
    client: &Client,
    conversation: ConversationId,
    node: &str,
    events_at_most: usize,
) -> Result<History, campanile_client::RequestError> {
    let mut history = History { node: node.to_owned(), head: 0, events: Vec::new() };
    let mut before = u64::MAX;
    while history.events.len() < events_at_most {
        let page = match client.history(conversation.clone(), Range::Before(before)).await {
            Ok(page) => page,
            Err(campanile_client::RequestError::Rejected { error, .. }) if error.name == "not_a_member" => break,
            Err(error) => return Err(error),
        };
        history.head = history.head.max(page.head);
        before = page.events.first().map_or(0, |event| event.seq);
        history.events.splice(0..0, page.events);
        if !page.more || before <= 1 {
            break;
        }
    }
    Ok(history)
}
