//! CPU time and memory of processes, from /proc (proc(5)).

use std::io;
use std::time::{Duration, Instant};

/// Clock ticks a second in /proc/PID/stat: 100 on every Linux that we run on.
const TICK_US: u64 = 10_000;

/// Looks at a process that tells nothing, and the pause between two.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_us: u64,
    /// Resident now, and at most so far.
    pub resident_bytes: u64,
    pub peak_bytes: u64,
    /// By a signal: somebody froze it, and it serves nobody.
    pub stopped: bool,
}

/// A process under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub name: String,
    pub pid: u32,
}

impl Process {
    /// A program that begins anew at this very moment, as a node does to compact its database, has no memory to tell of.
    pub fn usage(&self) -> io::Result<Usage> {
        for _ in 1..ATTEMPTS {
            if let Ok(usage) = self.usage_now() {
                return Ok(usage);
            }
            std::thread::sleep(PAUSE);
        }
        self.usage_now()
    }

    fn usage_now(&self) -> io::Result<Usage> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid));
        let wrong = || io::Error::other(format!("/proc/{} has another form than expected", self.pid));
        let cpu_us = cpu_us(&read("stat")?).ok_or_else(wrong)?;
        let status = read("status")?;
        let bytes = |name: &str| kib(&status, name).map(|kib| kib * 1_024);
        Ok(Usage {
            cpu_us,
            resident_bytes: bytes("VmRSS:").ok_or_else(wrong)?,
            peak_bytes: bytes("VmHWM:").ok_or_else(wrong)?,
            stopped: status.lines().any(|line| line.starts_with("State:\tT")),
        })
    }
}

/// User and system time. The name in parentheses may hold anything.
fn cpu_us(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_US)
}

fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A process over a stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub process: Process,
    pub first: Usage,
    pub last: Usage,
    pub peak_resident_bytes: u64,
    /// Per second, the share of a core and the resident bytes; none while the process is dead.
    pub seconds: Vec<Option<(f64, u64)>>,
    /// Looks, a second apart, that found it stopped.
    pub stopped: u32,
}

impl Span {
    pub fn cpu_us(&self) -> u64 {
        self.last.cpu_us.saturating_sub(self.first.cpu_us)
    }
}

/// Watches processes while a load runs. A process that cannot be read (it was killed) keeps its last figures.
#[derive(Debug)]
pub struct Watch {
    spans: Vec<Span>,
    before: Vec<Usage>,
    looked: Instant,
}

impl Watch {
    pub fn new(processes: &[Process], now: Instant) -> Self {
        let span = |process: &Process| {
            let first = process.usage().unwrap_or_default();
            let process = process.clone();
            Span {
                process,
                first,
                last: first,
                peak_resident_bytes: first.resident_bytes,
                seconds: Vec::new(),
                stopped: 0,
            }
        };
        let spans: Vec<Span> = processes.iter().map(span).collect();
        Self { before: spans.iter().map(|span| span.first).collect(), spans, looked: now }
    }

    /// The measured window begins.
    pub fn begin(&mut self) {
        for span in &mut self.spans {
            if let Ok(usage) = span.process.usage() {
                (span.first, span.last) = (usage, usage);
            }
        }
    }

    /// A second has passed.
    pub fn second(&mut self, now: Instant) {
        let elapsed_us = now.saturating_duration_since(self.looked).as_micros().max(1) as f64;
        self.looked = now;
        for (span, before) in self.spans.iter_mut().zip(&mut self.before) {
            let Ok(usage) = span.process.usage() else {
                span.seconds.push(None);
                continue;
            };
            let cpu_us = usage.cpu_us.saturating_sub(before.cpu_us) as f64;
            span.seconds.push(Some((cpu_us / elapsed_us, usage.resident_bytes)));
            span.last = usage;
            span.peak_resident_bytes = span.peak_resident_bytes.max(usage.resident_bytes);
            *before = usage;
        }
    }

    /// The measured window ends.
    pub fn end(&mut self) {
        for span in &mut self.spans {
            if let Ok(usage) = span.process.usage() {
                span.last = usage;
                span.peak_resident_bytes = span.peak_resident_bytes.max(usage.resident_bytes);
            }
        }
    }

    /// The process of this name was started anew.
    pub fn replace(&mut self, process: &Process) {
        for (span, before) in self.spans.iter_mut().zip(&mut self.before) {
            if span.process.name == process.name {
                // What the old one had used stays counted.
                let used_us = span.cpu_us();
                span.process = process.clone();
                let usage = process.usage().unwrap_or_default();
                span.first.cpu_us = usage.cpu_us.saturating_sub(used_us);
                (span.last, *before) = (usage, usage);
            }
        }
    }

    pub fn spans(self) -> Vec<Span> {
        self.spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_proc_are_read() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 1 1 1";
        assert_eq!(cpu_us(stat), Some(2_000_000));
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(
            (kib(status, "VmRSS:"), kib(status, "VmHWM:"), kib(status, "VmSwap:")),
            (Some(1_024), Some(2_048), None)
        );
        let own = Process { name: "self".into(), pid: std::process::id() };
        assert!(own.usage().unwrap().resident_bytes > 100_000);
    }
}
