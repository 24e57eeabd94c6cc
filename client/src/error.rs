//! How things fail, so that a caller knows what may have happened.

use chat::ids::ClientMsgId;
use chat::wire::WireError;

use crate::core::requests::Failure;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no node's url is given")]
    NoUrl,
    #[error("{url:?} is not a node's url: {expected}")]
    Url { url: String, expected: &'static str },
    #[error("no node could be reached in time; the last attempt failed: {last}")]
    Unreachable { last: String },
    #[error("login refused: C{} {}: {}", .0.code, .0.name, .0.message)]
    Refused(WireError),
    #[error("the node closed with {code}: {why}")]
    Closed { code: u16, why: String },
}

/// Why the certificates of a CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("not a PEM file of certificates: {0}")]
    Pem(String),
    #[error("no certificate inside")]
    Empty,
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// How a send ended that was not acked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The service said no; the message does not exist.
    #[error("refused: C{} {}: {}", .error.code, .error.name, .error.message)]
    Rejected { error: WireError },
    /// The deadline passed (or the client ended) and the message may or may not exist.
    /// Sending it again with the same id is always safe.
    #[error("it is unknown whether message {} was sent", .client_msg_id.0)]
    Unknown { client_msg_id: ClientMsgId, last: Option<WireError> },
    /// The message was not sent.
    #[error("message {} was not sent", .client_msg_id.0)]
    NotSent { client_msg_id: ClientMsgId, last: Option<WireError> },
    #[error("the frame has {bytes} bytes, {max} are allowed")]
    TooLarge { bytes: usize, max: usize },
}

impl SendError {
    pub(crate) fn from_request(error: RequestError, client_msg_id: ClientMsgId) -> Self {
        match error {
            // An earlier attempt may have been applied, only to have its answer lost.
            RequestError::Rejected { error, repeated: true } => Self::Unknown { client_msg_id, last: Some(error) },
            RequestError::Rejected { error, repeated: false } => Self::Rejected { error },
            RequestError::Unknown { last } => Self::Unknown { client_msg_id, last },
            RequestError::NotSent { last } => Self::NotSent { client_msg_id, last },
            RequestError::TooLarge { bytes, max } => Self::TooLarge { bytes, max },
            RequestError::UnexpectedAnswer => Self::Unknown { client_msg_id, last: None },
        }
    }
}

/// How any other request ended that was not answered with success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The service said no. `repeated`: an earlier attempt of this request may have had its effect.
    #[error("refused: C{} {}: {}", .error.code, .error.name, .error.message)]
    Rejected { error: WireError, repeated: bool },
    /// The deadline passed (or the client ended) and it may or may not have happened. Asking again is safe.
    #[error("the outcome is unknown")]
    Unknown { last: Option<WireError> },
    /// It did not happen.
    #[error("not sent")]
    NotSent { last: Option<WireError> },
    #[error("the frame has {bytes} bytes, {max} are allowed")]
    TooLarge { bytes: usize, max: usize },
    /// The node answered with something else; a fault of the service.
    #[error("the node answered with an unexpected frame")]
    UnexpectedAnswer,
}

impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected { error, repeated } => Self::Rejected { error, repeated },
            Failure::Unknown { last } => Self::Unknown { last },
            Failure::NotSent { last } => Self::NotSent { last },
        }
    }
}
