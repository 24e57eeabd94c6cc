//! What is asked once and holds for as long as the client does: whose presence it hears of, and how its user appears.
//! A node forgets it with the connection, so every new connection asks for it again.

use std::collections::BTreeSet;

use chat::ids::UserId;
use chat::limits;
use chat::wire::{Appearance, Request};

/// What a request asks for beyond its connection, once it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lasting {
    Subscribed(Vec<UserId>),
    Unsubscribed(Vec<UserId>),
    Appears(Appearance),
}

impl Lasting {
    pub(crate) fn of(request: &Request) -> Option<Self> {
        match request {
            Request::SubscribePresence { users } => Some(Self::Subscribed(users.clone())),
            Request::UnsubscribePresence { users } => Some(Self::Unsubscribed(users.clone())),
            Request::SetPresence { state } => Some(Self::Appears(*state)),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Standing {
    subscribed: BTreeSet<UserId>,
    appearance: Appearance,
}

impl Standing {
    pub(crate) fn keep(&mut self, lasting: Lasting) {
        match lasting {
            Lasting::Subscribed(users) => self.subscribed.extend(users),
            Lasting::Unsubscribed(users) => users.iter().for_each(|user| _ = self.subscribed.remove(user)),
            Lasting::Appears(appearance) => self.appearance = appearance,
        }
    }

    /// What a new connection is to be told, in this order: first how the user appears, so that nobody sees otherwise.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let appearance = (self.appearance != Appearance::default()).then_some(self.appearance);
        let appears = appearance.map(|state| Request::SetPresence { state });
        let users: Vec<UserId> = self.subscribed.iter().cloned().collect();
        let pages =
            users.chunks(limits::PRESENCE_USERS).map(|users| Request::SubscribePresence { users: users.to_vec() });
        appears.into_iter().chain(pages).collect()
    }
}
