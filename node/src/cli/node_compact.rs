//! `campanile node compact`.

use std::path::Path;

use serde_json::json;
use storage::{Compaction, Engine, OpenError};

use super::output::{json, say};
use super::{Code, Exit, Failure, load_config, logging};

pub(super) fn run(path: &Path, as_json: bool) -> Result<(), Failure> {
    let config = load_config(path)?;
    logging::start(&config.log);
    let keys = config
        .load_keys()
        .map_err(|error| Failure::new(Code::File, Exit::Configuration, error.to_string()).because(&error))?;
    let opened = Engine::open_compacted(config.storage_options(&keys), Compaction::Now);
    let (engine, compacted) = opened.map_err(|error| failure(&error))?;
    engine.close();
    let Some(done) = compacted else {
        return Err(Failure::new(Code::Node, Exit::Failed, "the database was not compacted"));
    };
    let seconds = done.elapsed.as_secs_f64();
    if as_json {
        json(&json!({
            "before_bytes": done.before.disk_bytes, "after_bytes": done.after.disk_bytes,
            "live_bytes": done.after.live_bytes, "records": done.records, "seconds": seconds,
        }));
    } else {
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        say(format_args!(
            "{:.1} MiB became {:.1} MiB: {} records, {:.1} MiB, in {seconds:.1} s\n\
             next: campanile node start --config {}",
            mib(done.before.disk_bytes),
            mib(done.after.disk_bytes),
            done.records,
            mib(done.after.live_bytes),
            path.display()
        ));
    }
    Ok(())
}

fn failure(error: &OpenError) -> Failure {
    let failure = Failure::new(Code::Node, Exit::Failed, "the database cannot be compacted").because(error);
    match error {
        OpenError::InUse { .. } => failure.next("stop the node first"),
        _ => failure.detail("it is as it was"),
    }
}
