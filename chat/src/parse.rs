//! From a client's text to a request whose every value is allowed, or to an error that says which field is wrong.
//!
//! The frame is read in two steps: JSON with limits ([`strict`]), then field by field, so that errors name the field.
//! `wire::ClientFrame`'s own derive gives the same frames; a test holds the two together.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::body::check_body;
use crate::errors::ErrorCode;
use crate::ids::UserId;
use crate::limits;
use crate::render::check_group_name;
use crate::text::{self, TextError};
use crate::wire::{Body, ClientFrame, Credentials, Request};

mod group;
mod strict;
mod user;

/// Why a text is not a request, and the request's id if it could be read: the error answers it as `re`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ParseError {
    pub re: Option<u64>,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the frame is not JSON: {message}")]
    NotJson { message: String },
    #[error("the frame is not a JSON object")]
    NotAnObject,
    #[error("the frame is nested deeper than {max} levels")]
    TooDeep { max: usize },
    #[error("the key {key:?} appears twice in one object")]
    RepeatedKey { key: String },
    #[error("the frame has no field `{field}`")]
    Missing { field: &'static str },
    #[error("there is no request of type {found:?}")]
    UnknownType { found: String },
    #[error("the field `{field}` is not valid: {message}")]
    Field { field: &'static str, message: String },
    #[error("the field `{field}` has {len} entries, at most {max} are allowed")]
    TooMany { field: &'static str, len: usize, max: usize },
}

impl ParseError {
    pub fn code(&self) -> ErrorCode {
        match self.problem {
            Problem::NotJson { .. }
            | Problem::NotAnObject
            | Problem::TooDeep { .. }
            | Problem::RepeatedKey { .. }
            | Problem::Missing { .. }
            | Problem::UnknownType { .. } => ErrorCode::MalformedFrame,
            Problem::Field { .. } => ErrorCode::InvalidField,
            Problem::TooMany { .. } => ErrorCode::LimitReached,
        }
    }
}

/// Reads one client frame and checks its values. Fields that are not known are passed over.
pub fn parse_frame(text: &str) -> Result<ClientFrame, ParseError> {
    let mut fields = match strict::object(text) {
        Ok(fields) => Fields(fields),
        Err(problem) => return Err(ParseError { re: strict::id(text), problem }),
    };
    let id: u64 = fields.required("id").map_err(|problem| ParseError { re: None, problem })?;
    let request = request(&mut fields).and_then(checked);
    request.map(|request| ClientFrame { id, request }).map_err(|problem| ParseError { re: Some(id), problem })
}

/// The id of a frame that is refused as it is: what the answer's `re` names.
pub fn frame_id(text: &str) -> Option<u64> {
    strict::id(text)
}

struct Fields(Map<String, Value>);

impl Fields {
    fn required<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<T, Problem> {
        self.optional(field)?.ok_or(Problem::Missing { field })
    }

    /// A missing field and `null` are the same.
    fn optional<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<Option<T>, Problem> {
        match self.0.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match serde_json::from_value(value) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(Problem::Field { field, message: error.to_string() }),
            },
        }
    }

    fn or_default<T: DeserializeOwned + Default>(&mut self, field: &'static str) -> Result<T, Problem> {
        Ok(self.optional(field)?.unwrap_or_default())
    }
}

fn request(fields: &mut Fields) -> Result<Request, Problem> {
    let kind: String = fields.required("type")?;
    Ok(match kind.as_str() {
        "login" => Request::Login {
            auth: fields.required("auth").map_err(without_secret)?,
            device: fields.required("device")?,
        },
        "resume" => Request::Resume { have: fields.or_default("have")? },
        "send" => Request::Send {
            to: fields.required("to")?,
            client_msg_id: fields.required("client_msg_id")?,
            body: fields.required("body")?,
            reply_to: fields.optional("reply_to")?,
            mentions: fields.or_default("mentions")?,
            forwarded: fields.optional("forwarded")?,
            only_to: fields.or_default("only_to")?,
            expires_in_ms: fields.optional("expires_in_ms")?,
            burn: fields.or_default("burn")?,
        },
        "create_group" => Request::CreateGroup {
            group: fields.required("group")?,
            name: fields.required("name")?,
            members: fields.or_default("members")?,
            kind: fields.or_default("kind")?,
        },
        "join" => Request::Join {
            group: fields.required("group")?,
            invite: fields.optional("invite")?,
            text: fields.or_default("text")?,
        },
        "leave" => Request::Leave { group: fields.required("group")? },
        "invite" => Request::Invite { group: fields.required("group")?, users: fields.required("users")? },
        "kick" => Request::Kick { group: fields.required("group")?, user: fields.required("user")? },
        "set_role" => Request::SetRole {
            group: fields.required("group")?,
            user: fields.required("user")?,
            role: fields.required("role")?,
        },
        "members" => Request::Members {
            group: fields.required("group")?,
            after: fields.optional("after")?,
            limit: fields.optional("limit")?,
            read: fields.or_default("read")?,
        },
        "read" => Request::Read { conversation: fields.required("conversation")?, seq: fields.required("seq")? },
        "history" => Request::History {
            conversation: fields.required("conversation")?,
            after: fields.or_default("after")?,
            before: fields.optional("before")?,
            limit: fields.optional("limit")?,
            read: fields.or_default("read")?,
        },
        "conversations" => Request::Conversations {
            after: fields.optional("after")?,
            limit: fields.optional("limit")?,
            read: fields.or_default("read")?,
        },
        "ping" => Request::Ping,
        "logout" => Request::Logout,
        other => match (user::request(other, fields)?, group::request(other, fields)?) {
            (Some(request), _) | (None, Some(request)) => request,
            (None, None) => return change(&kind, fields),
        },
    })
}

/// What is asked about a message that was sent.
fn change(kind: &str, fields: &mut Fields) -> Result<Request, Problem> {
    Ok(match kind {
        "edit" => Request::Edit {
            conversation: fields.required("conversation")?,
            seq: fields.required("seq")?,
            client_msg_id: fields.required("client_msg_id")?,
            body: fields.required("body")?,
        },
        "recall" => Request::Recall { conversation: fields.required("conversation")?, seq: fields.required("seq")? },
        "react" => Request::React {
            conversation: fields.required("conversation")?,
            seq: fields.required("seq")?,
            reaction: fields.required("reaction")?,
            on: fields.required("on")?,
        },
        "pin" => Request::Pin {
            conversation: fields.required("conversation")?,
            seq: fields.required("seq")?,
            on: fields.required("on")?,
        },
        "delete_for_me" => Request::DeleteForMe {
            conversation: fields.required("conversation")?,
            first: fields.required("first")?,
            last: fields.required("last")?,
        },
        "pins" => Request::Pins { conversation: fields.required("conversation")?, read: fields.or_default("read")? },
        _ => return Err(Problem::UnknownType { found: kind.chars().take(limits::ID_BYTES).collect() }),
    })
}

/// serde's messages quote the value they do not like: here it may be a password.
fn without_secret(problem: Problem) -> Problem {
    match problem {
        Problem::Field { field, .. } => {
            let message = r#"it must be {"password":{"app":…,"user":…,"password":…}} or {"token":…}"#.to_owned();
            Problem::Field { field, message }
        }
        other => other,
    }
}

/// What the types alone cannot say.
fn checked(request: Request) -> Result<Request, Problem> {
    match &request {
        Request::Login { auth, device } => {
            secret("auth", auth)?;
            label("device", text::check_label(&device.platform))?;
            label("device", text::check_label(&device.name))?;
        }
        Request::Refresh { token } => secret("token", &Credentials::Token(token.0.clone()))?,
        Request::Send { body, mentions, only_to, expires_in_ms, .. } => {
            of_body(body)?;
            few("only_to", only_to, limits::TARGET_USERS)?;
            let allowed = limits::EXPIRY_MS_MIN..=limits::EXPIRY_MS_MAX;
            if expires_in_ms.is_some_and(|ms| !allowed.contains(&ms)) {
                let message = format!("it is between {} and {}", allowed.start(), allowed.end());
                return Err(Problem::Field { field: "expires_in_ms", message });
            }
            few("mentions", &mentions.users, limits::MENTION_USERS)?;
        }
        Request::Edit { body, .. } => of_body(body)?,
        Request::React { reaction, .. } => label("reaction", text::check_reaction(reaction))?,
        Request::CreateGroup { name, members, .. } => {
            label("name", check_group_name(name))?;
            few("members", members, limits::INVITE_USERS)?;
        }
        Request::Invite { users, .. } => {
            label("users", if users.is_empty() { Err(TextError::Empty) } else { Ok(()) })?;
            few("users", users, limits::INVITE_USERS)?;
        }
        Request::SubscribePresence { users } | Request::UnsubscribePresence { users } => {
            few("users", users, limits::PRESENCE_USERS)?;
        }
        Request::Signal { body, .. } => {
            let (len, max) = (body.bytes(), limits::SIGNAL_BYTES);
            label("body", if len > max { Err(TextError::TooLong { len, max }) } else { Ok(()) })?;
        }
        other if user::check(other)? => {}
        other => group::check(other)?,
    }
    Ok(request)
}

fn label(field: &'static str, checked: Result<(), TextError>) -> Result<(), Problem> {
    checked.map_err(|error| Problem::Field { field, message: error.to_string() })
}

fn of_body(body: &Body) -> Result<(), Problem> {
    check_body(body).map_err(|error| Problem::Field { field: "body", message: error.to_string() })
}

fn few(field: &'static str, users: &[UserId], max: usize) -> Result<(), Problem> {
    let len = users.len();
    if len > max { Err(Problem::TooMany { field, len, max }) } else { Ok(()) }
}

/// Bounds what is hashed or verified before anybody is known. Whether a password is long enough is asked when it is set.
fn secret(field: &'static str, auth: &Credentials) -> Result<(), Problem> {
    let (len, max) = match auth {
        Credentials::Password { password, .. } => (password.len(), limits::PASSWORD_BYTES_MAX),
        Credentials::Token(token) => (token.len(), limits::TOKEN_BYTES),
    };
    label(field, if len > max { Err(TextError::TooLong { len, max }) } else { Ok(()) })
}

#[cfg(test)]
mod tests;
