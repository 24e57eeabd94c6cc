//! The client protocol's form does not change by accident: every example frame under `golden/frames` and every one in
//! docs/PROTOCOL.md reads as its type and writes itself again, and every type of frame has examples in both.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use chat::errors::{Effect, ErrorCode};
use chat::render::parse_frame;
use chat::wire::{ClientFrame, EventContent, Limits, Request, ServerFrame};
use serde_json::Value;

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every request's name; the match makes a new one fail to compile until it is listed in `REQUESTS`.
fn request_name(request: &Request) -> &'static str {
    match request {
        Request::Login { .. } => "login",
        Request::Resume { .. } => "resume",
        Request::Send { .. } => "send",
        Request::CreateGroup { .. } => "create_group",
        Request::Join { .. } => "join",
        Request::Leave { .. } => "leave",
        Request::Invite { .. } => "invite",
        Request::Kick { .. } => "kick",
        Request::SetRole { .. } => "set_role",
        Request::Members { .. } => "members",
        Request::Read { .. } => "read",
        Request::History { .. } => "history",
        Request::Conversations { .. } => "conversations",
        Request::Ping => "ping",
        Request::Logout => "logout",
        Request::Refresh { .. } => "refresh",
        Request::Devices => "devices",
        Request::RevokeLogins { .. } => "revoke_logins",
        Request::Group { .. } => "group",
        Request::ChangeGroup { .. } => "change_group",
        Request::Ban { .. } => "ban",
        Request::Unban { .. } => "unban",
        Request::Mute { .. } => "mute",
        Request::Unmute { .. } => "unmute",
        Request::SetNickname { .. } => "set_nickname",
        Request::AnswerJoin { .. } => "answer_join",
        Request::AddInvite { .. } => "add_invite",
        Request::RevokeInvite { .. } => "revoke_invite",
        Request::Dissolve { .. } => "dissolve",
        Request::JoinRequests { .. } => "join_requests",
        Request::Bans { .. } => "bans",
        Request::SubscribePresence { .. } => "subscribe_presence",
        Request::UnsubscribePresence { .. } => "unsubscribe_presence",
        Request::SetPresence { .. } => "set_presence",
        Request::SetPrivacy { .. } => "set_privacy",
        Request::GetPrivacy => "get_privacy",
        Request::Typing { .. } => "typing",
        Request::Signal { .. } => "signal",
        Request::Edit { .. } => "edit",
        Request::Recall { .. } => "recall",
        Request::React { .. } => "react",
        Request::Pin { .. } => "pin",
        Request::Pins { .. } => "pins",
        Request::Sync { .. } => "sync",
        Request::SetProfile { .. } => "set_profile",
        Request::Profiles { .. } => "profiles",
        Request::AskContact { .. } => "ask_contact",
        Request::AnswerContact { .. } => "answer_contact",
        Request::RemoveContact { .. } => "remove_contact",
        Request::DescribeContact { .. } => "describe_contact",
        Request::SetSettings { .. } => "set_settings",
        Request::Block { .. } => "block",
        Request::Unblock { .. } => "unblock",
        Request::Mark { .. } => "mark",
        Request::Delivered { .. } => "delivered",
        Request::Readers { .. } => "readers",
        Request::UnreadTotal => "unread_total",
        Request::Stream { .. } => "stream",
        Request::DeleteForMe { .. } => "delete_for_me",
    }
}

const REQUESTS: &[&str] = &[
    "login",
    "resume",
    "send",
    "create_group",
    "join",
    "leave",
    "invite",
    "kick",
    "set_role",
    "members",
    "read",
    "history",
    "conversations",
    "ping",
    "logout",
    "refresh",
    "devices",
    "revoke_logins",
    "group",
    "change_group",
    "ban",
    "unban",
    "mute",
    "unmute",
    "set_nickname",
    "answer_join",
    "add_invite",
    "revoke_invite",
    "dissolve",
    "join_requests",
    "bans",
    "subscribe_presence",
    "unsubscribe_presence",
    "set_presence",
    "set_privacy",
    "get_privacy",
    "typing",
    "signal",
    "edit",
    "recall",
    "react",
    "pin",
    "pins",
    "sync",
    "set_profile",
    "profiles",
    "ask_contact",
    "answer_contact",
    "remove_contact",
    "describe_contact",
    "set_settings",
    "block",
    "unblock",
    "mark",
    "delivered",
    "readers",
    "unread_total",
    "stream",
    "delete_for_me",
];

fn answer_name(frame: &ServerFrame) -> &'static str {
    match frame {
        ServerFrame::Hello { .. } => "hello",
        ServerFrame::Ack { .. } => "ack",
        ServerFrame::Resumed { .. } => "resumed",
        ServerFrame::Event { event } => match event.content {
            EventContent::Message { .. } => "event: message",
            EventContent::GroupCreated { .. } => "event: group_created",
            EventContent::Joined { .. } => "event: joined",
            EventContent::Left { .. } => "event: left",
            EventContent::Kicked { .. } => "event: kicked",
            EventContent::RoleChanged { .. } => "event: role_changed",
            EventContent::GroupChanged { .. } => "event: group_changed",
            EventContent::Banned { .. } => "event: banned",
            EventContent::Unbanned { .. } => "event: unbanned",
            EventContent::Muted { .. } => "event: muted",
            EventContent::Unmuted { .. } => "event: unmuted",
            EventContent::NicknameChanged { .. } => "event: nickname_changed",
            EventContent::Dissolved { .. } => "event: dissolved",
            EventContent::Edited { .. } => "event: edited",
            EventContent::Recalled { .. } => "event: recalled",
            EventContent::Reacted { .. } => "event: reacted",
            EventContent::Pinned { .. } => "event: pinned",
            EventContent::Unpinned { .. } => "event: unpinned",
            EventContent::Hidden => "event: hidden",
            EventContent::Expired { .. } => "event: expired",
            EventContent::Unknown => "event: of a later version",
        },
        ServerFrame::History { .. } => "history",
        ServerFrame::Conversations { .. } => "conversations",
        ServerFrame::Members { .. } => "members",
        ServerFrame::Refreshed { .. } => "refreshed",
        ServerFrame::Devices { .. } => "devices",
        ServerFrame::Done { .. } => "done",
        ServerFrame::Group { .. } => "group",
        ServerFrame::JoinRequests { .. } => "join_requests",
        ServerFrame::Bans { .. } => "bans",
        ServerFrame::JoinAsked { .. } => "join_asked",
        ServerFrame::Pins { .. } => "pins",
        ServerFrame::ReadMoved { .. } => "read_moved",
        ServerFrame::ConversationAdded { .. } => "conversation_added",
        ServerFrame::ConversationRemoved { .. } => "conversation_removed",
        ServerFrame::MustResync { .. } => "must_resync",
        ServerFrame::Goaway { .. } => "goaway",
        ServerFrame::Pong { .. } => "pong",
        ServerFrame::Presence { .. } => "presence",
        ServerFrame::Privacy { .. } => "privacy",
        ServerFrame::Typing { .. } => "typing",
        ServerFrame::Signal { .. } => "signal",
        ServerFrame::Synced { .. } => "synced",
        ServerFrame::ItemsChanged { .. } => "items_changed",
        ServerFrame::Profiles { .. } => "profiles",
        ServerFrame::DeliveredMoved { .. } => "delivered_moved",
        ServerFrame::Readers { .. } => "readers",
        ServerFrame::UnreadTotal { .. } => "unread_total",
        ServerFrame::Stream { .. } => "stream",
        ServerFrame::DeletedForMe { .. } => "deleted_for_me",
        ServerFrame::Error { .. } => "error",
    }
}

const ANSWERS: &[&str] = &[
    "hello",
    "ack",
    "resumed",
    "event: message",
    "event: group_created",
    "event: joined",
    "event: left",
    "event: kicked",
    "event: role_changed",
    "event: edited",
    "event: recalled",
    "event: reacted",
    "event: pinned",
    "event: unpinned",
    "event: hidden",
    "event: expired",
    "event: group_changed",
    "event: banned",
    "event: unbanned",
    "event: muted",
    "event: unmuted",
    "event: nickname_changed",
    "event: dissolved",
    "history",
    "conversations",
    "members",
    "refreshed",
    "devices",
    "done",
    "group",
    "join_requests",
    "bans",
    "join_asked",
    "pins",
    "read_moved",
    "conversation_added",
    "conversation_removed",
    "must_resync",
    "goaway",
    "pong",
    "presence",
    "privacy",
    "typing",
    "signal",
    "synced",
    "items_changed",
    "profiles",
    "delivered_moved",
    "readers",
    "unread_total",
    "stream",
    "deleted_for_me",
    "error",
];

/// What was seen of both directions.
#[derive(Default)]
struct Seen {
    requests: BTreeSet<&'static str>,
    answers: BTreeSet<&'static str>,
}

impl Seen {
    /// Frames from clients carry `id`, frames from nodes do not.
    fn example(&mut self, place: &str, text: &str) {
        let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}"));
        if json.get("id").is_some() {
            let frame = parse_frame(text).unwrap_or_else(|error| panic!("{place}: {error}"));
            let derived: ClientFrame = serde_json::from_str(text).unwrap();
            assert_eq!(frame, derived, "{place}");
            written_alike(place, &json, &serde_json::to_value(&frame).unwrap());
            self.requests.insert(request_name(&frame.request));
        } else {
            let frame: ServerFrame = serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}"));
            written_alike(place, &json, &serde_json::to_value(&frame).unwrap());
            self.answers.insert(answer_name(&frame));
        }
    }

    fn all(&self) {
        assert_eq!(self.requests, REQUESTS.iter().copied().collect());
        assert_eq!(self.answers, ANSWERS.iter().copied().collect());
    }
}

/// Every field of the example is written again as it stands; optional ones that it leaves out may be written as well.
fn written_alike(place: &str, example: &Value, written: &Value) {
    let (Some(example), Some(written)) = (example.as_object(), written.as_object()) else {
        panic!("{place}: not an object");
    };
    for (field, value) in example {
        assert_eq!(Some(value), written.get(field), "{place}: `{field}`");
    }
    for (field, value) in written.iter().filter(|(field, _)| !example.contains_key(*field)) {
        let empty = value.is_null() || value == 0 || value.as_array().is_some_and(Vec::is_empty);
        assert!(empty, "{place}: `{field}` is missing from the example");
    }
}

#[test]
fn every_golden_frame_reads_and_writes_itself() {
    let mut seen = Seen::default();
    for file in fs::read_dir(crate_dir().join("golden/frames")).unwrap() {
        let path = file.unwrap().path();
        seen.example(&path.display().to_string(), &fs::read_to_string(&path).unwrap());
    }
    seen.all();
}

fn protocol() -> String {
    let path = crate_dir().join("../docs/PROTOCOL.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", Path::display(&path)))
}

#[test]
fn every_example_in_the_protocol_document_is_a_frame() {
    let document = protocol();
    let mut seen = Seen::default();
    let blocks = document.split("```json\n").skip(1);
    for (number, block) in (1..).zip(blocks) {
        let example = block.split("```").next().unwrap_or_default();
        seen.example(&format!("docs/PROTOCOL.md, example {number}: {example}"), example);
    }
    seen.all();
}

#[test]
fn the_protocol_documents_error_table_is_the_catalogue() {
    let document = protocol();
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| 1")).collect();
    let expected: Vec<String> = ErrorCode::ALL.iter().map(|code| error_row(*code)).collect();
    assert_eq!(rows.len(), expected.len(), "the rows should be:\n{}", expected.join("\n"));
    for (row, expected) in rows.iter().zip(&expected) {
        assert!(row.starts_with(expected.as_str()), "{row}\nshould begin with\n{expected}");
    }
}

/// The row's fixed part; the description after it is free.
fn error_row(code: ErrorCode) -> String {
    let effect = match code.effect() {
        Effect::None => "none",
        Effect::Unknown => "unknown",
        Effect::Applied => "applied",
    };
    let retryable = if code.retryable() { "yes" } else { "no" };
    format!("| {} | `{}` | {retryable} | {effect} |", code.number(), code.name())
}

#[test]
fn the_protocol_documents_limits_are_the_ones_of_hello() {
    let document = protocol();
    let limits = serde_json::to_value(Limits::default()).unwrap();
    for (name, value) in limits.as_object().unwrap() {
        let row = format!("| `{name}` | {value} |");
        assert!(document.lines().any(|line| line.starts_with(&row)), "docs/PROTOCOL.md has no row {row}");
    }
}

#[test]
fn the_protocol_document_names_every_close_code() {
    use chat::errors::CloseCode;
    let document = protocol();
    let codes = [
        CloseCode::GoingAway,
        CloseCode::HeartbeatTimeout,
        CloseCode::Overloaded,
        CloseCode::TokenExpired,
        CloseCode::SlowConsumer,
        CloseCode::Internal,
        CloseCode::BadFrames,
        CloseCode::FrameTooLarge,
        CloseCode::LoginTimeout,
        CloseCode::LoginFailed,
        CloseCode::Revoked,
        CloseCode::LoggedOut,
    ];
    for code in codes {
        let row = format!("| {} | ", code as u16);
        assert!(document.lines().any(|line| line.starts_with(&row)), "docs/PROTOCOL.md has no row {row}");
    }
}
