//! Which charts a report has.

use super::chart::{Chart, ChartMark, Series, Stroke};
use super::scale::Scale;
use crate::report::numbers::{bytes, duration_ms, percent, short, short_ms, significant};
use crate::report::terminal::in_order;
use crate::summary::{Latency, MarkKind, Second, Summary};

const WIDE: f64 = 1060.0;
const HALF: f64 = 520.0;
const TALL: f64 = 320.0;
const LOW: f64 = 240.0;
/// More points than this are put together: lines stay lines, and files small.
const POINTS: usize = 360;
/// Of the percentile curve, per halving of what is left to 100 %.
const STEPS: u32 = 8;

const COLOURS: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];

/// Every chart that there is something to show in.
pub fn all(summary: &Summary) -> String {
    let mut text = String::from("<section>\n<h2>Latency</h2>\n");
    let curves = in_order(summary).into_iter().enumerate();
    let curves = curves.map(|(at, (name, latency))| Curve::new(name.to_owned(), latency, at, Stroke::Solid));
    text += &percentiles("percentiles", &curves.collect::<Vec<_>>()).map(|chart| chart.figure()).unwrap_or_default();
    let timeline = Timeline::of(summary);
    text += &timeline.latencies().map(|chart| chart.figure()).unwrap_or_default();
    text += "</section>\n<section>\n<h2>Throughput and servers</h2>\n<div class=\"pair\">\n";
    for chart in [timeline.acks(), timeline.deliveries(), timeline.connections(), timeline.cpu(), timeline.memory()]
        .into_iter()
        .flatten()
    {
        text += &chart.figure();
    }
    text + "</div>\n</section>\n"
}

/// A distribution to be drawn.
pub struct Curve<'a> {
    name: String,
    latency: &'a Latency,
    colour: &'static str,
    stroke: Stroke,
}

impl<'a> Curve<'a> {
    /// `colour` is any number; the same one has the same colour.
    pub fn new(name: String, latency: &'a Latency, colour: usize, stroke: Stroke) -> Self {
        Self { name, latency, colour: COLOURS[colour % COLOURS.len()], stroke }
    }
}

/// Curves of the whole distributions; those without values, or that cannot be read, are left out.
pub fn percentiles(id: &str, curves: &[Curve<'_>]) -> Option<Chart> {
    let count = curves.iter().map(|curve| curve.latency.count).max().filter(|count| *count > 0)?;
    let x = Scale::percentiles(count);
    let series = curves.iter().filter_map(|Curve { name, latency, colour, stroke }| {
        Some(Series { name: name.clone(), colour, stroke: *stroke, points: points(latency, x.ends().1)? })
    });
    let series: Vec<_> = series.collect();
    let (low, high) = range(&series)?;
    let told = curves.iter().map(|Curve { name, latency, .. }| {
        let [p50, p99, max] = [latency.p50_ms, latency.p99_ms, latency.max_ms].map(duration_ms);
        format!("{name}: half within {p50}, 99 % within {p99}, all within {max}")
    });
    Some(Chart {
        id: id.to_owned(),
        title: "Latency by percentile".to_owned(),
        description: told.collect::<Vec<_>>().join("; "),
        width: WIDE,
        height: TALL,
        x,
        x_title: "share of all that were at least this fast".to_owned(),
        y: Scale::log(low, high, short_ms),
        y_title: "latency".to_owned(),
        series,
        marks: Vec::new(),
        shades: Vec::new(),
        hints: Vec::new(),
    })
}

/// Quantile and milliseconds, up to the quantile `high`; no steps where the value does not change.
fn points(latency: &Latency, high: f64) -> Option<Vec<(f64, Option<f64>)>> {
    let histogram = latency.histogram().ok().filter(|histogram| !histogram.is_empty())?;
    let mut points = vec![(0.0, Some(histogram.min() as f64 / 1e3))];
    for step in histogram.iter_quantiles(STEPS) {
        let quantile = step.quantile_iterated_to();
        points.push((quantile.min(high), Some(step.value_iterated_to() as f64 / 1e3)));
        if quantile >= high {
            break;
        }
    }
    points.push((high, Some(histogram.max() as f64 / 1e3)));
    Some(points)
}

/// The smallest and the largest value; none if there are none.
fn range(series: &[Series]) -> Option<(f64, f64)> {
    let values = || series.iter().flat_map(|series| &series.points).filter_map(|point| point.1);
    let low = values().min_by(f64::total_cmp)?;
    Some((low, values().max_by(f64::total_cmp)?))
}

/// The seconds of a run, put together to at most [`POINTS`] steps.
struct Timeline<'a> {
    summary: &'a Summary,
    steps: Vec<&'a [Second]>,
}

type Get<'a> = &'a dyn Fn(&Second) -> Option<f64>;

/// How the seconds of one step become one value.
#[derive(Clone, Copy)]
enum Fold {
    Mean,
    Max,
}

impl<'a> Timeline<'a> {
    fn of(summary: &'a Summary) -> Self {
        let per_step = summary.timeline.len().div_ceil(POINTS).max(1);
        Self { summary, steps: summary.timeline.chunks(per_step).collect() }
    }

    fn series(&self, name: &str, colour: &'static str, stroke: Stroke, fold: Fold, get: Get<'_>) -> Series {
        let value = |step: &[Second]| {
            let values: Vec<f64> = step.iter().filter_map(get).collect();
            match fold {
                _ if values.is_empty() => None,
                Fold::Mean => Some(values.iter().sum::<f64>() / values.len() as f64),
                Fold::Max => values.into_iter().max_by(f64::total_cmp),
            }
        };
        let points = self.steps.iter().map(|step| (middle(step), value(step))).collect();
        Series { name: name.to_owned(), colour, stroke, points }
    }

    /// None if no series has a value. `show` is how its values are written.
    fn chart(
        &self,
        id: &str,
        title: &str,
        y_title: &str,
        series: Vec<Series>,
        y: Scale,
        show: &dyn Fn(f64) -> String,
    ) -> Option<Chart> {
        range(&series)?;
        let (first, last) = (self.summary.timeline.first()?.second, self.summary.timeline.last()?.second);
        let hint = |at: usize, step: &&[Second]| {
            let values = series.iter().filter_map(|series| Some((&series.name, series.points.get(at)?.1?)));
            let values: Vec<_> = values.map(|(name, value)| format!("{name}: {}", show(value))).collect();
            let from = f64::from(step.first().map_or(0, |second| second.second));
            (from, from + step.len() as f64, format!("second {from:.0}\n{}", values.join("\n")))
        };
        let hints = self.steps.iter().enumerate().map(|(at, step)| hint(at, step)).collect();
        Some(Chart {
            id: id.to_owned(),
            title: title.to_owned(),
            description: told(&series, show),
            width: HALF,
            height: LOW,
            x: Scale::time(first.into(), f64::from(last) + 1.0),
            x_title: "seconds since measuring began; shaded: not measured".to_owned(),
            y,
            y_title: y_title.to_owned(),
            series,
            marks: marks(self.summary),
            shades: vec![
                (f64::from(first).min(0.0), 0.0, "warm-up, not measured"),
                (
                    self.summary.window.measured_s,
                    f64::from(last) + 1.0,
                    "waiting for what was on its way, not measured",
                ),
            ],
            hints,
        })
    }

    fn latencies(&self) -> Option<Chart> {
        let series = vec![
            self.series("ack p50", "c1", Stroke::Dashed, Fold::Max, &|second| second.ack_p50_ms),
            self.series("ack p99", "c1", Stroke::Solid, Fold::Max, &|second| second.ack_p99_ms),
            self.series("delivery p50", "c2", Stroke::Dashed, Fold::Max, &|second| second.delivery_p50_ms),
            self.series("delivery p99", "c2", Stroke::Solid, Fold::Max, &|second| second.delivery_p99_ms),
        ];
        let (low, high) = range(&series)?;
        let y = Scale::log(low, high, short_ms);
        let chart = self.chart("latency-time", "Latency over time", "latency", series, y, &duration_ms)?;
        Some(Chart { width: WIDE, height: TALL, ..chart })
    }

    fn acks(&self) -> Option<Chart> {
        let happened = |get: fn(&Second) -> u64| self.summary.timeline.iter().any(|second| get(second) > 0);
        let (sends, logins) = (happened(|second| second.sent), happened(|second| second.logins));
        let mut series = Vec::new();
        if sends {
            series.push(self.rate("sent", "muted", Stroke::Dashed, |second| second.sent));
            series.push(self.rate("acked", "c1", Stroke::Solid, |second| second.acked));
        }
        if logins {
            series.push(self.rate("logins", "c4", Stroke::Dotted, |second| second.logins));
        }
        if happened(|second| second.errors) {
            series.push(self.rate("errors", "alarm", Stroke::Solid, |second| second.errors));
        }
        let title = if sends { "Messages sent and acked" } else { "Logins" };
        self.linear("acks", title, "per second", series, &significant)
    }

    /// Only where they came or went.
    fn connections(&self) -> Option<Chart> {
        let counts = || self.summary.timeline.iter().map(|second| second.connections);
        if counts().min() == counts().max() {
            return None;
        }
        let series = vec![self.rate("connections", "c3", Stroke::Solid, |second| second.connections)];
        self.linear("connections", "Connections", "logged in", series, &significant)
    }

    fn rate(&self, name: &str, colour: &'static str, stroke: Stroke, get: fn(&Second) -> u64) -> Series {
        self.series(name, colour, stroke, Fold::Mean, &|second| Some(get(second) as f64))
    }

    fn deliveries(&self) -> Option<Chart> {
        let series = vec![self.rate("delivered", "c2", Stroke::Solid, |second| second.delivered)];
        self.linear("deliveries", "Deliveries", "per second", series, &significant)
    }

    fn cpu(&self) -> Option<Chart> {
        let mut series = self.of_servers(&|second, number| second.servers.get(number)?.cpu_share);
        series.push(
            self.series("generator", "muted", Stroke::Dashed, Fold::Mean, &|second| Some(second.generator_cpu_share)),
        );
        let (_, high) = range(&series)?;
        self.chart(
            "cpu",
            "CPU of each process",
            "share of one core",
            series,
            Scale::linear(0.0, high, percent),
            &percent,
        )
    }

    fn memory(&self) -> Option<Chart> {
        const MIB: f64 = 1048576.0;
        let series = self.of_servers(&|second, number| Some(second.servers.get(number)?.rss_bytes? as f64 / MIB));
        let (_, high) = range(&series)?;
        let show = |mib: f64| bytes(mib * MIB);
        self.chart("memory", "Memory of each server", "resident, MiB", series, Scale::linear(0.0, high, short), &show)
    }

    fn of_servers(&self, get: &dyn Fn(&Second, usize) -> Option<f64>) -> Vec<Series> {
        let servers = self.summary.servers.iter().zip(COLOURS.iter().cycle()).enumerate();
        let series = servers.map(|(number, (server, colour))| {
            self.series(&server.name, colour, Stroke::Solid, Fold::Mean, &|second| get(second, number))
        });
        series.collect()
    }

    fn linear(
        &self,
        id: &str,
        title: &str,
        y_title: &str,
        series: Vec<Series>,
        show: &dyn Fn(f64) -> String,
    ) -> Option<Chart> {
        let (_, high) = range(&series).filter(|(_, high)| *high > 0.0)?;
        self.chart(id, title, y_title, series, Scale::linear(0.0, high, short), show)
    }
}

/// Seconds are drawn at their middle.
fn middle(step: &[Second]) -> f64 {
    step.first().map_or(0.0, |second| f64::from(second.second) + step.len() as f64 / 2.0)
}

fn told(series: &[Series], show: &dyn Fn(f64) -> String) -> String {
    let each = series.iter().filter_map(|series| {
        let mut values: Vec<_> = series.points.iter().filter_map(|point| point.1).collect();
        values.sort_by(f64::total_cmp);
        let (low, middle, high) = (*values.first()?, *values.get(values.len() / 2)?, *values.last()?);
        Some(format!("{} from {} to {}, mostly about {}", series.name, show(low), show(high), show(middle)))
    });
    each.collect::<Vec<_>>().join("; ")
}

fn marks(summary: &Summary) -> Vec<ChartMark> {
    let mark = |(at, mark): (usize, &crate::summary::Mark)| ChartMark {
        at: mark.at_s,
        number: at + 1,
        class: class(mark.kind),
        text: mark.text.clone(),
    };
    summary.marks.iter().enumerate().map(mark).collect()
}

/// Of marks, in the page's style.
pub fn class(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::Kill => "kill",
        MarkKind::Restart => "restart",
        MarkKind::LeaderChange => "leader",
        MarkKind::Phase | MarkKind::Other => "phase",
    }
}
