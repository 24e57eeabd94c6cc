//! What is written into the security log. The order of fields and variants is the format on disk: new variants go
//! last, and `golden/record-v1.bin` holds what was ever written.

use std::net::IpAddr;

use bytes::Bytes;
use chat::codec::{self, CodecError, Kind};
use chat::ids::{AppId, DeviceId, NodeId, UserId};
use chat::limits;
use chat::wire::Device;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One record with its place in the node's log. Serializes as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub sequence: u64,
    #[serde(flatten)]
    pub record: Record,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it happened, Unix milliseconds by this node's clock. The sequence gives the order.
    pub time_ms: u64,
    pub node: NodeId,
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The node started. `torn_bytes` at the end of the log belonged to a record that was never durable.
    Opened {
        version: String,
        torn_bytes: u64,
    },
    Login {
        visit: Visit,
        method: Method,
        result: LoginResult,
    },
    /// The client asked to end its session.
    Logout {
        visit: Visit,
    },
    SessionEnded {
        visit: Visit,
        reason: EndReason,
        duration_ms: u64,
        counters: Counters,
    },
    /// So many session ends and logouts are missing here, because the actor's mailbox was full.
    Gap {
        first_ms: u64,
        last_ms: u64,
        count: u64,
    },
    /// Something was to be changed on the admin listener: one record before it is done, one with what came of it.
    Administration(Administration),
    /// A node joins, was promoted, leaves or is gone: decided by the cluster, as this node heard of it.
    Membership {
        node: NodeId,
        /// `joining`, `active`, `leaving` or `removed`.
        state: String,
    },
}

/// An act of administration: who, from where, what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Administration {
    /// The same in both records of an act.
    pub act: Uuid,
    /// What the request was let in by, told by a fingerprint: the admin token, or a join token.
    pub by: String,
    pub ip: IpAddr,
    pub port: u16,
    pub user_agent: String,
    /// A stable name, `node.remove`.
    pub verb: String,
    /// What it was about, `node=3`.
    pub subject: String,
    pub result: AdministrationResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdministrationResult {
    /// It is about to be done. Without a later record of the act it is not known whether it was.
    Asked,
    Done,
    /// The error that was answered.
    Refused {
        code: u16,
        name: String,
    },
}

/// Tells secrets apart without telling them: hex of the first 8 bytes of BLAKE3 over one.
pub fn fingerprint(secret: &str) -> String {
    let hash = blake3::derive_key("campanile security log: secret of administration", secret.as_bytes());
    blake3::Hash::from_bytes(hash).to_hex()[..16].to_owned()
}

/// Who, from where, with what. The user of a refused login is the one that the credentials named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    pub app: Option<AppId>,
    pub user: Option<UserId>,
    pub session: Option<SessionHash>,
    pub ip: IpAddr,
    pub port: u16,
    pub user_agent: String,
    pub device: Option<DeviceRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    pub id: DeviceId,
    pub platform: String,
    pub name: String,
}

impl From<&Device> for DeviceRecord {
    fn from(device: &Device) -> Self {
        Self {
            id: device.id.clone(),
            platform: bounded(&device.platform, limits::NAME_BYTES),
            name: bounded(&device.name, limits::NAME_BYTES),
        }
    }
}

/// Names a session without being usable as one: hex of the first 16 bytes of BLAKE3 over its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHash(String);

impl SessionHash {
    pub fn of(session: &str) -> Self {
        let hash = blake3::derive_key("campanile security log: session id", session.as_bytes());
        Self(blake3::Hash::from_bytes(hash).to_hex()[..32].to_owned())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Password,
    Token,
    /// The connection ended before it sent credentials.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginResult {
    Accepted,
    /// The error the client was told, and the reason it was not told.
    Refused {
        code: u16,
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    Logout,
    /// The client closed, or the connection broke.
    ClientClosed,
    HeartbeatTimeout,
    SlowConsumer,
    BadFrames,
    FrameTooLarge,
    Overloaded,
    GoingAway,
    Internal,
    /// The token was over and not refreshed.
    TokenExpired,
    /// The user or the app ended it.
    Revoked,
    /// A newer session of the user began, and the app allows no more.
    Replaced,
}

/// What a session did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests received.
    pub requests: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Messages sent.
    pub sends: u64,
    /// Events delivered.
    pub events: u64,
}

impl Record {
    pub(super) fn encode(&self) -> Result<Bytes, CodecError> {
        codec::encode(Kind::Security, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Kind::Security, bytes)
    }
}

/// Text from outside, made safe to show and to search: letters, digits and visible ASCII stay, everything else
/// (control, bidirectional and zero-width characters above all) and the backslash become `\u{…}`. At most
/// `max_bytes` long; `…` at the end says that something was cut.
pub fn bounded(text: &str, max_bytes: usize) -> String {
    const CUT: char = '…';
    let mut out = String::new();
    for c in text.chars() {
        let plain = c != '\\' && (c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric());
        let piece = if plain { c.to_string() } else { c.escape_unicode().to_string() };
        if out.len() + piece.len() + CUT.len_utf8() > max_bytes {
            out.push(CUT);
            break;
        }
        out.push_str(&piece);
    }
    out
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
