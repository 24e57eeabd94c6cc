//! A server as a child process.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::SystemError;

/// How long a server may take to end after SIGTERM.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// So much of its output is shown when it fails.
const OUTPUT_SHOWN: usize = 2_000;

/// Ended when dropped, by its id.
pub(super) struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Its output is appended to `<dir>/<name>.out`.
    pub(super) fn start(
        name: &str,
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        dir: &Path,
    ) -> Result<Self, SystemError> {
        let output = dir.join(format!("{name}.out"));
        let file = File::options().create(true).append(true).open(&output)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|source| failed(program, source))?;
        Ok(Self { name: name.to_owned(), child, output })
    }

    pub(super) fn named(&self) -> (String, u32) {
        (self.name.clone(), self.child.id())
    }

    pub(super) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of what it wrote.
    pub(super) fn output(&self) -> String {
        let bytes = std::fs::read(&self.output).unwrap_or_default();
        let shown = &bytes[bytes.len().saturating_sub(OUTPUT_SHOWN)..];
        String::from_utf8_lossy(shown).into_owned()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> Result<(), SystemError> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // A process that ended already, or that stays, is nothing to report: the kill below is for it.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let deadline = Instant::now() + ENDS_WITHIN;
        while !self.ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended() {
            self.stop();
        }
    }
}

/// Runs a script to its end; what it wrote if it succeeds.
pub(super) fn run(script: &Path, arguments: &[String]) -> Result<String, SystemError> {
    let mut command = Command::new("sh");
    command.arg(script).args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|source| failed(script, source))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(SystemError::Failed { what: script.display().to_string(), output: text })
}

fn failed(what: &Path, source: io::Error) -> SystemError {
    SystemError::Run { what: what.display().to_string(), source }
}
