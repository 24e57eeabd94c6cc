//! Retention: what operators set, deleting what is below a conversation's floor, and forgetting its ids later.

use super::key::{self, PAGE_SLOTS, page_of};
use super::overlay::{Overlay, Step, Stop, require};
use super::record::{App, Conversation, Dedupe, Floor, IdWindow, Slot};
use super::{View, annotate, done, life, walk};
use crate::command::{Outcome, RetentionCommand};
use crate::errors::ErrorCode;
use crate::ids::{AppId, ConversationId};
use crate::limits;
use crate::retention::Retention;

pub(super) fn apply<V: View>(work: &mut Overlay<'_, V>, command: &RetentionCommand) -> Step<Outcome, V> {
    match command {
        RetentionCommand::SetApp { app, retention } => set_app(work, app, *retention),
        RetentionCommand::Expire { app, conversation, seq, at_ms } => life::end(work, app, conversation, *seq, *at_ms),
        RetentionCommand::SetConversation { app, conversation, retention } => {
            set_conversation(work, app, conversation, *retention)
        }
        RetentionCommand::Trim { app, conversation, oldest_seq } => {
            trim(work, app, conversation, *oldest_seq, limits::DEDUPE_WINDOW_MS)
        }
        RetentionCommand::TrimWithin { app, conversation, oldest_seq, window_ms } => {
            trim(work, app, conversation, *oldest_seq, *window_ms)
        }
        RetentionCommand::Forget { app, conversation, below, after, through } => {
            let places = (after.as_deref(), through.as_deref());
            forget(work, app, conversation, *below, places, limits::DEDUPE_WINDOW_MS)
        }
        RetentionCommand::ForgetWithin { app, conversation, below, after, through, window_ms } => {
            forget(work, app, conversation, *below, (after.as_deref(), through.as_deref()), *window_ms)
        }
        RetentionCommand::SetIdWindow { app, window_ms } => set_id_window(work, app, *window_ms),
        RetentionCommand::Purge { .. } => Ok(done(false)),
    }
}

fn set_app<V: View>(work: &mut Overlay<'_, V>, app: &AppId, retention: Retention) -> Step<Outcome, V> {
    require(retention.is_valid(), ErrorCode::InvalidField)?;
    require(work.load::<App>(&key::app(app))?.is_some(), ErrorCode::InvalidField)?;
    let key = key::app_retention(app);
    let same = work.load::<Retention>(&key)?.unwrap_or_default() == retention;
    work.store(key, &retention);
    Ok(done(same))
}

fn set_conversation<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    conversation: &ConversationId,
    retention: Option<Retention>,
) -> Step<Outcome, V> {
    require(retention.is_none_or(|retention| retention.is_valid()), ErrorCode::InvalidField)?;
    existing(work, app, conversation)?;
    let key = key::retention(app, conversation);
    let same = work.load::<Retention>(&key)? == retention;
    match retention {
        Some(retention) => work.store(key, &retention),
        None => work.remove(key),
    }
    Ok(done(same))
}

fn set_id_window<V: View>(work: &mut Overlay<'_, V>, app: &AppId, window_ms: u64) -> Step<Outcome, V> {
    require(is_id_window(window_ms), ErrorCode::InvalidField)?;
    require(work.load::<App>(&key::app(app))?.is_some(), ErrorCode::InvalidField)?;
    let (key, wanted) = (key::id_window(app), IdWindow { window_ms });
    let same = work.load::<IdWindow>(&key)? == Some(wanted);
    if !same {
        work.store(key, &wanted);
    }
    Ok(done(same))
}

/// No shorter one lets ids be forgotten, whoever proposes it.
fn is_id_window(window_ms: u64) -> bool {
    (limits::DEDUPE_WINDOW_MS_MIN..=limits::DEDUPE_WINDOW_MS).contains(&window_ms)
}

fn existing<V: View>(work: &Overlay<'_, V>, app: &AppId, conversation: &ConversationId) -> Step<Conversation, V> {
    work.load(&key::conversation(app, conversation))?.ok_or(Stop::Rejected(ErrorCode::NotAMember))
}

/// The outcome's seq is the floor afterwards. The seqs go on where they were, whatever is deleted.
fn trim<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    conversation: &ConversationId,
    oldest_seq: u64,
    window_ms: u64,
) -> Step<Outcome, V> {
    require(is_id_window(window_ms), ErrorCode::InvalidField)?;
    let head = existing(work, app, conversation)?.head;
    let floor_key = key::floor(app, conversation);
    let mut floor: Floor = work.load(&floor_key)?.unwrap_or_default();
    let before = floor.oldest_seq;
    if oldest_seq <= before {
        return Ok(Outcome::Applied { seq: before, duplicate: true });
    }
    require(oldest_seq <= head + 1, ErrorCode::SeqBeyondHead)?;
    require(oldest_seq - before <= limits::TRIM_EVENTS, ErrorCode::LimitReached)?;
    for page in page_of(before).0..=page_of(oldest_seq - 1).0 {
        let first_seq = page * PAGE_SLOTS + 1;
        let page_key = key::index_page(app, conversation, page);
        let slots = &work.page(page_key.clone())?.slots;
        let inline: Vec<u64> = (first_seq..oldest_seq)
            .zip(slots)
            .filter(|(seq, slot)| *seq >= before && **slot == Slot::Inline)
            .map(|(seq, _)| seq)
            .collect();
        inline.into_iter().for_each(|seq| work.remove(key::inline(app, conversation, seq)));
        // A page with a slot that is kept, or one to come, stays as it is.
        if first_seq + PAGE_SLOTS <= oldest_seq {
            work.remove_page(page_key);
        }
    }
    annotate::trim(work, app, conversation, oldest_seq)?;
    floor.raise(oldest_seq, work.time_ms, window_ms);
    work.store(floor_key, &floor);
    Ok(Outcome::Applied { seq: oldest_seq, duplicate: false })
}

/// Forgets ids in the given places. At the end of them the floor is told that this has been done.
fn forget<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    conversation: &ConversationId,
    below: u64,
    (after, through): (Option<&[u8]>, Option<&[u8]>),
    window_ms: u64,
) -> Step<Outcome, V> {
    require(is_id_window(window_ms), ErrorCode::InvalidField)?;
    let floor_key = key::floor(app, conversation);
    let mut floor: Floor = work.load(&floor_key)?.unwrap_or_default();
    // The entry's clock decides, on every replica the same.
    require(below <= floor.forgettable(work.time_ms, window_ms), ErrorCode::Forbidden)?;
    // Twice as many as whoever made the command saw: some may have come since, none of which is old.
    let pages = walk::ids(work, app, conversation, after, 2 * limits::FORGET_PAGES).map_err(Stop::View)?;
    for walk::IdPage { place, .. } in pages.into_iter().take_while(|page| through.is_none_or(|end| page.place <= end)) {
        let Some((space, key)) = walk::id_key(app, conversation, &place) else { continue };
        let newest_seq = match space {
            key::ID_PAGES => work.newest_id(&key)?,
            _ => work.load::<Dedupe>(&key)?.map_or(0, |used| used.seq),
        };
        if newest_seq < below {
            work.remove_ids(key);
        }
    }
    if through.is_none() {
        floor.marks.retain(|mark| mark.seq > below);
        work.store(floor_key, &floor);
    }
    Ok(done(false))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::testing::{Shard, again, app, by, create, group, no, ok, private, send, user};
    use super::super::{query, walk};
    use crate::command::{ClusterCommand, Command, ConversationCommand, EntryBatch, Outcome, RetentionCommand};
    use crate::errors::ErrorCode;
    use crate::ids::ConversationId;
    use crate::limits;
    use crate::retention::Retention;

    fn trim(conversation: &ConversationId, oldest_seq: u64) -> Command {
        Command::Retention(RetentionCommand::Trim { app: app(), conversation: conversation.clone(), oldest_seq })
    }

    fn forget(conversation: &ConversationId, below: u64) -> Command {
        let (app, conversation) = (app(), conversation.clone());
        Command::Retention(RetentionCommand::Forget { app, conversation, below, after: None, through: None })
    }

    /// At a time of its own.
    fn at(shard: &mut Shard, time_ms: u64, command: Command) -> Outcome {
        shard.index += 1;
        shard.state.apply(shard.index, &EntryBatch { time_ms, commands: vec![command] }).outcomes.remove(0)
    }

    fn messages(shard: &mut Shard, talk: &ConversationId, count: u128) {
        for n in 0..count {
            // Each at another time: an id page of its own.
            shard.act("alice", talk, send(n << 90, "x"));
        }
    }

    fn seqs(shard: &Shard, talk: &ConversationId) -> Vec<u64> {
        query::locate(&shard.state, &app(), talk, 1, 10_000).unwrap().iter().map(query::Located::seq).collect()
    }

    #[test]
    fn what_is_below_the_floor_is_gone_and_the_seqs_go_on() {
        let mut shard = Shard::default();
        let g = group(1);
        shard.act("alice", &g, create("Team", &["bob"]));
        messages(&mut shard, &g, 199);
        let values = shard.state.len();
        assert_eq!(shard.one(trim(&g, 1)), again(1));
        assert_eq!(shard.one(trim(&g, 202)), no(ErrorCode::SeqBeyondHead));
        assert_eq!(shard.one(trim(&g, 131)), ok(131));
        assert_eq!(seqs(&shard, &g), (131..=200).collect::<Vec<_>>());
        assert_eq!(shard.state.len(), values + 1 - 1 - 2, "a floor; without the creation and two whole pages");
        let unread = |shard: &Shard| query::unread(&shard.state, &app(), &g, &user("bob")).unwrap();
        assert_eq!(unread(&shard), Some(70));
        assert_eq!(shard.one(trim(&g, 100)), again(131));
        assert_eq!(shard.one(trim(&g, 201)), ok(201));
        assert_eq!((seqs(&shard, &g), unread(&shard)), (vec![], Some(0)));
        assert_eq!(shard.act("alice", &g, send(1, "on")), ok(201));
        assert_eq!((seqs(&shard, &g), unread(&shard)), (vec![201], Some(1)));
        assert_eq!(shard.act("alice", &g, send(0, "x")), again(2), "an id outlives its message");
    }

    #[test]
    fn a_page_that_was_full_when_it_went_is_followed_by_the_next() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        messages(&mut shard, &talk, 128);
        // In one entry: what it wrote to the page counts.
        let delta = shard.entry(vec![trim(&talk, 129), by("bob", &talk, send(1, "next")), trim(&talk, 130)]);
        assert_eq!(delta.outcomes, [ok(129), ok(129), ok(130)]);
        assert_eq!(shard.act("bob", &talk, send(2, "more")), ok(130));
        assert_eq!(seqs(&shard, &talk), [130]);
    }

    #[test]
    fn one_command_deletes_so_much_and_only_what_there_is() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        assert_eq!(shard.one(trim(&talk, 2)), no(ErrorCode::NotAMember));
        messages(&mut shard, &talk, u128::from(limits::TRIM_EVENTS) + 2);
        assert_eq!(shard.one(trim(&talk, limits::TRIM_EVENTS + 2)), no(ErrorCode::LimitReached));
        assert_eq!(shard.one(trim(&talk, limits::TRIM_EVENTS + 1)), ok(limits::TRIM_EVENTS + 1));
    }

    #[test]
    fn an_app_may_forget_its_ids_sooner_and_not_too_soon() {
        let mut meta = Shard::default();
        let nodes = vec![(1, "one".to_owned())];
        let found = |level| {
            let (cluster, nodes) = ("c".to_owned(), nodes.clone());
            Command::Cluster(ClusterCommand::FoundAt { cluster, shards: 1, stream_epoch: 1, nodes, level })
        };
        let set = |window_ms| Command::Retention(RetentionCommand::SetIdWindow { app: app(), window_ms });
        let (shortest, longest) = (limits::DEDUPE_WINDOW_MS_MIN, limits::DEDUPE_WINDOW_MS);
        assert_eq!(meta.one(set(shortest)), no(ErrorCode::NotSwitchedOn));
        assert_eq!(meta.one(found(3)), ok(0));
        assert_eq!(meta.one(set(shortest)), no(ErrorCode::InvalidField), "there is no such app");
        let token_public_key_pem = "key".to_owned();
        meta.one(Command::Cluster(ClusterCommand::RegisterApp { app: app(), token_public_key_pem }));
        assert_eq!(query::id_window(&meta.state, &app()).unwrap(), longest);
        assert_eq!((meta.one(set(shortest)), meta.one(set(shortest))), (ok(0), again(0)));
        assert_eq!(query::id_window(&meta.state, &app()).unwrap(), shortest);
        for bad in [0, shortest - 1, longest + 1] {
            assert_eq!(meta.one(set(bad)), no(ErrorCode::InvalidField));
        }

        // The shard is told with each command.
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        messages(&mut shard, &talk, 10);
        let day = 24 * 3_600 * 1_000;
        let trim_within = |window_ms| {
            let (app, conversation) = (app(), talk.clone());
            Command::Retention(RetentionCommand::TrimWithin { app, conversation, oldest_seq: 6, window_ms })
        };
        let forget_within = |window_ms| {
            let (app, conversation, below) = (app(), talk.clone(), 6);
            let (after, through) = (None, None);
            let command = RetentionCommand::ForgetWithin { app, conversation, below, after, through, window_ms };
            Command::Retention(command)
        };
        assert_eq!(at(&mut shard, day, trim_within(shortest - 1)), no(ErrorCode::InvalidField));
        assert_eq!(at(&mut shard, day, trim_within(shortest)), ok(6));
        let later = day + shortest + shortest / limits::FORGET_STEPS;
        let ids = |shard: &Shard| walk::ids(&shard.state, &app(), &talk, None, 100).unwrap().len();
        assert_eq!(at(&mut shard, day + shortest - 1, forget_within(shortest)), no(ErrorCode::Forbidden));
        assert_eq!(at(&mut shard, later, forget_within(longest)), no(ErrorCode::Forbidden));
        assert_eq!(at(&mut shard, later, forget_within(1)), no(ErrorCode::InvalidField));
        assert_eq!((ids(&shard), at(&mut shard, later, forget_within(shortest)), ids(&shard)), (10, ok(0), 5));
    }

    #[test]
    fn ids_are_forgotten_when_their_window_is_over_and_not_before() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        messages(&mut shard, &talk, 10);
        let day = 24 * 3_600 * 1_000;
        assert_eq!(at(&mut shard, day, trim(&talk, 6)), ok(6));
        let ids = |shard: &Shard| walk::ids(&shard.state, &app(), &talk, None, 100).unwrap().len();
        assert_eq!(at(&mut shard, day + limits::DEDUPE_WINDOW_MS - 1, forget(&talk, 6)), no(ErrorCode::Forbidden));
        let later = day + limits::DEDUPE_WINDOW_MS + limits::DEDUPE_WINDOW_MS / limits::FORGET_STEPS;
        assert_eq!(at(&mut shard, later, forget(&talk, 7)), no(ErrorCode::Forbidden), "of messages that are kept");
        assert_eq!((ids(&shard), at(&mut shard, later, forget(&talk, 6)), ids(&shard)), (10, ok(0), 5));
        assert_eq!(query::floor(&shard.state, &app(), &talk).unwrap().marks, []);
        assert_eq!(shard.act("alice", &talk, send(5 << 90, "x")), again(6), "what is kept is known");
        assert_eq!(shard.act("alice", &talk, send(0, "x")), ok(11));
    }

    #[test]
    fn an_entry_that_uses_a_page_of_ids_and_forgets_it_does_both() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        shard.entry(vec![by("alice", &talk, send(1, "x")), trim(&talk, 2)]);
        let later = 2 * limits::DEDUPE_WINDOW_MS;
        // Looked at, forgotten, used anew; and one whose new id keeps it.
        let retry = by("alice", &talk, send(1, "x"));
        let commands = vec![retry.clone(), forget(&talk, 2), retry.clone(), retry];
        let apart = commands.iter().fold(shard.state.clone(), |mut state, command| {
            state.apply(9, &EntryBatch { time_ms: later, commands: vec![command.clone()] });
            state
        });
        let outcomes = shard.state.apply(9, &EntryBatch { time_ms: later, commands }).outcomes;
        assert_eq!(outcomes, [again(1), ok(0), ok(2), again(2)]);
        assert_eq!(walk::ids(&shard.state, &app(), &talk, None, 9), walk::ids(&apart, &app(), &talk, None, 9));
    }

    #[test]
    fn places_of_ids_are_walked_once_each_over_both_kinds() {
        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        messages(&mut shard, &talk, 5);
        // More than a page holds at one time: some have a record of their own.
        for n in 0..70 {
            shard.act("bob", &talk, send(1 << 120 | n, "x"));
        }
        let all = walk::ids(&shard.state, &app(), &talk, None, 100).unwrap();
        let (mut walked, mut after): (Vec<walk::IdPage>, Option<Bytes>) = (Vec::new(), None);
        while let Some(last) = walk::ids(&shard.state, &app(), &talk, after.as_deref(), 3).unwrap().last().cloned() {
            walked.extend(walk::ids(&shard.state, &app(), &talk, after.as_deref(), 3).unwrap());
            after = Some(last.place);
        }
        assert_eq!((walked, all.len()), (all, 5 + 1 + 6));
    }

    #[test]
    fn policies_are_the_apps_or_a_conversations_own() {
        let mut meta = Shard::default();
        let week = Retention { max_age_ms: Some(7 * 24 * 3_600 * 1_000), max_count: None };
        let set = |retention| Command::Retention(RetentionCommand::SetApp { app: app(), retention });
        assert_eq!(meta.one(set(week)), no(ErrorCode::InvalidField), "no such app");
        let pem = "key".to_owned();
        meta.one(Command::Cluster(ClusterCommand::RegisterApp { app: app(), token_public_key_pem: pem }));
        assert_eq!((meta.one(set(week)), meta.one(set(week))), (ok(0), again(0)));
        assert_eq!(meta.one(set(Retention { max_age_ms: Some(1), ..week })), no(ErrorCode::InvalidField));
        assert_eq!(query::app_retention(&meta.state, &app()).unwrap(), week);

        let mut shard = Shard::default();
        let talk = private("alice", "bob");
        let own = |retention| {
            let (app, conversation) = (app(), talk.clone());
            Command::Retention(RetentionCommand::SetConversation { app, conversation, retention })
        };
        assert_eq!(shard.one(own(Some(week))), no(ErrorCode::NotAMember));
        shard.act("alice", &talk, ConversationCommand::MarkRead { seq: 0 });
        messages(&mut shard, &talk, 1);
        assert!(!walk::has_retention(&shard.state).unwrap());
        assert_eq!(shard.one(own(Some(week))), ok(0));
        assert!(walk::has_retention(&shard.state).unwrap());
        assert_eq!(query::conversation_retention(&shard.state, &app(), &talk).unwrap(), Some(week));
        assert_eq!((shard.one(own(None)), shard.one(own(None))), (ok(0), again(0)));
        assert_eq!(query::conversation_retention(&shard.state, &app(), &talk).unwrap(), None);
    }

    #[test]
    fn a_walk_sees_all_apps_and_which_entries_are_in_use() {
        let mut shard = Shard::default();
        let other = crate::ids::AppId::new("other-app").unwrap();
        let talk = private("alice", "bob");
        messages(&mut shard, &talk, 100);
        shard.act("alice", &group(1), create("Team", &[]));
        let Command::Conversation { actor, command, .. } = by("alice", &talk, send(7, "x")) else { panic!() };
        shard.one(Command::Conversation { app: other.clone(), conversation: talk.clone(), actor, command });
        shard.one(trim(&talk, 91));
        let (mut found, mut after) = (Vec::new(), None);
        while let walk::Piece { items, next: Some(next) } = walk::conversations(&shard.state, after, 1).unwrap() {
            found.extend(items.into_iter().map(|(app, conversation, _)| (app, conversation)));
            after = Some(next);
        }
        assert_eq!(found, [(app(), group(1)), (app(), talk.clone()), (other, talk)]);
        let (mut used, mut after) = (Vec::new(), None);
        while let Some(next) = walk::entries_in_use(&shard.state, after, 1, |entry| used.push(entry)).unwrap() {
            after = Some(next);
        }
        assert_eq!(used, (91..=100).chain([102]).collect::<Vec<_>>());
    }
}
