//! What has to be known of a request before it may enter the log.

use chat::ids::UserId;

use super::{Core, Effect, Local, Ticket};
use crate::group::message::GroupAsk;

pub(super) enum Gate<R> {
    Open,
    Check(Effect<R>),
    /// Behind another request's check.
    Queued,
}

impl<R> Core<R> {
    /// What has to be known before the request may enter the log.
    pub(super) fn gate(&mut self, ticket: Ticket, actor: &UserId, ask: &GroupAsk, local: Local) -> Gate<R> {
        if !ask.names().is_empty() {
            return Gate::Check(Effect::CheckUsers { ticket, users: ask.names().to_vec() });
        }
        if let Some(seq) = ask.original() {
            return Gate::Check(Effect::FindOriginal { ticket, user: actor.clone(), seq, id: ask.id() });
        }
        if let Some(peer) = self.conversation.peer_of(actor).cloned() {
            match ask {
                GroupAsk::Send { .. } => return self.peer_gate(ticket, actor, peer, local),
                GroupAsk::AskContact { .. } => {
                    return Gate::Check(Effect::CheckPeer { ticket, user: actor.clone(), peer, asks: true });
                }
                GroupAsk::Block { .. } => return Gate::Check(Effect::CheckUsers { ticket, users: vec![peer] }),
                _ => {}
            }
        }
        let open_to_all = matches!(ask, GroupAsk::CreateGroup { .. } | GroupAsk::Join { .. }) || ask.of_pair();
        // While a membership change is under way the log decides: it may be the actor's own joining.
        let changing = self.pending.values().any(|pending| pending.membership);
        if local.member || open_to_all || changing {
            return Gate::Open;
        }
        Gate::Check(Effect::ConfirmMember { ticket, user: actor.clone(), message: ask.id() })
    }

    /// A conversation that exists has two users who exist and talk; the first message has to wait for the peer's account.
    fn peer_gate(&mut self, ticket: Ticket, user: &UserId, peer: UserId, local: Local) -> Gate<R> {
        self.peer_known |= local.exists;
        if self.peer_known && self.waiting_for_peer.is_empty() {
            return Gate::Open;
        }
        self.waiting_for_peer.push(ticket);
        if self.waiting_for_peer.len() > 1 {
            return Gate::Queued;
        }
        // Both sides' first messages wait for one answer, unless somebody writes to themselves.
        Gate::Check(Effect::CheckPeer { ticket, user: user.clone(), peer, asks: false })
    }
}
