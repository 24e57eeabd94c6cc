//! The disk of a running node fails under load: the kernel's answers to its writes are exchanged for errors, one kind on each
//! of three nodes. Needs `strace` and the right to use it; without them it says that it was skipped.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use chat::ids::NodeId;
use node::local::LocalError;
use tests::written::Writers;
use tests::{DEADLINE, Stage};

/// The call that fails, how, and what becomes of the process.
const FAULTS: [(&str, &str, &str, &str); 3] = [
    ("fdatasync", "EIO", "74", "fdatasync of"),
    ("pwrite64", "ENOSPC", "75", "next: free space"),
    ("pwrite64", "EROFS", "75", "remount,rw"),
];

/// From now on, until the process ends.
fn inject(pid: u32, call: &str, error: &str) -> Result<Child> {
    let inject = format!("inject={call}:error={error}");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, "-p"]);
    Ok(strace.arg(pid.to_string()).stdin(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// Whether another process may be traced here.
fn can_trace() -> bool {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO", "true"]);
    traced.status().is_ok_and(|status| status.success())
}

async fn ended(stage: &mut Stage, node: NodeId) -> Result<(String, String)> {
    let begun = std::time::Instant::now();
    loop {
        // Ready as long as nothing has failed.
        match stage.cluster.wait_ready(node, DEADLINE).await {
            Err(LocalError::Ended { status, tail, .. }) => return Ok((status, tail)),
            Ok(()) if begun.elapsed() < DEADLINE => tokio::task::yield_now().await,
            other => bail!("node {node} should have ended: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_fails_ends_with_the_reason_and_nothing_acked_is_lost() -> Result<()> {
    if !can_trace() {
        println!("SKIPPED disk_faults: strace does not run here");
        return Ok(());
    }
    let mut stage = Stage::start(3, 4).await?;
    let writers = Writers::start(&stage, 6).await?;
    for (node, (call, error, code, said)) in (1..).zip(FAULTS) {
        writers.more(100).await?;
        let pid = stage.cluster.pid(node).context("it runs")?;
        let mut strace = inject(pid, call, error)?;
        let (status, tail) = ended(&mut stage, node).await?;
        // It may have outlived the process by a moment.
        drop(strace.kill());
        strace.wait()?;
        assert!(status.ends_with(code), "{call} {error}: {status}\n{tail}");
        assert!(tail.contains("error[C2402]") && tail.contains(said), "{call} {error}:\n{tail}");
        writers.more(100).await?;
        stage.cluster.start(node)?;
        stage.cluster.wait_ready(node, DEADLINE).await?;
    }
    writers.nothing_is_lost().await?;
    stage.equal_digests().await
}
