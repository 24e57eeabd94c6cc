//! How far a run has come: a bar on a terminal, a line now and then elsewhere, nothing in tests.

use std::future::Future;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const BAR_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Bar,
    Lines,
    Silent,
}

impl Progress {
    /// A bar if standard error is a terminal.
    pub fn of_terminal() -> Self {
        if std::io::stderr().is_terminal() { Self::Bar } else { Self::Lines }
    }

    /// Something worth a line of its own.
    #[expect(clippy::print_stderr, reason = "it is the program's output to people")]
    pub fn say(self, text: &str) {
        if self != Self::Silent {
            eprintln!("{text}");
        }
    }

    /// A line that tells how a load goes: the last one stays on a terminal, all of them elsewhere.
    #[expect(clippy::print_stderr, reason = "it is the program's output to people")]
    pub fn live(self, line: &str) {
        match self {
            Self::Silent => {}
            // Overwrites the line before.
            Self::Bar => eprint!("\r{line}\x1b[K"),
            Self::Lines if line.is_empty() => {}
            Self::Lines => eprintln!("{line}"),
        }
    }

    /// Shows how far `work` is, out of `total`, until it ends.
    pub async fn follow<F: Future>(self, what: &str, total: u64, done: impl Fn() -> u64, work: F) -> F::Output {
        match self {
            Self::Silent => work.await,
            Self::Bar => self.bar(what, total, done, work).await,
            Self::Lines => self.lines(what, total, done, work).await,
        }
    }

    async fn bar<F: Future>(self, what: &str, total: u64, done: impl Fn() -> u64, work: F) -> F::Output {
        let bar = ProgressBar::new(total).with_message(what.to_owned());
        let style = ProgressStyle::with_template("{msg:>12} {wide_bar} {human_pos}/{human_len} {per_sec} {elapsed}");
        bar.set_style(style.expect("the template is well formed"));
        let output = tick(BAR_INTERVAL, || bar.set_position(done()), work).await;
        bar.finish_and_clear();
        self.say(&format!("{what:>12} {}/{total} in {:.1?}", done(), bar.elapsed()));
        output
    }

    async fn lines<F: Future>(self, what: &str, total: u64, done: impl Fn() -> u64, work: F) -> F::Output {
        let start = Instant::now();
        let line = || self.say(&format!("{what:>12} {}/{total} after {:.1?}", done(), start.elapsed()));
        let output = tick(LINE_INTERVAL, line, work).await;
        line();
        output
    }
}

async fn tick<F: Future>(interval: Duration, show: impl Fn(), work: F) -> F::Output {
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(interval, work.as_mut()).await {
            Ok(output) => return output,
            Err(_) => show(),
        }
    }
}
