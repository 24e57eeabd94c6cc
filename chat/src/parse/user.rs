//! Requests about the user's own logins, and about who is there.

use super::{Fields, Problem};
use crate::wire::Request;

/// The request of this type, if it is one of these.
pub(super) fn request(kind: &str, fields: &mut Fields) -> Result<Option<Request>, Problem> {
    Ok(Some(match kind {
        "refresh" => Request::Refresh { token: fields.required("token").map_err(without_token)? },
        "devices" => Request::Devices,
        "revoke_logins" => Request::RevokeLogins { which: fields.required("which")? },
        "subscribe_presence" => Request::SubscribePresence { users: fields.required("users")? },
        "unsubscribe_presence" => Request::UnsubscribePresence { users: fields.required("users")? },
        "set_presence" => Request::SetPresence { state: fields.required("state")? },
        "set_privacy" => {
            Request::SetPrivacy { last_seen: fields.required("last_seen")?, online: fields.required("online")? }
        }
        "get_privacy" => Request::GetPrivacy,
        "typing" => Request::Typing { conversation: fields.required("conversation")? },
        "signal" => Request::Signal { to: fields.required("to")?, body: fields.required("body")? },
        _ => return Ok(None),
    }))
}

fn without_token(problem: Problem) -> Problem {
    match problem {
        Problem::Field { field, .. } => Problem::Field { field, message: "it must be a string".to_owned() },
        other => other,
    }
}
