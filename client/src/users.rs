//! Users: profiles, contacts, blocked users, marks on conversations, and who read what.

use chat::ids::{ConversationId, UserId};
use chat::user::{Profile, UserSettings};
use chat::wire::{Reader, Request, ServerFrame, UserItem, UserProfile};

use crate::client::Client;
use crate::error::RequestError;

/// What the user keeps that changed since a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub items: Vec<UserItem>,
    /// Up to which this is all that changed: ask from here on next time.
    pub version: u64,
    pub more: bool,
    /// Drop what you hold: everything there is follows from the beginning.
    pub reset: bool,
}

/// How the user treats a conversation; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    pub pinned: Option<bool>,
    /// Unix milliseconds; 0: it may make a noise.
    pub muted_until_ms: Option<u64>,
    pub unread: Option<bool>,
    /// Empty: there is none.
    pub draft: Option<String>,
}

/// Who has read and received a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// Of all members, the author included.
    pub read: u64,
    pub delivered: u64,
    /// A page of those who received it.
    pub readers: Vec<Reader>,
    pub more: bool,
}

/// Unread in all conversations together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadTotal {
    pub unread: u64,
    pub mentions: u64,
    /// That have something unread in them.
    pub conversations: u64,
}

impl Client {
    /// Replaces what other users see of this one.
    pub async fn set_profile(&self, profile: Profile) -> Result<(), RequestError> {
        self.done(Request::SetProfile { profile }).await
    }

    /// Of those who have one; at most [`chat::limits::PROFILES`] at once.
    pub async fn profiles(&self, users: Vec<UserId>) -> Result<Vec<UserProfile>, RequestError> {
        match *self.ask(&Request::Profiles { users }).await? {
            ServerFrame::Profiles { profiles, .. } => Ok(profiles),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    pub async fn set_settings(&self, settings: UserSettings) -> Result<(), RequestError> {
        self.done(Request::SetSettings { settings }).await
    }

    /// What the user keeps that changed since `after`; 0 for all of it.
    pub async fn sync(&self, after: u64) -> Result<Synced, RequestError> {
        match *self.ask(&Request::Sync { after, limit: None }).await? {
            ServerFrame::Synced { items, version, more, reset, .. } => Ok(Synced { items, version, more, reset }),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    pub async fn ask_contact(&self, user: UserId, text: impl Into<String>) -> Result<(), RequestError> {
        self.acked(Request::AskContact { user, text: text.into() }).await
    }

    pub async fn answer_contact(&self, user: UserId, accept: bool) -> Result<(), RequestError> {
        self.acked(Request::AnswerContact { user, accept }).await
    }

    /// Ends it, or takes back what was asked.
    pub async fn remove_contact(&self, user: UserId) -> Result<(), RequestError> {
        self.acked(Request::RemoveContact { user }).await
    }

    /// The user's own name for a contact, and groups it is put in. Nobody else sees them.
    pub async fn describe_contact(
        &self,
        user: UserId,
        remark: impl Into<String>,
        tags: Vec<String>,
    ) -> Result<(), RequestError> {
        self.done(Request::DescribeContact { user, remark: remark.into(), tags }).await
    }

    /// Nothing that this user says in private is taken any more, from the answer on.
    pub async fn block(&self, user: UserId) -> Result<(), RequestError> {
        self.acked(Request::Block { user }).await
    }

    pub async fn unblock(&self, user: UserId) -> Result<(), RequestError> {
        self.acked(Request::Unblock { user }).await
    }

    pub async fn mark(&self, conversation: ConversationId, mark: Mark) -> Result<(), RequestError> {
        let Mark { pinned, muted_until_ms, unread, draft } = mark;
        self.done(Request::Mark { conversation, pinned, muted_until_ms, unread, draft }).await
    }

    /// This device has everything up to `seq`.
    pub async fn delivered(&self, conversation: ConversationId, seq: u64) -> Result<(), RequestError> {
        self.acked(Request::Delivered { conversation, seq }).await
    }

    /// The user does not want to see the events `first` to `last` any more, on any device.
    pub async fn delete_for_me(&self, conversation: ConversationId, first: u64, last: u64) -> Result<(), RequestError> {
        self.acked(Request::DeleteForMe { conversation, first, last }).await
    }

    /// Who has read and received the message at `seq`; those after `after`.
    pub async fn readers(
        &self,
        conversation: ConversationId,
        seq: u64,
        after: Option<UserId>,
    ) -> Result<Readers, RequestError> {
        match *self.ask(&Request::Readers { conversation, seq, after, limit: None }).await? {
            ServerFrame::Readers { read, delivered, readers, more, .. } => {
                Ok(Readers { read, delivered, readers, more })
            }
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    pub async fn unread_total(&self) -> Result<UnreadTotal, RequestError> {
        match *self.ask(&Request::UnreadTotal).await? {
            ServerFrame::UnreadTotal { unread, mentions, conversations, .. } => {
                Ok(UnreadTotal { unread, mentions, conversations })
            }
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    async fn acked(&self, request: Request) -> Result<(), RequestError> {
        match *self.ask(&request).await? {
            ServerFrame::Ack { .. } => Ok(()),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }
}
