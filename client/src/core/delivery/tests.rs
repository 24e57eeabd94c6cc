use chat::ids::{ClientMsgId, GroupId, UserId};
use chat::wire::{Body, EventContent};
use uuid::Uuid;

use super::*;

fn group() -> ConversationId {
    ConversationId::Group(GroupId(Uuid::from_u128(1)))
}

fn event(seq: u64) -> WireEvent {
    let content = EventContent::message(
        UserId::new("ann").unwrap(),
        ClientMsgId(Uuid::from_u128(seq.into())),
        Body::Text { text: String::new() },
    );
    WireEvent { conversation: group(), seq, time_ms: 0, content }
}

fn holding(seq: u64) -> Delivery {
    Delivery::new([Position { conversation: group(), seq }])
}

/// The page asked for, which goes on from `after`.
fn asked(delivery: &mut Delivery, after: u64) -> Page {
    let page = delivery.next_backfill().unwrap();
    assert_eq!((&page.conversation, page.after), (&group(), after));
    page
}

/// The sequence numbers delivered; other items as 0.
fn delivered(delivery: &mut Delivery) -> Vec<u64> {
    let seq = |item| if let ClientEvent::Event(event) = item { event.seq } else { 0 };
    std::iter::from_fn(|| delivery.pop()).map(seq).collect()
}

#[test]
fn a_second_copy_is_dropped_and_counted() {
    let mut delivery = holding(4);
    for seq in [5, 5, 4, 6] {
        delivery.event(event(seq));
    }
    assert_eq!(delivered(&mut delivery), [5, 6]);
    assert_eq!((delivery.duplicates, delivery.gaps), (2, 0));
}

#[test]
fn an_event_of_a_later_version_takes_its_place() {
    let json = r#"{"type":"event","conversation":"g:00000000-0000-0000-0000-000000000001","seq":5,"time_ms":1,
        "event":"framed","by":"ann","what":{"seq":3}}"#;
    let Ok(chat::wire::ServerFrame::Event { event }) = serde_json::from_str(json) else { panic!("not understood") };
    assert_eq!(event.content, EventContent::Unknown);
    let mut delivery = holding(4);
    delivery.event(event);
    delivery.event(self::event(6));
    assert_eq!(delivered(&mut delivery), [5, 6]);
}

#[test]
fn a_gap_is_filled_from_history_before_what_lies_beyond_it() {
    let mut delivery = holding(1);
    for seq in [2, 5, 6] {
        delivery.event(event(seq));
    }
    assert_eq!(delivered(&mut delivery), [2]);
    let page = asked(&mut delivery, 2);
    assert_eq!(delivery.next_backfill(), None, "one page at a time");
    delivery.event(event(7));
    delivery.backfilled(&page, vec![event(3), event(4)], 7);
    assert_eq!(delivered(&mut delivery), [3, 4, 5, 6, 7]);
    assert_eq!((delivery.duplicates, delivery.gaps), (0, 1));
    assert_eq!(delivery.next_backfill(), None);
}

#[test]
fn a_slow_reader_loses_nothing_and_bounds_the_queue() {
    let mut delivery = holding(0);
    let last = 3 * READY_EVENTS as u64;
    (1..=last).for_each(|seq| delivery.event(event(seq)));
    assert_eq!(delivery.ready.len(), READY_EVENTS);
    assert_eq!(delivery.next_backfill(), None, "no room for a page yet");
    let mut seen = delivered(&mut delivery);
    while let Some(page) = delivery.next_backfill() {
        let events = (page.after + 1..=last.min(page.after + 200)).map(event).collect();
        delivery.backfilled(&page, events, last);
        seen.extend(delivered(&mut delivery));
    }
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
    assert_eq!((delivery.duplicates, delivery.gaps), (0, 0), "our own lag is no fault of the service");
}

#[test]
fn a_new_connection_starts_after_what_is_held() {
    let mut delivery = holding(3);
    delivery.event(event(9));
    delivery.disconnected();
    assert_eq!(delivery.positions().map(|p| p.seq).collect::<Vec<_>>(), [3]);
    delivery.resumed(Resumption { conversation: group(), live_after: 3, head: 9, gone: false });
    assert_eq!(delivery.next_backfill(), None);
    (4..=9).for_each(|seq| delivery.event(event(seq)));
    assert_eq!(delivered(&mut delivery), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_resume_that_starts_later_is_filled_from_history() {
    let mut delivery = holding(3);
    delivery.resumed(Resumption { conversation: group(), live_after: 5, head: 5, gone: false });
    delivery.event(event(6));
    let page = asked(&mut delivery, 3);
    delivery.backfilled(&page, vec![event(4), event(5), event(6)], 6);
    assert_eq!(delivered(&mut delivery), [4, 5, 6]);
}

#[test]
fn what_retention_took_is_said() {
    let mut delivery = holding(1);
    delivery.event(event(9));
    let page = asked(&mut delivery, 1);
    delivery.backfilled(&page, vec![event(8), event(9)], 9);
    let expected = ClientEvent::MustResync { conversation: group(), reason: ResyncReason::Retention, next_seq: 8 };
    assert_eq!(delivery.pop(), Some(expected));
    assert_eq!(delivered(&mut delivery), [8, 9]);
}

#[test]
fn the_node_goes_on_behind_what_retention_took_and_says_so_once() {
    let mut delivery = holding(3);
    delivery.resumed(Resumption { conversation: group(), live_after: 7, head: 9, gone: false });
    let page = asked(&mut delivery, 3);
    delivery.trimmed(group(), 8);
    let expected = ClientEvent::MustResync { conversation: group(), reason: ResyncReason::Retention, next_seq: 8 };
    assert_eq!(delivery.pop(), Some(expected));
    delivery.event(event(8));
    // The page that was asked for meanwhile, and what a request of the user's own brings.
    delivery.backfilled(&page, vec![event(8), event(9)], 9);
    delivery.trimmed(group(), 8);
    delivery.event(event(9));
    assert_eq!(delivered(&mut delivery), [8, 9]);
    assert_eq!((delivery.duplicates, delivery.gaps, delivery.next_backfill()), (0, 0, None));
}

#[test]
fn a_resync_reads_everything_from_the_named_event_on() {
    let mut delivery = holding(50);
    delivery.must_resync(group(), ResyncReason::Epoch, 1);
    let page = asked(&mut delivery, 0);
    delivery.backfilled(&page, vec![event(1), event(2)], 2);
    assert_eq!(delivered(&mut delivery), [0, 1, 2]);
    assert_eq!(delivery.next_backfill(), None);
}

#[test]
fn leaving_and_coming_back_is_said_and_starts_anew() {
    let mut delivery = holding(3);
    delivery.resumed(Resumption { conversation: group(), live_after: 0, head: 0, gone: true });
    assert_eq!(delivery.pop(), Some(ClientEvent::ConversationRemoved { conversation: group() }));
    delivery.added(group(), 8);
    assert_eq!(delivery.pop(), Some(ClientEvent::ConversationAdded { conversation: group(), live_after: 8 }));
    delivery.event(event(9));
    assert_eq!(delivered(&mut delivery), [9]);
}

#[test]
fn a_removal_is_said_when_the_node_comes_to_it_although_history_is_refused_before() {
    let mut delivery = holding(1);
    delivery.event(event(4));
    let page = asked(&mut delivery, 1);
    delivery.backfill_refused(&page);
    (5..=7).for_each(|seq| delivery.event(event(seq)));
    assert_eq!((delivered(&mut delivery), delivery.next_backfill()), (vec![], None), "nothing beyond a hole");
    delivery.removed(&group());
    assert_eq!(delivery.pop(), Some(ClientEvent::ConversationRemoved { conversation: group() }));
    delivery.added(group(), 8);
    delivery.event(event(9));
    assert_eq!(delivered(&mut delivery), [0, 9]);
}

#[test]
fn what_was_asked_before_a_removal_does_not_concern_the_time_after_it() {
    let mut delivery = holding(1);
    delivery.event(event(4));
    let page = asked(&mut delivery, 1);
    delivery.removed(&group());
    delivery.added(group(), 8);
    delivery.event(event(10));
    asked(&mut delivery, 8);
    delivery.backfill_refused(&page);
    delivery.backfilled(&page, vec![event(2)], 4);
    delivery.event(event(9));
    assert_eq!(delivered(&mut delivery), [0, 0, 9, 10], "still a member");
}
