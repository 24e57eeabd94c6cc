//! Durable appends a second, 300 bytes each, for 1, 16 and 128 records per commit:
//! `cargo run --release -p storage --example append_rate [DIR]`. The directory decides which disk is measured.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chat::ids::ShardId;
use storage::{Engine, EngineOptions, Identity, LogPayload, LogPosition, LogRecord, LogStore, NodeKey};

const PAYLOAD_BYTES: usize = 300;
const MEASURE: Duration = Duration::from_secs(3);

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, reason = "what it is for")]
fn main() -> Result<(), Failure> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("append-rate-{}", std::process::id()));
    let options = EngineOptions {
        dir: dir.clone(),
        node_key: NodeKey::generate(),
        identity: Identity { cluster: "append-rate".to_owned(), node: 1, name: "node-1".to_owned() },
        cache_bytes: 64 * 1024 * 1024,
    };
    Engine::create(&options)?;
    let engine = Engine::open(options)?;
    for (shard, batch) in [(1, 1), (2, 16), (3, 128)] {
        let log = engine.log(ShardId(shard))?;
        let before = engine.stats();
        let (records, took) = measure(&log, batch)?;
        let commits = engine.stats().commits - before.commits;
        let rate = records as f64 / took.as_secs_f64();
        let micros = took.as_micros() / u128::from(commits.max(1));
        println!("{batch:>4} records per commit: {rate:>9.0} durable records/s, {micros} µs per commit");
    }
    println!("{} bytes on disk in {}", engine.stats().bytes_on_disk, dir.display());
    engine.close();
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Appends `batch` records, waits until they are durable, and again.
fn measure(log: &LogStore, batch: u64) -> Result<(u64, Duration), Failure> {
    let (sender, durable) = mpsc::sync_channel(1);
    let started = Instant::now();
    let mut next = 0;
    while started.elapsed() < MEASURE {
        let records = (next..next + batch).map(record).collect();
        let sender = sender.clone();
        log.append(
            records,
            Box::new(move |result| {
                // The receiver lives as long as this measurement.
                let _ = sender.send(result);
            }),
        )?;
        durable.recv()??;
        next += batch;
    }
    Ok((next, started.elapsed()))
}

fn record(index: u64) -> Arc<LogRecord> {
    let payload = LogPayload::Batch(Bytes::from(vec![index as u8; PAYLOAD_BYTES]));
    Arc::new(LogRecord { position: LogPosition { term: 1, node: 1, index }, payload })
}
