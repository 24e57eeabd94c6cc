//! How fast a database is compacted, and what it gives back. Prints bytes before and after, seconds, and resident memory.
//!
//! `cargo run -p storage --release --example compact_rate -- [DIR] [LIVE_MIB]`

use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use chat::ids::ShardId;
use storage::{Applied, Compaction, Engine, EngineOptions, Identity, LogPayload, LogPosition, LogRecord, NodeKey, hex};

const BATCH: usize = 2 * 1024;
const KEYS: u64 = 50_000;

type Failure = Box<dyn std::error::Error>;

fn resident_mib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// Log records of which an eighth stays, and state that is written over again and again.
fn fill(engine: &Engine, live_mib: u64) -> Result<(), Failure> {
    let (log, state) = (engine.log(ShardId(1))?, engine.state(ShardId(1))?);
    let short = engine.log(ShardId(2))?;
    let payload = Bytes::from(vec![7; BATCH]);
    let per_entry = KEYS / 5_000;
    for index in 0..live_mib * 1024 * 1024 / BATCH as u64 {
        let position = LogPosition { term: 1, node: 1, index };
        let blank = LogRecord { position, payload: LogPayload::Blank };
        log.append(vec![Arc::new(blank)], Box::new(drop))?;
        let record = LogRecord { position, payload: LogPayload::Batch(payload.clone()) };
        let (done, durable) = mpsc::sync_channel(1);
        short.append(vec![Arc::new(record)], Box::new(move |result| drop(done.send(result))))?;
        if index % 64 == 0 {
            durable.recv()??;
        }
        let writes = (0..per_entry).map(|at| {
            let key = (index * per_entry + at) * 7_919 % KEYS;
            (Bytes::from(hex(&key.to_be_bytes())), Some(payload.slice(..150)))
        });
        let applied = Applied { position: Some(position), membership: Bytes::new() };
        state.apply(writes, applied)?;
    }
    short.truncate_after(Some(live_mib * 1024 * 1024 / BATCH as u64 / 8))?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what it is for")]
fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map_or_else(|| std::env::temp_dir().join("compact_rate"), PathBuf::from);
    let live_mib = arguments.next().map_or(Ok(512), |text| text.parse())?;
    let options = EngineOptions {
        dir: dir.clone(),
        node_key: NodeKey::from_bytes([3; 32]),
        identity: Identity { cluster: "c".to_owned(), node: 1, name: "node-1".to_owned() },
        cache_bytes: 64 << 20,
    };
    Engine::create(&options)?;
    let engine = Engine::open(options.clone())?;
    fill(&engine, live_mib)?;
    println!("filled: {:?}, resident {} MiB", engine.stats().space, resident_mib()?);
    engine.close();
    let engine = Engine::open(options.clone())?;
    println!("opened again: {:?}, resident {} MiB", engine.stats().space, resident_mib()?);
    engine.close();
    let (engine, compacted) = Engine::open_compacted(options, Compaction::Now)?;
    let compacted = compacted.ok_or("it was not compacted")?;
    let gib = compacted.before.live_bytes as f64 / (1u64 << 30) as f64;
    println!("{compacted:?}: {:.1} s per live GiB", compacted.elapsed.as_secs_f64() / gib);
    println!("dead after it: {} %, resident {} MiB", compacted.after.dead_percent(), resident_mib()?);
    engine.close();
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
