//! One group of three, two of whom send; what the members are told comes from the tests.

use super::*;

const PAYLOAD: usize = 40;

fn traffic(pace: Pace) -> Traffic {
    let mut traffic = Traffic::new(&Shape::groups(1, 3, 2), Order::Dense, PAYLOAD, |_| true);
    traffic.record.measure(0, u64::MAX);
    for user in 0..3 {
        traffic.take(user, Event::Joined { group: 0, after: Some(1) }, 0);
    }
    assert_eq!(traffic.joined, 3);
    traffic.open_lanes(&[0, 1], pace);
    traffic
}

fn deliver(traffic: &mut Traffic, user: u32, seq: u64, number: Number, now_us: u64) {
    let mut text = Vec::new();
    traffic.text(number, &mut text);
    traffic.take(user, Event::Delivered { group: 0, seq: Some(seq), number, text: &text }, now_us);
}

fn ack(traffic: &mut Traffic, number: Number, seq: u64, now_us: u64) {
    traffic.take(number.lane, Event::Acked { number, seq: Some(seq), duplicate: false }, now_us);
}

fn send(traffic: &mut Traffic, lane: u32, now_us: u64) -> Number {
    traffic.next(lane, now_us).expect("the lane may send").2
}

#[test]
fn a_slot_is_free_when_its_sender_has_the_ack_and_every_member_the_message() {
    let mut traffic = traffic(Pace::Window(1));
    let first = send(&mut traffic, 0, 100);
    assert_eq!(traffic.next(0, 100), None, "the window is full");
    ack(&mut traffic, first, 2, 300);
    deliver(&mut traffic, 0, 2, first, 400);
    deliver(&mut traffic, 1, 2, first, 400);
    assert_eq!((traffic.next(0, 500), traffic.outstanding()), (None, 1), "the third has nothing yet");
    deliver(&mut traffic, 2, 2, first, 600);
    assert_eq!(traffic.outstanding(), 0);
    assert_eq!(send(&mut traffic, 0, 700), Number { lane: 0, place: 2 });
    let Record { window, .. } = &traffic.record;
    assert_eq!((window.ack.max(), window.delivery.len(), window.completion.max()), (200, 3, 500));
    assert_eq!(traffic.broken, Broken::default());
}

#[test]
fn an_open_loop_counts_from_the_moment_a_message_was_due() {
    let mut traffic = traffic(Pace::Open);
    assert_eq!(traffic.next(0, 0), None, "nothing is due");
    traffic.due(0, 1_000);
    let number = send(&mut traffic, 0, 2_000);
    ack(&mut traffic, number, 2, 2_500);
    assert_eq!(traffic.record.window.ack.max(), 1_500);
}

#[test]
fn a_lane_does_not_run_far_ahead_of_a_message_without_an_answer() {
    let mut traffic = traffic(Pace::Open);
    for due in 0..200 {
        traffic.due(0, due);
    }
    let first = send(&mut traffic, 0, 0);
    let mut seq = 2;
    while let Some((_, _, number)) = traffic.next(0, 0) {
        ack(&mut traffic, number, seq, 0);
        seq += 1;
    }
    assert_eq!((traffic.sent(0), traffic.backlog()), (64, 136));
    ack(&mut traffic, first, seq, 0);
    assert_eq!(send(&mut traffic, 0, 0).place, 65);
}

#[test]
fn every_broken_promise_is_counted_once() {
    let expected = |broken: Broken, play: &dyn Fn(&mut Traffic, Number, Number)| {
        let mut traffic = traffic(Pace::Window(2));
        let (one, two) = (send(&mut traffic, 0, 0), send(&mut traffic, 0, 0));
        play(&mut traffic, one, two);
        assert_eq!(traffic.broken, broken, "{:?}", traffic.told);
    };
    let none = Broken::default();
    expected(Broken { duplicated: 1, ..none }, &|t, one, _| {
        deliver(t, 1, 2, one, 0);
        deliver(t, 1, 2, one, 0);
    });
    expected(Broken { duplicated: 1, ..none }, &|t, one, _| {
        deliver(t, 1, 2, one, 0);
        deliver(t, 1, 3, one, 0);
    });
    expected(Broken { gaps: 1, ..none }, &|t, one, _| deliver(t, 1, 3, one, 0));
    expected(Broken { reordered: 2, ..none }, &|t, one, two| {
        deliver(t, 1, 2, two, 0);
        deliver(t, 1, 3, one, 0);
    });
    expected(Broken { disagreed: 1, gaps: 1, ..none }, &|t, one, _| {
        deliver(t, 1, 2, one, 0);
        deliver(t, 2, 3, one, 0);
    });
    expected(Broken { disagreed: 1, ..none }, &|t, one, _| {
        deliver(t, 1, 2, one, 0);
        ack(t, one, 3, 0);
    });
    expected(Broken { phantom: 1, ..none }, &|t, _, _| deliver(t, 1, 2, Number { lane: 0, place: 9 }, 0));
    expected(Broken { phantom: 1, ..none }, &|t, one, _| {
        t.take(1, Event::Delivered { group: 0, seq: Some(2), number: one, text: b"0000000000000001 cut" }, 0);
    });
    expected(Broken { lost: 2, ..none }, &|t, one, _| {
        ack(t, one, 2, 0);
        deliver(t, 1, 2, one, 0);
        t.settle();
    });
    expected(Broken { other: 1, ..none }, &|t, _, _| t.take(1, Event::Broken("odd".to_owned()), 0));
}

#[test]
fn a_refusal_excuses_what_overtook_it_and_nothing_later() {
    let mut traffic = traffic(Pace::Window(4));
    let [one, two] = [0, 1].map(|_| send(&mut traffic, 0, 0));
    // A member hears of the second before the sender hears that the first was refused.
    deliver(&mut traffic, 1, 2, two, 0);
    assert_eq!(traffic.broken.reordered, 1);
    let refused = Event::Refused { number: one, retry_after_ms: Some(5), unknown: false, why: "C1501 overloaded" };
    traffic.take(0, refused, 1_000);
    assert_eq!(traffic.broken.reordered, 0);
    assert!(traffic.again(one).is_some());
    deliver(&mut traffic, 1, 3, one, 0);
    assert_eq!(traffic.broken.reordered, 0);
    let [three, four] = [0, 1].map(|_| send(&mut traffic, 0, 0));
    deliver(&mut traffic, 1, 4, four, 0);
    deliver(&mut traffic, 1, 5, three, 0);
    assert_eq!(traffic.broken.reordered, 2, "an old refusal is no excuse");
}

#[test]
fn what_was_sent_again_may_be_overtaken_and_acked_twice() {
    let mut traffic = traffic(Pace::Window(2));
    let (one, two) = (send(&mut traffic, 0, 0), send(&mut traffic, 0, 0));
    let refused = Event::Refused { number: one, retry_after_ms: Some(5), unknown: true, why: "C1503 outcome_unknown" };
    traffic.take(0, refused, 1_000);
    assert_eq!(traffic.effects.retries, [(6_000, one)]);
    assert_eq!(traffic.again(one), Some((0, 0)));
    deliver(&mut traffic, 1, 2, two, 0);
    deliver(&mut traffic, 1, 3, one, 0);
    ack(&mut traffic, one, 3, 0);
    ack(&mut traffic, one, 3, 0);
    assert_eq!((traffic.again(one), traffic.unacked(0)), (None, vec![two]));
    assert_eq!((traffic.broken.total(), traffic.counters.errors), (0, 1));
    assert_eq!(traffic.have(1), [(0, 3)]);
}
