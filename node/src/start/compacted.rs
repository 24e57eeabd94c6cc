//! The program that begins anew: same number, same arguments, empty memory. A node does so when its turn to compact has come,
//! since a database is compacted while it opens; and once more after a compaction, since the memory that the old database
//! took is best given back by a process that never had it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use actix_web::web;
use anyhow::Context;
use storage::{Compaction, Engine, EngineOptions};

/// Tells the program that begins anew what it is for.
const COMPACTION: &str = "CAMPANILE_COMPACTION";
/// It had its turn: it compacts, whatever the gauge says after the database was opened again.
const TURN: &str = "turn";
/// It compacted: it does so no second time.
const DONE: &str = "done";

/// What this program does with its database before it serves.
pub(super) fn wanted(configured: Compaction) -> Compaction {
    decide(std::env::var_os(COMPACTION).as_deref(), configured)
}

fn decide(told: Option<&OsStr>, configured: Compaction) -> Compaction {
    match told.and_then(OsStr::to_str) {
        Some(TURN) => Compaction::Attempt,
        Some(DONE) => Compaction::Never,
        _ => configured,
    }
}

/// Begins anew to compact. Everything is closed. Returns only if that cannot be done.
pub(super) fn compact() -> io::Error {
    begin(TURN)
}

/// After a compaction. Returns only if that cannot be done, with the engine open again.
pub(super) async fn begin_anew(engine: Engine, options: EngineOptions) -> anyhow::Result<Engine> {
    web::block(move || {
        engine.close();
        let error = begin(DONE);
        tracing::warn!(%error, "the program goes on with the memory it has");
        Engine::open(options)
    })
    .await?
    .context("the data directory does not open again")
}

fn begin(what_for: &str) -> io::Error {
    match std::env::current_exe() {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).env(COMPACTION, what_for).exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_had_its_turn_compacts_and_any_other_as_it_is_configured() {
        let configured = Compaction::WhenDead { percent: 80, min_bytes: 1 };
        let told = |told: Option<&str>| decide(told.map(OsStr::new), configured);
        assert_eq!(told(Some(TURN)), Compaction::Attempt);
        assert_eq!(told(Some(DONE)), Compaction::Never, "or it would go round and round");
        assert_eq!([told(None), told(Some("else"))], [configured; 2]);
    }
}
