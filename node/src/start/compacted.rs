//! After a compaction: the memory that the old database took is best given back by a process that never had it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use actix_web::web;
use anyhow::Context;
use storage::{Engine, EngineOptions};

/// Replaces this process's program by itself: same number, same arguments, empty memory. Returns only if that cannot be
/// done, with the engine open again.
pub(super) async fn begin_anew(engine: Engine, options: EngineOptions) -> anyhow::Result<Engine> {
    web::block(move || {
        engine.close();
        // A database that was just compacted wants none again: its dead share is below any that starts one, or it is small.
        let again = || match std::env::current_exe() {
            Ok(program) if std::env::var_os(COMPACTED).is_none() => {
                Command::new(program).args(std::env::args_os().skip(1)).env(COMPACTED, "1").exec()
            }
            Ok(_) => std::io::Error::other("it has begun anew already"),
            Err(error) => error,
        };
        let error = again();
        tracing::warn!(%error, "the program goes on with the memory it has");
        Engine::open(options)
    })
    .await?
    .context("the data directory does not open again")
}

/// Set for the program that begins anew: it does so once.
const COMPACTED: &str = "CAMPANILE_COMPACTED";
