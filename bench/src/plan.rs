//! What a replay will do, worked out before anything is sent. Pure.

use std::collections::HashMap;

use chat::ids::UserId;
use chat::wire::Body;

use crate::logs::{ChannelLog, user_id};

/// One channel log as a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    pub name: String,
    /// Places in [`Plan::users`], in order of appearance; the first one owns the group.
    pub members: Vec<u32>,
}

/// One message of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePlan {
    pub group: u32,
    pub sender: u32,
    pub body: Body,
    /// When it was said, since its log's first message.
    pub offset_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub users: Vec<UserId>,
    pub groups: Vec<GroupPlan>,
    /// In the order they are handed to their senders: each log's own order, all logs side by side.
    pub messages: Vec<MessagePlan>,
}

/// How the logs are laid side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All logs begin together and run this many times faster than they were said.
    Times(u32),
    /// As fast as answers come; all logs advance evenly and end together.
    Max,
}

impl Plan {
    /// `lurkers`: whether those who only joined are members too.
    pub fn of(logs: &[ChannelLog], pace: Pace, lurkers: bool) -> Self {
        let mut plan = Self::default();
        let mut places = HashMap::new();
        let mut ordered = Vec::new();
        for (group, log) in logs.iter().enumerate() {
            let mut members = Vec::new();
            let mut in_group = HashMap::new();
            let mut place_of = |nick: &str| {
                let place = *places.entry(nick.to_owned()).or_insert_with(|| {
                    plan.users.push(user_id(nick));
                    plan.users.len() as u32 - 1
                });
                in_group.entry(place).or_insert_with(|| members.push(place));
                place
            };
            for (n, message) in log.messages.iter().enumerate() {
                let message = MessagePlan {
                    group: group as u32,
                    sender: place_of(&message.nick),
                    body: body(message.action, &message.text),
                    offset_ms: message.offset_ms,
                };
                ordered.push((order(pace, &message, n, log.messages.len()), message));
            }
            if lurkers {
                for nick in &log.joined {
                    place_of(nick);
                }
            }
            plan.groups.push(GroupPlan { name: log.name.clone(), members });
        }
        // Stable: messages of one log never change places.
        ordered.sort_by_key(|(order, _)| *order);
        plan.messages = ordered.into_iter().map(|(_, message)| message).collect();
        plan
    }

    /// Memberships: how many members see how many groups.
    pub fn memberships(&self) -> usize {
        self.groups.iter().map(|group| group.members.len()).sum()
    }

    /// Deliveries if every member receives every message of its groups.
    pub fn deliveries(&self) -> u64 {
        self.messages.iter().map(|message| self.groups[message.group as usize].members.len() as u64).sum()
    }
}

fn body(action: bool, text: &str) -> Body {
    let text = text.to_owned();
    if action { Body::Action { text } } else { Body::Text { text } }
}

/// Messages are handed out in ascending order of this.
fn order(pace: Pace, message: &MessagePlan, place: usize, of: usize) -> u64 {
    match pace {
        Pace::Times(_) => message.offset_ms,
        Pace::Max => place as u64 * 1_000_000 / of.max(1) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::parse_log;

    fn logs() -> Vec<ChannelLog> {
        let a = b"[00:00] <ann> a1\n[00:00] <bob> a2\n[00:09] <ann> a3\n=== eve [e@x]  has joined #c\n";
        let b = b"[05:00] <bob> b1\n[05:01]  * cid b2\n";
        vec![parse_log("a", a), parse_log("b", b)]
    }

    fn texts(plan: &Plan) -> Vec<&str> {
        plan.messages
            .iter()
            .map(|m| match &m.body {
                Body::Text { text } | Body::Action { text } => text.as_str(),
                other => panic!("a replay holds no {other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_nick_is_one_user_in_all_its_groups() {
        let plan = Plan::of(&logs(), Pace::Max, false);
        let ids: Vec<&str> = plan.users.iter().map(UserId::as_str).collect();
        assert_eq!(ids, ["ann", "bob", "cid"]);
        assert_eq!(plan.groups[0].members, [0, 1]);
        assert_eq!(plan.groups[1].members, [1, 2]);
        assert_eq!((plan.memberships(), plan.deliveries()), (4, 3 * 2 + 2 * 2));
        assert_eq!(plan.messages[3].body, Body::Action { text: "b2".to_owned() });
    }

    #[test]
    fn lurkers_are_members_who_say_nothing() {
        let plan = Plan::of(&logs(), Pace::Max, true);
        assert_eq!(plan.groups[0].members.len(), 3);
        assert!(plan.messages.iter().all(|m| plan.users[m.sender as usize].as_str() != "eve"));
    }

    #[test]
    fn logs_run_side_by_side_and_keep_their_order() {
        assert_eq!(texts(&Plan::of(&logs(), Pace::Max, false)), ["a1", "b1", "a2", "b2", "a3"]);
        assert_eq!(texts(&Plan::of(&logs(), Pace::Times(10), false)), ["a1", "b1", "a2", "b2", "a3"]);
        let plan = Plan::of(&logs(), Pace::Times(10), false);
        assert_eq!(plan.messages.iter().map(|m| m.offset_ms).collect::<Vec<_>>(), [0, 0, 30_000, 60_000, 540_000]);
    }
}
