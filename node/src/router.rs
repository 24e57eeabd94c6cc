//! From a session to the group actor that decides, on this node or on the one that leads the conversation's shard.
//!
//! Requests of one session enter the same conversation's mailbox in the order they were posted: all of [`Router::post_to_leader`]
//! happens at once, notes to another node keep their order, and [`Desk::told`] puts them into the mailbox there. One that
//! is refused on the way is missed by the group actor, which refuses what comes after it ([`Turn`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use chat::codec::{self, Kind};
use chat::ids::{AppId, ConversationId, NodeId, UserId};
use chat::limits;
use cluster::{CallError, Cluster};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::directory::Directory;
use crate::fanout::{Aside, FanOutHandle};
use crate::group::{GroupAnswer, GroupAsk, GroupFailure, GroupKey, GroupRequest, Reply, Turn};
use crate::presence::PresenceHandle;
use crate::presence::message::{Input, PresenceNote};

/// Before a leader is looked for again.
const RETRY: Duration = Duration::from_millis(25);

/// A node that hangs does not answer: what may be asked again is, of whoever leads by then.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(limits::PEER_TIMEOUT_MS);

/// What nodes tell each other. The order of variants is the format between nodes: new ones go last.
#[derive(Debug, Serialize, Deserialize)]
enum Note {
    /// Answered by an `Answer` with the same number.
    Ask {
        number: u64,
        app: AppId,
        conversation: ConversationId,
        actor: UserId,
        ask: GroupAsk,
        turn: Turn,
    },
    Answer {
        number: u64,
        answer: GroupAnswer,
    },
    Presence(PresenceNote),
    /// Said in a conversation beside the log: a client's frame for those who follow it, but for one user.
    Said {
        app: AppId,
        conversation: ConversationId,
        but: Option<UserId>,
        frame: String,
    },
}

/// A note about presence, as other nodes' desks take it.
pub(crate) fn frame_presence(note: PresenceNote) -> Bytes {
    encode(&Note::Presence(note))
}

/// A request of a user to a conversation's group actor.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) app: AppId,
    pub(crate) conversation: ConversationId,
    pub(crate) actor: UserId,
    pub(crate) ask: GroupAsk,
    pub(crate) turn: Turn,
}

/// Asks that another node has not answered yet. One for each request that sessions hold, and those are bounded.
#[derive(Default)]
struct Pending {
    last: u64,
    replies: HashMap<u64, (NodeId, Reply)>,
}

impl Pending {
    fn add(&mut self, node: NodeId, reply: Reply) -> u64 {
        self.last += 1;
        self.replies.insert(self.last, (node, reply));
        self.last
    }

    fn take(&mut self, number: u64) -> Option<Reply> {
        self.replies.remove(&number).map(|(_, reply)| reply)
    }
}

/// What other nodes reach, and where their answers arrive.
pub struct Desk {
    directory: Arc<Directory>,
    fan_out: FanOutHandle,
    presence: PresenceHandle,
    pending: Mutex<Pending>,
}

/// Sessions ask through this.
#[derive(Clone)]
pub struct Router {
    cluster: Cluster,
    desk: Arc<Desk>,
}

impl Router {
    pub fn new(cluster: Cluster, desk: Arc<Desk>) -> Self {
        Self { cluster, desk }
    }

    /// Asks the conversation's group actor once, wherever it is. Does not wait; `reply` gets the answer. An answer that
    /// is lost because the other node hangs never comes: the asker watches the time.
    pub(crate) fn post_to_leader(&self, letter: Letter, reply: Reply) {
        let leader = self.cluster.leader(self.cluster.conversation_shard(&letter.app, &letter.conversation));
        let Letter { app, conversation, actor, ask, turn } = letter;
        match leader {
            None => reply.send(Err(GroupFailure::NotLeader { leader: None })),
            Some(node) if node == self.cluster.node() => {
                self.desk.directory.ask(GroupKey { app, conversation }, GroupRequest { actor, ask, turn, reply });
            }
            Some(node) => self.post_to(node, reply, |number| Note::Ask { number, app, conversation, actor, ask, turn }),
        }
    }

    fn post_to(&self, node: NodeId, reply: Reply, note: impl FnOnce(u64) -> Note) {
        let number = self.desk.pending.lock().add(node, reply);
        let told = self.cluster.tell(node, encode(&note(number)));
        let Err(error) = told else { return };
        // Lost meanwhile: then it has its answer.
        let Some(reply) = self.desk.pending.lock().take(number) else { return };
        reply.send(Err(match error {
            CallError::Overloaded => GroupFailure::Overloaded { retry_after_ms: limits::FULL_RETRY_MS },
            CallError::Unreachable | CallError::NoAnswer => GroupFailure::NotLeader { leader: None },
        }));
    }

    /// Says something in a conversation, on all nodes, to whoever follows it now. What does not get there is lost.
    pub(crate) fn say_aside(&self, app: AppId, conversation: ConversationId, but: Option<UserId>, frame: ByteString) {
        let (own, text) = (self.cluster.node(), frame.to_string());
        let note = Note::Said { app: app.clone(), conversation: conversation.clone(), but: but.clone(), frame: text };
        let note = encode(&note);
        for (node, _) in self.cluster.reached().into_iter().filter(|(node, reached)| *node != own && *reached) {
            // Full or gone meanwhile: it is worth nothing later.
            let _ = self.cluster.tell(node, note.clone());
        }
        self.desk.say(Aside::Said { app, conversation, but, frame });
    }

    /// Asks again and again, while nothing can have happened or asking again changes nothing, until `deadline`.
    /// `maybe_happened`: an earlier attempt may have been done, so no later failure may claim that nothing was.
    pub(crate) async fn insist(&self, letter: Letter, deadline: Instant, mut maybe_happened: bool) -> GroupAnswer {
        let idempotent = letter.ask.idempotent();
        loop {
            sleep(RETRY).await;
            let (sender, answer) = oneshot::channel();
            // Whoever insists may have given up.
            self.post_to_leader(letter.clone(), Reply::new(|answer| _ = sender.send(answer)));
            let patience = if idempotent { deadline.min(Instant::now() + ATTEMPT) } else { deadline };
            let answer = match timeout_at(patience, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Err(GroupFailure::Unknown),
            };
            let failure = match answer {
                Err(failure) if again(failure, idempotent) => failure,
                answer => return answer.map_err(|failure| soften(failure, maybe_happened)),
            };
            maybe_happened |= failure == GroupFailure::Unknown;
            if Instant::now() + RETRY >= deadline {
                return Err(soften(failure, maybe_happened));
            }
        }
    }
}

/// Whether a request that failed so may be made again without asking the client.
pub(crate) fn again(failure: GroupFailure, idempotent: bool) -> bool {
    match failure {
        GroupFailure::NotLeader { .. } | GroupFailure::Unavailable | GroupFailure::OutOfTurn => true,
        GroupFailure::Unknown => idempotent,
        // The client is to wait; a failed replica is restarted, not asked again.
        GroupFailure::Overloaded { .. }
        | GroupFailure::TooOften { .. }
        | GroupFailure::Rejected(_)
        | GroupFailure::Internal => false,
    }
}

/// What a failure comes to if an earlier attempt may have been done.
pub(crate) fn soften(failure: GroupFailure, maybe_happened: bool) -> GroupFailure {
    match failure {
        GroupFailure::Rejected(_) | GroupFailure::Internal => failure,
        _ if maybe_happened => GroupFailure::Unknown,
        failure => failure,
    }
}

impl Desk {
    pub fn new(directory: Arc<Directory>, fan_out: FanOutHandle, presence: PresenceHandle) -> Self {
        Self { directory, fan_out, presence, pending: Mutex::default() }
    }

    fn say(&self, aside: Aside) {
        if !self.fan_out.tell(&Arc::new(aside)) {
            tracing::debug!("a worker was too busy for what was said beside the log");
        }
    }

    fn asked(&self, from: NodeId, number: u64, key: GroupKey, request: impl FnOnce(Reply) -> GroupRequest) {
        let directory = self.directory.clone();
        let reply = Reply::new(move |answer| {
            // If the connection is gone, the other node knows that by itself.
            if let Some(cluster) = directory.cluster() {
                let _ = cluster.tell(from, encode(&Note::Answer { number, answer }));
            }
        });
        self.directory.ask(key, request(reply));
    }
}

impl cluster::PeerService for Desk {
    fn told(&self, from: NodeId, note: Bytes) {
        match codec::decode(Kind::Peer, &note) {
            Ok(Note::Ask { number, app, conversation, actor, ask, turn }) => {
                let request = |reply| GroupRequest { actor, ask, turn, reply };
                self.asked(from, number, GroupKey { app, conversation }, request);
            }
            Ok(Note::Answer { number, answer }) => {
                // Given up meanwhile, or an answer from before the connection was lost.
                let reply = self.pending.lock().take(number);
                if let Some(reply) = reply {
                    reply.send(answer);
                }
            }
            Ok(Note::Presence(note)) => self.presence.say(Input::Told { from, note }),
            Ok(Note::Said { app, conversation, but, frame }) => {
                self.say(Aside::Said { app, conversation, but, frame: frame.into() });
            }
            Err(error) => tracing::warn!(peer = from, %error, "a note from a peer is of another version"),
        }
    }

    fn lost(&self, peer: NodeId) {
        self.presence.say(Input::Lost { peer });
        let lost: Vec<_> = self.pending.lock().replies.extract_if(|_, (node, _)| *node == peer).collect();
        for (_, (_, reply)) in lost {
            reply.send(Err(GroupFailure::Unknown));
        }
    }
}

fn encode(note: &Note) -> Bytes {
    codec::encode(Kind::Peer, note).expect("a note is one request, far below the limit")
}

#[cfg(test)]
mod tests {
    use chat::errors::ErrorCode;
    use chat::event::BodyKind;
    use chat::ids::{ClientMsgId, GroupId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_crosses_between_nodes_comes_back_whole() {
        let ask = GroupAsk::Send {
            client_msg_id: ClientMsgId(Uuid::from_u128(5)),
            kind: BodyKind::Action,
            plain: Bytes::from_static("grüßt".as_bytes()),
            relations: None,
        };
        let note = Note::Ask {
            number: 7,
            app: AppId::new("main").unwrap(),
            conversation: ConversationId::Group(GroupId(Uuid::from_u128(6))),
            actor: UserId::new("alice").unwrap(),
            ask: ask.clone(),
            turn: Turn { session: Uuid::from_u128(8), ticket: 3, after: Some(2) },
        };
        let Ok(Note::Ask { number: 7, ask: back, .. }) = codec::decode(Kind::Peer, &encode(&note)) else {
            panic!("{note:?}");
        };
        assert_eq!(back, ask);
    }

    #[test]
    fn only_what_is_safe_is_asked_again_and_a_doubt_stays() {
        assert!(again(GroupFailure::NotLeader { leader: None }, false));
        assert!(again(GroupFailure::Unknown, true));
        assert!(!again(GroupFailure::Unknown, false));
        assert!(!again(GroupFailure::Overloaded { retry_after_ms: 1 }, true));
        assert_eq!(soften(GroupFailure::Unavailable, true), GroupFailure::Unknown);
        assert_eq!(soften(GroupFailure::Unavailable, false), GroupFailure::Unavailable);
        let rejected = GroupFailure::Rejected(ErrorCode::IdConflict);
        assert_eq!(soften(rejected, true), rejected);
    }
}
