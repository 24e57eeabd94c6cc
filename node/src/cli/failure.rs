//! How a command fails: what, where, what to do next, and the exit code.

use std::fmt;

/// Documented in `campanile --help`; scripts rest on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Failed = 1,
    /// clap's own.
    Usage = 2,
    /// The configuration, or a file it names.
    Configuration = 3,
    /// Nobody answers, or not now: the same again later may succeed.
    Unreachable = 4,
    /// The service understood and said no.
    Refused = 5,
    /// It may or may not have happened; the same again is safe.
    Unknown = 6,
    /// A replica of a running node cannot go on.
    Replica = 70,
    /// The disk of a node failed: what it holds of the last writes is not known.
    Disk = 74,
    /// The disk of a node is full or read-only: the same again succeeds once that has changed.
    NoRoom = 75,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// Numbers of the CLI's own errors, `2001` in `C2001`. Stable, never reused; 1xxx are the service's (docs/PROTOCOL.md).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub(crate) fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }
        }
    };
}

codes! {
    /// A file cannot be read.
    File = 2001;
    /// The configuration has problems.
    Configuration = 2002;
    /// What the configuration names is missing or unfit.
    ConfiguredFiles = 2003;
    /// An argument does not fit the others, or its value is not possible.
    Argument = 2004;
    /// The target directory is occupied.
    DirectoryExists = 2101;
    /// A cluster directory could not be made.
    Init = 2102;
    /// The admin listener does not answer.
    AdminUnreachable = 2201;
    /// The admin token is wrong.
    AdminToken = 2202;
    /// The admin listener answers in a form this version does not know.
    AdminForm = 2203;
    /// Replicas of a shard differ.
    Divergent = 2211;
    /// Not every replica was compared.
    NotCompared = 2212;
    /// Stored records are damaged, and not repaired.
    Damaged = 2213;
    /// No node takes the client's connection.
    Connect = 2301;
    /// The message was not sent.
    NotSent = 2302;
    /// It is unknown whether the message was sent.
    SendUnknown = 2303;
    /// The node did not start, or ended with an error.
    Node = 2401;
    /// The disk of the node is full, read-only or broken.
    Disk = 2402;
    /// A backup was not made or not restored.
    Backup = 2601;
    /// A backup is not what was written.
    BackupDamaged = 2602;
    /// Another key than the backup's.
    BackupKey = 2603;
    /// The demo's cluster did not come up, or its program did not run.
    Demo = 2501;
}

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) number: u16,
    pub(crate) exit: Exit,
    pub(crate) message: String,
    /// Indented below the message: where and why.
    pub(crate) details: Vec<String>,
    /// What to do about it.
    pub(crate) next: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, exit: Exit, message: impl Into<String>) -> Self {
        Self { number: code.number(), exit, message: message.into(), details: Vec::new(), next: None }
    }

    /// With an error and its causes as the details.
    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if self.details.last().is_none_or(|last| !last.contains(&text)) && !self.message.contains(&text) {
                self.details.push(text);
            }
            cause = error.source();
        }
        self
    }

    pub(crate) fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.details.push(detail.to_string());
        self
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[C{}]: {}", self.number, self.message)?;
        for detail in &self.details {
            write!(f, "\n  {}", detail.replace('\n', "\n  "))?;
        }
        match &self.next {
            Some(next) => write!(f, "\nnext: {next}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_unique_and_apart_from_the_services() {
        let numbers: BTreeSet<u16> = Code::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers.len(), Code::ALL.len());
        assert!(numbers.iter().all(|number| (2_000..3_000).contains(number)));
    }

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let source = std::io::Error::other("disk on fire");
        let failure =
            Failure::new(Code::File, Exit::Configuration, "cannot read a.toml").because(&source).next("look at it");
        assert_eq!(failure.to_string(), "error[C2001]: cannot read a.toml\n  disk on fire\nnext: look at it");
    }
}
