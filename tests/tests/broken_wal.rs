//! A byte of the write-ahead log is flipped while its node is down: the start is refused, and says where, what was expected
//! and what to do. The same byte flipped back, everything is there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use campanile_client::Range;
use chat::wire::Target;
use node::local::LocalError;
use tests::{DEADLINE, Stage, user};

/// `[magic 4][crc 4][epoch 8][oldest 8][seq 8][len 4]`, as storage/src/wal/frame.rs says.
const HEADER: usize = 36;

/// Offset and number of each frame of the file's turn.
fn frames(bytes: &[u8]) -> Vec<(usize, u64)> {
    let mut frames: Vec<(usize, u64)> = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEADER).filter(|head| head.starts_with(b"CWL1")) {
        let seq = u64::from_le_bytes(head[24..32].try_into().unwrap_or_default());
        if frames.last().is_some_and(|(_, last)| last + 1 != seq) {
            break;
        }
        frames.push((at, seq));
        at += HEADER + u32::from_le_bytes(head[32..].try_into().unwrap_or_default()) as usize;
    }
    frames
}

fn flip(file: &Path, at: usize) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    bytes[at] ^= 0x10;
    Ok(std::fs::write(file, bytes)?)
}

/// The file that is written at the moment, and its frames.
fn active(data: &Path) -> Result<(PathBuf, Vec<(usize, u64)>)> {
    let mut found = Vec::new();
    for file in ["wal.0", "wal.1"].map(|name| data.join(name)) {
        found.push((frames(&std::fs::read(&file)?), file));
    }
    let newest = found.into_iter().max_by_key(|(frames, _)| frames.last().map(|(_, seq)| *seq));
    newest.map(|(frames, file)| (file, frames)).context("two files")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_of_the_write_ahead_log_is_named_and_nothing_is_served() -> Result<()> {
    let mut stage = Stage::start(1, 1).await?;
    let (alice, _events) = stage.connect("alice", &[1]).await?;
    let (bob, _bobs) = stage.connect("bob", &[1]).await?;
    let mut conversation = None;
    for number in 1..=20 {
        let sent = alice.send_text(Target::User(user("bob")), &format!("message {number}")).await?;
        assert_eq!(sent.seq, number);
        conversation = Some(sent.conversation);
    }
    stage.cluster.kill(1)?;
    let (file, frames) = active(&stage.cluster.config(1)?.node.data_dir)?;
    ensure!(frames.len() > 10, "{frames:?}");
    let (offset, number) = frames[frames.len() / 2];
    let name = file.file_name().context("it has a name")?.to_string_lossy();
    for (at, wrong) in [(HEADER + 9, "a frame with checksum"), (0, "a frame's first bytes 43574c31 were expected, 53")]
    {
        flip(&file, offset + at)?;
        stage.cluster.start(1)?;
        let tail = match stage.cluster.wait_ready(1, DEADLINE).await {
            Err(LocalError::Ended { tail, .. }) => tail,
            other => bail!("a node with a damaged log started: {other:?}"),
        };
        let place = format!("{name} is corrupt: at byte {offset}: frame {number} should begin there; {wrong}");
        ensure!(tail.contains(&place), "{place}\nnot in\n{tail}");
        ensure!(tail.contains("next: ") && tail.contains("campanile node remove 1"), "{tail}");
        flip(&file, offset + at)?;
    }
    stage.cluster.start(1)?;
    stage.cluster.wait_ready(1, DEADLINE).await?;
    let conversation = conversation.context("it was written to")?;
    let page = bob.history(conversation, Range::After(0)).await?;
    assert_eq!(page.events.len(), 20);
    Ok(())
}
