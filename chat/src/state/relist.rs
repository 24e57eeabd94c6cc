//! Putting users' lists right after a restore. The shards of a backup are cut one after the other while list changes
//! travel between them: one may have left its outbox before the other side's cut, or have arrived where its cause is not.
//! The conversations' shards know who is a member, so the lists follow them.

use std::collections::BTreeMap;

use super::record::{Conversation, ListEntry, Member, Record};
use super::{View, key, query};
use crate::command::ListChange;
use crate::ids::{AppId, ConversationId, ShardId, UserId};

/// Pairs read at once.
const PAGE: usize = 1_000;
/// Apps of a cluster that are looked through.
const APPS: usize = 10_000;

/// Entries that differ from what they are to be, with their home shards. `views` are the metadata group and every shard,
/// in order. Reads all members and all lists.
pub fn repairs<V: View>(views: &[V]) -> Result<Vec<(ShardId, ListChange)>, V::Error> {
    let mut found = Repairs { views, wanted: BTreeMap::new() };
    let Some(meta) = views.first() else { return Ok(Vec::new()) };
    for (app, _) in query::apps(meta, APPS)? {
        for view in views {
            found.of_members(view, &app)?;
            found.of_lists(view, &app)?;
        }
    }
    let change = |((app, user, conversation), (seq, listed))| ListChange { app, user, conversation, seq, listed };
    let homed = |change: ListChange| (found.home(&change.app, &change.user), change);
    Ok(found.wanted.iter().map(|(key, value)| homed(change((key.clone(), *value)))).collect())
}

struct Repairs<'a, V> {
    views: &'a [V],
    wanted: BTreeMap<(AppId, UserId, ConversationId), (u64, bool)>,
}

impl<V: View> Repairs<'_, V> {
    fn shards(&self) -> u16 {
        u16::try_from(self.views.len().saturating_sub(1)).unwrap_or(u16::MAX)
    }

    fn home(&self, app: &AppId, user: &UserId) -> ShardId {
        ShardId::of_user(app, user, self.shards())
    }

    fn view(&self, shard: ShardId) -> Option<&V> {
        self.views.get(usize::from(shard.0))
    }

    /// Members whose list does not say what made them one.
    fn of_members(&mut self, view: &V, app: &AppId) -> Result<(), V::Error> {
        let prefix = key::all_members(app);
        each(view, &prefix, |key, value| {
            let Some((conversation, user)) = key::parse_member(key, &prefix) else { return Ok(()) };
            let joined = Member::from_bytes(value).joined;
            let Some(home) = self.view(self.home(app, &user)) else { return Ok(()) };
            let entry = home.get(&key::list_entry(app, &user, &conversation))?;
            // The same change and no longer listed: it made room in a full list.
            if entry.is_none_or(|entry| ListEntry::from_bytes(&entry).seq != joined) {
                self.wanted.insert((app.clone(), user, conversation), (joined, true));
            }
            Ok(())
        })
    }

    /// Entries of conversations whose member the user is not, or not yet.
    fn of_lists(&mut self, view: &V, app: &AppId) -> Result<(), V::Error> {
        let prefix = key::all_list_entries(app);
        each(view, &prefix, |key, value| {
            let Some(user) = key::parse_list_entry(key, &prefix) else { return Ok(()) };
            let ListEntry { conversation, seq, order } = ListEntry::from_bytes(value);
            let Some(of) = self.view(ShardId::of_conversation(app, &conversation, self.shards())) else {
                return Ok(());
            };
            if query::member(of, app, &conversation, &user)?.is_some() {
                return Ok(());
            }
            let head = of.get(&key::conversation(app, &conversation))?;
            let head = head.map_or(0, |bytes| Conversation::from_bytes(&bytes).head);
            if order.is_some() || seq > head {
                self.wanted.insert((app.clone(), user, conversation), (seq.min(head), false));
            }
            Ok(())
        })
    }
}

fn each<V: View>(
    view: &V,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), V::Error>,
) -> Result<(), V::Error> {
    let mut after: Option<bytes::Bytes> = None;
    loop {
        let page = view.scan(prefix, after.as_deref(), PAGE)?;
        page.iter().try_for_each(|(key, value)| visit(key, value))?;
        match page.last() {
            Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryState;
    use super::super::testing::{Shard, app, create, group, join, user};
    use super::*;
    use crate::command::{ClusterCommand, Command, ConversationCommand};

    /// The metadata group and one shard for everything.
    fn views(shard: &Shard) -> [MemoryState; 2] {
        let mut meta = Shard::default();
        let pem = "key".to_owned();
        meta.one(Command::Cluster(ClusterCommand::RegisterApp { app: app(), token_public_key_pem: pem }));
        [meta.state, shard.state.clone()]
    }

    fn deliver(shard: &mut Shard) {
        let changes = shard.outbox().into_iter().map(|(_, change)| change).collect();
        shard.one(Command::ListChanges { changes });
        shard.one(Command::OutboxDelivered { through: u64::MAX });
    }

    fn repair(shard: &mut Shard) -> usize {
        let entries: Vec<_> = repairs(&views(shard)).unwrap().into_iter().map(|(_, entry)| entry).collect();
        let count = entries.len();
        shard.one(Command::ListsRestored { entries });
        assert_eq!(repairs(&views(shard)).unwrap(), [], "it is right afterwards");
        count
    }

    fn listed(shard: &Shard, name: &str) -> Vec<ConversationId> {
        query::conversations(&shard.state, &app(), &user(name), None, 10).unwrap().items
    }

    #[test]
    fn lists_that_fit_their_conversations_are_left_alone() {
        let mut shard = Shard::default();
        shard.act("owner", &group(1), create("g", &["bob", "eve"]));
        shard.act("bob", &group(1), ConversationCommand::Leave);
        deliver(&mut shard);
        assert_eq!(repair(&mut shard), 0);
    }

    #[test]
    fn what_left_its_outbox_and_did_not_arrive_is_made_up_for() {
        let mut shard = Shard::default();
        shard.act("owner", &group(1), create("g", &["bob", "eve"]));
        deliver(&mut shard);
        shard.act("bob", &group(1), ConversationCommand::Leave);
        shard.act("new", &group(1), join());
        shard.one(Command::OutboxDelivered { through: u64::MAX });
        assert_eq!((listed(&shard, "bob").len(), listed(&shard, "new").len()), (1, 0));
        assert_eq!(repair(&mut shard), 2);
        assert_eq!((listed(&shard, "bob"), listed(&shard, "new")), (vec![], vec![group(1)]));
        assert_eq!(listed(&shard, "eve"), [group(1)]);
    }

    #[test]
    fn what_arrived_from_behind_the_cut_is_taken_back_and_can_happen_again() {
        let mut shard = Shard::default();
        shard.act("owner", &group(1), create("g", &["bob"]));
        deliver(&mut shard);
        let phantom = |conversation, name: &str, seq, listed| {
            let (app, user) = (app(), user(name));
            Command::ListChanges { changes: vec![ListChange { app, user, conversation, seq, listed }] }
        };
        shard.one(phantom(group(1), "new", 50, true));
        shard.one(phantom(group(2), "new", 1, true));
        shard.one(phantom(group(1), "bob", 60, false));
        assert_eq!(repair(&mut shard), 3);
        assert_eq!((listed(&shard, "bob"), listed(&shard, "new")), (vec![group(1)], vec![]));
        shard.act("new", &group(1), join());
        deliver(&mut shard);
        assert_eq!(listed(&shard, "new"), [group(1)], "although its seq is lower than the one taken back");
    }
}
