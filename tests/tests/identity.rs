//! A node refuses a data directory that is not its own, and says why.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use node::local::{LocalCluster, LocalError};
use tempfile::TempDir;

struct Made {
    cluster: LocalCluster,
    dir: PathBuf,
    _temp: TempDir,
}

fn make() -> Result<Made> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("cluster");
    Ok(Made { cluster: LocalCluster::init(&dir, 3, 4, 0)?, dir, _temp: temp })
}

/// Starts node 1 and gives what it says when it refuses.
async fn refusal(made: &mut Made) -> Result<String> {
    made.cluster.start(1)?;
    match made.cluster.wait_ready(1, Duration::from_secs(20)).await {
        Err(LocalError::Ended { tail, .. }) => Ok(tail),
        other => anyhow::bail!("it should have refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_swapped_directory_a_foreign_one_and_a_missing_one_are_refused() -> Result<()> {
    // Another node's.
    let mut made = make()?;
    std::fs::rename(made.dir.join("node-1/data"), made.dir.join("aside"))?;
    std::fs::rename(made.dir.join("node-2/data"), made.dir.join("node-1/data"))?;
    let said = refusal(&mut made).await?;
    assert!(said.contains("belongs to node 2"), "{said}");

    // Another cluster's.
    let mut made = make()?;
    let other = make()?;
    std::fs::remove_dir_all(made.dir.join("node-1/data"))?;
    std::fs::rename(other.dir.join("node-1/data"), made.dir.join("node-1/data"))?;
    let said = refusal(&mut made).await?;
    assert!(said.contains("belongs to cluster"), "{said}");

    // None: a wiped node must not come back as if it remembered.
    let mut made = make()?;
    std::fs::remove_dir_all(made.dir.join("node-1/data"))?;
    let said = refusal(&mut made).await?;
    assert!(said.contains("is not a data directory"), "{said}");
    Ok(())
}
