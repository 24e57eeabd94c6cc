//! The replicated state machine of a shard: pure and deterministic.
//!
//! [`apply`] takes one log entry and says what to write, what happened and what each command came to; [`query`] and [`apps`] read
//! what was written. One file per family of commands: [`cluster`], [`nodes`], [`level`], [`app`], [`account`], [`presence`], [`list`],
//! [`group`], [`membership`], [`admission`], [`moderation`], [`message`], [`annotate`], [`life`], [`read`],
//! [`pair`], [`items`], [`retention`];
//! [`sequence`] gives events their place.
//!
//! Messages are not copied into the state: an index says which command of which log entry each seq is.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::command::{Command, ConversationCommand, EntryBatch, Outcome};
use crate::event::Committed;
use crate::ids::{AppId, ConversationId, UserId};

mod account;
mod admission;
mod annotate;
mod app;
pub mod apps;
mod cluster;
mod group;
mod items;
mod key;
mod level;
mod life;
mod list;
mod membership;
pub mod memory;
mod mention;
mod message;
mod moderation;
mod nodes;
mod overlay;
mod pair;
mod presence;
pub mod query;
mod read;
pub mod record;
pub mod relist;
mod retention;
mod sequence;
mod turn;
pub mod walk;

use overlay::{Overlay, Step, Stop};

/// What the state machine reads. Keys are `crate::state::key` encodings and begin with the app.
pub trait View {
    /// Errors of the storage below end the apply; the state machine itself has none.
    type Error;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Self::Error>;

    /// Up to `limit` pairs whose key starts with `prefix` and is greater than `after`, in order.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Self::Error>;
}

/// What applying an entry comes to. Nothing is written by the state machine itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    /// New values, `None` for removed keys.
    pub writes: BTreeMap<Bytes, Option<Bytes>>,
    /// What happened, in order.
    pub events: Vec<Committed>,
    /// One outcome per command of the batch, in order.
    pub outcomes: Vec<Outcome>,
}

/// Applies the entry at `log_index` to the state seen through `view`.
///
/// Commands of one entry see what the earlier ones did. A command that cannot be done is an [`Outcome::Rejected`] and
/// writes nothing; only the view's own errors end the apply.
pub fn apply<V: View>(view: &V, log_index: u64, batch: &EntryBatch) -> Result<Delta, V::Error> {
    let mut work = Overlay::new(view, log_index, batch.time_ms);
    let mut outcomes = Vec::with_capacity(batch.commands.len());
    for (position, command) in (0..).zip(&batch.commands) {
        work.position = position;
        outcomes.push(match apply_command(&mut work, command) {
            Ok(outcome) => outcome,
            Err(Stop::Rejected(code)) => Outcome::Rejected(code),
            Err(Stop::View(error)) => return Err(error),
        });
    }
    Ok(work.finish(outcomes))
}

fn apply_command<V: View>(work: &mut Overlay<'_, V>, command: &Command) -> Step<Outcome, V> {
    level::gate(work, command)?;
    match command {
        Command::Cluster(command) => cluster::apply(work, command),
        Command::User { app, user, command } => account::apply(work, app, user, command),
        Command::Conversation { app, conversation, actor, command } => {
            apply_to_conversation(work, &Scope { app, conversation, actor }, command)
        }
        Command::OutboxDelivered { through } => list::delivered(work, *through),
        Command::ListChanges { changes } => list::change(work, changes),
        Command::Compare => Ok(done(false)),
        Command::Retention(command) => retention::apply(work, command),
        Command::ListsRestored { entries } => list::restored(work, entries),
        Command::PairNews { news } => items::heard(work, news),
    }
}

/// Who does something where.
struct Scope<'a> {
    app: &'a AppId,
    conversation: &'a ConversationId,
    actor: &'a UserId,
}

fn apply_to_conversation<V: View>(
    work: &mut Overlay<'_, V>,
    scope: &Scope<'_>,
    command: &ConversationCommand,
) -> Step<Outcome, V> {
    sequence::require_for_system(scope, command)?;
    match command {
        ConversationCommand::Send { client_msg_id, digest, body, relations } => {
            message::send(work, scope, *client_msg_id, *digest, body, relations.as_deref())
        }
        ConversationCommand::CreateGroup { name, members, kind } => group::create(work, scope, name, members, *kind),
        ConversationCommand::Join { invite, text } => admission::join(work, scope, invite.as_ref(), text),
        ConversationCommand::Leave => membership::leave(work, scope),
        ConversationCommand::Invite { users } => membership::invite(work, scope, users),
        ConversationCommand::Kick { user } => membership::kick(work, scope, user),
        ConversationCommand::SetRole { user, role } => group::set_role(work, scope, user, *role),
        ConversationCommand::MarkRead { seq } => read::mark(work, scope, *seq),
        ConversationCommand::ChangeGroup { change } => group::change(work, scope, change),
        ConversationCommand::Ban { user, duration_ms } => moderation::ban(work, scope, user, *duration_ms),
        ConversationCommand::Unban { user } => moderation::unban(work, scope, user),
        ConversationCommand::Mute { user, duration_ms } => moderation::mute(work, scope, user, *duration_ms),
        ConversationCommand::Unmute { user } => moderation::unmute(work, scope, user),
        ConversationCommand::SetNickname { nickname } => membership::set_nickname(work, scope, nickname.as_deref()),
        ConversationCommand::AnswerJoin { user, accept } => admission::answer(work, scope, user, *accept),
        ConversationCommand::AddInvite { code, life_ms, uses } => {
            admission::add_invite(work, scope, code, *life_ms, *uses)
        }
        ConversationCommand::RevokeInvite { code } => admission::revoke_invite(work, scope, code),
        ConversationCommand::Dissolve => group::dissolve(work, scope),
        ConversationCommand::Edit { original, client_msg_id, digest, body } => {
            annotate::edit(work, scope, original, *client_msg_id, *digest, body)
        }
        ConversationCommand::Recall { original } => annotate::recall(work, scope, original),
        ConversationCommand::React { seq, reaction, on } => annotate::react(work, scope, *seq, reaction, *on),
        ConversationCommand::Pin { seq, on } => annotate::pin(work, scope, *seq, *on),
        ConversationCommand::AskContact { text } => pair::ask(work, scope, text),
        ConversationCommand::AnswerContact { accept } => pair::answer(work, scope, *accept),
        ConversationCommand::RemoveContact => pair::part(work, scope),
        ConversationCommand::Block { on } => pair::block(work, scope, *on),
        ConversationCommand::MarkDelivered { seq } => read::mark_delivered(work, scope, *seq),
        ConversationCommand::DeleteForMe { first, last } => life::delete_for_me(work, scope, *first, *last),
    }
}

/// The outcome of a command that makes no event.
fn done(duplicate: bool) -> Outcome {
    Outcome::Applied { seq: 0, duplicate }
}

/// The outcome of a command that made the event `seq`.
fn made(seq: u64) -> Outcome {
    Outcome::Applied { seq, duplicate: false }
}

#[cfg(test)]
mod testing;
