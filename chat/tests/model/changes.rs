//! The twin's rules for edits, recalls, reactions and pins. How a message stands is read off the list of events.

use chat::command::{ConversationCommand, Original, Outcome};
use chat::errors::ErrorCode;
use chat::event::{Event, Role};
use chat::ids::{ConversationId, UserId};
use chat::limits;

use crate::twin::{Answer, Talk, Twin, fresh, repeated};

/// How a message stands: seqs of its edits, of its recall, who reacted how, whether it is pinned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) edits: Vec<u64>,
    pub(crate) recalled: Option<u64>,
    pub(crate) reactions: Vec<(String, Vec<UserId>)>,
    pub(crate) pinned: bool,
}

impl Talk {
    /// None if there is no such message, or no more.
    pub(crate) fn standing(&self, target: u64) -> Option<Standing> {
        let event = self.events.get(usize::try_from(target).unwrap().checked_sub(1)?)?;
        if target < self.oldest() || !matches!(event, Event::Message { .. }) {
            return None;
        }
        let mut standing = Standing::default();
        for (seq, event) in self.numbered() {
            match event {
                Event::Edited { target: of, .. } if *of == target => standing.edits.push(seq),
                Event::Recalled { target: of, .. } if *of == target => {
                    standing = Standing { recalled: Some(seq), edits: standing.edits, ..Standing::default() };
                }
                Event::Pinned { target: of, .. } if *of == target => standing.pinned = true,
                Event::Unpinned { target: of, .. } if *of == target => standing.pinned = false,
                Event::Reacted { target: of, by, reaction, on } if *of == target => {
                    react(&mut standing.reactions, by, reaction, *on);
                }
                _ => {}
            }
        }
        Some(standing)
    }

    pub(crate) fn pins(&self) -> Vec<u64> {
        let mut pins = Vec::new();
        for (_, event) in self.numbered() {
            match event {
                Event::Pinned { target, .. } => pins.push(*target),
                Event::Unpinned { target, .. } | Event::Recalled { target, .. } => pins.retain(|seq| seq != target),
                _ => {}
            }
        }
        pins.retain(|seq| *seq >= self.oldest());
        pins
    }

    /// Nobody can read it any more.
    fn forget_bodies(&mut self, of: u64) {
        for (seq, event) in (1..).zip(&mut self.events) {
            match event {
                Event::Message { body, .. } if seq == of => *body = None,
                Event::Edited { target, body, .. } if *target == of => *body = None,
                _ => {}
            }
        }
    }
}

fn react(reactions: &mut Vec<(String, Vec<UserId>)>, by: &UserId, reaction: &str, on: bool) {
    if on && !reactions.iter().any(|(known, _)| known == reaction) {
        reactions.push((reaction.to_owned(), Vec::new()));
    }
    for (_, users) in reactions.iter_mut().filter(|(known, _)| known == reaction) {
        users.retain(|user| user != by);
        if on {
            users.push(by.clone());
        }
    }
    reactions.retain(|(_, users)| !users.is_empty());
}

impl Twin {
    pub(crate) fn change(
        &mut self,
        time_ms: u64,
        id: &ConversationId,
        actor: &UserId,
        command: &ConversationCommand,
    ) -> Answer {
        if let ConversationCommand::Edit { client_msg_id, digest, .. } = command
            && let Some((.., known, seq)) = self.was_used(id, actor, *client_msg_id)
        {
            return if known == *digest { repeated(seq) } else { Err(ErrorCode::IdConflict) };
        }
        if matches!(command, ConversationCommand::React { reaction, .. } if reaction.trim().is_empty()) {
            return Err(ErrorCode::InvalidField);
        }
        let role = self.roles(id).get(actor).map(|(role, _)| *role).ok_or(ErrorCode::NotAMember)?;
        let runs = matches!(id, ConversationId::Group(_)) && role >= Role::Admin;
        let talk = self.talk(id);
        let target = match command {
            ConversationCommand::Edit { original, .. } => original.seq,
            ConversationCommand::Recall { original } => original.seq,
            ConversationCommand::React { seq, .. } | ConversationCommand::Pin { seq, .. } => *seq,
            other => panic!("{other:?} changes no message"),
        };
        if matches!(command, ConversationCommand::Pin { .. }) && matches!(id, ConversationId::Group(_)) && !runs {
            return Err(ErrorCode::Forbidden);
        }
        let standing = talk.standing(target).ok_or(ErrorCode::EventNotFound)?;
        let by = actor.clone();
        let event = match command {
            ConversationCommand::Edit { original, client_msg_id, body, .. } => {
                may_edit(time_ms, talk, &standing, actor, original)?;
                Event::Edited { target, by, client_msg_id: *client_msg_id, body: Some(body.clone()) }
            }
            ConversationCommand::Recall { .. } => {
                if let Some(seq) = standing.recalled {
                    return repeated(seq);
                }
                if !runs {
                    is_authors(talk, target, actor)?;
                    soon(time_ms, talk, target, limits::RECALL_WINDOW_MS)?;
                }
                Event::Recalled { target, by }
            }
            _ if standing.recalled.is_some() => return Err(ErrorCode::MessageRecalled),
            ConversationCommand::React { reaction, on, .. } => {
                let is = standing.reactions.iter().any(|(known, users)| known == reaction && users.contains(actor));
                if is == *on {
                    return repeated(0);
                }
                Event::Reacted { target, by, reaction: reaction.clone(), on: *on }
            }
            ConversationCommand::Pin { on, .. } if standing.pinned == *on => return repeated(0),
            ConversationCommand::Pin { on: true, .. } => Event::Pinned { target, by },
            _ => Event::Unpinned { target, by },
        };
        self.changed(time_ms, id, actor, command, event)
    }

    fn changed(
        &mut self,
        time_ms: u64,
        id: &ConversationId,
        actor: &UserId,
        command: &ConversationCommand,
        event: Event,
    ) -> Answer {
        let (_, joined) = self.roles(id)[actor];
        let had_read_all = self.talk(id).read(actor, joined) == self.talk(id).head();
        let recalled = if let Event::Recalled { target, .. } = event { Some(target) } else { None };
        let Outcome::Applied { seq, .. } = self.happen(time_ms, id, event)? else { panic!("an event happens") };
        let talk = self.talk(id);
        if had_read_all {
            talk.marks.push((actor.clone(), seq, seq));
        }
        if let Some(target) = recalled {
            talk.forget_bodies(target);
        }
        if let ConversationCommand::Edit { client_msg_id, digest, .. } = command {
            talk.sent.push((actor.clone(), *client_msg_id, *digest, seq));
        }
        fresh(seq)
    }
}

fn may_edit(
    time_ms: u64,
    talk: &Talk,
    standing: &Standing,
    actor: &UserId,
    original: &Original,
) -> Result<(), ErrorCode> {
    is_authors(talk, original.seq, actor)?;
    if standing.recalled.is_some() {
        return Err(ErrorCode::MessageRecalled);
    }
    soon(time_ms, talk, original.seq, limits::EDIT_WINDOW_MS)?;
    if standing.edits.len() >= limits::EDITS {
        return Err(ErrorCode::LimitReached);
    }
    Ok(())
}

fn is_authors(talk: &Talk, seq: u64, user: &UserId) -> Result<(), ErrorCode> {
    match &talk.events[seq as usize - 1] {
        Event::Message { author, .. } if author == user => Ok(()),
        _ => Err(ErrorCode::Forbidden),
    }
}

fn soon(time_ms: u64, talk: &Talk, seq: u64, window_ms: u64) -> Result<(), ErrorCode> {
    if time_ms - talk.times[seq as usize - 1] > window_ms { Err(ErrorCode::TooLate) } else { Ok(()) }
}
