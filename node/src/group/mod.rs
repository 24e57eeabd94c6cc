//! The group actor: one per active conversation, private ones included, on the node that leads its shard. It admits
//! requests, seals bodies and proposes commands, several in flight.
//!
//! [`crate::directory`] makes it when it is first asked for and lets it go when it is idle or the shard has another
//! leader. [`message`]: what it may be asked. `core`: what it decides. `checks`: what it looks up.

mod checks;
pub(crate) mod core;
pub(crate) mod message;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use chat::app::AppSettings;
use chat::command::{Command, ConversationCommand, Original};
use chat::errors::ErrorCode;
use chat::ids::{AppId, ConversationId, ShardId, UserId};
use chat::limits;
use cluster::{Cluster, ProposeError};
use storage::{BodyContext, BodySealer};

use self::core::{Asked, Core, Digest, Effect, Local, Proposal, Ticket};
use crate::apps::{self, room};
use crate::directory::Directory;
use crate::history::{EventEncoder, History};
use crate::socket::now_ms;
use crate::started::started;
pub use message::GroupState;
use message::{Decided, Observe, Retire};
pub(crate) use message::{GroupAnswer, GroupAsk, GroupDone, GroupFailure, GroupRequest, Reply, Turn};

/// Between two looks at whether the actor is still needed.
const LOOK: Duration = Duration::from_secs(10);

/// Which conversation an actor is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    pub(crate) app: AppId,
    pub(crate) conversation: ConversationId,
}

pub(crate) struct GroupActor {
    key: GroupKey,
    shard: ShardId,
    /// Tells this actor from an earlier one of the same conversation.
    generation: u64,
    cluster: Cluster,
    sealer: BodySealer,
    history: History,
    directory: Arc<Directory>,
    core: Core<Reply>,
    busy_ms: u64,
    retiring: bool,
}

impl GroupActor {
    pub(crate) fn new(
        key: GroupKey,
        generation: u64,
        cluster: Cluster,
        sealer: BodySealer,
        directory: Arc<Directory>,
    ) -> Self {
        let shard = cluster.conversation_shard(&key.app, &key.conversation);
        let core = Core::new(key.conversation.clone());
        let busy_ms = now_ms();
        let history = History::new(cluster.clone(), EventEncoder::new(sealer.clone()));
        Self { key, shard, generation, cluster, sealer, history, directory, core, busy_ms, retiring: false }
    }

    fn act(&mut self, effects: Vec<Effect<Reply>>, context: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Answer(reply, answer) => reply.send(answer),
                Effect::CheckUsers { ticket, users } => {
                    let check = checks::users_exist(self.cluster.clone(), self.key.app.clone(), users);
                    self.check(ticket, check, context);
                }
                Effect::CheckPeer { ticket, user, peer, asks } => {
                    let check = checks::peer_takes(self.cluster.clone(), self.key.clone(), user, peer, asks);
                    self.check(ticket, check, context);
                }
                Effect::ConfirmMember { ticket, user, message } => {
                    let asked = checks::may_ask(self.cluster.clone(), self.key.clone(), user, message);
                    self.check(ticket, asked, context);
                }
                Effect::FindOriginal { ticket, user, seq, id } => {
                    let (history, cluster, key) = (self.history.clone(), self.cluster.clone(), self.key.clone());
                    let window_ms = self.window_ms(id.is_some());
                    let found = checks::find_original(history, cluster, key, (user, id), seq);
                    let found = started(found)
                        .into_actor(self)
                        .map(move |found, _, _| found.map(|original| Original { window_ms, ..original }));
                    context.spawn(found.map(move |found, this: &mut Self, context| {
                        let effects = this.core.found(ticket, found);
                        this.act(effects, context);
                    }));
                }
                Effect::Propose(proposal) => {
                    let ticket = proposal.ticket;
                    if let Err(error) = self.propose(proposal, context) {
                        let answers = self.core.proposed(ticket, Err(failure(error)));
                        self.act(answers, context);
                    }
                }
            }
        }
        if self.retiring && self.core.in_flight() == 0 {
            context.stop();
        }
    }

    fn check<F>(&self, ticket: Ticket, check: F, context: &mut Context<Self>)
    where
        F: Future<Output = Result<(), GroupFailure>> + 'static,
    {
        let done = started(check).into_actor(self).map(move |verdict, this: &mut Self, context| {
            let effects = this.core.checked(ticket, verdict);
            this.act(effects, context);
        });
        context.spawn(done);
    }

    fn propose(&self, proposal: Proposal, context: &mut Context<Self>) -> Result<(), ProposeError> {
        let Proposal { ticket, actor, ask, digest, original, fence } = proposal;
        let command = self.command(&actor, ask, digest, original).ok_or(ProposeError::Unavailable)?;
        let GroupKey { app, conversation } = self.key.clone();
        let command = Command::Conversation { app, conversation, actor, command };
        let address = context.address();
        let decided = move |outcome| address.do_send(Decided { ticket, outcome });
        self.cluster.propose_then(self.shard, fence, command, Box::new(decided))
    }

    /// None: what it needs was not found, although it was looked for.
    fn command(
        &self,
        author: &UserId,
        ask: GroupAsk,
        digest: Digest,
        original: Option<Original>,
    ) -> Option<ConversationCommand> {
        ask.command(original, |client_msg_id, kind, plain| {
            let digest = digest.expect("what has a body was asked with its digest");
            (digest, self.sealer.seal(&self.body_context(author, client_msg_id), kind, plain))
        })
    }

    fn digest(&self, author: &UserId, ask: &GroupAsk) -> Digest {
        match ask {
            GroupAsk::Send { client_msg_id, kind, plain, .. } | GroupAsk::Edit { client_msg_id, kind, plain, .. } => {
                Some(self.sealer.digest(&self.body_context(author, *client_msg_id), *kind, &ask.about(), plain))
            }
            _ => None,
        }
    }

    fn body_context<'a>(&'a self, author: &'a UserId, client_msg_id: chat::ids::ClientMsgId) -> BodyContext<'a> {
        BodyContext { app: &self.key.app, conversation: &self.key.conversation, author, client_msg_id }
    }

    /// What this replica shows without asking anybody. What cannot be read is treated as not there, and then confirmed.
    fn local(&self, user: &UserId) -> Local {
        let Some(view) = self.cluster.view(self.shard) else { return Local { exists: false, member: false } };
        let GroupKey { app, conversation } = &self.key;
        let member = checks::is_member(&view, app, conversation, user).unwrap_or(false);
        Local { exists: member, member }
    }

    /// For how long the app lets messages be edited, or recalled. What cannot be read is as the service has it.
    fn window_ms(&self, edit: bool) -> u64 {
        let settings = apps::record(&self.cluster, &self.key.app).ok().flatten().map(|app| app.settings);
        let AppSettings { edit_window_ms, recall_window_ms, .. } = settings.unwrap_or_default();
        if edit { edit_window_ms } else { recall_window_ms }
    }

    fn look(&mut self, context: &mut Context<Self>) {
        self.core.age();
        let idle = self.core.in_flight() == 0 && now_ms().saturating_sub(self.busy_ms) >= limits::GROUP_IDLE_MS;
        if idle {
            self.directory.release(&self.key, self.generation);
        }
        if !self.directory.holds(&self.key, self.generation) {
            // Behind whatever reached the mailbox before the directory let go. Full: there is work; look again later.
            let _ = context.address().try_send(Retire);
        }
    }
}

fn failure(error: ProposeError) -> GroupFailure {
    match error {
        ProposeError::NotLeader { leader } => GroupFailure::NotLeader { leader },
        ProposeError::Overloaded => GroupFailure::Overloaded { retry_after_ms: limits::FULL_RETRY_MS },
        ProposeError::Unavailable => GroupFailure::Unavailable,
        ProposeError::Unknown => GroupFailure::Unknown,
        ProposeError::Storage => GroupFailure::Internal,
        ProposeError::NotSwitchedOn { .. } => GroupFailure::Rejected(ErrorCode::NotSwitchedOn),
    }
}

impl Actor for GroupActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(limits::GROUP_MAILBOX);
        context.run_interval(LOOK, Self::look);
    }
}

impl Handler<GroupRequest> for GroupActor {
    type Result = ();

    fn handle(&mut self, request: GroupRequest, context: &mut Self::Context) {
        self.busy_ms = now_ms();
        let GroupRequest { actor, ask, turn, reply } = request;
        // What the session sends behind a message that is refused here is missing its predecessor.
        if let (GroupAsk::Send { .. } | GroupAsk::Edit { .. } | GroupAsk::React { .. }, Some(retry_after_ms)) =
            (&ask, self.cluster.refuses(self.shard))
        {
            return reply.send(Err(GroupFailure::Overloaded { retry_after_ms }));
        }
        if let (GroupAsk::Send { .. }, Err(early)) =
            (&ask, self.directory.rates().message(&self.key.app, &self.key.conversation))
        {
            let retry_after_ms = early.retry_after_ms;
            return reply.send(Err(GroupFailure::TooOften { retry_after_ms }));
        }
        let Some(fence) = self.cluster.fence(self.shard) else { return reply.send(Err(GroupFailure::Unavailable)) };
        let room = self.cluster.view(self.shard).map(|view| room::for_group(&self.cluster, &view, &self.key, &ask));
        if let Some(Err(full)) = room {
            return reply.send(Err(full));
        }
        let digest = self.digest(&actor, &ask);
        let local = self.local(&actor);
        let effects = self.core.asked(Asked { actor, ask, digest, local, turn, fence }, reply);
        self.act(effects, context);
    }
}

impl Handler<Decided> for GroupActor {
    type Result = ();

    fn handle(&mut self, Decided { ticket, outcome }: Decided, context: &mut Self::Context) {
        let outcome = outcome.map(|proposed| proposed.outcome).map_err(failure);
        let effects = self.core.proposed(ticket, outcome);
        self.act(effects, context);
    }
}

impl Handler<Retire> for GroupActor {
    type Result = ();

    fn handle(&mut self, _: Retire, context: &mut Self::Context) {
        self.retiring = true;
        self.act(Vec::new(), context);
    }
}

impl Handler<Observe> for GroupActor {
    type Result = GroupState;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> GroupState {
        GroupState {
            conversation: self.key.conversation.to_string(),
            in_flight: self.core.in_flight(),
            proposed: self.core.proposed,
            joined_in_flight: self.core.joined_in_flight,
        }
    }
}
