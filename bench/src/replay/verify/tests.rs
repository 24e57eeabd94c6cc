//! Every way to break a promise must show.

use campanile_client::ClientEvent;
use chat::ids::AppId;
use chat::wire::EventContent;

use super::*;
use crate::logs::parse_log;
use crate::plan::{Pace, Plan};

/// Two members, three messages, a group whose setup took one event; everything was acked in order.
fn run() -> Run {
    let log = parse_log("log", b"[00:00] <ann> a\n[00:01] <bob> b\n[00:02] <ann> c\n");
    let run = Run::new(Plan::of(&[log], Pace::Max, false), 1, 4, &AppId::new("main").unwrap());
    run.groups[0].set_base(1);
    for message in 0..3 {
        run.ledger.sent(message, 0);
        run.ledger.acked(message, u64::from(message) + 2);
    }
    run
}

/// The plan's message as the event at `seq`.
fn event(run: &Run, message: u32, seq: u64) -> WireEvent {
    let plan = &run.plan.messages[message as usize];
    let content = EventContent::message(
        run.plan.users[plan.sender as usize].clone(),
        run.ledger.id(message, 0),
        plan.body.clone(),
    );
    WireEvent { conversation: run.groups[0].conversation.clone(), seq, time_ms: 0, content }
}

fn all(run: &Run) -> Vec<WireEvent> {
    (0..3).map(|message| event(run, message, u64::from(message) + 2)).collect()
}

fn history(run: &Run, events: &[WireEvent]) -> History {
    let mut history = History { group: 0, head: 1, hash: 0, seqs: Vec::new(), strangers: 0, holes: 0 };
    events.iter().for_each(|event| history.take(run, event));
    history
}

fn receive(run: &Run, user: u32, events: &[WireEvent]) {
    events.iter().for_each(|event| run.receive(user, &ClientEvent::Event(event.clone())));
}

/// What is found wrong.
fn violations(run: &Run, told: &[WireEvent]) -> Vec<String> {
    let mut violations = Violations::default();
    let histories = [history(run, told)];
    histories[0].report(run, &mut violations);
    check_acks(run, &histories, &mut violations);
    check_members(run, &histories, &mut violations);
    violations.found
}

/// As [`violations`], when both members received all there was.
fn violations_of_history(told: impl Fn(&Run) -> Vec<WireEvent>) -> Vec<String> {
    let run = run();
    let events = told(&run);
    receive(&run, 0, &events);
    receive(&run, 1, &events);
    violations(&run, &events)
}

#[test]
fn a_perfect_run_breaks_nothing() {
    assert_eq!(violations_of_history(all), Vec::<String>::new());
}

#[test]
fn a_lost_ack_shows() {
    let found = violations_of_history(|run| all(run)[..2].to_vec());
    assert_eq!(found, ["1 acked messages are lost"]);
}

#[test]
fn a_message_stored_twice_shows() {
    let found = violations_of_history(|run| [all(run), vec![event(run, 2, 5)]].concat());
    assert!(found.contains(&"1 messages are in their history more than once".to_owned()), "{found:?}");
}

#[test]
fn an_order_that_is_not_the_senders_shows() {
    let found = violations_of_history(|run| vec![event(run, 2, 2), event(run, 1, 3), event(run, 0, 4)]);
    assert!(found.contains(&"1 messages of group log are out of their sender's order".to_owned()), "{found:?}");
    assert!(found.contains(&"2 acked messages have another seq than their ack said".to_owned()), "{found:?}");
}

#[test]
fn a_changed_text_and_a_stranger_show() {
    let found = violations_of_history(|run| {
        let mut events = all(run);
        if let EventContent::Message { body, .. } = &mut events[2].content {
            *body = Some(chat::wire::Body::Text { text: "forged".to_owned() });
        }
        events
    });
    assert!(found.contains(&"1 events of group log were never sent".to_owned()), "{found:?}");
    assert!(found.contains(&"1 acked messages are lost".to_owned()), "{found:?}");
}

#[test]
fn a_hole_in_the_history_shows() {
    let found = violations_of_history(|run| vec![event(run, 0, 2), event(run, 2, 4)]);
    assert!(found.contains(&"1 seqs of group log are missing or repeated".to_owned()), "{found:?}");
}

#[test]
fn what_one_member_misses_or_gets_twice_shows() {
    let run = run();
    let events = all(&run);
    receive(&run, 0, &events[..2]);
    receive(&run, 1, &[&events[..], &events[2..]].concat());
    let found = violations(&run, &events);
    assert_eq!(found, ["1 memberships did not receive everything", "1 deliveries were not the next of their group"]);
}

#[test]
fn a_member_who_received_something_else_shows() {
    let run = run();
    let events = all(&run);
    receive(&run, 0, &events);
    receive(&run, 1, &[event(&run, 1, 2), event(&run, 0, 3), events[2].clone()]);
    assert_eq!(violations(&run, &events), ["1 memberships received something else than the history"]);
}

#[test]
fn a_failed_send_that_exists_shows() {
    let run = run();
    let events = all(&run);
    receive(&run, 0, &events);
    receive(&run, 1, &events);
    run.fail(crate::replay::run::FailedSend { message: 1, unknown: false, kind: String::new() });
    assert_eq!(violations(&run, &events), ["1 messages exist though their send was said to have failed"]);
}
