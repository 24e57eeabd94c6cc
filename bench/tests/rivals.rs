//! A small load against each system to compare with, by the binary as a user runs it. The broadcast server is always
//! there; the others are other people's programs and are loaded only when `CAMPANILE_RIVALS=1` asks for it, after
//! bench/systems/install.sh.

use std::process::Command;

use anyhow::Result;
use bench::progress::Progress;

/// Four groups of three, for a second; every delivery is checked.
fn load(system: &str) -> Result<()> {
    let arguments = ["--groups", "4", "--members", "3", "--senders", "2", "--window", "2"];
    let output = Command::new(env!("CARGO_BIN_EXE_campanile-bench"))
        .args(["group", "--system", system])
        .args(arguments)
        .args(["--duration", "1s", "--warmup", "200ms"])
        .output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    Ok(())
}

/// Skips in a way that the output of the test shows.
fn load_if_asked(system: &str) -> Result<()> {
    if std::env::var_os("CAMPANILE_RIVALS").is_some() {
        return load(system);
    }
    Progress::Lines.say(&format!("skipped: {system} is loaded with CAMPANILE_RIVALS=1 (bench/systems/install.sh)"));
    Ok(())
}

#[test]
fn the_broadcast_server_keeps_every_check() -> Result<()> {
    load("bare")
}

#[test]
fn nats_keeps_every_check() -> Result<()> {
    load_if_asked("nats-fsync")
}

#[test]
fn ejabberd_keeps_every_check() -> Result<()> {
    load_if_asked("ejabberd")
}
