use serde_json::json;

use super::{Verdict, compare};
use crate::report::table::WIDTH;
use crate::summary::{Summary, sample};

fn run(rate: f64, server_cpu: f64) -> Summary {
    let mut run = sample::summary();
    run.rates.acked_per_s = rate;
    run.cost.server_cpu_us_per_delivery = Some(server_cpu);
    run
}

fn runs(rates: [f64; 3]) -> Summary {
    Summary::of_runs(rates.map(|rate| run(rate, 8.0)).to_vec()).unwrap()
}

fn verdict(first: &Summary, second: &Summary, figure: &str) -> Option<Verdict> {
    let comparison = compare(first, second, false).unwrap();
    comparison.rows.iter().find(|row| row.figure.name == figure).map(|row| row.verdict)
}

#[test]
fn the_spread_of_runs_decides_what_is_noise() {
    let steady = runs([100.0, 101.0, 102.0]);
    assert_eq!(verdict(&steady, &runs([109.0, 110.0, 111.0]), "acked_rate"), Some(Verdict::Better));
    assert_eq!(verdict(&steady, &runs([89.0, 90.0, 91.0]), "acked_rate"), Some(Verdict::Worse));
    assert_eq!(verdict(&steady, &runs([80.0, 110.0, 140.0]), "acked_rate"), Some(Verdict::Same));
    assert_eq!(verdict(&steady, &steady, "acked_rate"), Some(Verdict::Same));
}

#[test]
fn single_runs_get_the_benefit_of_the_doubt_and_counts_do_not() {
    let base = run(100.0, 8.0);
    assert_eq!(verdict(&base, &run(105.0, 6.0), "acked_rate"), Some(Verdict::Same));
    assert_eq!(verdict(&base, &run(105.0, 6.0), "server_cpu_per_delivery"), Some(Verdict::Better));
    let mut losing = base.clone();
    losing.checks.lost = 1;
    assert_eq!(verdict(&base, &losing, "lost"), Some(Verdict::Worse));
    assert_eq!((verdict(&losing, &base, "lost"), verdict(&base, &base, "lost")), (Some(Verdict::Better), None));
    let mut silent = base.clone();
    silent.latencies.clear();
    assert_eq!(
        (verdict(&base, &silent, "ack_p99"), verdict(&silent, &silent, "ack_p99")),
        (Some(Verdict::Unknown), None)
    );
}

#[test]
fn other_workloads_are_refused_unless_forced() {
    let (base, mut other) = (run(1.0, 1.0), run(1.0, 1.0));
    other.scenario.parameters.insert("members".to_owned(), json!(200));
    other.scenario.parameters.remove("rate");
    let refused = compare(&base, &other, false).err().unwrap();
    assert_eq!(refused.0, ["members is 10 and 200", "rate is 500 and not given"]);
    assert!(refused.to_string().contains("--force"));
    let forced = compare(&base, &other, true).unwrap();
    assert!(forced.cautions.iter().any(|caution| caution == "different workloads: members is 10 and 200"));
    other.scenario = base.scenario.clone();
    other.scenario.parameters.insert("rate".to_owned(), json!(500.0));
    other.scenario.parameters.insert("shards".to_owned(), json!(16));
    other.system.name = "another system".to_owned();
    let systems = compare(&base, &other, false).unwrap();
    assert!(systems.cautions.contains(&"shards is not given and 16".to_owned()), "systems are what is compared");
}

#[test]
fn it_can_be_read_on_a_terminal_and_as_a_page() {
    let (base, mut other) = (run(100.0, 8.0), run(200.0, 4.0));
    other.generator.bottleneck = true;
    other.system.name = "<b>rival</b>".to_owned();
    let comparison = compare(&base, &other, false).unwrap();
    let text = comparison.text();
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    let line = text.lines().find(|line| line.trim_start().starts_with("acked_rate")).unwrap();
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!(cells, ["acked_rate", "100", "/s", "200", "/s", "2.00", "±5", "%", "better"]);
    assert!(text.contains("in B the generator was the bottleneck"));
    assert_eq!(comparison.worse(), 0);
    let page = comparison.html();
    assert!(page.contains("B delivery") && page.contains("&lt;b&gt;rival") && !page.contains("<b>"));
}
