//! What concerns the moment: who is there, who is typing, signals; and who may know of it.

use chat::ids::{ClientMsgId, ConversationId, UserId};
use chat::wire::{Appearance, Audience, Request, ServerFrame, SignalBody, Target, UserPresence};

use crate::client::Client;
use crate::error::RequestError;

/// Who may know of the user's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privacy {
    pub last_seen: Audience,
    pub online: Audience,
}

impl Client {
    /// How these users appear now. What changes comes as `ClientEvent::Presence`, over reconnects too, and so do users who
    /// are missing in the answer because nothing is known of them yet. At most [`chat::limits::PRESENCE_USERS`] at once.
    pub async fn subscribe_presence(&self, users: Vec<UserId>) -> Result<Vec<UserPresence>, RequestError> {
        match *self.ask(&Request::SubscribePresence { users }).await? {
            ServerFrame::Presence { users, .. } => Ok(users),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    pub async fn unsubscribe_presence(&self, users: Vec<UserId>) -> Result<(), RequestError> {
        self.done(Request::UnsubscribePresence { users }).await
    }

    /// How this client's user appears, as far as this client goes; over reconnects too.
    pub async fn set_presence(&self, state: Appearance) -> Result<(), RequestError> {
        self.done(Request::SetPresence { state }).await
    }

    pub async fn set_privacy(&self, Privacy { last_seen, online }: Privacy) -> Result<Privacy, RequestError> {
        privacy(*self.ask(&Request::SetPrivacy { last_seen, online }).await?)
    }

    pub async fn privacy(&self) -> Result<Privacy, RequestError> {
        privacy(*self.ask(&Request::GetPrivacy).await?)
    }

    /// Tells the others that the user is typing. To be called as often as that is so: the service tells it now and then.
    pub async fn typing(&self, conversation: ConversationId) -> Result<(), RequestError> {
        self.done(Request::Typing { conversation }).await
    }

    /// Shows to whoever is online what a message says so far: `text` begins at byte `offset` of it. To be called as it grows: the
    /// service tells it some times a second. `Client::send_with_id` with the same id says the whole.
    pub async fn stream(
        &self,
        to: Target,
        client_msg_id: ClientMsgId,
        offset: u64,
        text: impl Into<String>,
    ) -> Result<(), RequestError> {
        self.done(Request::Stream { to, client_msg_id, offset, text: text.into() }).await
    }

    /// Sends something to whoever is online in the conversation now. Nobody hears of it later.
    pub async fn signal(&self, to: Target, body: SignalBody) -> Result<(), RequestError> {
        match *self.request(&Request::Signal { to, body }, false).await? {
            ServerFrame::Done { .. } => Ok(()),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    pub(crate) async fn done(&self, request: Request) -> Result<(), RequestError> {
        match *self.ask(&request).await? {
            ServerFrame::Done { .. } => Ok(()),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }
}

fn privacy(frame: ServerFrame) -> Result<Privacy, RequestError> {
    match frame {
        ServerFrame::Privacy { last_seen, online, .. } => Ok(Privacy { last_seen, online }),
        _ => Err(RequestError::UnexpectedAnswer),
    }
}
