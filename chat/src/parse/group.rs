//! Requests about groups, besides those that make them and change who is in.

use super::{Fields, Problem, label};
use crate::group::{ChangeError, check_code};
use crate::limits;
use crate::text;
use crate::wire::Request;

/// The request of this type, if it is one of these.
pub(super) fn request(kind: &str, fields: &mut Fields) -> Result<Option<Request>, Problem> {
    Ok(Some(match kind {
        "group" => Request::Group { group: fields.required("group")?, read: fields.or_default("read")? },
        "change_group" => Request::ChangeGroup { group: fields.required("group")?, change: fields.required("change")? },
        "ban" => Request::Ban {
            group: fields.required("group")?,
            user: fields.required("user")?,
            duration_ms: fields.optional("duration_ms")?,
        },
        "unban" => Request::Unban { group: fields.required("group")?, user: fields.required("user")? },
        "mute" => Request::Mute {
            group: fields.required("group")?,
            user: fields.required("user")?,
            duration_ms: fields.optional("duration_ms")?,
        },
        "unmute" => Request::Unmute { group: fields.required("group")?, user: fields.required("user")? },
        "set_nickname" => {
            Request::SetNickname { group: fields.required("group")?, nickname: fields.optional("nickname")? }
        }
        "answer_join" => Request::AnswerJoin {
            group: fields.required("group")?,
            user: fields.required("user")?,
            accept: fields.required("accept")?,
        },
        "add_invite" => Request::AddInvite {
            group: fields.required("group")?,
            code: fields.required("code")?,
            life_ms: fields.required("life_ms")?,
            uses: fields.required("uses")?,
        },
        "revoke_invite" => Request::RevokeInvite { group: fields.required("group")?, code: fields.required("code")? },
        "dissolve" => Request::Dissolve { group: fields.required("group")? },
        "join_requests" => Request::JoinRequests {
            group: fields.required("group")?,
            after: fields.optional("after")?,
            limit: fields.optional("limit")?,
        },
        "bans" => Request::Bans {
            group: fields.required("group")?,
            after: fields.optional("after")?,
            limit: fields.optional("limit")?,
        },
        _ => return Ok(None),
    }))
}

/// What the types alone cannot say.
pub(super) fn check(request: &Request) -> Result<(), Problem> {
    match request {
        Request::ChangeGroup { change, .. } => change.check().map_err(|error: ChangeError| wrong("change", error)),
        Request::Ban { duration_ms: Some(ms), .. } | Request::Mute { duration_ms: Some(ms), .. } => {
            within("duration_ms", *ms, limits::SENTENCE_MS_MAX)
        }
        Request::SetNickname { nickname: Some(nickname), .. } => label("nickname", text::check_name(nickname)),
        Request::AddInvite { code, life_ms, uses, .. } => {
            check_code(code).map_err(|error| wrong("code", error))?;
            within("life_ms", *life_ms, limits::INVITE_LIFE_MS_MAX)?;
            within("uses", u64::from(*uses), u64::from(u32::MAX))
        }
        Request::Join { invite: Some(code), .. } | Request::RevokeInvite { code, .. } => {
            check_code(code).map_err(|error| wrong("invite", error))
        }
        Request::Join { text, .. } if !text.is_empty() => {
            label("text", text::check_long(text, limits::REQUEST_TEXT_BYTES))
        }
        _ => Ok(()),
    }
}

fn wrong(field: &'static str, error: impl std::fmt::Display) -> Problem {
    Problem::Field { field, message: error.to_string() }
}

fn within(field: &'static str, value: u64, max: u64) -> Result<(), Problem> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(wrong(field, format!("it is from 1 to {max}"))) }
}
