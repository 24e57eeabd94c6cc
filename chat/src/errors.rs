//! The error catalogue of the client protocol. Numbers and names are stable; retired ones stay listed.

use serde::{Deserialize, Serialize};

/// What a failed request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing happened.
    None,
    /// It may or may not have happened; the same request with the same ids may be sent again.
    Unknown,
    /// It happened.
    Applied,
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $retryable:literal, $effect:ident;)*) => {
        /// Every error a client can be told. The variant's order is its form between nodes: new ones go last.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable number, `1207` in `C1207`.
            pub fn number(self) -> u16 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The stable name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether the same request can succeed later.
            pub fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// What the failed request did.
            pub fn effect(self) -> Effect {
                match self { $(Self::$variant => Effect::$effect,)* }
            }
        }
    };
}

catalogue! {
    // 10xx: the frame
    /// The frame is not JSON of a known form.
    MalformedFrame = 1001, "malformed_frame", false, None;
    /// The frame has more bytes or fragments than allowed.
    FrameTooLarge = 1002, "frame_too_large", false, None;
    /// A field's value is not allowed.
    InvalidField = 1003, "invalid_field", false, None;
    /// The frame is not allowed at this point of the connection.
    OutOfOrder = 1004, "out_of_order", false, None;
    /// More requests are unanswered than allowed.
    TooManyInFlight = 1005, "too_many_in_flight", true, None;
    /// Binary frames are not part of this subprotocol.
    UnsupportedFrame = 1006, "unsupported_frame", false, None;
    // 12xx: who is asking
    /// Nothing but `login` is answered before a login.
    NotLoggedIn = 1201, "not_logged_in", false, None;
    /// No login within the time allowed.
    LoginTimeout = 1202, "login_timeout", true, None;
    /// User, password or token are wrong; which of them is not said.
    BadCredentials = 1203, "bad_credentials", false, None;
    /// The token is no longer valid.
    TokenExpired = 1204, "token_expired", false, None;
    /// The user has as many connections or devices as allowed.
    TooManySessions = 1205, "too_many_sessions", false, None;
    // 13xx: what may be done
    /// No such conversation, or the user is not a member of it; which of them is not said.
    NotAMember = 1301, "not_a_member", false, None;
    /// The user's role does not allow it.
    Forbidden = 1302, "forbidden", false, None;
    /// No such user.
    UserNotFound = 1303, "user_not_found", false, None;
    /// The same `client_msg_id` was used with other content.
    IdConflict = 1304, "id_conflict", false, None;
    /// The group id is taken.
    GroupExists = 1305, "group_exists", false, None;
    /// The user is a member already.
    AlreadyMember = 1306, "already_member", false, Applied;
    /// The owner cannot leave before the group has another owner.
    OwnerMustStay = 1307, "owner_must_stay", false, None;
    /// A limit of the service is reached; the message names it.
    LimitReached = 1308, "limit_reached", false, None;
    /// The account exists already.
    AccountExists = 1309, "account_exists", false, None;
    /// A position beyond the conversation's head.
    SeqBeyondHead = 1310, "seq_beyond_head", false, None;
    // 15xx: the service
    /// A queue is full, or stays long; nothing was done.
    Overloaded = 1501, "overloaded", true, None;
    /// No leader or no majority; nothing was done.
    Unavailable = 1502, "unavailable", true, None;
    /// The deadline passed before the outcome was known.
    OutcomeUnknown = 1503, "outcome_unknown", true, Unknown;
    /// A fault of the service.
    Internal = 1504, "internal", true, Unknown;
    // 13xx, later ones
    /// The user may not speak in the group at the moment.
    Muted = 1311, "muted", false, None;
    /// The user is banned from the group.
    Banned = 1312, "banned", false, None;
    /// Too soon after the user's last message in the group.
    SlowMode = 1313, "slow_mode", false, None;
    /// The invite does not hold, or no longer.
    InviteInvalid = 1314, "invite_invalid", false, None;
    /// The group is dissolved.
    GroupDissolved = 1315, "group_dissolved", false, None;
    // 12xx, later ones
    /// The token was issued before the user's logins were revoked.
    LoginRevoked = 1206, "login_revoked", false, None;
    /// The cluster's feature level does not allow it yet: an operator switches it on.
    NotSwitchedOn = 1505, "not_switched_on", false, None;
    // 13xx: what may be done with a message
    /// No such event, or it is deleted, or it is no message.
    EventNotFound = 1321, "event_not_found", false, None;
    /// The message is too old for that.
    TooLate = 1322, "too_late", false, None;
    /// The message was recalled.
    MessageRecalled = 1323, "message_recalled", false, None;
    // 13xx: what may be done with a user
    /// The other user does not take this from you: a block, or a wish to be left alone. Which of them is not said.
    NotAccepted = 1324, "not_accepted", false, None;
    // 151x: apps, and the API of their backends
    /// No such app.
    AppNotFound = 1510, "app_not_found", false, None;
    /// There is an app of that id.
    AppExists = 1511, "app_exists", false, None;
    /// The app is frozen: it lets nobody in.
    AppFrozen = 1512, "app_frozen", false, None;
    /// The user is deactivated.
    UserDeactivated = 1513, "user_deactivated", false, None;
    /// The API key is missing, unknown, expired or revoked; which of them is not said.
    BadApiKey = 1514, "bad_api_key", false, None;
    /// The API key is not good for that.
    MissingScope = 1515, "missing_scope", false, None;
    /// The user, the device, the address, the conversation, the app or the API key asks more often than it may; nothing was done.
    RateLimited = 1516, "rate_limited", true, None;
    /// There is nothing at this address.
    NoSuchResource = 1517, "no_such_resource", false, None;
}

/// WebSocket close codes. 4000 to 4499: reconnect and resume; 4500 to 4999: stop, the same attempt will fail again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    GoingAway = 4000,
    HeartbeatTimeout = 4001,
    Overloaded = 4002,
    /// The token that the session was begun with is over.
    TokenExpired = 4003,
    SlowConsumer = 4008,
    Internal = 4009,
    BadFrames = 4500,
    FrameTooLarge = 4501,
    LoginTimeout = 4502,
    LoginFailed = 4503,
    /// The user or the app ended the session.
    Revoked = 4504,
    /// A newer session of the user began, and the app allows no more.
    Replaced = 4505,
    LoggedOut = 4507,
}

impl CloseCode {
    /// Whether a client should connect again and resume.
    pub fn reconnect(code: u16) -> bool {
        // Everything outside our stopping range (a lost connection, 1001, 1006, 1012) is worth another try.
        !(4500..=4999).contains(&code)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        let numbers: BTreeSet<_> = ErrorCode::ALL.iter().map(|e| e.number()).collect();
        let names: BTreeSet<_> = ErrorCode::ALL.iter().map(|e| e.name()).collect();
        assert_eq!((numbers.len(), names.len()), (ErrorCode::ALL.len(), ErrorCode::ALL.len()));
    }

    #[test]
    fn a_request_of_unknown_outcome_is_always_safe_to_repeat() {
        for error in ErrorCode::ALL {
            assert!(error.effect() != Effect::Unknown || error.retryable(), "{error:?}");
        }
    }
}
