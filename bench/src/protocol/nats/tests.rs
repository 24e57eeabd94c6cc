use super::super::testing::payload;
use super::*;

/// What a frame makes of a session: what is sent, and what is reported.
fn receive(nats: &Nats, session: &mut NatsSession, message: &[u8]) -> (String, Vec<String>) {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    let mut report = |event: Event<'_>| events.push(format!("{event:?}"));
    nats.receive(session, message, &mut Outbox::new(&mut bytes), &mut report);
    (payload(&bytes), events)
}

fn ready(nats: &Nats) -> NatsSession {
    let mut session = nats.session(7);
    let (sent, events) = receive(nats, &mut session, b"INFO {\"headers\":true} \r\n");
    assert!(sent.starts_with("CONNECT {") && sent.ends_with("\r\nSUB i.7.* 1\r\nPING\r\n"), "{sent}");
    assert!(events.is_empty());
    assert_eq!(receive(nats, &mut session, b"PONG\r\n").1, ["Ready"]);
    session
}

const NUMBER: Number = Number { lane: 3, place: 9 };

#[test]
fn a_member_subscribes_and_sees_what_was_stored() {
    let nats = Nats::new(4, 16);
    let mut session = ready(&nats);
    let mut bytes = Vec::new();
    nats.join(&mut session, 21, &mut Outbox::new(&mut bytes));
    assert_eq!(payload(&bytes), "SUB m.4.5.21 23\r\nPUB $JS.API.STREAM.INFO.R4B5 i.7.j21 0\r\n\r\n");
    let info = br#"{"type":"x","state":{"messages":0,"last_seq":40,"consumer_count":0}}"#;
    let answer = [format!("MSG i.7.j21 1 {}\r\n", info.len()).as_bytes(), info, b"\r\n"].concat();
    assert_eq!(receive(&nats, &mut session, &answer).1, ["Joined { group: 21, after: Some(40) }"]);

    // Two messages in a frame and a half.
    let stream = [stored(41, 0), b"PING\r\n".to_vec(), stored(42, 41)].concat();
    let cut = stream.len() - 20;
    let (sent, events) = receive(&nats, &mut session, &stream[..cut]);
    assert_eq!((sent.as_str(), events.len()), ("PONG\r\n", 1));
    assert!(events[0].starts_with("Delivered { group: 21, seq: Some(41), number: Number { lane: 3, place: 9 }"));
    let (_, events) = receive(&nats, &mut session, &stream[cut..]);
    assert!(events[0].starts_with("Delivered { group: 21, seq: Some(42)"));
    assert!(session.partial.is_empty());
}

/// A message of group 21 as a stream republishes it.
fn stored(seq: u64, before: u64) -> Vec<u8> {
    let headers = format!("NATS/1.0\r\nNats-Sequence: {seq}\r\nNats-Last-Sequence: {before}\r\n\r\n");
    let lengths = format!("{} {}", headers.len(), headers.len() + 16);
    format!("HMSG m.4.5.21 23 {lengths}\r\n{headers}0000000300000009\r\n").into_bytes()
}

/// The answer to a question for a message of group 21.
fn found(body: &str) -> Vec<u8> {
    format!("MSG i.7.g21 1 {}\r\n{body}\r\n", body.len()).into_bytes()
}

#[test]
fn what_was_not_republished_is_asked_for() {
    let nats = Nats::new(4, 16);
    let mut session = nats.session(7);
    nats.opened(&mut session, &[(21, 40)], &mut Outbox::new(&mut Vec::new()));
    let (sent, _) = receive(&nats, &mut session, b"INFO {} \r\n");
    let question = |seq| {
        let body = format!("{{\"seq\":{seq},\"next_by_subj\":\"g.4.5.21\"}}");
        format!("PUB $JS.API.STREAM.MSG.GET.R4B5 i.7.g21 {}\r\n{body}\r\n", body.len())
    };
    assert!(sent.contains(&format!("SUB m.4.5.21 23\r\n{}PING", question(41))), "{sent}");
    assert!(receive(&nats, &mut session, &stored(43, 41)).1.is_empty());

    let message = r#"{"type":"x","message":{"subject":"g.4.5.21","seq":41,"data":"MDAwMDAwMDMwMDAwMDAwOQ=="}}"#;
    let (sent, events) = receive(&nats, &mut session, &found(message));
    assert!(events[0].starts_with("Delivered { group: 21, seq: Some(41), number: Number { lane: 3, place: 9 }"));
    assert_eq!(sent, question(42));
    receive(&nats, &mut session, &found(&message.replace("41", "43")));
    let none = r#"{"type":"x","error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
    assert_eq!(receive(&nats, &mut session, &found(none)), (String::new(), vec![]));

    // Live again, until something is missing again.
    assert_eq!(receive(&nats, &mut session, &stored(50, 43)).1.len(), 1);
    assert_eq!(receive(&nats, &mut session, &stored(50, 43)).1.len(), 0, "a repetition");
    assert_eq!(receive(&nats, &mut session, &stored(60, 55)), (question(51), vec![]));
}

#[test]
fn a_publish_is_acked_or_tried_again() {
    let nats = Nats::new(4, 1);
    let mut session = ready(&nats);
    let mut bytes = Vec::new();
    nats.send(&mut session, NUMBER, 2, "0000000300000009 hello", &mut Outbox::new(&mut bytes));
    let expected = "HPUB g.4.0.2 i.7.0000000300000009 43 65\r\nNATS/1.0\r\n\
        Nats-Msg-Id: 0000000300000009\r\n\r\n0000000300000009 hello\r\n";
    assert_eq!(payload(&bytes), expected);

    let answer = |session: &mut NatsSession, body: &str| {
        nats.send(session, NUMBER, 2, "0000000300000009 hello", &mut Outbox::new(&mut Vec::new()));
        let frame = format!("MSG i.7.0000000300000009 1 {}\r\n{body}\r\n", body.len());
        receive(&nats, session, frame.as_bytes()).1.concat()
    };
    let acked = "Acked { number: Number { lane: 3, place: 9 }, seq: Some(5), duplicate: ";
    assert_eq!(answer(&mut session, r#"{"stream":"B0", "seq":5}"#), format!("{acked}false }}"));
    let duplicate = answer(&mut session, r#"{"stream":"B0", "seq":5,"duplicate": true}"#);
    assert_eq!(duplicate, format!("{acked}true }}"));
    let error = r#"{"error":{"code":503,"description":"insufficient \"resources\""},"seq":0}"#;
    assert!(answer(&mut session, error).starts_with("Refused"));
    nats.send(&mut session, NUMBER, 2, "0000000300000009 hello", &mut Outbox::new(&mut Vec::new()));
    let nobody = b"HMSG i.7.0000000300000009 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
    assert!(receive(&nats, &mut session, nobody).1[0].contains("no leader"));
}

#[test]
fn what_is_not_expected_is_reported() {
    let nats = Nats::new(4, 1);
    let mut session = ready(&nats);
    assert!(receive(&nats, &mut session, b"-ERR 'Stale Connection'\r\n").1[0].starts_with("Failed"));
    assert!(receive(&nats, &mut session, b"PONG\r\n").1[0].starts_with("Broken"));
    assert!(receive(&nats, &mut session, b"MSG m.4.0.0 2 3\r\nabc\r\n").1[0].starts_with("Broken"));
    assert!(receive(&nats, &mut session, b"MSG i.7.x 1 3\r\nabc\r\n").1[0].starts_with("Broken"));
    assert!(receive(&nats, &mut session, b"nonsense\r\n").1[0].starts_with("Failed"));
}
