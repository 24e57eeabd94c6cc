//! A session told as a story: inputs on the left, frames on the right.

use chat::ids::{ClientMsgId, GroupId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::group::GroupFailure;
use crate::session::message::{Live, LiveEvent};
use crate::session::reads::Backfill;

pub(super) fn group(n: u128) -> ConversationId {
    ConversationId::Group(GroupId(Uuid::from_u128(n)))
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn connected() -> Core {
    Core::new("s".to_owned(), Service { cluster: "c".to_owned(), node: 1, epoch: 0 }, 0)
}

fn login_frame(id: u64) -> String {
    let auth = json!({"password": {"app": "main", "user": "alice", "password": "correct horse"}});
    json!({"id": id, "type": "login", "auth": auth, "device": {"id": "d", "platform": "web"}}).to_string()
}

pub(super) fn ready() -> Core {
    let mut core = connected();
    core.text(0, &login_frame(1));
    core.logged_in(
        0,
        1,
        Identified { app: AppId::new("main").unwrap(), user: user("alice"), expires_ms: None, id_window_ms: 7 },
        0,
    );
    core.effects();
    core
}

/// A page of a conversation from which nothing is deleted.
fn kept(events: Vec<LiveEvent>) -> Backfill {
    Backfill { oldest_seq: 1, events }
}

/// Live in group 1 with `live_after` as its last event.
pub(super) fn live(live_after: u64) -> Core {
    let mut core = ready();
    core.text(0, r#"{"id":2,"type":"resume"}"#);
    core.effects();
    core.resumed(Ok(vec![Standing { conversation: group(1), head: live_after, joined: 1, oldest: 1 }]));
    core.effects();
    core
}

fn send_frame(id: u64) -> String {
    let body = json!({"kind": "text", "text": "hi"});
    let message = Uuid::from_u128(u128::from(id));
    json!({"id": id, "type": "send", "to": {"user": "bob"}, "client_msg_id": message, "body": body}).to_string()
}

fn event(seq: u64) -> LiveEvent {
    LiveEvent { seq, frame: format!(r#"{{"type":"event","seq":{seq}}}"#).into(), removed: None, sent: None }
}

fn hear(core: &mut Core, n: u128, events: &[LiveEvent]) {
    core.live(0, Live::Events { conversation: &group(n), events });
}

fn hear_all(core: &mut Core, n: u128, seqs: std::ops::RangeInclusive<u64>) {
    hear(core, n, &seqs.map(event).collect::<Vec<_>>());
}

/// What is written, as `type`, `type:name` for errors or `type:seq` for events; and what else is asked of the shell.
pub(super) fn told(core: &mut Core) -> (Vec<String>, Vec<Effect>) {
    let mut written = Vec::new();
    let mut others = Vec::new();
    for effect in core.effects() {
        let Effect::Write(frame) = effect else {
            others.push(effect);
            continue;
        };
        let frame: Value = serde_json::from_str(&frame).unwrap();
        let detail = frame.get("name").and_then(Value::as_str).map(str::to_owned);
        let seq = frame.get("seq").map(ToString::to_string);
        let kind = frame["type"].as_str().unwrap();
        written.push(detail.or(seq).map_or(kind.to_owned(), |detail| format!("{kind}:{detail}")));
    }
    (written, others)
}

#[test]
fn nothing_is_answered_before_a_login_and_the_login_has_five_seconds() {
    let mut core = connected();
    core.text(0, r#"{"id":1,"type":"conversations"}"#);
    let (written, others) = told(&mut core);
    assert_eq!(
        (written, others),
        (vec!["error:not_logged_in".to_owned()], vec![Effect::Close(CloseCode::LoginFailed)])
    );

    let mut core = connected();
    core.tick(limits::LOGIN_TIMEOUT_MS - 1, 0, 0);
    assert_eq!(told(&mut core).1, []);
    core.tick(limits::LOGIN_TIMEOUT_MS, 0, 0);
    let (written, others) = told(&mut core);
    assert_eq!(written, ["error:login_timeout"]);
    assert_eq!(others, [Effect::Close(CloseCode::LoginTimeout)]);
}

#[test]
fn wrong_credentials_end_the_connection_and_an_overloaded_service_does_not() {
    let mut core = connected();
    core.text(0, &login_frame(1));
    assert!(matches!(told(&mut core).1[..], [Effect::Login { re: 1, .. }]));
    core.text(0, &send_frame(2));
    assert_eq!(told(&mut core).0, ["error:out_of_order"]);
    core.login_failed(0, 1, ErrorCode::Overloaded, "");
    assert_eq!(told(&mut core), (vec!["error:overloaded".to_owned()], vec![]));
    core.text(0, &login_frame(3));
    core.effects();
    core.login_failed(0, 3, ErrorCode::BadCredentials, "");
    let (written, others) = told(&mut core);
    assert_eq!(
        (written, others),
        (vec!["error:bad_credentials".to_owned()], vec![Effect::Close(CloseCode::LoginFailed)])
    );
}

#[test]
fn a_session_lasts_as_long_as_its_token_and_one_request_about_the_login_is_under_way() {
    let mut core = connected();
    core.text(0, &login_frame(1));
    let who = Identified {
        app: AppId::new("main").unwrap(),
        user: user("alice"),
        expires_ms: Some(1_005_000),
        id_window_ms: 7,
    };
    core.logged_in(0, 1, who, 1_000_000);
    core.tick(4_999, 4_999, 0);
    core.text(4_999, &json!({"id": 2, "type": "refresh", "token": "t"}).to_string());
    core.text(4_999, &json!({"id": 3, "type": "revoke_logins", "which": "all"}).to_string());
    core.refreshed(4_999, 2, Ok(1_010_000), 1_004_999);
    let effects = core.effects();
    let asked =
        effects.iter().filter(|effect| matches!(effect, Effect::Refresh { .. } | Effect::Account { .. })).count();
    assert_eq!(asked, 1);
    core.tick(9_999, 9_999, 0);
    assert!(!core.effects().contains(&Effect::Close(CloseCode::TokenExpired)));
    core.tick(10_000, 10_000, 0);
    assert!(core.effects().contains(&Effect::Close(CloseCode::TokenExpired)));
}

#[test]
fn login_and_resume_happen_once() {
    let mut core = live(0);
    core.text(0, &login_frame(5));
    core.text(0, r#"{"id":6,"type":"resume"}"#);
    assert_eq!(told(&mut core).0, ["error:out_of_order", "error:out_of_order"]);
}

#[test]
fn a_failed_resume_may_be_tried_again() {
    let mut core = ready();
    core.text(0, r#"{"id":2,"type":"resume"}"#);
    core.effects();
    core.resumed(Err(ErrorCode::Unavailable));
    assert_eq!(told(&mut core).0, ["error:unavailable"]);
    core.text(0, r#"{"id":3,"type":"resume"}"#);
    assert_eq!(told(&mut core).1, [Effect::Resume { re: 3 }]);
}

#[test]
fn unreadable_frames_are_answered_and_too_many_close() {
    let mut core = ready();
    for n in 1..limits::BAD_FRAMES {
        core.text(0, "{");
        assert_eq!(told(&mut core), (vec!["error:malformed_frame".to_owned()], vec![]), "{n}");
    }
    core.binary(0);
    let (written, others) = told(&mut core);
    assert_eq!(
        (written, others),
        (vec!["error:unsupported_frame".to_owned()], vec![Effect::Close(CloseCode::BadFrames)])
    );
    core.text(0, &send_frame(9));
    assert_eq!(told(&mut core), (vec![], vec![]), "a closing connection is deaf");
}

#[test]
fn a_field_that_is_not_valid_is_refused_and_is_no_bad_frame() {
    let mut core = ready();
    for _ in 0..=limits::BAD_FRAMES {
        core.text(0, r#"{"id":4,"type":"create_group","group":"00000000-0000-0000-0000-000000000001","name":""}"#);
        assert_eq!(told(&mut core), (vec!["error:invalid_field".to_owned()], vec![]));
    }
}

#[test]
fn the_window_bounds_what_is_unanswered() {
    let mut core = ready();
    for n in 0..limits::SESSION_IN_FLIGHT as u64 {
        core.text(0, &send_frame(10 + n));
    }
    assert_eq!(told(&mut core).1.len(), limits::SESSION_IN_FLIGHT);
    core.text(0, &send_frame(5));
    assert_eq!(told(&mut core).0, ["error:too_many_in_flight"]);
    let done = Ok(crate::group::message::GroupDone { seq: 1, duplicate: false });
    core.submitted(0, 1, done);
    core.text(0, &send_frame(6));
    let (written, others) = told(&mut core);
    assert_eq!(written, ["ack:1"]);
    assert!(matches!(others[..], [Effect::Submit { .. }]));
}

#[test]
fn an_unknown_outcome_is_said() {
    let mut core = ready();
    core.text(0, &send_frame(10));
    core.effects();
    core.submitted(0, 1, Err(GroupFailure::Unknown));
    assert!(matches!(told(&mut core).1[..], [Effect::Insist { ticket: 1, maybe_happened: true, .. }]));
    core.insisted(0, 1, Err(GroupFailure::Unavailable));
    assert_eq!(told(&mut core).0, ["error:outcome_unknown"]);
}

#[test]
fn resuming_reads_what_the_client_lacks_and_then_goes_live() {
    let mut core = ready();
    let have = json!([{"conversation": group(1), "seq": 3}, {"conversation": group(9), "seq": 1}]);
    core.text(0, &json!({"id": 2, "type": "resume", "have": have}).to_string());
    assert_eq!(told(&mut core).1, [Effect::Resume { re: 2 }]);
    // Already followed, not yet told where it stands.
    hear_all(&mut core, 1, 6..=6);
    core.resumed(Ok(vec![Standing { conversation: group(1), head: 5, joined: 1, oldest: 1 }]));
    let frames = core.effects();
    let Effect::Write(resumed) = &frames[0] else { panic!("{frames:?}") };
    let resumed: Value = serde_json::from_str(resumed).unwrap();
    assert_eq!(resumed["conversations"][0], json!({"conversation": group(1), "live_after": 3, "head": 5}));
    assert_eq!(resumed["conversations"][1]["gone"], true);
    assert_eq!(frames[1..], [Effect::Backfill { conversation: group(1), after: 3 }]);
    core.backfilled(0, &group(1), Ok(kept(vec![event(4), event(5)])));
    let (written, others) = told(&mut core);
    assert_eq!(written, ["event:4", "event:5"]);
    assert_eq!(others, [Effect::Backfill { conversation: group(1), after: 5 }], "6 came while it resumed");
    core.backfilled(0, &group(1), Ok(kept(vec![event(6)])));
    hear_all(&mut core, 1, 6..=8);
    assert_eq!(told(&mut core).0, ["event:6", "event:7", "event:8"]);
}

#[test]
fn a_client_that_holds_more_than_there_is_must_resync() {
    let mut core = ready();
    let have = json!([{"conversation": group(1), "seq": 30}]);
    core.text(0, &json!({"id": 2, "type": "resume", "have": have}).to_string());
    core.resumed(Ok(vec![Standing { conversation: group(1), head: 5, joined: 1, oldest: 1 }]));
    assert_eq!(told(&mut core).0, ["resumed", "must_resync"]);
    hear_all(&mut core, 1, 6..=6);
    assert_eq!(told(&mut core).0, ["event:6"]);
}

#[test]
fn what_retention_deleted_is_said_at_resume_and_while_lagging() {
    let mut core = ready();
    let have = json!([{"conversation": group(1), "seq": 3}]);
    core.text(0, &json!({"id": 2, "type": "resume", "have": have}).to_string());
    core.effects();
    core.resumed(Ok(vec![Standing { conversation: group(1), head: 9, joined: 1, oldest: 8 }]));
    let (written, others) = told(&mut core);
    assert_eq!(written, ["resumed", "must_resync"]);
    assert_eq!(others, [Effect::Backfill { conversation: group(1), after: 7 }]);
    // Meanwhile more is deleted, at last all there is.
    core.backfilled(0, &group(1), Ok(Backfill { oldest_seq: 9, events: vec![event(9)] }));
    assert_eq!(told(&mut core).0, ["must_resync", "event:9"]);
    hear_all(&mut core, 1, 12..=12);
    assert_eq!(told(&mut core).1, [Effect::Backfill { conversation: group(1), after: 9 }]);
    core.backfilled(0, &group(1), Ok(Backfill { oldest_seq: 13, events: vec![] }));
    assert_eq!(told(&mut core).0, ["must_resync"]);
    hear_all(&mut core, 1, 13..=13);
    assert_eq!(told(&mut core).0, ["event:13"]);
}

#[test]
fn without_room_events_wait_in_history_until_there_is_room() {
    let mut core = live(0);
    core.waiting_bytes(limits::SESSION_CREDIT_BYTES);
    hear_all(&mut core, 1, 1..=50);
    assert_eq!(told(&mut core), (vec![], vec![]));
    assert!(core.starved());
    core.waiting_bytes(0);
    assert_eq!(told(&mut core).1, [Effect::Backfill { conversation: group(1), after: 0 }]);
    assert!(!core.starved());
    core.backfilled(0, &group(1), Ok(kept((1..=50).map(event).collect())));
    assert_eq!(told(&mut core).0.len(), 50);
}

#[test]
fn a_gap_that_history_does_not_fill_closes_for_another_try() {
    let mut core = live(3);
    hear_all(&mut core, 1, 5..=5);
    assert_eq!(told(&mut core).1, [Effect::Backfill { conversation: group(1), after: 3 }]);
    core.backfilled(0, &group(1), Ok(kept(vec![])));
    assert_eq!(told(&mut core).1, [Effect::Close(CloseCode::Internal)]);
}

#[test]
fn after_ones_own_removal_nothing_of_the_conversation_follows() {
    let mut core = live(0);
    let removal = LiveEvent { removed: Some(user("alice")), ..event(2) };
    let other = LiveEvent { removed: Some(user("bob")), ..event(1) };
    hear(&mut core, 1, &[other, removal, event(3)]);
    let (written, others) = told(&mut core);
    assert_eq!(written, ["event:1", "event:2", "conversation_removed"]);
    assert_eq!(others, [Effect::Unfollow(group(1))]);
    hear_all(&mut core, 1, 3..=4);
    assert_eq!(told(&mut core), (vec![], vec![]));
}

#[test]
fn who_was_removed_and_came_back_while_away_reads_of_it_and_stays() {
    let mut core = ready();
    let have = json!([{"conversation": group(1), "seq": 3}]);
    core.text(0, &json!({"id": 2, "type": "resume", "have": have}).to_string());
    core.resumed(Ok(vec![Standing { conversation: group(1), head: 6, joined: 6, oldest: 1 }]));
    told(&mut core);
    let removal = LiveEvent { removed: Some(user("alice")), ..event(5) };
    core.backfilled(0, &group(1), Ok(kept(vec![event(4), removal.clone(), event(6)])));
    hear_all(&mut core, 1, 7..=7);
    let (written, others) = told(&mut core);
    assert_eq!((written, others), (["event:4", "event:5", "event:6", "event:7"].map(str::to_owned).to_vec(), vec![]));
    hear(&mut core, 1, &[LiveEvent { seq: 8, ..removal }]);
    assert_eq!(told(&mut core).0, ["event:5", "conversation_removed"]);
}

#[test]
fn a_new_conversation_is_followed_before_it_is_read() {
    let mut core = live(0);
    core.live(0, Live::Listed { conversation: &group(2) });
    assert_eq!(told(&mut core).1, [Effect::Add(group(2))]);
    core.live(0, Live::Listed { conversation: &group(2) });
    hear_all(&mut core, 2, 8..=8);
    core.added(group(2), Ok(Some(Standing { conversation: group(2), head: 7, joined: 7, oldest: 1 })));
    let (written, others) = told(&mut core);
    assert_eq!(written, ["conversation_added"]);
    assert_eq!(others, [Effect::Backfill { conversation: group(2), after: 6 }]);
    core.backfilled(0, &group(2), Ok(kept(vec![event(7), event(8)])));
    assert_eq!(told(&mut core).0, ["event:7", "event:8"]);
}

#[test]
fn a_conversation_that_cannot_be_read_now_is_taken_up_later() {
    let mut core = live(0);
    core.live(0, Live::Listed { conversation: &group(2) });
    core.effects();
    core.added(group(2), Err(ErrorCode::Unavailable));
    assert_eq!(told(&mut core).1, []);
    core.tick(1_000, 1_000, 0);
    assert_eq!(told(&mut core).1, [Effect::Add(group(2))]);
    core.added(group(2), Ok(None));
    assert_eq!(told(&mut core).1, [Effect::Unfollow(group(2))]);
}

#[test]
fn pages_are_read_one_at_a_time() {
    let mut core = ready();
    core.text(0, r#"{"id":4,"type":"conversations"}"#);
    core.text(0, r#"{"id":5,"type":"conversations"}"#);
    assert!(matches!(told(&mut core).1[..], [Effect::ReadPage { re: 4, .. }]));
    core.page_read(4, Ok(vec![r#"{"type":"conversations"}"#.into()]));
    let (written, others) = told(&mut core);
    assert!(written == ["conversations"] && matches!(others[..], [Effect::ReadPage { re: 5, .. }]));
    core.page_read(5, Err(ErrorCode::NotAMember));
    assert_eq!(told(&mut core).0, ["error:not_a_member"]);
}

#[test]
fn a_silent_connection_is_pinged_and_then_dead_and_a_stuck_one_is_cut() {
    let mut core = live(0);
    core.tick(limits::HEARTBEAT_MS, 0, 0);
    assert_eq!(told(&mut core).1, [Effect::Ping]);
    core.tick(limits::HEARTBEAT_TIMEOUT_MS, 0, 0);
    assert_eq!(told(&mut core).1, [Effect::Close(CloseCode::HeartbeatTimeout)]);

    let mut core = live(0);
    core.tick(1_000, 1_000, limits::SLOW_CONSUMER_MS - 1);
    assert_eq!(told(&mut core).1, []);
    core.tick(2_000, 2_000, limits::SLOW_CONSUMER_MS);
    assert_eq!(told(&mut core).1, [Effect::Close(CloseCode::SlowConsumer)]);
    core.tick(2_000 + CLOSE_GRACE_MS, 2_000, limits::SLOW_CONSUMER_MS);
    assert_eq!(told(&mut core).1, [Effect::Cut]);
}

#[test]
fn an_oversize_frame_is_named_and_closes() {
    let mut core = ready();
    core.ended(0, Ended::TooLarge);
    let (written, others) = told(&mut core);
    assert_eq!(
        (written, others),
        (vec!["error:frame_too_large".to_owned()], vec![Effect::Close(CloseCode::FrameTooLarge)])
    );
    core.ended(0, Ended::Gone);
    assert_eq!(told(&mut core).1, [Effect::Stop]);
}

#[test]
fn ones_own_event_is_the_ack_and_the_later_answer_is_not_said_again() {
    let mut core = live(0);
    let group_send = |id: u64| {
        let body = json!({"kind": "text", "text": "hi"});
        let message = Uuid::from_u128(u128::from(id));
        json!({"id": id, "type": "send", "to": {"group": Uuid::from_u128(1)}, "client_msg_id": message, "body": body})
            .to_string()
    };
    core.text(0, &group_send(10));
    core.text(0, &group_send(11));
    core.effects();
    let by = |name: &str, id: u128, seq| LiveEvent {
        sent: Some((user(name), ClientMsgId(Uuid::from_u128(id)))),
        ..event(seq)
    };
    hear(&mut core, 1, &[by("bob", 11, 1), by("alice", 10, 2)]);
    assert_eq!(told(&mut core).0, ["event:1", "ack:2", "event:2"]);
    let done = |seq| Ok(crate::group::message::GroupDone { seq, duplicate: false });
    core.submitted(0, 1, done(2));
    assert_eq!(told(&mut core).0, Vec::<String>::new());
    core.submitted(0, 2, done(3));
    hear(&mut core, 1, &[by("alice", 11, 3)]);
    assert_eq!(told(&mut core).0, ["ack:3", "event:3"]);
    assert_eq!(core.state().in_flight, 0);
}

#[test]
fn what_can_be_written_at_once_stays_in_order_with_what_cannot() {
    let mut core = live(0);
    hear_all(&mut core, 1, 1..=2);
    let mut written = 0;
    assert!(!core.written(|_| written += 1));
    let removal = LiveEvent { removed: Some(user("alice")), ..event(3) };
    hear(&mut core, 1, &[removal]);
    assert!(core.written(|_| written += 1), "the conversation is still to be given up");
    assert_eq!(written, 4);
    assert_eq!(core.effects(), [Effect::Unfollow(group(1))]);
}
