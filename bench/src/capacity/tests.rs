use super::{Bounds, BoundsError, Capacity, Ended, Search, Step};

const BOUNDS: Bounds = Bounds { first: 1_000.0, lowest: 10.0, highest: 1_000_000.0, tolerance: 0.05, probes_max: 40 };

/// `held(rate, number of the probe)`.
fn search(bounds: Bounds, held: impl Fn(f64, usize) -> bool) -> (Capacity, usize) {
    let mut search = Search::new(bounds).unwrap();
    loop {
        match search.next() {
            Step::Probe(rate) => {
                assert!((bounds.lowest..=bounds.highest).contains(&rate), "{rate}");
                search.record(rate, held(rate, search.probes().len()));
                assert!(search.probes().len() <= bounds.probes_max as usize);
            }
            Step::Done(capacity) => return (capacity, search.probes().len()),
        }
    }
}

/// The answer is below the truth by no more than the tolerance.
fn assert_found(capacity: &Capacity, truth: f64) {
    let rate = capacity.rate.unwrap();
    assert!(rate <= truth && truth <= rate * 1.05, "{capacity:?} of {truth}");
    assert!(capacity.confirmed && capacity.ended == Ended::Found && capacity.missed_at.unwrap() > truth);
}

#[test]
fn it_finds_any_capacity_within_the_tolerance() {
    for truth in [11.0, 500.0, 1_000.0, 1_001.0, 17_700.0, 47_600.0, 999_000.0] {
        let (capacity, probes) = search(BOUNDS, |rate, _| rate <= truth);
        assert_found(&capacity, truth);
        assert!(probes <= 32, "{probes} probes for {truth}");
    }
}

#[test]
fn one_wrong_probe_changes_nothing() {
    let truth = 17_700.0;
    let (_, probes) = search(BOUNDS, |rate, _| rate <= truth);
    for wrong in 0..probes {
        let (capacity, _) = search(BOUNDS, |rate, at| (rate <= truth) != (at == wrong && rate <= truth));
        assert_found(&capacity, truth);
        let (capacity, _) = search(BOUNDS, |rate, at| rate <= truth || at == wrong);
        let rate = capacity.rate.unwrap();
        assert!(
            capacity.ended == Ended::Found && capacity.confirmed && rate <= truth,
            "lucky probe {wrong}: {capacity:?}"
        );
    }
}

#[test]
fn the_ends_are_told() {
    let (capacity, _) = search(BOUNDS, |_, _| true);
    assert_eq!((capacity.rate, capacity.confirmed, capacity.ended), (Some(1_000_000.0), true, Ended::Highest));
    let (capacity, _) = search(BOUNDS, |_, _| false);
    assert_eq!((capacity.rate, capacity.missed_at, capacity.ended), (None, Some(10.0), Ended::Lowest));
    let (capacity, probes) = search(Bounds { probes_max: 5, ..BOUNDS }, |rate, _| rate <= 5_000.0);
    assert_eq!((capacity.ended, probes), (Ended::Probes, 5));
    assert_eq!((capacity.rate, capacity.confirmed, capacity.missed_at), (Some(4_000.0), false, Some(8_000.0)));
}

#[test]
fn chance_alone_ends_too() {
    // A run of digits without order: no answer is right, but there is one.
    let (capacity, probes) = search(BOUNDS, |rate, at| (rate as usize * 31 + at * 17) % 7 < 3);
    assert!(probes <= 40, "{capacity:?}");
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let error = |bounds| Search::new(bounds).unwrap_err();
    assert_eq!(error(Bounds { first: 5.0, ..BOUNDS }), BoundsError::Rates);
    assert_eq!(error(Bounds { lowest: 0.0, ..BOUNDS }), BoundsError::Rates);
    assert_eq!(error(Bounds { highest: f64::NAN, ..BOUNDS }), BoundsError::Rates);
    assert_eq!(error(Bounds { tolerance: 0.0, ..BOUNDS }), BoundsError::Tolerance);
    assert_eq!(error(Bounds { probes_max: 3, ..BOUNDS }), BoundsError::Probes);
}
