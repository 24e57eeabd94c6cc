//! A power cut: the disk under a running writer is copied at a random moment, and the copy has every record that was
//! acknowledged before. What was only in the page cache is not in the copy.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code too")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::crash::{Writer, check, child_role as child, random};
use support::{create, open};

const CUTS: usize = 3;
const IMAGE_BYTES: u64 = 1024 * 1024 * 1024;

#[test]
fn child_role() {
    child();
}

/// The command's output, or why it did not work.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A loop-mounted ext4 image, unmounted when dropped.
struct Mounted {
    image: PathBuf,
    at: PathBuf,
}

impl Mounted {
    fn new(image: PathBuf, at: PathBuf) -> Result<Self, String> {
        std::fs::create_dir_all(&at).unwrap();
        run("mount", &["-o", "loop", text(&image), text(&at)])?;
        Ok(Self { image, at })
    }

    fn data(&self) -> PathBuf {
        self.at.join("data")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A mount that stays would keep the temporary directory; panicking here would hide why.
        let _ = run("umount", &[text(&self.at)]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn disk(dir: &Path) -> Result<Mounted, String> {
    let image = dir.join("disk.img");
    std::fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
    run("mkfs.ext4", &["-q", "-F", text(&image)])?;
    Mounted::new(image, dir.join("disk"))
}

/// Copies the image under a stopped writer: a real cut is one instant, and a copy takes a while.
/// Stopping writes nothing out; what is in the page cache only stays there.
fn cut(disk: &Mounted, writer: &Writer, to: &Path) {
    let pid = writer.pid().to_string();
    run("kill", &["-STOP", &pid]).unwrap();
    run("cp", &["--sparse=always", text(&disk.image), text(to)]).unwrap();
    run("kill", &["-CONT", &pid]).unwrap();
}

#[test]
fn no_acknowledged_record_is_lost_by_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let disk = match disk(dir.path()) {
        Ok(disk) => disk,
        Err(reason) => {
            println!("SKIPPED power_cut: {reason}");
            return;
        }
    };
    create(&disk.data()).close();
    let mut writer = Writer::start(&disk.data());
    let mut seen = 0;
    for round in 0..CUTS {
        writer.wait_for(seen + 1 + random(2_000));
        // Acknowledgements that are still in the pipe are not counted, so this is never too much.
        let acks = writer.acks();
        seen = acks.count;
        let image = dir.path().join("cut.img");
        cut(&disk, &writer, &image);
        let after = Mounted::new(image, dir.path().join("cut")).expect("the journal replays");
        let engine = open(&after.data());
        check(&engine, &acks);
        println!("power cut {round}: {} acknowledgements, none lost", acks.count);
        engine.close();
    }
    writer.kill();
}
