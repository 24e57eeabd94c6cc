//! A run as it could have been, for tests.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::json;

use super::{
    Checks, Cost, Counts, Generator, Latency, Machine, Mark, MarkKind, Rates, SCHEMA_VERSION, Scenario, Second, Server,
    ServerSecond, SloResult, Summary, System, Tool, Window,
};

const MIB: u64 = 1 << 20;

/// Forty seconds of a cluster whose leader is killed after fifteen.
pub(crate) fn summary() -> Summary {
    Summary {
        schema_version: SCHEMA_VERSION,
        tool: Tool { name: "campanile-bench".to_owned(), version: "0.1.0".to_owned() },
        command: "campanile-bench failover --spawn 3 --rate 500 --slo ack_p99<50ms"
            .split(' ')
            .map(str::to_owned)
            .collect(),
        started_unix_ms: 1_800_000_000_000,
        machine: Machine {
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "Linux 6.12.1".to_owned(),
            cpu_model: "Example CPU at 3.0 GHz".to_owned(),
        },
        system: System {
            name: "campanile".to_owned(),
            version: "0.1.0".to_owned(),
            nodes: 3,
            tls: false,
            promise: "an acked message is on the durable disks of a majority".to_owned(),
        },
        scenario: scenario(),
        window: Window { warmup_s: 2.0, measured_s: 40.0, drain_s: 0.2 },
        counts: counts(),
        rates: Rates {
            intended_per_s: Some(500.0),
            sent_per_s: 500.0,
            acked_per_s: 499.5,
            delivered_per_s: 4995.0,
            logins_per_s: 12.5,
        },
        latencies: BTreeMap::from([
            ("ack".to_owned(), latency(1_500, 20_000)),
            ("delivery".to_owned(), latency(2_400, 60_000)),
            ("completion".to_owned(), latency(4_200, 20_000)),
        ]),
        timeline: (-2..40).map(second).collect(),
        servers: (0..3).map(server).collect(),
        cost: Cost {
            server_cpu_us_per_ack: Some(84.3),
            server_cpu_us_per_delivery: Some(8.43),
            generator_cpu_us_per_ack: Some(11.0),
            generator_cpu_us_per_delivery: Some(1.1),
            rss_bytes_per_connection: Some(9_830.0),
            disk_bytes_per_message: Some(911.5),
        },
        generator: Generator {
            processes: 1,
            worker_cpu_shares: vec![0.31],
            timer_lag_p99_ms: 0.4,
            timer_lag_max_ms: 2.2,
            bottleneck: false,
            verdict: "the busiest worker used 31 % of a core; timers were 0.4 ms late (p99)".to_owned(),
        },
        checks: Checks { digests_equal: Some(true), histories_equal: Some(true), ..Checks::default() },
        marks: marks(),
        slos: vec![
            SloResult { slo: "ack_p99<50ms".to_owned(), value: Some(7.655), passed: true },
            SloResult { slo: "lost==0".to_owned(), value: Some(0.0), passed: true },
        ],
        runs: Vec::new(),
        exit_code: 0,
    }
}

fn scenario() -> Scenario {
    Scenario {
        name: "failover".to_owned(),
        parameters: BTreeMap::from([
            ("groups".to_owned(), json!(50)),
            ("members".to_owned(), json!(10)),
            ("senders".to_owned(), json!(2)),
            ("rate".to_owned(), json!(500)),
            ("payload_bytes".to_owned(), json!(200)),
        ]),
    }
}

fn counts() -> Counts {
    Counts {
        connections: 500,
        logins: 500,
        reconnects: 170,
        sent: 20_000,
        acked: 19_980,
        delivered: 199_800,
        expected_deliveries: 199_800,
        reads: 0,
        backlog_peak: 412,
        errors: BTreeMap::from([("disconnected".to_owned(), 170), ("not_leader".to_owned(), 20)]),
    }
}

fn marks() -> Vec<Mark> {
    let mark = |at_s, kind, text: &str| Mark { at_s, kind, text: text.to_owned() };
    vec![
        mark(15.2, MarkKind::Kill, "kill -9 of node 2"),
        mark(15.9, MarkKind::LeaderChange, "shards 2, 5, 8 are led by node 1"),
        mark(18.2, MarkKind::Restart, "node 2 started again"),
    ]
}

/// Deterministic, and shaped like latencies: a narrow body and a long tail.
fn latency(typical_us: u64, count: u64) -> Latency {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order");
    for n in 0..count {
        let rank = (n as f64 + 0.5) / count as f64;
        let tail = 1.0 / (1.0 - rank).powf(0.35) - 1.0 + rank * 0.6;
        histogram.saturating_record((typical_us as f64 * (0.5 + tail)) as u64);
    }
    Latency::of(&histogram)
}

fn second(second: i32) -> Second {
    let down = (15..16).contains(&second);
    let wave = f64::from(second.abs() * 7 % 11) / 10.0;
    let slow = if down { 12.0 } else { 1.0 };
    let acked = if down { 180 } else { 490 + (wave * 20.0) as u64 };
    let node = |number: i32| {
        let dead = number == 1 && (15..18).contains(&second);
        let rss = MIB * (40 + 4 * number as u64) + second.max(0) as u64 * 40_000;
        ServerSecond {
            cpu_share: (!dead).then_some(rounded(0.12 + 0.05 * f64::from(number) + wave * 0.03)),
            rss_bytes: (!dead).then_some(rss),
        }
    };
    Second {
        second,
        sent: 500,
        acked,
        delivered: acked * 10,
        logins: if down { 170 } else { 0 },
        errors: if down { 190 } else { 0 },
        connections: if down { 330 } else { 500 },
        ack_p50_ms: Some(rounded((1.5 + wave * 0.4) * slow)),
        ack_p99_ms: Some(rounded((6.0 + wave * 5.0) * slow)),
        delivery_p50_ms: Some(rounded((2.4 + wave * 0.5) * slow)),
        delivery_p99_ms: Some(rounded((9.0 + wave * 6.0) * slow)),
        servers: (0..3).map(node).collect(),
        generator_cpu_share: rounded(0.28 + wave * 0.06),
    }
}

/// So that it is read as it is written.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

fn server(number: u64) -> Server {
    Server {
        name: format!("node-{}", number + 1),
        cpu_us: 5_000_000 + number * 1_800_000,
        rss_start_bytes: MIB * (40 + 4 * number),
        rss_end_bytes: MIB * (42 + 4 * number),
        rss_peak_bytes: MIB * (43 + 4 * number),
    }
}
