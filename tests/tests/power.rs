//! All three nodes are killed at once under load, and come back with every acknowledged message.

use std::time::Duration;

use anyhow::Result;
use tests::Stage;
use tests::written::Writers;

const WRITERS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn every_acked_message_survives_the_death_of_all_nodes() -> Result<()> {
    let mut stage = Stage::start(3, 4).await?;
    let writers = Writers::start(&stage, WRITERS).await?;
    writers.more(200).await?;

    for node in 1..=3 {
        stage.cluster.kill(node)?;
    }
    stage.cluster.start_all()?;
    stage.cluster.wait_all_ready(Duration::from_secs(60)).await?;
    writers.more(100).await?;
    writers.nothing_is_lost().await?;
    stage.equal_digests().await
}
