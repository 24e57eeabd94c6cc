//! The rules once more, naively: a conversation is the list of its events and nothing else. Who is a member, in which
//! role, since when and how far read is worked out from that list every time it is asked.

use std::collections::{BTreeMap, HashMap};

use chat::command::{Command, ConversationCommand, Outcome, RetentionCommand, UserCommand};
use chat::errors::ErrorCode;
use chat::event::{Committed, Event, Receipt, Role, SequencedEvent};
use chat::ids::{ClientMsgId, ConversationId, DeviceId, UserId};
use chat::limits;
use chat::state::record::Privacy;

use crate::actions::{app, conversations};

/// A use of an id: author, id, digest and the seq of what it made.
type Used = (UserId, ClientMsgId, [u8; 16], u64);

#[derive(Default)]
pub(crate) struct Talk {
    pub(crate) events: Vec<Event>,
    pub(crate) times: Vec<u64>,
    pub(crate) sent: Vec<Used>,
    /// Who marked what as read, and the head at that time.
    pub(crate) marks: Vec<(UserId, u64, u64)>,
    /// When it was trimmed, and up to which seq.
    trims: Vec<(u64, u64)>,
    oldest: u64,
}

#[derive(Default)]
pub(crate) struct Twin {
    talks: HashMap<ConversationId, Talk>,
    passwords: HashMap<UserId, Option<String>>,
    devices: HashMap<UserId, BTreeMap<DeviceId, u64>>,
    seen: HashMap<UserId, u64>,
    privacy: HashMap<UserId, Privacy>,
    events: Vec<Committed>,
}

pub(crate) type Answer = Result<Outcome, ErrorCode>;

pub(crate) fn fresh(seq: u64) -> Answer {
    Ok(Outcome::Applied { seq, duplicate: false })
}

pub(crate) fn repeated(seq: u64) -> Answer {
    Ok(Outcome::Applied { seq, duplicate: true })
}

impl Talk {
    pub(crate) fn head(&self) -> u64 {
        self.events.len() as u64
    }

    /// The first seq that is kept.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest.max(1)
    }

    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u64, &Event)> {
        (1..).zip(&self.events)
    }

    fn members(&self, id: &ConversationId) -> BTreeMap<UserId, (Role, u64)> {
        let mut members = BTreeMap::new();
        if let ConversationId::Private(a, b) = id {
            if !self.events.is_empty() {
                members.extend([a, b].map(|user| (user.clone(), (Role::Member, 1))));
            }
            return members;
        }
        for (seq, event) in self.numbered() {
            match event {
                Event::Message { .. }
                | Event::Edited { .. }
                | Event::Recalled { .. }
                | Event::Reacted { .. }
                | Event::Pinned { .. }
                | Event::Unpinned { .. }
                | Event::Expired { .. } => {}
                Event::GroupCreated { by, members: others, .. } => {
                    members.extend(others.iter().map(|user| (user.clone(), (Role::Member, seq))));
                    members.insert(by.clone(), (Role::Owner, seq));
                }
                Event::Joined { users, .. } => {
                    members.extend(users.iter().map(|user| (user.clone(), (Role::Member, seq))));
                }
                Event::Left { user } | Event::Kicked { user, .. } => {
                    members.remove(user);
                }
                Event::RoleChanged { user, role, by } => {
                    if *role == Role::Owner {
                        members.get_mut(by).unwrap().0 = Role::Admin;
                    }
                    members.get_mut(user).unwrap().0 = *role;
                }
                other => panic!("no action makes {other:?}"),
            }
        }
        members
    }

    /// How far a member since `joined` has read: own messages, own arrival, and marks since then.
    pub(crate) fn read(&self, user: &UserId, joined: u64) -> u64 {
        let own = |event: &Event| match event {
            Event::Message { author, .. } => author == user,
            Event::GroupCreated { by, .. } => by == user,
            Event::Joined { users, by } => by == user && users.contains(user),
            _ => false,
        };
        let events = self.numbered().filter(|(seq, event)| *seq >= joined && own(event)).map(|(seq, _)| seq);
        let marks = self.marks.iter().filter(|(by, _, head)| by == user && *head >= joined).map(|(_, seq, _)| *seq);
        events.chain(marks).max().unwrap_or(0)
    }
}

impl Twin {
    pub(crate) fn apply(&mut self, time_ms: u64, command: &Command) -> Outcome {
        let answer = match command {
            Command::User { user, command, .. } => self.account(time_ms, user, command),
            Command::Conversation { conversation, actor, command, .. } => {
                self.converse(time_ms, conversation, actor, command)
            }
            Command::Retention(RetentionCommand::Trim { conversation, oldest_seq, .. }) => {
                self.trim(time_ms, conversation, *oldest_seq)
            }
            Command::Retention(RetentionCommand::Forget { conversation, below, .. }) => {
                self.forget(time_ms, conversation, *below)
            }
            other => panic!("the model makes no {other:?}"),
        };
        answer.unwrap_or_else(Outcome::Rejected)
    }

    pub(crate) fn take_events(&mut self) -> Vec<Committed> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn history(&self, id: &ConversationId) -> (u64, Vec<Event>) {
        let Some(talk) = self.talks.get(id) else { return (1, Vec::new()) };
        (talk.oldest(), talk.events[talk.oldest() as usize - 1..].to_vec())
    }

    fn trim(&mut self, time_ms: u64, id: &ConversationId, oldest_seq: u64) -> Answer {
        let talk = self.talks.get_mut(id).filter(|talk| talk.head() > 0).ok_or(ErrorCode::NotAMember)?;
        if oldest_seq <= talk.oldest() {
            return repeated(talk.oldest());
        }
        if oldest_seq > talk.head() + 1 {
            return Err(ErrorCode::SeqBeyondHead);
        }
        talk.oldest = oldest_seq;
        talk.trims.push((time_ms, oldest_seq));
        fresh(oldest_seq)
    }

    /// The ids that one author made at one time go together: here those are all.
    fn forget(&mut self, time_ms: u64, id: &ConversationId, below: u64) -> Answer {
        let mut nothing = Talk::default();
        let talk = self.talks.get_mut(id).unwrap_or(&mut nothing);
        let step = limits::DEDUPE_WINDOW_MS / limits::FORGET_STEPS;
        let over = |trimmed: u64| (trimmed / step + 1) * step + limits::DEDUPE_WINDOW_MS <= time_ms;
        let forgettable = talk.trims.iter().filter(|(at, _)| over(*at)).map(|(_, seq)| *seq).max().unwrap_or(0);
        if below > forgettable {
            return Err(ErrorCode::Forbidden);
        }
        // A time is done with once everything that was deleted by then is forgotten.
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for (at, seq) in &talk.trims {
            newest.entry(at / step).and_modify(|newest| *newest = *seq.max(newest)).or_insert(*seq);
        }
        talk.trims.retain(|(at, _)| newest[&(at / step)] > below);
        let sent = talk.sent.clone();
        talk.sent.retain(|(author, ..)| sent.iter().any(|(by, _, _, seq)| by == author && *seq >= below));
        fresh(0)
    }

    pub(crate) fn head(&self, id: &ConversationId) -> Option<u64> {
        self.talks.get(id).map(Talk::head).filter(|head| *head > 0)
    }

    pub(crate) fn talk(&mut self, id: &ConversationId) -> &mut Talk {
        self.talks.entry(id.clone()).or_default()
    }

    pub(crate) fn look(&self, id: &ConversationId) -> Option<&Talk> {
        self.talks.get(id)
    }

    pub(crate) fn roles(&self, id: &ConversationId) -> BTreeMap<UserId, (Role, u64)> {
        self.talks.get(id).map(|talk| talk.members(id)).unwrap_or_default()
    }

    pub(crate) fn members(&self, id: &ConversationId) -> Vec<(UserId, Role, u64)> {
        self.roles(id).into_iter().map(|(user, (role, joined))| (user, role, joined)).collect()
    }

    pub(crate) fn unread(&self, id: &ConversationId, user: &UserId) -> Option<u64> {
        let (_, joined) = *self.roles(id).get(user)?;
        let talk = &self.talks[id];
        let seen = talk.read(user, joined);
        // One by one: what is kept and after both the arrival and the position.
        let counts = |seq: u64| seq >= joined && seq > seen && seq >= talk.oldest();
        Some(talk.numbered().filter(|(seq, _)| counts(*seq)).count() as u64)
    }

    /// Where the user is a member, in the order of the conversations' text.
    pub(crate) fn memberships(&self, user: &UserId) -> Vec<ConversationId> {
        let mut all: Vec<_> =
            conversations().into_iter().filter(|conversation| self.roles(conversation).contains_key(user)).collect();
        all.sort_by_key(ToString::to_string);
        all
    }

    /// When the user was last there, and who may know.
    pub(crate) fn presence(&self, user: &UserId) -> (Option<u64>, Privacy) {
        (self.seen.get(user).copied(), self.privacy.get(user).copied().unwrap_or_default())
    }

    pub(crate) fn devices(&self, user: &UserId) -> Vec<(DeviceId, u64)> {
        self.devices.get(user).map_or_else(Vec::new, |devices| devices.clone().into_iter().collect())
    }

    pub(crate) fn happen(&mut self, time_ms: u64, id: &ConversationId, event: Event) -> Answer {
        let talk = self.talks.entry(id.clone()).or_default();
        talk.events.push(event.clone());
        talk.times.push(time_ms);
        let seq = talk.head();
        let (app, conversation) = (app(), id.clone());
        self.events.push(Committed::Sequenced(SequencedEvent { app, conversation, seq, time_ms, event }));
        fresh(seq)
    }

    fn converse(&mut self, time_ms: u64, id: &ConversationId, actor: &UserId, command: &ConversationCommand) -> Answer {
        let group = matches!(id, ConversationId::Group(_));
        let members = self.roles(id);
        let rank = members.get(actor).map(|(role, _)| *role);
        let by = actor.clone();
        match command {
            ConversationCommand::Send { .. } => self.send(time_ms, id, actor, command),
            ConversationCommand::MarkRead { seq } => self.mark(id, actor, *seq),
            ConversationCommand::Edit { .. }
            | ConversationCommand::Recall { .. }
            | ConversationCommand::React { .. }
            | ConversationCommand::Pin { .. } => self.change(time_ms, id, actor, command),
            _ if !group => Err(ErrorCode::InvalidField),
            ConversationCommand::CreateGroup { name, members, .. } => self.create(time_ms, id, actor, name, members),
            ConversationCommand::Join { .. } if rank.is_some() => Err(ErrorCode::AlreadyMember),
            ConversationCommand::Join { .. } if members.is_empty() => Err(ErrorCode::NotAMember),
            ConversationCommand::Join { .. } => self.happen(time_ms, id, Event::Joined { users: vec![by.clone()], by }),
            ConversationCommand::Invite { users } if users.is_empty() => Err(ErrorCode::InvalidField),
            _ if rank.is_none() => Err(ErrorCode::NotAMember),
            ConversationCommand::Leave if rank == Some(Role::Owner) && members.len() > 1 => {
                Err(ErrorCode::OwnerMustStay)
            }
            ConversationCommand::Leave => self.happen(time_ms, id, Event::Left { user: by }),
            ConversationCommand::SetRole { user, role } => {
                let present = members.get(user).map(|(role, _)| *role);
                match (rank, present) {
                    (Some(Role::Owner), None) => Err(ErrorCode::UserNotFound),
                    (Some(Role::Owner), Some(present)) if present == *role => repeated(0),
                    (Some(Role::Owner), Some(Role::Owner)) => Err(ErrorCode::OwnerMustStay),
                    (Some(Role::Owner), Some(_)) => {
                        self.happen(time_ms, id, Event::RoleChanged { user: user.clone(), role: *role, by })
                    }
                    _ => Err(ErrorCode::Forbidden),
                }
            }
            _ if rank == Some(Role::Member) => Err(ErrorCode::Forbidden),
            ConversationCommand::Kick { user } => match members.get(user) {
                None => Err(ErrorCode::UserNotFound),
                Some((role, _)) if Some(*role) >= rank => Err(ErrorCode::Forbidden),
                Some(_) => self.happen(time_ms, id, Event::Kicked { user: user.clone(), by }),
            },
            ConversationCommand::Invite { users } => {
                let mut new: Vec<UserId> = Vec::new();
                for user in users {
                    if !members.contains_key(user) && !new.contains(user) {
                        new.push(user.clone());
                    }
                }
                if new.is_empty() {
                    return Err(ErrorCode::AlreadyMember);
                }
                self.happen(time_ms, id, Event::Joined { users: new, by })
            }
            other => panic!("no action is {other:?}"),
        }
    }

    pub(crate) fn was_used(&self, id: &ConversationId, actor: &UserId, client_msg_id: ClientMsgId) -> Option<Used> {
        let talk = self.talks.get(id)?;
        talk.sent.iter().find(|(author, id, ..)| author == actor && *id == client_msg_id).cloned()
    }

    fn send(&mut self, time_ms: u64, id: &ConversationId, actor: &UserId, command: &ConversationCommand) -> Answer {
        let ConversationCommand::Send { client_msg_id, digest, body, .. } = command else { panic!("{command:?}") };
        if let Some((.., known, seq)) = self.was_used(id, actor, *client_msg_id) {
            return if known == *digest { repeated(seq) } else { Err(ErrorCode::IdConflict) };
        }
        let admitted = match id {
            ConversationId::Private(a, b) => a == actor || b == actor,
            ConversationId::Group(_) => self.roles(id).contains_key(actor),
        };
        if !admitted {
            return Err(ErrorCode::NotAMember);
        }
        let (author, body) = (actor.clone(), Some(body.clone()));
        let message = Event::Message { author, client_msg_id: *client_msg_id, body, relations: None };
        let answer = self.happen(time_ms, id, message);
        let talk = self.talks.get_mut(id).unwrap();
        talk.sent.push((actor.clone(), *client_msg_id, *digest, talk.events.len() as u64));
        answer
    }

    fn create(&mut self, time_ms: u64, id: &ConversationId, actor: &UserId, name: &str, members: &[UserId]) -> Answer {
        if name.trim().is_empty() {
            return Err(ErrorCode::InvalidField);
        }
        match self.talks.get(id).and_then(|talk| talk.events.first()) {
            Some(Event::GroupCreated { by, name: present, .. }) if by == actor && present == name => {
                return repeated(1);
            }
            Some(_) => return Err(ErrorCode::GroupExists),
            None => {}
        }
        let mut others: Vec<UserId> = Vec::new();
        for user in members {
            if user != actor && !others.contains(user) {
                others.push(user.clone());
            }
        }
        self.happen(time_ms, id, Event::GroupCreated { by: actor.clone(), name: name.to_owned(), members: others })
    }

    fn mark(&mut self, id: &ConversationId, actor: &UserId, seq: u64) -> Answer {
        let (_, joined) = *self.roles(id).get(actor).ok_or(ErrorCode::NotAMember)?;
        let talk = self.talks.get_mut(id).unwrap();
        let (head, read) = (talk.head(), talk.read(actor, joined));
        if seq > head {
            return Err(ErrorCode::SeqBeyondHead);
        }
        if seq <= read {
            return repeated(read);
        }
        talk.marks.push((actor.clone(), seq, head));
        let (app, conversation, user) = (app(), id.clone(), actor.clone());
        let (receipt, to_all) = (Receipt::Read, true);
        self.events.push(Committed::ReadMoved { app, conversation, user, receipt, seq, to_all });
        fresh(seq)
    }

    fn account(&mut self, time_ms: u64, user: &UserId, command: &UserCommand) -> Answer {
        let present = self.passwords.get(user);
        match (command, present) {
            (UserCommand::CreateAccount { password: None }, Some(None)) => repeated(0),
            (UserCommand::CreateAccount { .. }, Some(_)) => Err(ErrorCode::AccountExists),
            (UserCommand::CreateAccount { password: first }, None) => {
                self.passwords.insert(user.clone(), first.clone());
                fresh(0)
            }
            (_, None) => Err(ErrorCode::UserNotFound),
            (UserCommand::RevokeLogins { which }, Some(_)) => {
                let (app, user, which) = (app(), user.clone(), which.clone());
                self.events.push(Committed::LoginsRevoked { app, user, which });
                fresh(0)
            }
            (UserCommand::SetPassword { password }, Some(present)) if present == password => repeated(0),
            (UserCommand::SetPassword { password }, _) => {
                self.passwords.insert(user.clone(), password.clone());
                fresh(0)
            }
            (UserCommand::SeeDevice { device, .. }, Some(_)) => {
                let devices = self.devices.entry(user.clone()).or_default();
                devices.insert(device.clone(), time_ms);
                if devices.len() > limits::USER_DEVICES {
                    let others = devices.iter().filter(|(id, _)| *id != device);
                    let oldest = others.min_by_key(|(id, last)| (**last, (*id).clone())).unwrap().0.clone();
                    devices.remove(&oldest);
                }
                fresh(0)
            }
            (UserCommand::SeeUser { at_ms }, _) => {
                let before = self.seen.get(user).copied();
                let newest = before.map_or(*at_ms, |before| before.max(*at_ms));
                self.seen.insert(user.clone(), newest);
                if before == Some(newest) { repeated(0) } else { fresh(0) }
            }
            (UserCommand::SetActive { .. } | UserCommand::BeginSession { .. }, _) => {
                unreachable!("the actions have none: what they do is tested beside the code")
            }
            (UserCommand::SetPrivacy { privacy }, _) => {
                let before = self.privacy.insert(user.clone(), *privacy).unwrap_or_default();
                if before == *privacy {
                    return repeated(0);
                }
                self.events.push(Committed::PrivacySet { app: app(), user: user.clone() });
                fresh(0)
            }
            // What users keep is not in the model.
            (
                UserCommand::SetProfile { .. }
                | UserCommand::SetSettings { .. }
                | UserCommand::DescribeContact { .. }
                | UserCommand::Mark { .. },
                _,
            ) => repeated(0),
        }
    }
}
