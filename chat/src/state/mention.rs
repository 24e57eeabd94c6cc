//! Who was named where. What was read is told from read positions: here is only which messages name whom.

use super::overlay::{Overlay, Step};
use super::record::Mentioned;
use super::{Scope, View, key, sequence};
use crate::event::Mentions;
use crate::limits;

/// The message at `seq` names these. Costs a write for each of them, however many members there are.
pub(super) fn note<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    mentions: &Mentions,
    seq: u64,
) -> Step<(), V> {
    if mentions.all {
        push(work, key::all_mentioned(scope.app, scope.conversation), seq)?;
    }
    for user in mentions.users.iter().filter(|user| *user != scope.actor) {
        if sequence::member(work, scope, user)?.is_some() {
            push(work, key::mentioned(scope.app, scope.conversation, user), seq)?;
        }
    }
    Ok(())
}

fn push<V: View>(work: &mut Overlay<'_, V>, key: bytes::Bytes, seq: u64) -> Step<(), V> {
    let mut mentioned: Mentioned = work.load(&key)?.unwrap_or_default();
    if mentioned.seqs.last() == Some(&seq) {
        return Ok(());
    }
    mentioned.seqs.push(seq);
    if mentioned.seqs.len() > limits::MENTIONS_KEPT {
        mentioned.seqs.remove(0);
    }
    work.store(key, &mentioned);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, app, by, create, group, send, user};
    use crate::command::{Command, ConversationCommand, Original};
    use crate::event::{BodyKind, Mentions, Relations};
    use crate::ids::ClientMsgId;
    use crate::limits;
    use uuid::Uuid;

    fn naming(actor: &str, id: u128, users: &[&str], all: bool) -> Command {
        let ConversationCommand::Send { client_msg_id, digest, body, .. } = send(id, "x") else { panic!() };
        let mentions = Mentions { users: users.iter().map(|name| user(name)).collect(), all };
        let relations = Some(Box::new(Relations { mentions, ..Relations::default() }));
        by(actor, &group(1), ConversationCommand::Send { client_msg_id, digest, body, relations })
    }

    fn count(shard: &Shard, name: &str) -> u64 {
        let member = query::member(&shard.state, &app(), &group(1), &user(name)).unwrap().unwrap();
        query::mentions(&shard.state, &app(), &group(1), &user(name), &member, 1).unwrap()
    }

    #[test]
    fn unread_mentions_are_counted_until_they_are_read_or_recalled() {
        let mut shard = Shard::default();
        shard.act("owner", &group(1), create("g", &["ann", "ben"]));
        shard.one(naming("owner", 1, &["ann", "ann", "eve", "owner"], false));
        shard.one(naming("ben", 2, &["ann"], true));
        shard.one(naming("ann", 3, &[], true));
        assert_eq!(
            (count(&shard, "ann"), count(&shard, "ben"), count(&shard, "owner")),
            (0, 1, 2),
            "who spoke has read"
        );
        shard.one(naming("owner", 4, &["ann", "ben"], true));
        assert_eq!((count(&shard, "ann"), count(&shard, "ben")), (1, 2), "one message counts once");
        let (author, client_msg_id) = (user("owner"), ClientMsgId(Uuid::from_u128(4)));
        let original = Original {
            seq: 5,
            author,
            client_msg_id,
            time_ms: 0,
            kind: BodyKind::Text,
            fixed: false,
            window_ms: u64::MAX,
        };
        shard.act("owner", &group(1), ConversationCommand::Recall { original });
        assert_eq!((count(&shard, "ann"), count(&shard, "ben")), (0, 1));
        shard.act("ben", &group(1), ConversationCommand::MarkRead { seq: 4 });
        assert_eq!(count(&shard, "ben"), 0);
        for id in 0..150 {
            shard.one(naming("owner", 100 + id, &["ben"], false));
        }
        assert_eq!(count(&shard, "ben"), limits::MENTIONS_KEPT as u64);
    }
}
