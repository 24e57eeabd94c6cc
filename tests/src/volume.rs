//! A small disk of its own for one directory: a loop-mounted ext4 image that can be filled and made read-only. Needs root
//! and `mkfs.ext4`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A command's success, or what it complained of.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// Unmounted when dropped.
pub struct Volume {
    at: PathBuf,
    filler: PathBuf,
}

impl Volume {
    /// Moves what is in `dir` to a disk of `bytes`, mounted there; its image lies in `images`.
    pub fn under(dir: &Path, images: &Path, bytes: u64) -> Result<Self> {
        let (image, copy) = (images.join("volume.img"), images.join("copy"));
        File::create(&image)?.set_len(bytes)?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&image)])?;
        run("cp", &["-a", text(dir), text(&copy)])?;
        run("mount", &["-o", "loop", text(&image), text(dir)])?;
        let volume = Self { at: dir.to_owned(), filler: dir.join("filler") };
        run("cp", &["-a", &format!("{}/.", text(&copy)), text(dir)])?;
        Ok(volume)
    }

    pub fn free_bytes(&self) -> Result<u64> {
        Ok(node::room::free_bytes(&self.at)?)
    }

    /// Another program's file takes all but `leave` bytes, if there are more.
    pub fn fill(&self, leave: u64) -> Result<()> {
        let file = File::options().create(true).append(true).open(&self.filler)?;
        loop {
            let excess = self.free_bytes()?.saturating_sub(leave);
            let block = vec![7; excess.min(4 << 20) as usize];
            // The last bytes are not to be had: no room is what is wanted here.
            if excess < 4_096 || file.write_at(&block, 0).is_err() {
                return Ok(());
            }
            file.sync_all().or_else(|error| if leave == 0 { Ok(()) } else { Err(error) })?;
        }
    }

    /// The other program's file goes.
    pub fn clear(&self) -> Result<()> {
        Ok(fs::remove_file(&self.filler)?)
    }

    /// `ro` or `rw`.
    pub fn remount(&self, how: &str) -> Result<()> {
        run("mount", &["-o", &format!("remount,{how}"), text(&self.at)])
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // A file that is still open keeps the image until its process ends; the directory can go at once.
        drop(run("umount", &["-l", text(&self.at)]));
    }
}
