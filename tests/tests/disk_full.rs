//! The disk of one of three nodes fills up under load, goes read-only, and comes back: on a loop-mounted volume. Needs
//! root and `mkfs.ext4`; without them it says that it was skipped.

#![expect(clippy::print_stdout, reason = "who reads the test's output should know what was not done")]

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use chat::wire::Target;
use node::local::{LocalCluster, LocalError};
use node::room::Room;
use tests::volume::Volume;
use tests::written::Writers;
use tests::{DEADLINE, Stage, until, user};

const MIB: u64 = 1 << 20;
const VOLUME_BYTES: u64 = 768 * MIB;
const STOP_BELOW: u64 = 128 * MIB;

/// Three nodes, the first on a small disk of its own; none where a disk cannot be made.
async fn stage() -> Result<Option<(Volume, Stage)>> {
    let dir = tempfile::tempdir()?;
    let cluster = LocalCluster::init(&dir.path().join("cluster"), 3, 4, 0)?;
    let data = cluster.config(1)?.node.data_dir.clone();
    let volume = match Volume::under(&data, dir.path(), VOLUME_BYTES) {
        Ok(volume) => volume,
        Err(reason) => {
            println!("SKIPPED disk_full: {reason:#}");
            return Ok(None);
        }
    };
    let config = data.parent().map(|node| node.join("campanile.toml")).unwrap_or_default();
    let mut config = OpenOptions::new().append(true).open(config)?;
    writeln!(config, "\n[storage]\nwarn_below = \"256 MiB\"\nstop_below = \"{} MiB\"", STOP_BELOW / MIB)?;
    Ok(Some((volume, Stage::of(cluster, dir).await?)))
}

/// Waits until node 1 says that it has this much room and leads as many shards as it may.
async fn has_room(stage: &Stage, room: Room) -> Result<()> {
    let admin = stage.cluster.admin(1)?;
    until("node 1 sees its disk and acts", async || {
        let status = admin.status().await?;
        Ok(status.storage.room == room && (status.leads() > 0) == room.may_lead())
    })
    .await
}

/// How node 1 ended: its exit status and the end of its log.
async fn ended(stage: &mut Stage) -> Result<(String, String)> {
    match stage.cluster.wait_ready(1, DEADLINE).await {
        Err(LocalError::Ended { status, tail, .. }) => Ok((status, tail)),
        other => bail!("node 1 should have ended: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_fills_up_steps_back_and_returns_by_itself() -> Result<()> {
    let Some((volume, mut stage)) = stage().await? else { return Ok(()) };
    let writers = Writers::start(&stage, 6).await?;
    writers.more(200).await?;
    has_room(&stage, Room::Ample).await?;

    // Nearly full: it leads nothing, follows, and shows everything.
    volume.fill(STOP_BELOW - 30 * MIB)?;
    let since = Instant::now();
    has_room(&stage, Room::Tight).await?;
    println!("led nothing {:?} after its disk was nearly full", since.elapsed());
    let since = Instant::now();
    writers.more(200).await?;
    println!("200 messages acked in {:?} after that", since.elapsed());
    let readiness = stage.cluster.admin(1)?.ready().await?;
    assert!(!readiness.ready && readiness.reasons.iter().any(|why| why.contains("nearly full")), "{readiness:?}");
    let (carol, _carols) = stage.connect("carol", &[1]).await?;
    let sent = carol.send_text(Target::User(user("carol")), "from a full node").await?;
    assert_eq!(carol.history(sent.conversation, campanile_client::Range::After(0)).await?.head, 1);
    drop(carol);

    // Full: it takes nothing, so that its disk does not fill further, and its clients go elsewhere.
    volume.fill(STOP_BELOW / 2 - 30 * MIB)?;
    has_room(&stage, Room::Full).await?;
    let admin = stage.cluster.admin(1)?;
    until("its clients leave", async || Ok(admin.status().await?.sessions == 0)).await?;
    let before = volume.free_bytes()?;
    writers.more(1_000).await?;
    let taken = before.saturating_sub(volume.free_bytes()?);
    ensure!(taken < 20 * MIB, "it went on taking {taken} bytes");
    ensure!(stage.cluster.is_running(1), "it is still there");

    // No byte left, by somebody else's doing: whatever it does, nothing is lost.
    volume.fill(0)?;
    writers.more(500).await?;
    let survived = stage.cluster.is_running(1);
    println!("with no byte left node 1 {}", if survived { "stays" } else { "ends" });
    if survived {
        stage.cluster.kill(1)?;
    } else {
        let (status, tail) = ended(&mut stage).await?;
        assert!(status.ends_with("75") && tail.contains("error[C2402]"), "{status}\n{tail}");
    }
    stage.cluster.start(1)?;
    let (status, tail) = ended(&mut stage).await?;
    assert!(status.ends_with("75"), "{status}\n{tail}");
    assert!(tail.contains("error[C2402]") && tail.contains("next: free space"), "{tail}");

    volume.clear()?;
    stage.cluster.start(1)?;
    stage.cluster.wait_ready(1, DEADLINE).await?;
    volume.fill(STOP_BELOW - 30 * MIB)?;
    has_room(&stage, Room::Tight).await?;
    volume.clear()?;
    let since = Instant::now();
    has_room(&stage, Room::Ample).await?;
    println!("leads again {:?} after its disk had room", since.elapsed());
    stage.cluster.wait_ready(1, DEADLINE).await?;
    writers.more(100).await?;
    writers.nothing_is_lost().await?;
    stage.equal_digests().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_becomes_read_only_ends_and_says_so_until_it_is_writable() -> Result<()> {
    let Some((volume, mut stage)) = stage().await? else { return Ok(()) };
    let writers = Writers::start(&stage, 6).await?;
    writers.more(200).await?;
    // Files that are open for writing keep a volume from being remounted by hand; the kernel itself does not ask.
    stage.cluster.kill(1)?;
    volume.remount("ro")?;
    stage.cluster.start(1)?;
    let (status, tail) = ended(&mut stage).await?;
    assert!(status.ends_with("75"), "{status}\n{tail}");
    assert!(tail.contains("error[C2402]") && tail.contains("remount,rw"), "{tail}");
    writers.more(100).await?;
    volume.remount("rw")?;
    stage.cluster.start(1)?;
    stage.cluster.wait_ready(1, DEADLINE).await?;
    writers.nothing_is_lost().await?;
    stage.equal_digests().await
}
