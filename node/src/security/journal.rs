//! Where records go: a sealed, hash-chained file under the data directory (`storage::sealed_log`), or a test's memory.

use std::path::PathBuf;

use chat::codec::CodecError;
use chat::ids::NodeId;
use chat::limits;
use storage::NodeKey;
use storage::sealed_log::{SealedLog, SealedLogError};

use super::core::Core;
use super::message::SecurityLog;
use super::record::{Entry, Event, Record};
use super::start;
use crate::socket::unix_ms;

/// The log's name within its directory.
const NAME: &str = "security";

/// An append-only log of bytes. Errors are final and told as text: they are shown, never decided upon.
pub(super) trait Journal: Send + 'static {
    /// Buffered; the record's sequence.
    fn append(&mut self, record: &[u8]) -> Result<u64, String>;
    /// Everything appended is on disk when this returns.
    fn sync(&mut self) -> Result<(), String>;
}

impl Journal for SealedLog {
    fn append(&mut self, record: &[u8]) -> Result<u64, String> {
        SealedLog::append(self, record).map_err(|error| text(&error))
    }

    fn sync(&mut self) -> Result<(), String> {
        SealedLog::sync(self).map_err(|error| text(&error))
    }
}

/// An error with its sources, on one line.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

pub struct SecurityOptions {
    /// `security/` in the node's data directory; made if missing.
    pub dir: PathBuf,
    pub node: NodeId,
    pub key: NodeKey,
}

/// Why a node does not start: it does not serve without a security log whose chain holds.
#[derive(Debug, thiserror::Error)]
pub enum SecurityOpenError {
    #[error("the security log in {} does not open", dir.display())]
    Log { dir: PathBuf, source: SealedLogError },
    #[error("record {sequence} of the security log in {} does not decode", dir.display())]
    Record { dir: PathBuf, sequence: u64, source: CodecError },
    #[error("the security log in {} cannot be made", dir.display())]
    Directory { dir: PathBuf, source: std::io::Error },
    #[error("the start could not be recorded: {why}")]
    Start { why: String },
}

/// Opens the log, checks its whole chain, records that the node started, and starts the actor.
/// Needs a running actix system.
pub fn open(options: SecurityOptions) -> Result<SecurityLog, SecurityOpenError> {
    let SecurityOptions { dir, node, key } = options;
    std::fs::create_dir_all(&dir).map_err(|source| SecurityOpenError::Directory { dir: dir.clone(), source })?;
    let failed = |source| SecurityOpenError::Log { dir: dir.clone(), source };
    let mut log = SealedLog::open(&dir, &key, NAME).map_err(failed)?;

    let mut core = Core::default();
    let newest = log.records().saturating_sub(limits::SECURITY_TAIL as u64);
    for read in log.iter(newest).map_err(failed)? {
        let (sequence, bytes) = read.map_err(failed)?;
        let record = Record::decode(&bytes).map_err(|source| {
            let dir = dir.clone();
            SecurityOpenError::Record { dir, sequence, source }
        })?;
        core.remember(Entry { sequence, record });
    }

    let torn_bytes = log.torn_tail().map_or(0, |torn| torn.bytes);
    if torn_bytes > 0 {
        tracing::warn!(event = "security_log_torn", torn_bytes, "a record that was never durable was cut off");
    }
    core.appended(record_start(&mut log, node, torn_bytes).map_err(|why| SecurityOpenError::Start { why })?);
    Ok(start(node, core, Box::new(log), limits::SECURITY_MAILBOX))
}

fn record_start(log: &mut dyn Journal, node: NodeId, torn_bytes: u64) -> Result<Entry, String> {
    let event = Event::Opened { version: env!("CARGO_PKG_VERSION").to_owned(), torn_bytes };
    let record = Record { time_ms: unix_ms(), node, event };
    let sequence = log.append(&record.encode().map_err(|error| text(&error))?)?;
    log.sync()?;
    Ok(Entry { sequence, record })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::message::{LoginOutcome, Visitor};
    use super::super::record::{Counters, EndReason, Method};
    use super::*;
    use crate::auth::Identity;
    use chat::ids::{AppId, UserId};

    fn options(dir: &Path) -> SecurityOptions {
        SecurityOptions { dir: dir.join("security"), node: 1, key: NodeKey::from_bytes([7; 32]) }
    }

    fn visitor() -> Visitor {
        Visitor { ip: [127, 0, 0, 1].into(), port: 1, user_agent: String::new(), device: None }
    }

    async fn login(log: &SecurityLog, name: &str) {
        let identity = Identity { app: AppId::new("main").unwrap(), user: UserId::new(name).unwrap() };
        let accepted = LoginOutcome::Accepted { identity: &identity, session: name };
        log.login(&visitor(), Method::Token, accepted).await.unwrap();
    }

    fn users(entries: &[Entry]) -> Vec<String> {
        let user = |entry: &Entry| match &entry.record.event {
            Event::Login { visit, .. } => visit.user.as_ref().map(ToString::to_string),
            _ => None,
        };
        entries.iter().filter_map(user).collect()
    }

    #[actix::test]
    async fn records_are_there_after_a_restart_and_the_chain_holds() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(options(dir.path())).unwrap();
        login(&log, "alice").await;
        login(&log, "bob").await;
        drop(log);

        let log = open(options(dir.path())).unwrap();
        login(&log, "carol").await;
        let entries = log.tail(limits::SECURITY_TAIL).await.unwrap();
        assert_eq!(users(&entries), ["alice", "bob", "carol"]);
        let starts = entries.iter().filter(|entry| matches!(entry.record.event, Event::Opened { .. })).count();
        assert_eq!(starts, 2);
        let sequences: Vec<_> = entries.iter().map(|entry| entry.sequence).collect();
        assert_eq!(sequences, [0, 1, 2, 3, 4]);

        let key = NodeKey::from_bytes([7; 32]);
        let verified = storage::sealed_log::verify(&dir.path().join("security"), &key, NAME).unwrap();
        assert_eq!(verified.records, 5);
    }

    #[actix::test]
    async fn a_changed_byte_keeps_the_node_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let log = open(options(dir.path())).unwrap();
        for name in ["alice", "bob", "carol"] {
            login(&log, name).await;
        }
        log.session_ended(
            &visitor(),
            &Identity { app: AppId::new("main").unwrap(), user: UserId::new("alice").unwrap() },
            "alice",
            EndReason::ClientClosed,
            1,
            Counters::default(),
        );
        log.flush().await.unwrap();
        drop(log);

        let file = dir.path().join("security").join(format!("{NAME}.log"));
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let error = open(options(dir.path())).map(|_| ()).unwrap_err();
        assert!(matches!(error, SecurityOpenError::Log { .. }), "{error}");
    }

    #[actix::test]
    async fn another_key_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        login(&open(options(dir.path())).unwrap(), "alice").await;
        let other = SecurityOptions { key: NodeKey::from_bytes([8; 32]), ..options(dir.path()) };
        assert!(open(other).is_err());
    }
}
