//! What is said beside the log and kept nowhere: presence, typing, signals. It reaches the sessions of a worker as events
//! do, by a direct call, each frame encoded once. A worker whose queue is full does not hear it: whoever says it knows.

use std::sync::Arc;

use actix::{Handler, Message};
use bytestring::ByteString;
use chat::ids::{AppId, ConversationId, UserId};

use super::core::Core;
use super::message::SessionNumber;
use super::{FanOut, FanOutHandle};
use crate::session::message::Live;
use crate::socket::now_ms;

#[derive(Debug)]
pub(crate) enum Aside {
    Presence(PresenceNews),
    /// To the sessions that follow a conversation.
    Said {
        app: AppId,
        conversation: ConversationId,
        /// This user's sessions do not hear it.
        but: Option<UserId>,
        frame: ByteString,
    },
}

#[derive(Debug)]
pub(crate) enum PresenceNews {
    Change { sessions: Vec<SessionNumber>, user: UserId, frame: ByteString },
    Answer { session: SessionNumber, re: u64, frame: ByteString },
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Tell(Arc<Aside>);

impl FanOutHandle {
    /// False if some worker had no room for it.
    pub(crate) fn tell(&self, aside: &Arc<Aside>) -> bool {
        let concerned = match aside.as_ref() {
            Aside::Presence(_) => None,
            Aside::Said { app, conversation, .. } => Some(self.interest.followers(app, conversation)),
        };
        let workers = self.workers.read();
        let concerned = workers.iter().filter(|worker| concerned.is_none_or(|bits| worker.bit & bits != 0));
        // Everyone is told, whoever has no room.
        let full = concerned.filter(|worker| worker.actor.try_send(Tell(aside.clone())).is_err());
        full.count() == 0
    }
}

impl Core {
    pub(super) fn told(&self, now_ms: u64, aside: &Aside) {
        match aside {
            Aside::Presence(PresenceNews::Change { sessions, user, frame }) => {
                for session in sessions {
                    self.hear(*session, now_ms, Live::PresenceChanged { user, frame });
                }
            }
            Aside::Presence(PresenceNews::Answer { session, re, frame }) => {
                self.hear(*session, now_ms, Live::PresenceAnswer { re: *re, frame });
            }
            Aside::Said { app, conversation, but, frame } => {
                self.said(now_ms, app, conversation, but.as_ref(), frame);
            }
        }
    }
}

impl Handler<Tell> for FanOut {
    type Result = ();

    fn handle(&mut self, Tell(aside): Tell, _: &mut Self::Context) {
        self.core.borrow().told(now_ms(), &aside);
    }
}
