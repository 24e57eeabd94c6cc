use chat::errors::ErrorCode;
use chat::event::Mentions;
use chat::ids::{AppId, ClientMsgId, ConversationId, DeviceId, GroupId, UserId};
use chat::wire::{Appearance, Body, EventContent, Limits, PresenceState, Resumption, Target, UserPresence, WireEvent};
use uuid::Uuid;

use super::*;

type Ticket = &'static str;

fn group() -> ConversationId {
    ConversationId::Group(GroupId(Uuid::from_u128(1)))
}

fn send_request(n: u128) -> Request {
    let body = Body::Text { text: "hi".into() };
    Request::Send {
        to: Target::Group(GroupId(Uuid::from_u128(1))),
        client_msg_id: ClientMsgId(Uuid::from_u128(n)),
        body,
        reply_to: None,
        mentions: Mentions::default(),
        forwarded: None,
    }
}

fn ack(re: u64, seq: u64) -> ServerFrame {
    ServerFrame::Ack { re, conversation: group(), seq, epoch: 1, duplicate: false }
}

fn event(seq: u64) -> ServerFrame {
    let content = EventContent::Left { user: UserId::new("bob").unwrap() };
    ServerFrame::Event { event: WireEvent { conversation: group(), seq, time_ms: 0, content } }
}

fn error(re: u64, code: ErrorCode) -> ServerFrame {
    ServerFrame::Error { re: Some(re), error: WireError::new(code, "", "t") }
}

/// The frames the core wants sent, parsed.
fn frames(core: &mut Core<Ticket>) -> Vec<ClientFrame> {
    let mut frames = Vec::new();
    while let Some(effect) = core.poll_effect() {
        match effect {
            Effect::Transmit(text) => frames.push(serde_json::from_str(&text).unwrap()),
            Effect::Online(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    frames
}

fn hello(re: u64, epoch: u32) -> ServerFrame {
    ServerFrame::Hello {
        re,
        user: UserId::new("ann").unwrap(),
        app: AppId::new("main").unwrap(),
        session: "s".into(),
        cluster: "c".into(),
        node: 1,
        epoch,
        time_ms: 0,
        expires_ms: None,
        limits: Limits { in_flight: 2, ..Limits::default() },
    }
}

/// Connects, logs in and resumes; returns the positions the core resumed with and what it sent once online.
fn go_online(core: &mut Core<Ticket>, epoch: u32, now_ms: u64) -> (Vec<Position>, Vec<ClientFrame>) {
    let device = Device { id: DeviceId::new("d").unwrap(), platform: "test".into(), name: String::new() };
    core.connected(Credentials::Token("t".into()), device, now_ms);
    let login = frames(core);
    assert!(matches!(&login[..], [ClientFrame { request: Request::Login { .. }, .. }]));
    core.frame(hello(login[0].id, epoch), now_ms, 0);
    let resume = frames(core);
    let [ClientFrame { id, request: Request::Resume { have } }] = &resume[..] else { panic!("{resume:?}") };
    let conversations = have
        .iter()
        .map(|p| Resumption { conversation: p.conversation.clone(), live_after: p.seq, head: p.seq, gone: false })
        .collect();
    core.frame(ServerFrame::Resumed { re: *id, conversations }, now_ms, 0);
    (have.clone(), frames(core))
}

#[test]
fn requests_wait_for_login_and_resume_and_keep_the_announced_window() {
    let mut core = Core::new(vec![]);
    for n in 0..3 {
        core.request(encode(&send_request(n)), Purpose::Caller("ann", None), 1_000, true, 0);
    }
    assert!(frames(&mut core).is_empty());
    let (_, sent) = go_online(&mut core, 1, 0);
    let requests: Vec<_> = sent.iter().map(|f| f.request.clone()).collect();
    assert_eq!(requests, [send_request(0), send_request(1)]);
    core.frame(ack(sent[0].id, 1), 0, 0);
    assert!(matches!(core.poll_effect(), Some(Effect::Answer("ann", Ok(_)))));
    assert_eq!(frames(&mut core)[0].request, send_request(2));
}

#[test]
fn a_send_keeps_its_id_over_reconnects_until_the_ack() {
    let mut core = Core::new(vec![]);
    core.request(encode(&send_request(7)), Purpose::Caller("ann", None), 100_000, true, 0);
    go_online(&mut core, 1, 0);
    core.disconnected("cut");
    assert_eq!(core.poll_event(0), Some(ClientEvent::Disconnected { why: "cut".into() }));
    let (_, again) = go_online(&mut core, 1, 10);
    assert_eq!(again[0].request, send_request(7));
    assert_eq!(core.poll_event(10), Some(ClientEvent::Reconnected));
    core.frame(error(again[0].id, ErrorCode::Unavailable), 10, 30);
    assert!(frames(&mut core).is_empty());
    core.tick(40);
    let third = frames(&mut core);
    assert_eq!(third[0].request, send_request(7));
    core.frame(ack(third[0].id, 5), 41, 0);
    assert!(matches!(core.poll_effect(), Some(Effect::Answer("ann", Ok(_)))));
    assert_eq!(core.stats().retries, 2);
}

#[test]
fn resume_names_what_was_delivered_and_a_restored_service_is_read_anew() {
    let mut core = Core::<Ticket>::new(vec![Position { conversation: group(), seq: 3 }]);
    assert_eq!(go_online(&mut core, 1, 0).0[0].seq, 3);
    core.frame(event(4), 0, 0);
    core.frame(event(4), 0, 0);
    core.disconnected("cut");
    assert_eq!(go_online(&mut core, 1, 0).0[0].seq, 4);
    assert_eq!(core.stats().duplicates, 1);
    core.disconnected("cut");
    let (have, _) = go_online(&mut core, 2, 0);
    assert_eq!(have[0].seq, 0);
    let events: Vec<_> = std::iter::from_fn(|| core.poll_event(0)).collect();
    assert!(events.iter().any(|e| matches!(e, ClientEvent::MustResync { next_seq: 1, .. })), "{events:?}");
}

#[test]
fn a_gap_asks_for_history_and_a_lost_connection_forgets_that_request() {
    let mut core = Core::<Ticket>::new(vec![Position { conversation: group(), seq: 0 }]);
    go_online(&mut core, 1, 0);
    core.frame(event(3), 0, 0);
    let asked = frames(&mut core);
    assert!(matches!(asked[0].request, Request::History { after: 0, .. }));
    core.disconnected("cut");
    assert!(go_online(&mut core, 1, 0).1.is_empty(), "resume brings the events, history is not asked twice");
}

#[test]
fn a_silent_node_is_given_up_and_a_leaving_one_is_left() {
    let mut core = Core::<Ticket>::new(vec![]);
    go_online(&mut core, 1, 0);
    assert_eq!(core.next_wakeup_ms(), Some(limits::HEARTBEAT_TIMEOUT_MS));
    core.frame(ServerFrame::Goaway { reconnect_after_ms: 50 }, 0, 0);
    assert_eq!(core.next_wakeup_ms(), Some(50));
    core.tick(49);
    assert!(core.poll_effect().is_none());
    core.tick(50);
    assert!(matches!(core.poll_effect(), Some(Effect::Abandon(_))));
}

#[test]
fn the_end_answers_everybody_and_comes_last() {
    let mut core = Core::new(vec![]);
    for n in 0..3 {
        core.request(encode(&send_request(n)), Purpose::Caller("ann", None), 1_000, true, 0);
    }
    go_online(&mut core, 1, 0);
    core.closed(4507, "logged out");
    let failures: Vec<Failure> = std::iter::from_fn(|| core.poll_effect())
        .filter_map(|effect| if let Effect::Answer(_, Err(failure)) = effect { Some(failure) } else { None })
        .collect();
    let unknown = failures.iter().filter(|f| matches!(f, Failure::Unknown { .. })).count();
    assert_eq!((failures.len(), unknown), (3, 2), "two were on the wire, one never left");
    let last = std::iter::from_fn(|| core.poll_event(0)).last();
    assert_eq!(last, Some(ClientEvent::Closed { code: 4507, why: "logged out".into() }));
}

#[test]
fn positions_beyond_one_frame_are_left_out() {
    let position = |n| Position { conversation: ConversationId::Group(GroupId(Uuid::from_u128(n))), seq: 1 };
    let have = bounded_positions((0..2_000).map(position));
    assert!(have.len() < 2_000 && have.len() > 500);
    let frame = ClientFrame { id: u64::MAX, request: Request::Resume { have } };
    assert!(encode(&frame).len() <= limits::FRAME_BYTES);
}

#[test]
fn what_was_asked_to_last_is_asked_again_on_every_connection() {
    let mut core = Core::new(vec![]);
    go_online(&mut core, 1, 0);
    let (bob, carol) = (UserId::new("bob").unwrap(), UserId::new("carol").unwrap());
    let subscribe = |users: &[&UserId]| Request::SubscribePresence { users: users.iter().copied().cloned().collect() };
    let ask = |core: &mut Core<Ticket>, request: &Request| {
        core.request(encode(request), Purpose::Caller("ann", Lasting::of(request)), 100_000, true, 0);
        frames(core)[0].id
    };
    let answered = |core: &mut Core<Ticket>, frame: ServerFrame| {
        core.frame(frame, 0, 0);
        assert!(matches!(core.poll_effect(), Some(Effect::Answer("ann", _))));
    };
    let re = ask(&mut core, &subscribe(&[&bob, &carol]));
    answered(&mut core, ServerFrame::Presence { re: Some(re), users: vec![] });
    let re = ask(&mut core, &Request::UnsubscribePresence { users: vec![carol.clone()] });
    answered(&mut core, ServerFrame::Done { re });
    let away = Request::SetPresence { state: Appearance::Away };
    let re = ask(&mut core, &away);
    answered(&mut core, ServerFrame::Done { re });
    // What was refused does not last.
    let re = ask(&mut core, &subscribe(&[&carol]));
    answered(&mut core, error(re, ErrorCode::LimitReached));

    core.disconnected("cut");
    let (_, again) = go_online(&mut core, 1, 10);
    let requests: Vec<_> = again.iter().map(|frame| frame.request.clone()).collect();
    assert_eq!(requests, [away, subscribe(&[&bob])]);
    let seen = UserPresence { user: bob, state: PresenceState::Away, platforms: vec![], last_seen_ms: None };
    core.frame(ServerFrame::Presence { re: Some(again[1].id), users: vec![seen.clone()] }, 10, 0);
    core.frame(ServerFrame::Presence { re: None, users: vec![seen.clone()] }, 10, 0);
    let events: Vec<_> = std::iter::from_fn(|| core.poll_event(10)).collect();
    let presence = ClientEvent::Presence { users: vec![seen] };
    let disconnected = ClientEvent::Disconnected { why: "cut".into() };
    assert_eq!(events, [disconnected, ClientEvent::Reconnected, presence.clone(), presence]);
}
