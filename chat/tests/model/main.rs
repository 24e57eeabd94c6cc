//! The state machine against a twin that knows the same rules and nothing of its keys, records and pages.
//!
//! Random commands in random batches go to both; outcomes, events, heads, members, unread counts, the order of history
//! and the users' lists must agree. Beside it: replicas that keep their state differently end up equal, batches may be
//! split anywhere, and repeating a batch moves nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

mod actions;
mod cached;
mod changes;
mod twin;

use chat::command::{Command, EntryBatch, Original, Outcome, Owed};
use chat::event::{Committed, Event, Role};
use chat::ids::{ConversationId, UserId};
use chat::limits::DEDUPE_WINDOW_MS;
use chat::state::memory::MemoryState;
use chat::state::query::{self, Located};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};

use actions::{Action, action, app, conversations, retried, users};
use cached::Cached;
use changes::Standing;
use twin::Twin;

/// A conversation's shard and a home shard, with the log that the conversations' messages are found in.
#[derive(Default)]
struct Cluster {
    shard: MemoryState,
    log: Vec<EntryBatch>,
    home: MemoryState,
    home_entries: u64,
    carried: Vec<Command>,
}

impl Cluster {
    fn entry(&mut self, time_ms: u64, commands: Vec<Command>) -> chat::state::Delta {
        let batch = EntryBatch { time_ms, commands };
        self.log.push(batch.clone());
        self.shard.apply(self.log.len() as u64, &batch)
    }

    /// Carries up to `limit` outbox items; a crash between delivery and mark leaves them for the next time.
    fn carry(&mut self, limit: usize, crash: bool) -> usize {
        let items = query::outbox(&self.shard, limit).unwrap();
        let Some((through, _)) = items.last().cloned() else { return 0 };
        let list = |(_, owed): &(u64, Owed)| match owed {
            Owed::List(change) => Some(change.clone()),
            Owed::Pair(_) => None,
        };
        let changes = items.iter().filter_map(list).collect();
        let command = Command::ListChanges { changes };
        self.carried.push(command.clone());
        self.arrive(command);
        if !crash {
            self.entry(0, vec![Command::OutboxDelivered { through }]);
        }
        items.len()
    }

    fn arrive(&mut self, command: Command) -> chat::state::Delta {
        self.home_entries += 1;
        self.home.apply(self.home_entries, &EntryBatch { time_ms: 0, commands: vec![command] })
    }

    /// What is kept, and from which seq on.
    fn history(&self, conversation: &ConversationId) -> (u64, Vec<Event>) {
        let oldest_seq = query::oldest_seq(&self.shard, &app(), conversation).unwrap();
        let mut events = Vec::new();
        loop {
            let next = oldest_seq + events.len() as u64;
            // An odd page length, so that pages of history and of the index do not coincide.
            let from = if events.is_empty() { 1 } else { next };
            let page = query::locate(&self.shard, &app(), conversation, from, 7).unwrap();
            if page.is_empty() {
                return (oldest_seq, events);
            }
            for located in page {
                assert_eq!(located.seq(), oldest_seq + events.len() as u64, "history is dense and in order");
                events.push(self.resolve(located));
            }
        }
    }

    /// The command as a leader proposes it: with the message that it changes. None if there is no such message.
    fn proposed(&self, mut command: Command) -> Option<Command> {
        let Some((conversation, original)) = actions::original_of(&mut command) else { return Some(command) };
        let located = query::locate(&self.shard, &app(), &conversation, original.seq, 1).unwrap().pop()?;
        let time_ms = match &located {
            Located::Inline(_, time_ms, _) => *time_ms,
            Located::Message { log_index, .. } => self.log[*log_index as usize - 1].time_ms,
        };
        let same = located.seq() == original.seq;
        let Event::Message { author, client_msg_id, .. } = self.resolve(located) else { return None };
        *original = Original { author, client_msg_id, time_ms, ..original.clone() };
        same.then_some(command)
    }

    fn resolve(&self, located: Located) -> Event {
        let (log_index, position) = match located {
            Located::Inline(_, _, event) => return event,
            Located::Message { log_index, position_in_batch, .. } => (log_index, position_in_batch),
        };
        let command = &self.log[log_index as usize - 1].commands[position as usize];
        actions::message_of(command).unwrap_or_else(|| panic!("{command:?} is no message"))
    }
}

/// How every kept message stands, and which are pinned.
fn standings_agree(cluster: &Cluster, twin: &Twin, conversation: &ConversationId) -> Result<(), TestCaseError> {
    let Some(talk) = twin.look(conversation) else { return Ok(()) };
    prop_assert_eq!(query::pins(&cluster.shard, &app(), conversation).unwrap(), talk.pins());
    for seq in 1..=talk.head() {
        let annotation = query::annotation(&cluster.shard, &app(), conversation, seq).unwrap();
        let annotation = annotation.unwrap_or_default();
        let found = Standing {
            edits: annotation.edits.iter().map(|edit| edit.seq).collect(),
            recalled: annotation.recalled.map(|recall| recall.seq),
            reactions: annotation.reactions.into_iter().map(|known| (known.reaction, known.users)).collect(),
            pinned: annotation.pinned,
        };
        prop_assert_eq!(found, talk.standing(seq).unwrap_or_default(), "{} in {}", seq, conversation);
    }
    Ok(())
}

fn agree(cluster: &Cluster, twin: &Twin) -> Result<(), TestCaseError> {
    for conversation in conversations() {
        prop_assert_eq!(cluster.history(&conversation), twin.history(&conversation));
        standings_agree(cluster, twin, &conversation)?;
        let record = query::conversation(&cluster.shard, &app(), &conversation).unwrap();
        let members = twin.members(&conversation);
        let expected = twin.head(&conversation).map(|head| (head, members.len() as u64));
        prop_assert_eq!(record.map(|record| (record.head, record.members)), expected);
        let mut paged: Vec<(UserId, Role, u64)> = Vec::new();
        loop {
            let after = paged.last().map(|(user, ..)| user.clone());
            let page = query::members(&cluster.shard, &app(), &conversation, after.as_ref(), 2).unwrap();
            paged.extend(page.items.into_iter().map(|(user, member)| (user, member.role, member.joined)));
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(paged, members);
        for user in users() {
            let unread = query::unread(&cluster.shard, &app(), &conversation, &user).unwrap();
            prop_assert_eq!(unread, twin.unread(&conversation, &user), "{} in {}", user, conversation);
        }
    }
    for user in users() {
        let devices = query::devices(&cluster.shard, &app(), &user).unwrap();
        let devices: Vec<_> = devices.into_iter().map(|(id, device)| (id, device.last_login_ms)).collect();
        prop_assert_eq!(devices, twin.devices(&user));
        let seen = query::last_seen(&cluster.shard, &app(), &user).unwrap();
        let privacy = query::privacy(&cluster.shard, &app(), &user).unwrap();
        prop_assert_eq!((seen, privacy), twin.presence(&user));
    }
    Ok(())
}

/// When nothing waits in the outbox, a user's list is exactly where the user is a member, whatever an old leader that
/// comes back delivers again, in whatever order.
fn lists_agree(cluster: &mut Cluster, twin: &Twin) -> Result<(), TestCaseError> {
    while cluster.carry(3, false) > 0 {}
    for command in cluster.carried.clone().into_iter().rev() {
        prop_assert_eq!(cluster.arrive(command).events, vec![]);
    }
    for user in users() {
        let mut listed = Vec::new();
        loop {
            let page = query::conversations(&cluster.home, &app(), &user, listed.last(), 2).unwrap();
            listed.extend(page.items);
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(listed, twin.memberships(&user), "the list of {}", user);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_machine_and_its_twin_agree(batches in vec(vec(action(), 1..12), 1..24)) {
        let (mut cluster, mut twin) = (Cluster::default(), Twin::default());
        for (step, batch) in (1..).zip(&batches) {
            // So far apart that ids are forgotten on the way.
            let time_ms = step * DEDUPE_WINDOW_MS / 8;
            let commands = batch.iter().filter_map(Action::command);
            let commands: Vec<Command> = commands.filter_map(|command| cluster.proposed(command)).collect();
            let expected: Vec<Outcome> = commands.iter().map(|command| twin.apply(time_ms, command)).collect();
            let delta = cluster.entry(time_ms, commands);
            prop_assert_eq!(delta.outcomes, expected);
            prop_assert_eq!(delta.events, twin.take_events());
            for action in batch {
                if let Action::Carry { limit, crash } = action {
                    cluster.carry(*limit, *crash);
                }
            }
        }
        agree(&cluster, &twin)?;
        lists_agree(&mut cluster, &twin)?;
    }

    #[test]
    fn replicas_that_keep_their_state_differently_are_equal(
        batches in vec((vec(action(), 1..12), any::<bool>()), 1..16)
    ) {
        let (mut plain, mut cached) = (MemoryState::default(), Cached::default());
        for (index, (batch, checkpoint)) in (1..).zip(&batches) {
            let commands = batch.iter().filter_map(Action::command).collect();
            let batch = EntryBatch { time_ms: index, commands };
            prop_assert_eq!(plain.apply(index, &batch), cached.apply(index, &batch));
            if *checkpoint {
                cached.checkpoint();
            }
        }
        cached.checkpoint();
        prop_assert_eq!(plain, cached.below);
    }

    #[test]
    fn batches_may_be_split_anywhere(actions in vec((action(), any::<bool>()), 1..80)) {
        let commands: Vec<(Command, bool)> =
            actions.iter().filter_map(|(action, split)| Some((action.command()?, *split))).collect();
        let (mut together, mut apart) = (Cluster::default(), Cluster::default());
        let whole = together.entry(5, commands.iter().map(|(command, _)| command.clone()).collect());
        let (mut outcomes, mut events, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for (command, split) in commands {
            waiting.push(command);
            if split {
                let delta = apart.entry(5, std::mem::take(&mut waiting));
                outcomes.extend(delta.outcomes);
                events.extend(delta.events);
            }
        }
        let delta = apart.entry(5, waiting);
        outcomes.extend(delta.outcomes);
        events.extend(delta.events);
        prop_assert_eq!(whole.outcomes, outcomes);
        prop_assert_eq!(whole.events, events);
        for conversation in conversations() {
            let record = |cluster: &Cluster| query::conversation(&cluster.shard, &app(), &conversation).unwrap();
            prop_assert_eq!(record(&together), record(&apart), "head and digest");
            prop_assert_eq!(together.history(&conversation), apart.history(&conversation));
        }
        prop_assert_eq!(query::outbox(&together.shard, 9_999).unwrap(), query::outbox(&apart.shard, 9_999).unwrap());
    }

    #[test]
    fn repeating_a_batch_moves_nothing_that_was_done(
        before in vec(action(), 0..40),
        repeated in vec(retried(), 1..40),
    ) {
        let mut cluster = Cluster::default();
        cluster.entry(1, before.iter().filter_map(Action::command).collect());
        let commands: Vec<Command> = repeated.iter().filter_map(Action::command).collect();
        let first = cluster.entry(2, commands.clone());
        let heads = |cluster: &Cluster| -> Vec<_> {
            conversations().iter().map(|c| query::conversation(&cluster.shard, &app(), c).unwrap()).collect()
        };
        let after_first = heads(&cluster);
        // Only what was done is repeated: what was refused may be possible by now.
        let done = |outcome: &Outcome| matches!(outcome, Outcome::Applied { .. });
        let again = commands.into_iter().zip(&first.outcomes).filter(|(_, outcome)| done(outcome));
        let second = cluster.entry(3, again.map(|(command, _)| command).collect());
        let first: Vec<&Outcome> = first.outcomes.iter().filter(|outcome| done(outcome)).collect();
        for (second, first) in second.outcomes.iter().zip(first) {
            let (Outcome::Applied { seq: first, .. }, Outcome::Applied { seq, duplicate }) = (first, second) else {
                panic!("{first:?} then {second:?}");
            };
            prop_assert_eq!((seq, *duplicate), (first, true));
        }
        prop_assert!(!second.events.iter().any(|event| matches!(event, Committed::Sequenced(_))));
        prop_assert_eq!(heads(&cluster), after_first);
    }
}
