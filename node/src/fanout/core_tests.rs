//! Who hears of what, without actors.

use std::cell::{Cell, RefCell};

use bytestring::ByteString;
use chat::event::{Event, SequencedEvent};
use chat::ids::GroupId;
use uuid::Uuid;

use super::super::aside::{Aside, PresenceNews};
use super::super::interest::bit;
use super::super::overflow::Overflow;
use super::*;

/// Counts, and refuses seq 13 as if its body did not open.
#[derive(Default)]
struct Counting(Cell<u32>);

impl Encode for Counting {
    fn encode(&self, event: &SequencedEvent, recalls: u64) -> Option<ByteString> {
        self.0.set(self.0.get() + 1);
        let frame = if recalls == 0 { format!("{}", event.seq) } else { format!("{} at {recalls}", event.seq) };
        (event.seq != 13).then(|| frame.into())
    }
}

/// Writes down what it hears.
#[derive(Default)]
struct Ear(RefCell<Vec<String>>);

impl Listener for Ear {
    fn hear(&self, _: u64, live: Live<'_>) {
        let heard = match live {
            Live::Events { events, .. } => {
                events.iter().map(|event| event.frame.to_string()).collect::<Vec<_>>().join(" ")
            }
            Live::Moved { head, .. } => format!("moved {head}"),
            Live::Listed { .. } => "listed".to_owned(),
            Live::ReadMoved { seq, .. } => format!("read {seq}"),
            Live::JoinAsked { user, .. } => format!("{user} asks"),
            Live::ItemsChanged { version, frame } => format!("items {version} {}", frame.is_some()),
            Live::DeletedForMe { first, last, .. } => format!("deleted {first} to {last}"),
            Live::Reconnect => "reconnect".to_owned(),
            Live::PresenceChanged { frame, .. } | Live::PresenceAnswer { frame, .. } | Live::Said { frame, .. } => {
                frame.to_string()
            }
        };
        self.0.borrow_mut().push(heard);
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

struct Stage {
    core: Core,
    interest: Arc<Interest>,
    encoder: Counting,
    ears: Vec<Rc<Ear>>,
}

impl Stage {
    /// Alice on two devices and Bob, all following group 1; Alice's first device follows group 2 as well.
    fn new() -> Self {
        let interest = Arc::new(Interest::default());
        let mut core = Core::new(bit(0), interest.clone());
        let ears: Vec<Rc<Ear>> = (0..3).map(|_| Rc::default()).collect();
        for (number, name) in [(1, "alice"), (2, "alice"), (3, "bob")] {
            core.register(number, app(), user(name), ears[number as usize - 1].clone());
            core.follow(number, &[group(1)]);
        }
        core.follow(1, &[group(2), group(2)]);
        Self { core, interest, encoder: Counting::default(), ears }
    }

    fn applied(&mut self, events: impl Into<Arc<[Committed]>>) -> [String; 3] {
        self.core.applied(0, &Batch::new(events.into(), 0), &self.encoder);
        self.heard()
    }

    fn heard(&self) -> [String; 3] {
        let heard = |ear: &Rc<Ear>| ear.0.take().join(", ");
        [heard(&self.ears[0]), heard(&self.ears[1]), heard(&self.ears[2])]
    }
}

#[test]
fn an_event_is_encoded_once_for_all_who_follow_and_not_at_all_for_nobody() {
    let mut stage = Stage::new();
    let heard = stage.applied([left(1, 5, "x"), left(2, 1, "x"), left(1, 6, "alice"), left(3, 9, "x")]);
    assert_eq!(heard, ["5 6, 1", "5 6", "5 6"]);
    assert_eq!(stage.encoder.0.get(), 3);
    assert_eq!(stage.core.delivered, 7);
}

#[test]
fn another_worker_finds_the_events_encoded() {
    let mut one = Stage::new();
    let mut other = Stage::new();
    let batch = Batch::new([left(1, 5, "x")].into(), 0);
    one.core.applied(0, &batch, &one.encoder);
    other.core.applied(0, &batch, &other.encoder);
    assert_eq!((one.encoder.0.get(), other.encoder.0.get()), (1, 0));
    assert_eq!(one.heard(), other.heard());
}

#[test]
fn an_event_is_encoded_by_the_recalls_that_were_known_when_it_was_applied() {
    let mut stage = Stage::new();
    stage.core.applied(0, &Batch::new([left(2, 5, "x")].into(), 3), &stage.encoder);
    assert_eq!(stage.heard(), ["5 at 3", "", ""]);
}

#[test]
fn the_same_group_id_in_two_apps_is_two_conversations() {
    let mut stage = Stage::new();
    let Committed::Sequenced(event) = left(1, 5, "x") else { panic!() };
    let foreign = Committed::Sequenced(SequencedEvent { app: AppId::new("other").unwrap(), ..event });
    assert_eq!(stage.applied([foreign, left(1, 5, "x")]), ["5", "5", "5"]);
}

#[test]
fn a_body_that_does_not_open_is_left_to_history() {
    assert_eq!(Stage::new().applied([left(2, 13, "x")]), ["moved 13", "", ""]);
}

#[test]
fn read_positions_go_to_ones_own_devices_and_the_peer() {
    let mut stage = Stage::new();
    let private = ConversationId::private(user("alice"), user("bob"));
    let read = |conversation| Committed::ReadMoved {
        app: app(),
        conversation,
        user: user("alice"),
        receipt: chat::event::Receipt::Read,
        seq: 4,
        to_all: false,
    };
    assert_eq!(stage.applied([read(private)]), ["read 4", "read 4", "read 4"]);
    assert_eq!(stage.applied([read(group(1))]), ["read 4", "read 4", ""]);
}

#[test]
fn who_is_gone_leaves_no_trace() {
    let mut stage = Stage::new();
    assert_eq!(stage.interest.of(&[left(1, 1, "x")]), bit(0));
    stage.core.unfollow(3, &group(1));
    for session in 1..=3 {
        stage.core.unregister(session);
    }
    assert_eq!(stage.core.sizes(), (0, 0, 0));
    assert_eq!(stage.interest.of(&[left(1, 1, "x"), left(2, 1, "x")]), 0);
    assert_eq!(stage.applied([left(1, 1, "x")]), ["", "", ""]);
}

#[test]
fn what_the_queue_had_no_room_for_becomes_moved_heads() {
    let stage = Stage::new();
    let overflow = Overflow::default();
    let listed = Committed::ConversationListed { app: app(), user: user("bob"), conversation: group(7) };
    overflow.note(&[left(1, 5, "x"), left(1, 9, "x"), left(4, 1, "x"), listed]);
    stage.core.overflowed(0, overflow.take().unwrap());
    assert_eq!(stage.heard(), ["moved 9", "moved 9", "moved 9, listed"]);
    assert_eq!(overflow.take(), None);
}

#[test]
fn when_too_much_was_missed_everybody_resumes() {
    let stage = Stage::new();
    let overflow = Overflow::default();
    overflow.note_everything();
    overflow.note(&[left(1, 5, "x")]);
    stage.core.overflowed(0, overflow.take().unwrap());
    assert_eq!(stage.heard(), ["reconnect", "reconnect", "reconnect"]);
}

#[test]
fn what_is_said_beside_the_log_reaches_those_it_is_for() {
    let stage = Stage::new();
    let said = |but: Option<&str>, n| Aside::Said {
        app: app(),
        conversation: group(n),
        but: but.map(user),
        frame: "typing".into(),
    };
    stage.core.told(0, &said(Some("alice"), 1));
    assert_eq!(stage.heard(), ["", "", "typing"]);
    stage.core.told(0, &said(None, 2));
    assert_eq!(stage.heard(), ["typing", "", ""]);
    // Numbers of sessions on other workers, or that are gone, are passed over.
    let news = PresenceNews::Change { sessions: vec![2, 3, 9], user: user("carol"), frame: "here".into() };
    stage.core.told(0, &Aside::Presence(news));
    assert_eq!(stage.heard(), ["", "here", "here"]);
    stage.core.told(0, &Aside::Presence(PresenceNews::Answer { session: 1, re: 4, frame: "all".into() }));
    assert_eq!(stage.heard(), ["all", "", ""]);
    assert_eq!(stage.interest.followers(&app(), &group(2)), bit(0));
    assert_eq!(stage.interest.followers(&app(), &group(9)), 0);
}

#[test]
fn a_goodbye_reaches_everybody_once_in_parts() {
    let stage = Stage::new();
    let parts: Vec<usize> = (0..2)
        .map(|part| {
            stage.core.reconnect(0, |session| session % 2 == part);
            stage.heard().iter().filter(|heard| *heard == "reconnect").count()
        })
        .collect();
    assert!(parts.iter().all(|count| *count > 0), "{parts:?}");
    assert_eq!(parts.iter().sum::<usize>(), 3);
}
