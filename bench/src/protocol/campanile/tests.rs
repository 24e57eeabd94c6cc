use chat::ids::{ClientMsgId, ConversationId, UserId};
use chat::wire::{ClientFrame, Request, Target};

use super::*;

const NUMBER: Number = Number { lane: 1, place: 0xabcdef };

fn driver() -> Campanile {
    Campanile::new(Cast {
        run: 0x1234_5678,
        began_ms: 1_800_000_000_000,
        users: vec!["b1-u0".into(), "b1-u1".into(), "b1-u10".into()],
        tokens: vec!["t0".into(), "t1".into(), "t2".into()],
        places: vec![Place::Group(group_id(7, 1, 0)), Place::Pair(2, 1)],
        lane_users: vec![0, 2],
        device: "bench".into(),
    })
}

fn text() -> String {
    let mut digits = [0; 16];
    NUMBER.write(&mut digits);
    String::from_utf8([digits.as_slice(), b"xyz"].concat()).unwrap()
}

/// The request that a driver's frame is, without its header.
fn request(write: impl FnOnce(&mut Outbox<'_>)) -> ClientFrame {
    let mut bytes = Vec::new();
    write(&mut Outbox::new(&mut bytes));
    let header = if bytes[1] & 0x7f == 126 { 8 } else { 6 };
    serde_json::from_slice(&bytes[header..]).unwrap()
}

fn received(message: &[u8]) -> Vec<String> {
    let mut events = Vec::new();
    let mut bytes = Vec::new();
    let driver = driver();
    driver.receive(&mut driver.session(0), message, &mut Outbox::new(&mut bytes), &mut |event| {
        events.push(format!("{event:?}"));
    });
    events
}

fn event(conversation: &str, from: &str, id: &[u8], text: &str) -> ServerFrame {
    let event = WireEvent {
        conversation: conversation.parse().unwrap(),
        seq: 42,
        time_ms: 1_800_000_000_000,
        content: EventContent::message(
            UserId::new(from).unwrap(),
            ClientMsgId(std::str::from_utf8(id).unwrap().parse().unwrap()),
            Body::Text { text: text.to_owned() },
        ),
    };
    ServerFrame::Event { event }
}

#[test]
fn requests_are_what_the_service_reads() {
    let driver = driver();
    let mut session = driver.session(2);
    let login = request(|out| driver.opened(&mut session, &[(1, 5)], out));
    assert!(matches!(login.request, Request::Login { .. }));
    let resume = request(|out| driver.resume(&session.have, out));
    let Request::Resume { have } = resume.request else { panic!("{resume:?}") };
    assert_eq!((have[0].conversation.to_string(), have[0].seq), ("p:b1-u1:b1-u10".to_owned(), 5));
    let send = request(|out| driver.send(&mut session, NUMBER, 1, &text(), out));
    assert_eq!(send.id, NUMBER.bits());
    let Request::Send { to, client_msg_id, .. } = send.request else { panic!("{send:?}") };
    assert_eq!(to, Target::User(UserId::new("b1-u1").unwrap()));
    assert_eq!((client_msg_id.0.get_version_num(), client_msg_id.0.get_variant()), (7, uuid::Variant::RFC4122));
    let first = client_msg_id;
    let send = request(|out| driver.send(&mut session, NUMBER, 0, &text(), out));
    let Request::Send { to, client_msg_id, .. } = send.request else { panic!("{send:?}") };
    assert_eq!(client_msg_id, first, "the same in every attempt");
    assert_eq!(to, Target::Group(group_id(7, 1, 0)));
    for ask in [Ask::Read { group: 0, seq: 9 }, Ask::History { group: 1 }, Ask::Conversations, Ask::Ping] {
        request(|out| assert!(driver.ask(&mut session, 3, ask, out)));
    }
}

#[test]
fn both_ways_of_reading_say_the_same() {
    let id = driver().message_id(NUMBER, 5);
    let frame = serde_json::to_vec(&event("p:b1-u1:b1-u10", "b1-u10", &id, &text())).unwrap();
    assert!(matches!(fast::read(&frame), Some(fast::Frame::Message(_))), "{}", lossy(&frame));
    let spaced: serde_json::Value = serde_json::from_slice(&frame).unwrap();
    let pretty = serde_json::to_vec_pretty(&spaced).unwrap();
    assert_eq!(fast::read(&pretty), None);
    let expected =
        format!("{:?}", Event::Delivered { group: 1, seq: Some(42), number: NUMBER, text: text().as_bytes() });
    assert_eq!((received(&frame), received(&pretty)), (vec![expected.clone()], vec![expected]));

    let conversation = ConversationId::Group(group_id(7, 1, 0));
    let ack = ServerFrame::Ack { re: NUMBER.bits(), conversation, seq: 8, epoch: 1, duplicate: false };
    let frame = serde_json::to_vec(&ack).unwrap();
    assert_eq!(fast::read(&frame), Some(fast::Frame::Ack { re: NUMBER.bits(), seq: 8, duplicate: false }));
}

#[test]
fn a_message_that_is_not_as_it_was_sent_is_told() {
    let id = driver().message_id(NUMBER, 5);
    let other = driver().message_id(Number { lane: 1, place: 1 }, 5);
    for (conversation, from, id, text) in [
        ("p:b1-u1:b1-u2", "b1-u10", id, text()),
        ("p:b1-u1:b1-u10", "b1-u1", id, text()),
        ("p:b1-u1:b1-u10", "b1-u10", other, text()),
        ("p:b1-u1:b1-u10", "b1-u10", id, "hello".to_owned()),
    ] {
        let frame = serde_json::to_vec(&event(conversation, from, &id, &text)).unwrap();
        let events = received(&frame);
        assert!(events.len() == 1 && events[0].starts_with("Broken"), "{events:?}");
    }
}
