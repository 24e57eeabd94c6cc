//! Requests about the user's own logins and what the user keeps, about who is there and who read what.

use super::{Fields, Problem, few, label};
use crate::limits;
use crate::text;
use crate::user::{check_contact_text, check_draft, check_profile, check_remark};
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
        "set_profile" => Request::SetProfile { profile: fields.required("profile")? },
        "profiles" => Request::Profiles { users: fields.required("users")? },
        "set_settings" => Request::SetSettings { settings: fields.required("settings")? },
        "sync" => Request::Sync { after: fields.or_default("after")?, limit: fields.optional("limit")? },
        "ask_contact" => Request::AskContact { user: fields.required("user")?, text: fields.or_default("text")? },
        "answer_contact" => {
            Request::AnswerContact { user: fields.required("user")?, accept: fields.required("accept")? }
        }
        "remove_contact" => Request::RemoveContact { user: fields.required("user")? },
        "describe_contact" => Request::DescribeContact {
            user: fields.required("user")?,
            remark: fields.or_default("remark")?,
            tags: fields.or_default("tags")?,
        },
        "block" => Request::Block { user: fields.required("user")? },
        "unblock" => Request::Unblock { user: fields.required("user")? },
        "mark" => Request::Mark {
            conversation: fields.required("conversation")?,
            pinned: fields.optional("pinned")?,
            muted_until_ms: fields.optional("muted_until_ms")?,
            unread: fields.optional("unread")?,
            draft: fields.optional("draft")?,
        },
        "delivered" => {
            Request::Delivered { conversation: fields.required("conversation")?, seq: fields.required("seq")? }
        }
        "readers" => Request::Readers {
            conversation: fields.required("conversation")?,
            seq: fields.required("seq")?,
            after: fields.optional("after")?,
            limit: fields.optional("limit")?,
        },
        "stream" => Request::Stream {
            to: fields.required("to")?,
            client_msg_id: fields.required("client_msg_id")?,
            offset: fields.required("offset")?,
            text: fields.required("text")?,
        },
        "unread_total" => Request::UnreadTotal,
        "signal" => Request::Signal { to: fields.required("to")?, body: fields.required("body")? },
        _ => return Ok(None),
    }))
}

/// What the types alone cannot say. True if it is one of these.
pub(super) fn check(request: &Request) -> Result<bool, Problem> {
    match request {
        Request::SetProfile { profile } => label("profile", check_profile(profile))?,
        Request::Profiles { users } => few("users", users, limits::PROFILES)?,
        Request::AskContact { text, .. } => label("text", check_contact_text(text))?,
        Request::DescribeContact { remark, tags, .. } => label("remark", check_remark(remark, tags))?,
        Request::Stream { text, .. } => label("text", text::check_long(text, limits::STREAM_BYTES))?,
        Request::Mark { draft: Some(draft), .. } => label("draft", check_draft(draft))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn without_token(problem: Problem) -> Problem {
    match problem {
        Problem::Field { field, .. } => Problem::Field { field, message: "it must be a string".to_owned() },
        other => other,
    }
}
