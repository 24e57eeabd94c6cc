//! What a load came to, as a few lines of text.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::Measured;
use super::campanile::Plan;

pub fn text(plan: &Plan, measured: &Measured) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut text, plan, measured);
    text
}

fn write(out: &mut String, plan: &Plan, measured: &Measured) -> std::fmt::Result {
    let outcome = &measured.outcome;
    let counters = &outcome.counters;
    let seconds = outcome.measured_us as f64 / 1e6;
    let per = |us: u64, count: u64| us as f64 / count.max(1) as f64;
    writeln!(
        out,
        "{} conversations, {} memberships, {} senders, {} bytes, {:?}",
        plan.shape.groups.len(),
        plan.shape.memberships(),
        plan.shape.lane_users().len(),
        plan.payload,
        plan.load.pace
    )?;
    writeln!(
        out,
        "measured {seconds:.2} s: {:.0} acked/s, {:.0} deliveries/s",
        counters.acked as f64 / seconds,
        counters.delivered as f64 / seconds
    )?;
    writeln!(out, "latency ms       p50       p99     p99.9       max      count")?;
    let latencies = &outcome.latencies;
    let rows = [("ack", &latencies.ack), ("delivery", &latencies.delivery), ("completion", &latencies.completion), ("login", &latencies.login)];
    for (name, histogram) in rows {
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        let (max, count) = (histogram.max() as f64 / 1e3, histogram.len());
        writeln!(out, "{name:<10} {:>9.2} {:>9.2} {:>9.2} {max:>9.2} {count:>10}", ms(0.5), ms(0.99), ms(0.999))?;
    }
    let servers_us: u64 = measured.servers.iter().map(crate::usage::Span::cpu_us).sum();
    writeln!(
        out,
        "servers  {:.1} CPU-us per ack, {:.2} CPU-us per delivery",
        per(servers_us, counters.acked),
        per(servers_us, counters.delivered)
    )?;
    for span in &measured.servers {
        writeln!(
            out,
            "  {} (pid {}): {:.0} % CPU, {:.1} MiB resident (peak {:.1})",
            span.process.name,
            span.process.pid,
            span.cpu_us() as f64 / seconds / 1e4,
            span.last.resident_bytes as f64 / 1048576.0,
            span.peak_resident_bytes as f64 / 1048576.0,
        )?;
    }
    let own_us: u64 = outcome.generator.iter().map(|worker| worker.cpu_us).sum();
    writeln!(out, "generator {:.2} CPU-us per delivery", per(own_us, counters.delivered))?;
    for (number, worker) in outcome.generator.iter().enumerate() {
        let lag = |h: &Histogram<u64>, quantile| h.value_at_quantile(quantile) as f64 / 1e3;
        writeln!(
            out,
            "  worker {number}: {:.0} % busy, timer lag p50 {:.2} ms, p99 {:.2} ms",
            worker.cpu_us as f64 / worker.measured_us.max(1) as f64 * 100.0,
            lag(&worker.lag, 0.5),
            lag(&worker.lag, 0.99)
        )?;
    }
    writeln!(out, "sent {}, acked {}, unanswered {}, backlog at most {}, drained in {:.2} s", outcome.total.sent, outcome.total.acked, outcome.unanswered.len(), outcome.backlog_peak, outcome.drain_us as f64 / 1e6)?;
    for (error, count) in &outcome.errors {
        writeln!(out, "error {count} x {error}")?;
    }
    for told in &outcome.told {
        writeln!(out, "BROKEN {told}")?;
    }
    write!(out, "checks {:?}", outcome.broken)
}
