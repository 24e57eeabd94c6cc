//! Users' conversation lists, which live on other shards than the conversations.
//!
//! A conversation's shard writes an outbox item in the same entry as the event behind it; the shard's leader carries
//! the items to the home shards ([`change`]) and then lets them go ([`delivered`]). A crash in between repeats the
//! delivery, which changes nothing: the newest seq of a conversation decides, whatever order changes arrive in.

use super::overlay::{Overlay, Step};
use super::record::{ListEntry, ListHead, ListOrder, OutboxHead, Record};
use super::{Scope, View, done, key};
use crate::command::{ListChange, Outcome, Owed};
use crate::event::Committed;
use crate::ids::{AppId, UserId};
use crate::limits;

/// Conversation's shard: `user` is to see the conversation in the list, or no longer, because of the event `seq`.
pub(super) fn announce<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    user: &UserId,
    seq: u64,
    listed: bool,
) -> Step<(), V> {
    let (app, user, conversation) = (scope.app.clone(), user.clone(), scope.conversation.clone());
    owe(work, &Owed::List(ListChange { app, user, conversation, seq, listed }))
}

/// Conversation's shard: one more item of the outbox.
pub(super) fn owe<V: View>(work: &mut Overlay<'_, V>, owed: &Owed) -> Step<(), V> {
    let mut outbox: OutboxHead = work.load(&key::outbox_head())?.unwrap_or_default();
    work.store(key::outbox_item(outbox.next), owed);
    outbox.next += 1;
    work.store(key::outbox_head(), &outbox);
    Ok(())
}

/// Conversation's shard: the items up to `through` have arrived.
pub(super) fn delivered<V: View>(work: &mut Overlay<'_, V>, through: u64) -> Step<Outcome, V> {
    let mut outbox: OutboxHead = work.load(&key::outbox_head())?.unwrap_or_default();
    let end = through.saturating_add(1).min(outbox.next);
    if end <= outbox.first {
        return Ok(done(true));
    }
    for number in outbox.first..end {
        work.remove(key::outbox_item(number));
    }
    outbox.first = end;
    work.store(key::outbox_head(), &outbox);
    Ok(done(false))
}

/// Home shard: conversations enter and leave users' lists.
pub(super) fn change<V: View>(work: &mut Overlay<'_, V>, changes: &[ListChange]) -> Step<Outcome, V> {
    let mut changed = false;
    for change in changes {
        changed |= change_one(work, change)?;
    }
    Ok(done(!changed))
}

/// Home shard, after a restore: entries become what they are to be, an older seq or not.
pub(super) fn restored<V: View>(work: &mut Overlay<'_, V>, entries: &[ListChange]) -> Step<Outcome, V> {
    for entry in entries {
        let known = work.load::<ListEntry>(&key::list_entry(&entry.app, &entry.user, &entry.conversation))?;
        put(work, entry, known)?;
    }
    Ok(done(false))
}

fn change_one<V: View>(work: &mut Overlay<'_, V>, change: &ListChange) -> Step<bool, V> {
    let known: Option<ListEntry> = work.load(&key::list_entry(&change.app, &change.user, &change.conversation))?;
    if known.as_ref().is_some_and(|known| known.seq >= change.seq) {
        return Ok(false);
    }
    put(work, change, known)?;
    Ok(true)
}

fn put<V: View>(work: &mut Overlay<'_, V>, change: &ListChange, known: Option<ListEntry>) -> Step<(), V> {
    let ListChange { app, user, conversation, seq, listed } = change;
    let before = known.and_then(|known| known.order);
    let order = match (before, listed) {
        (None, true) => Some(enter(work, change)?),
        (Some(order), false) => {
            leave(work, change, order)?;
            None
        }
        (unchanged, _) => unchanged,
    };
    let entry = ListEntry { conversation: conversation.clone(), seq: *seq, order };
    work.store(key::list_entry(app, user, conversation), &entry);
    Ok(())
}

fn enter<V: View>(work: &mut Overlay<'_, V>, change: &ListChange) -> Step<u64, V> {
    make_room(work, &change.app, &change.user)?;
    let head_key = key::list_head(&change.app, &change.user);
    let mut head: ListHead = work.load(&head_key)?.unwrap_or_default();
    let order = head.next_order;
    head.next_order += 1;
    head.listed += 1;
    work.store(head_key, &head);
    let conversation = change.conversation.clone();
    work.store(key::list_order(&change.app, &change.user, order), &ListOrder { conversation: conversation.clone() });
    work.emit(Committed::ConversationListed { app: change.app.clone(), user: change.user.clone(), conversation });
    Ok(order)
}

fn leave<V: View>(work: &mut Overlay<'_, V>, change: &ListChange, order: u64) -> Step<(), V> {
    let ListChange { app, user, conversation, .. } = change;
    let head_key = key::list_head(app, user);
    let mut head: ListHead = work.load(&head_key)?.unwrap_or_default();
    head.listed = head.listed.saturating_sub(1);
    work.store(head_key, &head);
    work.remove(key::list_order(app, user, order));
    let conversation = conversation.clone();
    work.emit(Committed::ConversationUnlisted { app: app.clone(), user: user.clone(), conversation });
    Ok(())
}

/// A full list lets the conversation go that entered it first. The user remains its member and can name it, but does
/// not find it in the list. Refusing the new one instead would hold up the outbox, and let a user's list be filled
/// for good by strangers.
fn make_room<V: View>(work: &mut Overlay<'_, V>, app: &AppId, user: &UserId) -> Step<(), V> {
    let head: ListHead = work.load(&key::list_head(app, user))?.unwrap_or_default();
    if head.listed < limits::USER_CONVERSATIONS as u64 {
        return Ok(());
    }
    let Some((_, oldest)) = work.scan(&key::list_orders(app, user), 1)?.pop() else {
        return Ok(());
    };
    let conversation = ListOrder::from_bytes(&oldest).conversation;
    let entry_key = key::list_entry(app, user, &conversation);
    let Some(entry) = work.load::<ListEntry>(&entry_key)? else {
        return Ok(());
    };
    let Some(order) = entry.order else {
        return Ok(());
    };
    work.store(entry_key, &ListEntry { order: None, ..entry.clone() });
    let change = ListChange { app: app.clone(), user: user.clone(), conversation, seq: entry.seq, listed: false };
    leave(work, &change, order)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Shard, again, app, create, group, ok, private, send, user};
    use super::super::{memory::MemoryState, query};
    use crate::command::{Command, ListChange};
    use crate::event::Committed;
    use crate::ids::ConversationId;
    use crate::limits;

    fn change(conversation: &ConversationId, seq: u64, listed: bool) -> Command {
        let (app, user, conversation) = (app(), user("u"), conversation.clone());
        Command::ListChanges { changes: vec![ListChange { app, user, conversation, seq, listed }] }
    }

    fn listed(state: &MemoryState, limit: usize) -> (Vec<ConversationId>, bool) {
        let page = query::conversations(state, &app(), &user("u"), None, limit).unwrap();
        (page.items, page.more)
    }

    #[test]
    fn the_newest_change_decides_and_repetitions_change_nothing() {
        let mut home = Shard::default();
        let g = group(1);
        assert_eq!(home.entry(vec![change(&g, 1, true)]).events.len(), 1);
        let repeated = home.entry(vec![change(&g, 1, true)]);
        assert_eq!((repeated.outcomes, repeated.events.len(), repeated.writes.len()), (vec![again(0)], 0, 0));
        assert_eq!(home.one(change(&g, 9, false)), ok(0));
        assert_eq!(home.one(change(&g, 5, true)), again(0), "an older change arrives late");
        assert_eq!(listed(&home.state, 10), (vec![], false));
        let delta = home.entry(vec![change(&g, 12, true)]);
        assert!(
            matches!(&delta.events[..], [Committed::ConversationListed { conversation, .. }] if *conversation == g)
        );
        assert_eq!(listed(&home.state, 10), (vec![g], false));
    }

    #[test]
    fn an_unlisting_that_overtakes_the_listing_wins() {
        let mut home = Shard::default();
        let delta = home.entry(vec![change(&group(1), 4, false), change(&group(1), 2, true)]);
        assert_eq!((delta.outcomes, delta.events.len()), (vec![ok(0), again(0)], 0));
        assert_eq!(listed(&home.state, 10), (vec![], false));
    }

    #[test]
    fn pages_pass_over_what_left_the_list() {
        let mut home = Shard::default();
        for n in 1..=9 {
            home.one(change(&group(n), 1, true));
        }
        for n in [2, 3, 4, 5, 9] {
            home.one(change(&group(n), 2, false));
        }
        assert_eq!(listed(&home.state, 2), (vec![group(1), group(6)], true));
        let rest = query::conversations(&home.state, &app(), &user("u"), Some(&group(6)), 2).unwrap();
        assert_eq!((rest.items, rest.more), (vec![group(7), group(8)], false));
    }

    #[test]
    fn a_full_list_lets_the_longest_listed_go() {
        let mut home = Shard::default();
        let limit = limits::USER_CONVERSATIONS as u128;
        // In falling order, so that the longest listed is not the first by key; one entry, so that writes are seen.
        home.entry((1..=limit).rev().map(|n| change(&group(n), 1, true)).collect());
        let delta = home.entry(vec![change(&private("u", "v"), 1, true)]);
        let [Committed::ConversationUnlisted { conversation, .. }, Committed::ConversationListed { .. }] =
            &delta.events[..]
        else {
            panic!("{:?}", delta.events)
        };
        assert_eq!(*conversation, group(limit));
        let (items, more) = listed(&home.state, usize::MAX);
        assert_eq!((items.len(), more), (limits::USER_CONVERSATIONS, false));
        assert_eq!(home.one(change(&group(limit), 1, true)), again(0), "the same change does not bring it back");
        assert_eq!(home.one(change(&group(limit), 2, true)), ok(0), "a newer one does");
    }

    #[test]
    fn delivered_items_go_once() {
        let mut shard = Shard::default();
        shard.act("alice", &group(1), create("g", &["bob", "carol"]));
        shard.act("alice", &private("alice", "bob"), send(1, "x"));
        assert_eq!(shard.outbox().iter().map(|(n, _)| *n).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(shard.one(Command::OutboxDelivered { through: 2 }), ok(0));
        assert_eq!(shard.one(Command::OutboxDelivered { through: 2 }), again(0));
        assert_eq!(shard.outbox().iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(shard.one(Command::OutboxDelivered { through: u64::MAX }), ok(0));
        assert_eq!(shard.outbox(), []);
        shard.act("alice", &group(2), create("g", &[]));
        assert_eq!(shard.outbox()[0].0, 6, "numbers are never used again");
    }
}
