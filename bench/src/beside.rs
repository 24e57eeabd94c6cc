//! Several systems under the same load, in turn: what `--beside` shows.

use crate::report::numbers::with_unit;
use crate::report::table::Table;
use crate::summary::Summary;
use crate::summary::figures::Figure;

/// The figures shown, and what heads them.
const SHOWN: [(&str, &str); 6] = [
    ("acked_rate", "acked"),
    ("delivered_rate", "deliveries"),
    ("ack_p50", "ack p50"),
    ("ack_p99", "ack p99"),
    ("server_cpu_per_delivery", "CPU/delivery"),
    ("generator_cpu_per_delivery", "generator's"),
];
/// The figures whose ratios are shown.
const RATIOS: [&str; 4] = ["acked_rate", "delivered_rate", "ack_p50", "server_cpu_per_delivery"];

/// Medians of each system, and the first one's against each other one's.
pub fn text(systems: &[(String, Summary)]) -> String {
    let Some((first_name, first)) = systems.first() else { return String::new() };
    let mut table = Table::new(std::iter::once("system").chain(SHOWN.map(|(_, head)| head)).chain(["broken"]));
    for (name, summary) in systems {
        let cell = |figure: &str| {
            let unit = Figure::named(figure).map(|figure| figure.unit);
            summary.figure(figure).zip(unit).map_or_else(|| "-".to_owned(), |(value, unit)| with_unit(value, unit))
        };
        let broken = summary.figure("broken").unwrap_or_default().to_string();
        table.row(std::iter::once(name.clone()).chain(SHOWN.map(|(figure, _)| cell(figure))).chain([broken]));
    }
    let mut text = format!("medians of {} runs of each system, in turn\n\n{}", first.runs.len().max(1), table.lines());
    for (name, summary) in &systems[1..] {
        let ratio = |figure: &str| Some(first.figure(figure)? / summary.figure(figure).filter(|value| *value > 0.0)?);
        let cell = |figure: &str| ratio(figure).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let [acked, delivered, p50, cpu] = RATIOS.map(cell);
        text += &format!(
            "\n  {first_name} : {name} = {acked} acked, {delivered} deliveries, {p50} ack p50, {cpu} server CPU per delivery"
        );
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::sample;

    #[test]
    fn medians_and_ratios_of_the_systems_stand_side_by_side() {
        let ours = sample::summary();
        let mut theirs = ours.clone();
        theirs.rates.acked_per_s = ours.rates.acked_per_s * 2.0;
        let text = text(&[("campanile".to_owned(), ours), ("nats-default".to_owned(), theirs)]);
        assert!(text.contains("campanile : nats-default = 0.50 acked, 1.00 deliveries, 1.00 ack p50"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        assert_eq!(super::text(&[]), "");
    }
}
