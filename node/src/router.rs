//! From a session to the group actor that decides, on this node or on the one that leads the conversation's shard.
//!
//! Requests of one session enter the same conversation's mailbox in the order they were made: everything up to there
//! happens in the first poll of [`Router::ask`] here, and inside [`Desk::call`] on the other node.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat::codec::{self, Kind};
use chat::ids::{AppId, ConversationId, NodeId, UserId};
use chat::limits;
use cluster::{CallError, Cluster};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::directory::Directory;
use crate::group::{GroupAnswer, GroupAsk, GroupFailure, GroupKey, GroupRequest};

/// Before a leader is looked for again.
const RETRY: Duration = Duration::from_millis(25);

/// A node that hangs does not answer: what may be asked again is, of whoever leads by then.
const ATTEMPT: Duration = Duration::from_millis(limits::PEER_TIMEOUT_MS);

/// What a node asks of another. The order of variants is the rpc format: new ones go last.
#[derive(Debug, Serialize, Deserialize)]
enum PeerRequest {
    Group { app: AppId, conversation: ConversationId, actor: UserId, ask: GroupAsk },
}

/// The answer, in the order of the requests.
#[derive(Debug, Serialize, Deserialize)]
enum PeerAnswer {
    Group(GroupAnswer),
    /// The request did not decode: another version of the service.
    NotUnderstood,
}

/// Sessions ask through this.
#[derive(Clone)]
pub struct Router {
    cluster: Cluster,
    directory: Arc<Directory>,
}

impl Router {
    pub fn new(cluster: Cluster, directory: Arc<Directory>) -> Self {
        Self { cluster, directory }
    }

    /// Asks the conversation's group actor wherever it is. While nothing can have happened, or asking again changes
    /// nothing, it asks again, until [`limits::REQUEST_TIMEOUT_MS`] have passed.
    pub(crate) async fn ask(
        &self,
        app: AppId,
        conversation: ConversationId,
        actor: UserId,
        ask: GroupAsk,
    ) -> GroupAnswer {
        let deadline = Instant::now() + Duration::from_millis(limits::REQUEST_TIMEOUT_MS);
        // Once one attempt may have happened, no later failure may claim that nothing did.
        let mut maybe_happened = false;
        loop {
            let attempt = self.attempt(app.clone(), conversation.clone(), actor.clone(), ask.clone());
            let patience = if ask.idempotent() { deadline.min(Instant::now() + ATTEMPT) } else { deadline };
            let answer = timeout_at(patience, attempt).await.unwrap_or(Err(GroupFailure::Unknown));
            let failure = match answer {
                Err(failure) if again(failure, ask.idempotent()) => failure,
                answer => return answer.map_err(|failure| soften(failure, maybe_happened)),
            };
            maybe_happened |= failure == GroupFailure::Unknown;
            if Instant::now() + RETRY >= deadline {
                return Err(soften(failure, maybe_happened));
            }
            sleep(RETRY).await;
        }
    }

    async fn attempt(&self, app: AppId, conversation: ConversationId, actor: UserId, ask: GroupAsk) -> GroupAnswer {
        let shard = self.cluster.conversation_shard(&app, &conversation);
        match self.cluster.leader(shard) {
            None => Err(GroupFailure::NotLeader { leader: None }),
            Some(node) if node == self.cluster.node() => {
                local(&self.directory, GroupKey { app, conversation }, actor, ask).await
            }
            Some(node) => self.remote(node, PeerRequest::Group { app, conversation, actor, ask }).await,
        }
    }

    async fn remote(&self, node: NodeId, request: PeerRequest) -> GroupAnswer {
        let request = codec::encode(Kind::Peer, &request).map_err(|_| GroupFailure::Unavailable)?;
        let answer = self.cluster.call(node, request).await.map_err(|error| match error {
            CallError::Unreachable => GroupFailure::NotLeader { leader: None },
            CallError::Overloaded => GroupFailure::Overloaded { retry_after_ms: 200 },
            CallError::NoAnswer => GroupFailure::Unknown,
        })?;
        match codec::decode(Kind::Peer, &answer) {
            Ok(PeerAnswer::Group(answer)) => answer,
            Ok(PeerAnswer::NotUnderstood) => Err(GroupFailure::Unavailable),
            Err(_) => Err(GroupFailure::Unknown),
        }
    }
}

fn again(failure: GroupFailure, idempotent: bool) -> bool {
    match failure {
        GroupFailure::NotLeader { .. } | GroupFailure::Unavailable => true,
        GroupFailure::Unknown => idempotent,
        // The client is to wait; a failed replica is restarted, not asked again.
        GroupFailure::Overloaded { .. } | GroupFailure::Rejected(_) | GroupFailure::Internal => false,
    }
}

fn soften(failure: GroupFailure, maybe_happened: bool) -> GroupFailure {
    match failure {
        GroupFailure::Rejected(_) | GroupFailure::Internal => failure,
        _ if maybe_happened => GroupFailure::Unknown,
        failure => failure,
    }
}

/// In the mailbox when this returns; the future waits for the answer.
fn local(
    directory: &Arc<Directory>,
    key: GroupKey,
    actor: UserId,
    ask: GroupAsk,
) -> impl Future<Output = GroupAnswer> + Send + use<> {
    let (reply, answer) = oneshot::channel();
    let asked = directory.ask(key, GroupRequest { actor, ask, reply });
    async move {
        asked?;
        // Unanswered: the actor ended with the request in hand.
        answer.await.unwrap_or(Err(GroupFailure::Unknown))
    }
}

/// What other nodes reach.
pub struct Desk {
    directory: Arc<Directory>,
}

impl Desk {
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory }
    }
}

impl cluster::PeerService for Desk {
    fn call(&self, _from: NodeId, request: Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>> {
        let Ok(PeerRequest::Group { app, conversation, actor, ask }) = codec::decode(Kind::Peer, &request) else {
            return Box::pin(async { encode(&PeerAnswer::NotUnderstood) });
        };
        let answer = local(&self.directory, GroupKey { app, conversation }, actor, ask);
        Box::pin(async move { encode(&PeerAnswer::Group(answer.await)) })
    }
}

fn encode(answer: &PeerAnswer) -> Bytes {
    codec::encode(Kind::Peer, answer).expect("an answer is a few numbers")
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
        };
        let request = PeerRequest::Group {
            app: AppId::new("main").unwrap(),
            conversation: ConversationId::Group(GroupId(Uuid::from_u128(6))),
            actor: UserId::new("alice").unwrap(),
            ask: ask.clone(),
        };
        let bytes = codec::encode(Kind::Peer, &request).unwrap();
        let PeerRequest::Group { ask: back, .. } = codec::decode(Kind::Peer, &bytes).unwrap();
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
