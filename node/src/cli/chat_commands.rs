//! `campanile send` and `tail`.

use campanile_client::{Client, ClientEvent, Range, RequestError, SendError};
use chat::group::GroupChange;
use chat::ids::{ClientMsgId, ConversationId, GroupId, UserId};
use chat::wire::{Body, ConversationItem, EventContent, Target, WireError, WireEvent};
use serde_json::json;
use uuid::Uuid;

use super::args::{SendArgs, TailArgs};
use super::output::{complain, json, json_line, printable, say};
use super::{Code, Exit, Failure, login};

pub(super) async fn send(args: SendArgs) -> Result<(), Failure> {
    let target = match (args.to, args.group) {
        (Some(user), _) => Target::User(user),
        (None, Some(group)) => Target::Group(GroupId(group)),
        (None, None) => return Err(Failure::new(Code::Argument, Exit::Usage, "name --to or --group")),
    };
    let (client, _events) = login::connect(&args.login).await?;
    let id = ClientMsgId(args.id.unwrap_or_else(Uuid::now_v7));
    let sent =
        client.send_with_id(target, id, Body::Text { text: args.text }).await.map_err(|error| send_failure(&error))?;
    if args.json {
        json(&json!({
            "conversation": sent.conversation, "seq": sent.seq, "duplicate": sent.duplicate, "client_msg_id": id
        }));
    } else {
        let again = if sent.duplicate { ", by an earlier attempt" } else { "" };
        say(format_args!("stored on a majority as message {} of {}{again}", sent.seq, sent.conversation));
        say("next: campanile tail --help shows how to follow conversations");
    }
    Ok(())
}

fn send_failure(error: &SendError) -> Failure {
    let of = |wire: &WireError| Failure {
        number: wire.code,
        exit: if wire.retryable { Exit::Unreachable } else { Exit::Refused },
        message: format!("{}: {}", wire.name, wire.message),
        details: vec![format!("trace {}", wire.trace_id)],
        next: None,
    };
    match error {
        SendError::Rejected { error } => of(error),
        SendError::Unknown { client_msg_id, .. } => Failure::new(Code::SendUnknown, Exit::Unknown, error.to_string())
            .next(format!("the same command with --id {} sends it at most once", client_msg_id.0)),
        SendError::NotSent { .. } => Failure::new(Code::NotSent, Exit::Unreachable, error.to_string())
            .next("campanile cluster status --help shows how to look at the cluster"),
        SendError::TooLarge { .. } => Failure::new(Code::Argument, Exit::Usage, error.to_string()),
    }
}

pub(super) async fn tail(args: TailArgs) -> Result<(), Failure> {
    let (client, mut events) = login::connect(&args.login).await?;
    let conversations = conversations(&client).await.map_err(|error| request_failure(&error))?;
    if !args.json {
        conversations.iter().for_each(|item| say(summary(item)));
    }
    if args.last > 0 {
        for item in &conversations {
            let range = Range::After(item.head.saturating_sub(args.last));
            let page = client.history(item.conversation.clone(), range).await;
            page.map_err(|error| request_failure(&error))?.events.iter().for_each(|event| show(event, args.json));
        }
    }
    complain("following; Ctrl-C ends");
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => return Ok(()),
                Some(event) => follow(event, args.json)?,
            },
            _ = tokio::signal::ctrl_c() => {
                // The node learns of the end by the closing connection; nothing is lost if it does not.
                drop(client);
                return Ok(());
            }
        }
    }
}

fn follow(event: ClientEvent, as_json: bool) -> Result<(), Failure> {
    match event {
        ClientEvent::Event(event) => show(&event, as_json),
        ClientEvent::Disconnected { why } => complain(format_args!("disconnected: {why}; connecting again")),
        ClientEvent::Reconnected => complain("connected again; nothing was missed"),
        ClientEvent::MustResync { conversation, next_seq, .. } => {
            complain(format_args!("{conversation} continues at {next_seq}: earlier events are gone"));
        }
        ClientEvent::Closed { code, why } => {
            let message = format!("the node ended this session with {code}: {}", printable(&why));
            return Err(Failure::new(Code::Connect, Exit::Refused, message));
        }
        ClientEvent::JoinAsked { group, user, text } => {
            complain(format_args!("{user} asks to join {}: {}", ConversationId::from(group), printable(&text)));
        }
        ClientEvent::ReadMoved { .. }
        | ClientEvent::DeliveredMoved { .. }
        | ClientEvent::ItemsChanged { .. }
        | ClientEvent::DeletedForMe { .. }
        | ClientEvent::Stream { .. }
        | ClientEvent::Presence { .. }
        | ClientEvent::Typing { .. }
        | ClientEvent::Signal { .. }
        | ClientEvent::ConversationAdded { .. }
        | ClientEvent::ConversationRemoved { .. }
        | ClientEvent::Goaway { .. } => {}
    }
    Ok(())
}

async fn conversations(client: &Client) -> Result<Vec<ConversationItem>, RequestError> {
    let mut all: Vec<ConversationItem> = Vec::new();
    loop {
        let after: Option<ConversationId> = all.last().map(|item| item.conversation.clone());
        let page = client.conversations(after).await?;
        all.extend(page.items);
        if !page.more {
            return Ok(all);
        }
    }
}

fn request_failure(error: &RequestError) -> Failure {
    match error {
        RequestError::Rejected { error, .. } => Failure {
            number: error.code,
            exit: if error.retryable { Exit::Unreachable } else { Exit::Refused },
            message: format!("{}: {}", error.name, error.message),
            details: vec![format!("trace {}", error.trace_id)],
            next: None,
        },
        _ => Failure::new(Code::Connect, Exit::Unreachable, error.to_string()),
    }
}

fn summary(item: &ConversationItem) -> String {
    let name = item.name.as_deref().map(|name| format!(" \"{}\"", printable(name))).unwrap_or_default();
    format!("{}{name}: {} events, {} unread", item.conversation, item.head, item.unread)
}

fn show(event: &WireEvent, as_json: bool) {
    if as_json { json_line(event) } else { say(line(event)) }
}

fn line(event: &WireEvent) -> String {
    let what = match &event.content {
        EventContent::Message { from, body: Some(body), .. } => said(from, body),
        EventContent::Message { from, body: None, .. } => format!("-- a message of {from}, which was recalled"),
        EventContent::Edited { target, by, body: Some(body), .. } => format!("-- #{target} is now {}", said(by, body)),
        EventContent::Edited { target, by, body: None, .. } => format!("-- {by} edited #{target}, which was recalled"),
        EventContent::Hidden => "-- a message that is not for you, or that you deleted".to_owned(),
        EventContent::Expired { target } => format!("-- #{target} has ended"),
        EventContent::Recalled { target, by } => format!("-- {by} recalled #{target}"),
        EventContent::Reacted { target, by, reaction, on: true } => {
            format!("-- {by} reacted to #{target}: {}", printable(reaction))
        }
        EventContent::Reacted { target, by, reaction, on: false } => {
            format!("-- {by} took back from #{target}: {}", printable(reaction))
        }
        EventContent::Pinned { target, by } => format!("-- {by} pinned #{target}"),
        EventContent::Unpinned { target, by } => format!("-- {by} unpinned #{target}"),
        EventContent::GroupCreated { by, name, members } => {
            format!("-- {by} created \"{}\" with {} members", printable(name), members.len() + 1)
        }
        EventContent::Joined { users, by } => {
            let users: Vec<_> = users.iter().map(ToString::to_string).collect();
            format!("-- {} joined, by {by}", users.join(", "))
        }
        EventContent::Left { user } => format!("-- {user} left"),
        EventContent::Kicked { user, by } => format!("-- {by} removed {user}"),
        EventContent::Banned { user, by, .. } => format!("-- {by} banned {user}"),
        EventContent::Unbanned { user, by } => format!("-- {by} lifted the ban of {user}"),
        EventContent::Muted { user, by, .. } => format!("-- {by} muted {user}"),
        EventContent::Unmuted { user, by } => format!("-- {by} unmuted {user}"),
        EventContent::GroupChanged { change, by } => format!("-- {by} changed the group: {}", changed(change)),
        EventContent::NicknameChanged { user, nickname: Some(name) } => format!("-- {user} is now called {name}"),
        EventContent::NicknameChanged { user, nickname: None } => format!("-- {user} has no nickname any more"),
        EventContent::Dissolved { by } => format!("-- {by} dissolved the group"),
        EventContent::RoleChanged { user, role, by } => format!("-- {by} made {user} {role:?}"),
        EventContent::Unknown => "-- something that this version does not know".to_owned(),
    };
    format!("{} #{} {what}", event.conversation, event.seq)
}

fn changed(change: &GroupChange) -> String {
    match change {
        GroupChange::Name(name) => format!("its name is {}", printable(name)),
        GroupChange::Announcement(text) => format!("its announcement is {}", printable(text)),
        GroupChange::Attribute { key, value } => {
            format!("{key} is {}", printable(value.as_deref().unwrap_or_default()))
        }
        GroupChange::Join(mode) => format!("joining is {mode:?}"),
        GroupChange::History(visibility) => format!("members see {visibility:?}"),
        GroupChange::MuteAll(on) => format!("all are muted: {on}"),
        GroupChange::SlowModeMs(ms) => format!("slow mode is {ms} ms"),
        GroupChange::Rights(rights) => {
            format!("{:?}s send, {:?}s invite, {:?}s change it", rights.send, rights.invite, rights.change_info)
        }
    }
}

fn said(from: &UserId, body: &Body) -> String {
    match body {
        Body::Text { text } => format!("<{from}> {}", printable(text)),
        Body::Action { text } => format!("* {from} {}", printable(text)),
        Body::Custom { data } => format!("<{from}> [data: {}]", printable(&data.to_string())),
        Body::Location { label, .. } => format!("<{from}> [location: {}]", printable(label)),
        Body::Contact { user, name } => format!("<{from}> [contact: {user}, {}]", printable(name)),
        Body::Merged { title, items } => format!("<{from}> [{} messages: {}]", items.len(), printable(title)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_conversation_place_and_author_and_defuses_the_text() {
        let from = UserId::new("alice").unwrap();
        let event = WireEvent {
            conversation: ConversationId::private(from.clone(), UserId::new("bob").unwrap()),
            seq: 4,
            time_ms: 0,
            content: EventContent::message(from, ClientMsgId(Uuid::nil()), Body::Text { text: "hi \u{1b}[31m".into() }),
        };
        assert_eq!(line(&event), "p:alice:bob #4 <alice> hi \\u{1b}[31m");
    }

    #[test]
    fn an_unknown_outcome_tells_how_to_continue() {
        let failure = send_failure(&SendError::Unknown { client_msg_id: ClientMsgId(Uuid::nil()), last: None });
        assert_eq!(failure.exit, Exit::Unknown);
        assert!(failure.to_string().contains(&format!("--id {}", Uuid::nil())));
    }
}
