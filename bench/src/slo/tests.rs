use super::{Slo, SloError, judge_all};
use crate::summary::figures::all;
use crate::summary::{Summary, sample};

fn slo(text: &str) -> Slo {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn holds(text: &str, value: f64) -> bool {
    slo(text).holds(value)
}

#[test]
fn limits_have_units_and_comparisons_have_edges() {
    assert!(holds("ack_p99<50ms", 49.9) && !holds("ack_p99<50ms", 50.0));
    assert!(holds("ack_p99 <= 50", 50.0) && holds("delivery_p99.9<=0.2s", 200.0) && holds("ack_p50<500us", 0.4));
    assert!(holds("acked_rate>10k/s", 10_001.0) && !holds("acked_rate>10000", 10_000.0));
    assert!(holds("delivered_rate >= 1.5M/s", 1_500_000.0));
    assert!(holds("server_cpu_per_delivery<9us", 8.43) && holds("rss_per_connection<=10KB", 9_830.0));
    assert!(holds("server_rss_peak<=1GiB", 1073741824.0) && holds("generator_cpu<=85%", 0.85));
    assert!(holds("errors==0", 0.0) && holds("lost=0", 0.0) && !holds("lost==0", 1.0));
}

#[test]
fn what_cannot_be_judged_is_refused_with_the_way_out() {
    let error = |text: &str| text.parse::<Slo>().unwrap_err();
    assert!(matches!(error("ack_p99"), SloError::Comparison(_)));
    assert!(error("ack_p999<5ms").to_string().starts_with("there is no figure `ack_p999`; the nearest is `ack_p99`"));
    assert!(error("delivry_p99<5ms").to_string().contains("nearest is `delivery_p99`"));
    assert!(error("delivry_p99<5ms").to_string().ends_with("pause_{p50,p90,p99,p99.9,max,mean}"));
    let value = error("ack_p99<50kg").to_string();
    assert_eq!(value, "`50kg` is no number of ack_p99, which is counted in ms, us, µs, s");
    assert_eq!(error("lost<1%").to_string(), "`1%` is no number of lost, which is counted in plain numbers");
    for text in
        ["ack_p99<", "ack_p99<ms", "ack_p99<-1ms", "ack_p99<nan", "ack_p99<1.2.3ms", "ack_p99<1e5", "<5", "ack_p99=<5"]
    {
        assert!(text.parse::<Slo>().is_err(), "{text}");
    }
}

#[test]
fn every_figure_can_be_an_objective() {
    for figure in all() {
        assert_eq!(slo(&format!("{}>=0", figure.name)).figure(), &figure);
    }
}

fn judged(slos: &[&str], mut summary: Summary) -> Summary {
    let slos: Vec<_> = slos.iter().map(|text| slo(text)).collect();
    judge_all(&slos, &mut summary);
    summary
}

#[test]
fn a_miss_is_exit_code_1_unless_something_worse_happened() {
    let run = judged(&["ack_p99<50ms", "lost==0"], sample::summary());
    assert_eq!((run.exit_code, run.slos.iter().all(|result| result.passed)), (0, true));
    let run = judged(&["ack_p99<1ms"], sample::summary());
    assert_eq!((run.exit_code, run.slos[0].passed, run.slos[0].value), (1, false, run.figure("ack_p99")));
    let run = judged(&["login_p99<5ms"], sample::summary());
    assert_eq!((run.exit_code, run.slos[0].value), (1, None), "not measured is not met");
    let broken = Summary { exit_code: 4, ..sample::summary() };
    assert_eq!(judged(&["ack_p99<1ms"], broken).exit_code, 4);
}

#[test]
fn several_runs_are_judged_by_their_median_and_their_worst_count() {
    let run = |ack_p99_ms: f64, lost: u64| {
        let mut run = sample::summary();
        run.latencies.get_mut("ack").unwrap().p99_ms = ack_p99_ms;
        run.checks.lost = lost;
        run
    };
    let all = Summary::of_runs(vec![run(90.0, 0), run(10.0, 0), run(20.0, 1)]).unwrap();
    let all = judged(&["ack_p99<50ms", "lost==0"], all);
    assert_eq!((all.slos[0].value, all.slos[1].value), (Some(20.0), Some(1.0)));
    assert_eq!((all.slos[0].passed, all.slos[1].passed), (true, false));
}
