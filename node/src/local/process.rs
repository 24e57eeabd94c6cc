//! One node process: found, started, ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::POLL;

const BINARY: &str = "campanile";
/// Bytes of a log shown when a node ended early.
const TAIL_BYTES: u64 = 2_000;

/// A running node. Killed when dropped; and since it watches the pipe on its standard input, it also leaves when
/// this process ends without dropping anything.
pub(super) struct NodeProcess {
    child: Child,
}

impl NodeProcess {
    pub(super) fn spawn(binary: &Path, config: &Path, log: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(binary)
            .args(["node", "start", "--exit-with-stdin", "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// SIGKILL; gone when this returns.
    pub(super) fn kill(self) {
        drop(self);
    }

    /// SIGTERM. A process that is gone already needs no signal.
    pub(super) fn terminate(&self) {
        // Until it is waited for, the process id cannot belong to another process.
        let signalled =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        if let Err(error) = signalled {
            tracing::debug!(%error, "a node that was to end had ended already");
        }
    }

    /// Waits for the end, and makes it at the deadline. Whether it came by itself.
    pub(super) async fn wait(mut self, deadline: Instant) -> bool {
        while self.ended().is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Both fail only if the process has ended and been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The `campanile` binary: CAMPANILE_BIN; this program, if it is the one; else beside it or one directory up
/// (tests and examples lie in `deps` and `examples` below it).
pub fn find_binary() -> Option<PathBuf> {
    let chosen = std::env::var_os("CAMPANILE_BIN").map(PathBuf::from);
    chosen.or_else(|| search(&std::env::current_exe().ok()?))
}

fn search(program: &Path) -> Option<PathBuf> {
    if program.file_stem().is_some_and(|name| name == BINARY) {
        return Some(program.to_owned());
    }
    let name = format!("{BINARY}{}", std::env::consts::EXE_SUFFIX);
    program.ancestors().skip(1).take(2).map(|dir| dir.join(&name)).find(|path| path.is_file())
}

/// The end of a log.
pub(super) fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(cannot read it: {error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_this_one_or_beside_it_or_above_its_directory() {
        let temp = tempfile::tempdir().unwrap();
        let deps = temp.path().join("deps");
        std::fs::create_dir(&deps).unwrap();
        let test = deps.join("bench-0123");
        assert_eq!(search(&test), None);
        let own = temp.path().join(BINARY);
        std::fs::write(&own, "").unwrap();
        assert_eq!(search(&test), Some(own.clone()));
        assert_eq!(search(&temp.path().join("campanile-bench")), Some(own.clone()));
        assert_eq!(search(&own), Some(own));
    }

    #[test]
    fn the_tail_is_the_end_and_a_missing_log_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let log = temp.path().join("node.log");
        std::fs::write(&log, "x".repeat(3_000) + "the end").unwrap();
        let end = tail(&log);
        assert!(end.ends_with("the end") && end.len() == TAIL_BYTES as usize);
        assert!(tail(&temp.path().join("none")).contains("cannot read it"));
    }
}
