//! The `campanile` command, run to its end as an operator runs it.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use node::local::find_binary;

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs `campanile` without a terminal.
pub async fn campanile(arguments: &[&str]) -> Result<Ended> {
    let mut command = Command::new(find_binary().context("cargo build -p node")?);
    command.args(arguments).stdin(Stdio::null());
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ended { code: status.code(), out: text(stdout), err: text(stderr) })
}

/// It succeeds: what it printed.
pub async fn done(arguments: &[&str]) -> Result<String> {
    let ended = campanile(arguments).await?;
    ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
    Ok(ended.out)
}

/// It ends with this code, and says why.
pub async fn refused(arguments: &[&str], code: i32, why: &str) -> Result<()> {
    let ended = campanile(arguments).await?;
    ensure!(ended.code == Some(code) && ended.err.contains(why), "{arguments:?} should say {why:?}: {ended:?}");
    Ok(())
}
