use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{collection, option, prop_assert, prop_assert_eq};
use storage::LogPayload;

use super::*;

fn position(term: u64, index: u64) -> LogPosition {
    LogPosition { term, node: term, index }
}

fn record(term: u64, index: u64) -> LogRecord {
    LogRecord { position: position(term, index), payload: LogPayload::Batch(Bytes::from(format!("{term}.{index}"))) }
}

fn held(term: Option<u64>, committed: u64) -> Held {
    Held { record: term.map(|term| record(term, 9)), before: Some(position(2, 8)), committed }
}

fn known() -> Known {
    Known { index: 9, before: Some(position(2, 8)), after: None, exact: None }
}

#[test]
fn what_nobody_needs_is_counted_apart() {
    let mut book = Book::default();
    for damage in [Damage::Log { index: 3 }, Damage::Log { index: 30 }, Damage::State] {
        assert!(book.report(damage, String::new()));
    }
    assert_eq!((book.records(29), book.records(30)), (BTreeSet::from([3]), BTreeSet::from([3, 30])));
    book.failed("nobody has it");
    assert!(book.dropped(Damage::Log { index: 3 }));
    assert!(!book.dropped(Damage::Log { index: 3 }) && !book.repaired(Damage::Log { index: 3 }));
    assert_eq!((book.found, book.repaired, book.dropped, book.pending(), book.stuck), (3, 0, 1, 2, None));
}

#[test]
fn one_member_that_knows_the_entry_committed_is_enough() {
    assert_eq!(decide(&known(), &[held(Some(3), 9)], 3), Verdict::Take(record(3, 9)));
    assert_eq!(decide(&known(), &[held(Some(5), 8), held(Some(3), 12)], 5), Verdict::Take(record(3, 9)));
    assert_eq!(decide(&known(), &[], 3), Verdict::Wait);
    assert!(matches!(decide(&known(), &[held(Some(3), 9), held(Some(4), 9)], 3), Verdict::Refuse(_)));
}

#[test]
fn what_was_applied_here_is_taken_from_whoever_has_exactly_that() {
    let known = Known { exact: Some(position(3, 9)), ..known() };
    assert_eq!(decide(&known, &[held(Some(4), 0), held(None, 0)], 3), Verdict::Wait);
    assert_eq!(decide(&known, &[held(Some(4), 0), held(Some(3), 0)], 3), Verdict::Take(record(3, 9)));
    assert!(matches!(decide(&known, &[held(Some(4), 9)], 3), Verdict::Refuse(_)));
}

#[test]
fn above_what_is_committed_the_newest_of_enough_members_counts() {
    assert_eq!(decide(&known(), &[held(Some(3), 8)], 3), Verdict::Wait);
    assert_eq!(decide(&known(), &[held(Some(3), 8), held(None, 8)], 3), Verdict::Take(record(3, 9)));
    assert_eq!(decide(&known(), &[held(Some(3), 8), held(Some(4), 8)], 3), Verdict::Take(record(4, 9)));
    assert!(matches!(decide(&known(), &[held(None, 8), held(None, 8)], 3), Verdict::Refuse(_)));
    assert_eq!(decide(&known(), &[], 1), Verdict::Wait);
    let four: Vec<_> = [Some(3), Some(3), None].map(|term| held(term, 0)).into();
    assert_eq!(decide(&known(), &four[..2], 5), Verdict::Wait);
    assert_eq!(decide(&known(), &four, 5), Verdict::Take(record(3, 9)));
}

#[test]
fn a_record_that_does_not_fit_between_its_neighbours_is_refused() {
    let refused = |known: Known, held: Held| matches!(decide(&known, &[held], 3), Verdict::Refuse(_));
    assert!(refused(Known { before: Some(position(4, 8)), ..known() }, held(Some(3), 9)));
    assert!(refused(Known { after: Some(position(2, 10)), ..known() }, held(Some(3), 9)));
    let follows_another = Held { before: Some(position(1, 8)), ..held(Some(3), 9) };
    assert!(refused(known(), follows_another));
    let elsewhere = Held { record: Some(record(3, 8)), ..held(Some(3), 9) };
    assert!(refused(known(), elsewhere));
}

#[test]
fn a_state_is_trusted_if_most_have_it_or_nobody_has_another() {
    let [a, b] = [[1; 32], [2; 32]];
    assert!(is_trusted(a, &[a, a], 3) && is_trusted(a, &[a], 3) && is_trusted(a, &[a, a, a, b], 5));
    assert!(!is_trusted(a, &[a, b], 3) && !is_trusted(a, &[], 3) && !is_trusted(b, &[a, b, a], 5));
}

#[test]
fn logs_are_looked_after_before_the_state_and_nothing_twice() {
    let mut book = Book::default();
    assert!(book.report(Damage::State, "state".to_owned()));
    assert!(book.report(Damage::Log { index: 4 }, "log".to_owned()));
    assert!(!book.report(Damage::State, "state again".to_owned()));
    assert_eq!((book.found, book.next()), (2, Some(Damage::Log { index: 4 })));
    assert!(book.failed("nobody") && !book.failed("nobody"));
    assert!(book.repaired(Damage::Log { index: 4 }) && !book.repaired(Damage::Log { index: 4 }));
    assert_eq!((book.next(), book.repaired, book.stuck.is_none()), (Some(Damage::State), 1, true));
    for index in 0..2 * REPAIR_DAMAGES as u64 {
        book.report(Damage::Log { index }, String::new());
    }
    assert_eq!(book.pending(), REPAIR_DAMAGES);
}

/// Logs of a cluster as Raft can make them at one index: the entry of the damaged member, and who else has which.
#[derive(Debug, Clone)]
struct History {
    members: usize,
    /// Of the member whose record is damaged.
    own: u64,
    others: Vec<Option<u64>>,
    committed: Option<u64>,
    /// Who of the others answers.
    answers: Vec<bool>,
}

fn histories() -> impl Strategy<Value = History> {
    let members = prop_oneof![Just(3_usize), Just(5), Just(7)];
    members.prop_flat_map(|members| {
        let others = collection::vec(option::of(1..6_u64), members - 1);
        let answers = collection::vec(any::<bool>(), members - 1);
        (Just(members), 1..6_u64, others, answers).prop_map(|(members, own, others, answers)| {
            let count = |term: u64| others.iter().flatten().filter(|other| **other == term).count();
            // With ours, a majority has it: it may be committed, and then nobody has a later term there.
            let committed = (count(own) + 1 > members / 2).then_some(own);
            let bounded = |term: &Option<u64>| term.filter(|term| committed.is_none_or(|committed| *term <= committed));
            let others = others.iter().map(bounded).collect();
            History { members, own, others, committed, answers }
        })
    })
}

proptest! {
    #[test]
    fn a_record_that_may_be_committed_is_never_replaced_by_another(history in histories(), known_committed: bool) {
        let History { members, own, others, committed, answers } = history;
        let answered = others.iter().zip(&answers).filter(|(_, answers)| **answers).map(|(term, _)| {
            let committed = if known_committed && committed.is_some() && *term == Some(own) { 9 } else { 0 };
            held(*term, committed)
        });
        let answered: Vec<Held> = answered.collect();
        let known = Known { index: 9, ..Known::default() };
        match decide(&known, &answered, members) {
            Verdict::Take(found) => {
                if let Some(committed) = committed {
                    prop_assert_eq!(found.position.term, committed);
                }
                prop_assert!(answered.iter().any(|held| held.record.as_ref() == Some(&found)));
            }
            Verdict::Refuse(_) => prop_assert!(committed.is_none(), "a committed record can always be found"),
            Verdict::Wait => {}
        }
    }
}
