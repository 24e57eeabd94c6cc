//! The client against a node that cuts, refuses and forgets: over real TLS and WebSocket, on loopback.

mod double;

use std::time::Duration;

use campanile_client::{Client, ClientEvent, ClientOptions, ConnectError, Events, SendError, Tls};
use chat::errors::ErrorCode;
use chat::ids::{ClientMsgId, DeviceId, GroupId};
use chat::wire::{Credentials, Target};
use double::{Double, Fate};
use uuid::Uuid;

fn options(double: &Double) -> ClientOptions {
    let credentials = Credentials::Token("token".to_owned());
    ClientOptions::new(
        vec![double.url.clone()],
        double.tls.clone(),
        credentials,
        DeviceId::new("d").expect("a valid id"),
    )
}

fn group() -> Target {
    Target::Group(GroupId(Uuid::from_u128(1)))
}

/// The seqs of the next `n` events, notices left out.
async fn seqs(events: &mut Events, n: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < n {
        let next = tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("an event in time");
        if let ClientEvent::Event(event) = next.expect("the client is open") {
            seqs.push(event.seq);
        }
    }
    seqs
}

#[tokio::test]
async fn a_send_survives_cuts_and_refusals_under_one_id_and_events_come_once() {
    let double = double::start().await;
    double.state.lock().unwrap().fates = [
        Fate::Ack,
        Fate::CommitAndCut,
        Fate::Ack,
        Fate::Refuse(ErrorCode::Unavailable),
        Fate::Cut,
        Fate::Refuse(ErrorCode::OutcomeUnknown),
    ]
    .into();
    let (client, mut events) = Client::connect(options(&double)).await.unwrap();

    let first = client.send_text(group(), "one").await.unwrap();
    assert_eq!((first.seq, first.duplicate), (1, false));
    let second = client.send_text(group(), "two").await.unwrap();
    assert_eq!((second.seq, second.duplicate), (2, true), "committed before the cut, found again by its id");
    let third = client.send_text(group(), "three").await.unwrap();
    assert_eq!((third.seq, third.duplicate), (3, false));

    assert_eq!(seqs(&mut events, 3).await, [1, 2, 3]);
    let stats = client.stats().await.unwrap();
    assert_eq!((stats.connections, stats.duplicates, stats.gaps), (3, 0, 0));
    let state = double.state.lock().unwrap();
    assert_eq!(state.sends.len(), 7, "one, two twice, three four times");
    assert_eq!(state.ids.len(), 3);
    let resumed_with: Vec<u64> = state.resumes.iter().skip(1).map(|have| have[0].seq).collect();
    assert_eq!(resumed_with, [1, 2]);
}

#[tokio::test]
async fn events_the_node_forgot_are_read_from_history() {
    let double = double::start().await;
    double.state.lock().unwrap().withheld = (2..=9).collect();
    let (client, mut events) = Client::connect(options(&double)).await.unwrap();
    for _ in 0..10 {
        client.send_text(group(), "hi").await.unwrap();
    }
    assert_eq!(seqs(&mut events, 10).await, (1..=10).collect::<Vec<_>>());
    let stats = client.stats().await.unwrap();
    assert_eq!((stats.gaps, stats.duplicates), (1, 0));
    assert!(stats.backfills >= 3, "pages of three: {stats:?}");
}

#[tokio::test]
async fn a_reader_that_never_reads_stops_no_send_and_loses_nothing() {
    let double = double::start().await;
    let (client, mut events) = Client::connect(options(&double)).await.unwrap();
    for _ in 0..700 {
        client.send_text(group(), "hi").await.unwrap();
    }
    assert_eq!(seqs(&mut events, 700).await, (1..=700).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_deadline_says_what_is_known() {
    let double = double::start().await;
    let id = ClientMsgId(Uuid::from_u128(9));
    let short = ClientOptions { request_timeout: Duration::from_millis(300), ..options(&double) };
    let (client, _events) = Client::connect(short).await.unwrap();
    let refuse = |code| double.state.lock().unwrap().fates = [Fate::Refuse(code); 200].into();

    refuse(ErrorCode::Overloaded);
    let text = || chat::wire::Body::Text { text: "hi".to_owned() };
    let error = client.send_with_id(group(), id, text()).await.unwrap_err();
    assert!(matches!(error, SendError::NotSent { client_msg_id, last: Some(_) } if client_msg_id == id), "{error:?}");
    refuse(ErrorCode::OutcomeUnknown);
    let error = client.send_with_id(group(), id, text()).await.unwrap_err();
    assert!(matches!(error, SendError::Unknown { client_msg_id, last: Some(_) } if client_msg_id == id), "{error:?}");
    refuse(ErrorCode::Forbidden);
    assert!(matches!(client.send_text(group(), "x").await, Err(SendError::Rejected { .. })));
    assert!(matches!(client.send_text(group(), "x".repeat(70_000)).await, Err(SendError::TooLarge { .. })));
}

#[tokio::test]
async fn a_stopping_close_code_ends_the_client() {
    let double = double::start().await;
    double.state.lock().unwrap().fates = [Fate::Close(4507)].into();
    let (client, mut events) = Client::connect(options(&double)).await.unwrap();
    assert!(matches!(client.send_text(group(), "x").await, Err(SendError::Unknown { .. })));
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(ClientEvent::Closed { code: 4507, .. })), "{last:?}");
    assert!(matches!(client.send_text(group(), "x").await, Err(SendError::NotSent { .. })));
}

#[tokio::test]
async fn a_dead_first_node_is_passed_over_and_a_stranger_is_not_trusted() {
    let double = double::start().await;
    let mut some = options(&double);
    some.urls.insert(0, "wss://127.0.0.1:1".to_owned());
    let (client, _events) = Client::connect(some).await.unwrap();
    client.ping().await.unwrap();

    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let tls = Tls::from_ca_pem(other.cert.pem().as_bytes()).unwrap();
    let wary = ClientOptions { tls, connect_timeout: Duration::from_millis(500), ..options(&double) };
    let error = Client::connect(wary).await.map(drop).unwrap_err();
    assert!(matches!(&error, ConnectError::Unreachable { last } if last.contains("TLS")), "{error:?}");
}
