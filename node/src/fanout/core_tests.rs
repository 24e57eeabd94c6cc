//! Who hears of what, without actors.

use std::cell::Cell;

use chat::ids::GroupId;
use uuid::Uuid;

use super::super::overflow::Overflow;
use super::*;

/// Counts, and refuses seq 13 as if its body did not open.
#[derive(Default)]
struct Counting(Cell<u32>);

impl Encode for Counting {
    fn encode(&self, event: &SequencedEvent) -> Option<ByteString> {
        self.0.set(self.0.get() + 1);
        (event.seq != 13).then(|| format!("{}", event.seq).into())
    }
}

fn app() -> AppId {
    AppId::new("main").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn group(n: u128) -> ConversationId {
    ConversationId::Group(GroupId(Uuid::from_u128(n)))
}

fn left(n: u128, seq: u64, who: &str) -> Committed {
    let event = Event::Left { user: user(who) };
    Committed::Sequenced(SequencedEvent { app: app(), conversation: group(n), seq, time_ms: 0, event })
}

/// Alice on two devices and Bob, all following group 1; Alice's first device follows group 2 as well.
fn core() -> Core {
    let mut core = Core::default();
    core.register(1, app(), user("alice"));
    core.register(2, app(), user("alice"));
    core.register(3, app(), user("bob"));
    for session in 1..=3 {
        core.follow(session, vec![group(1)]);
    }
    core.follow(1, vec![group(2), group(2)]);
    core
}

fn seqs(live: &Live) -> Vec<u64> {
    match live {
        Live::Events { events, .. } => events.iter().map(|event| event.seq).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_is_encoded_once_for_all_who_follow_and_not_at_all_for_nobody() {
    let mut core = core();
    let encoder = Counting::default();
    let batch = [left(1, 5, "x"), left(2, 1, "x"), left(1, 6, "alice"), left(3, 9, "x")];
    let deliveries = core.applied(&batch, &encoder);
    assert_eq!(encoder.0.get(), 3);
    let [one, two] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!((&one.sessions[..], seqs(&one.live)), (&[1, 2, 3][..], vec![5, 6]));
    assert_eq!((&two.sessions[..], seqs(&two.live)), (&[1][..], vec![1]));
    let Live::Events { events, .. } = &one.live else { panic!() };
    assert_eq!(events[1].removed, Some(user("alice")));
}

#[test]
fn a_body_that_does_not_open_is_left_to_history() {
    let mut core = core();
    let deliveries = core.applied(&[left(2, 13, "x")], &Counting::default());
    assert!(matches!(deliveries[..], [Delivery { live: Live::Moved { head: 13, .. }, .. }]));
}

#[test]
fn read_positions_go_to_ones_own_devices_and_the_peer() {
    let mut core = core();
    let private = ConversationId::private(user("alice"), user("bob"));
    let read = |conversation| Committed::ReadMoved { app: app(), conversation, user: user("alice"), seq: 4 };
    let deliveries = core.applied(&[read(private), read(group(1))], &Counting::default());
    let hearers: Vec<_> = deliveries.iter().map(|delivery| delivery.sessions.clone()).collect();
    assert_eq!(hearers, [vec![1, 2, 3], vec![1, 2]]);
}

#[test]
fn who_is_gone_leaves_no_trace() {
    let mut core = core();
    core.unfollow(3, &group(1));
    for session in 1..=3 {
        core.unregister(session);
    }
    assert_eq!(core.sizes(), (0, 0, 0));
}

#[test]
fn what_the_queue_had_no_room_for_becomes_moved_heads() {
    let core = core();
    let overflow = Overflow::default();
    let listed = Committed::ConversationListed { app: app(), user: user("bob"), conversation: group(7) };
    overflow.note(&[left(1, 5, "x"), left(1, 9, "x"), left(4, 1, "x"), listed]);
    let deliveries = core.overflowed(overflow.take().unwrap());
    let [moved, listed] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert!(matches!(moved.live, Live::Moved { head: 9, .. }));
    assert_eq!(moved.sessions, [1, 2, 3]);
    assert!(matches!(listed.live, Live::Listed { .. }));
    assert_eq!(listed.sessions, [3]);
    assert_eq!(overflow.take(), None);
}

#[test]
fn when_too_much_was_missed_everybody_resumes() {
    let core = core();
    let overflow = Overflow::default();
    overflow.note_everything();
    overflow.note(&[left(1, 5, "x")]);
    let deliveries = core.overflowed(overflow.take().unwrap());
    assert_eq!(deliveries.len(), 3);
    assert!(deliveries.iter().all(|delivery| matches!(delivery.live, Live::Reconnect { .. })));
}

#[test]
fn a_goodbye_is_spread_over_time() {
    let mut after: Vec<_> = core().reconnect(300).iter().map(|delivery| format!("{:?}", delivery.live)).collect();
    after.sort();
    assert_eq!(after, ["Reconnect { after_ms: 0 }", "Reconnect { after_ms: 100 }", "Reconnect { after_ms: 200 }"]);
}
