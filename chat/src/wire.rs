//! Frames between a client and a node: one JSON object per WebSocket text message, subprotocol
//! `campanile.v1.json`. docs/PROTOCOL.md describes the rules; these types are the form.
//! Long because the protocol is two enums, a variant for each type of frame.

use serde::{Deserialize, Serialize};

use crate::command::Revoked;
use crate::errors::{Effect, ErrorCode};
use crate::event::{Forwarded, Mentions, Role};
use crate::group::{GroupChange, GroupKind};
use crate::ids::{AppId, ClientMsgId, ConversationId, DeviceId, GroupId, NodeId, UserId};
use crate::limits;
use crate::user::{Profile, UserSettings};

mod body;
mod event;
pub mod group;
mod presence;
mod user;

pub use body::{Body, Degrees, MergedItem, Reaction, Recalled};
pub use event::{EventContent, WireEvent};
pub use presence::{Appearance, Audience, PresenceState, SignalBody, UserPresence};
pub use user::{Kept, Reader, UserItem, UserProfile};

/// The WebSocket subprotocol a client must offer.
pub const SUBPROTOCOL: &str = "campanile.v1.json";
/// The same frames as MessagePack ([`crate::packed`]), in binary WebSocket messages.
pub const SUBPROTOCOL_PACKED: &str = "campanile.v1.msgpack";
/// The path of the WebSocket endpoint.
pub const PATH: &str = "/v1/connect";

/// A request and its id, which the answer repeats as `re`. Ids are the client's, any number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFrame {
    pub id: u64,
    #[serde(flatten)]
    pub request: Request,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// First frame of every connection, within [`limits::LOGIN_TIMEOUT_MS`].
    Login {
        auth: Credentials,
        device: Device,
    },
    /// Starts live delivery, once per connection after login. `have` says what the client holds.
    Resume {
        #[serde(default)]
        have: Vec<Position>,
    },
    Send {
        to: Target,
        client_msg_id: ClientMsgId,
        body: Body,
        /// The seq of the event that this answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<u64>,
        #[serde(default, skip_serializing_if = "Mentions::is_empty")]
        mentions: Mentions,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forwarded: Option<Forwarded>,
        /// In a group: only these and the author see what it says.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        only_to: Vec<UserId>,
        /// It ends after that time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_in_ms: Option<u64>,
        /// In private: it ends when the other side has read it.
        #[serde(default, skip_serializing_if = "is_default")]
        burn: bool,
    },
    CreateGroup {
        group: GroupId,
        name: String,
        #[serde(default)]
        members: Vec<UserId>,
        #[serde(default, skip_serializing_if = "is_default")]
        kind: GroupKind,
    },
    /// With the code of an invite, or with words to the admins where they are asked.
    Join {
        group: GroupId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invite: Option<String>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
    },
    Leave {
        group: GroupId,
    },
    Invite {
        group: GroupId,
        users: Vec<UserId>,
    },
    Kick {
        group: GroupId,
        user: UserId,
    },
    SetRole {
        group: GroupId,
        user: UserId,
        role: Role,
    },
    /// Members in byte order of their ids, those after `after`.
    Members {
        group: GroupId,
        after: Option<UserId>,
        limit: Option<usize>,
        #[serde(default, skip_serializing_if = "ReadMode::is_linearizable")]
        read: ReadMode,
    },
    /// Everything up to `seq` is read.
    Read {
        conversation: ConversationId,
        seq: u64,
    },
    /// Events with `after < seq`, oldest first; or the last `limit` ones before `before`, if given.
    History {
        conversation: ConversationId,
        #[serde(default)]
        after: u64,
        before: Option<u64>,
        limit: Option<usize>,
        #[serde(default, skip_serializing_if = "ReadMode::is_linearizable")]
        read: ReadMode,
    },
    /// The user's conversations in order of their ids, those after `after`.
    Conversations {
        after: Option<ConversationId>,
        limit: Option<usize>,
        #[serde(default, skip_serializing_if = "ReadMode::is_linearizable")]
        read: ReadMode,
    },
    Ping,
    Logout,
    /// What the group is like.
    Group {
        group: GroupId,
        #[serde(default, skip_serializing_if = "ReadMode::is_linearizable")]
        read: ReadMode,
    },
    ChangeGroup {
        group: GroupId,
        change: GroupChange,
    },
    /// Without `duration_ms`: for good.
    Ban {
        group: GroupId,
        user: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration_ms: Option<u64>,
    },
    Unban {
        group: GroupId,
        user: UserId,
    },
    /// Without `duration_ms`: for good.
    Mute {
        group: GroupId,
        user: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration_ms: Option<u64>,
    },
    Unmute {
        group: GroupId,
        user: UserId,
    },
    /// Your own name in the group; none takes it away.
    SetNickname {
        group: GroupId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nickname: Option<String>,
    },
    /// To somebody who asked to join.
    AnswerJoin {
        group: GroupId,
        user: UserId,
        accept: bool,
    },
    /// The code is the client's: at least [`limits::INVITE_CODE_BYTES_MIN`] random letters, digits, `-` and `_`.
    AddInvite {
        group: GroupId,
        code: String,
        life_ms: u64,
        uses: u32,
    },
    RevokeInvite {
        group: GroupId,
        code: String,
    },
    Dissolve {
        group: GroupId,
    },
    /// Who asks to join, for admins; those after `after`.
    JoinRequests {
        group: GroupId,
        after: Option<UserId>,
        limit: Option<usize>,
    },
    /// A newer token of the same user: the session lasts as long as that one.
    Refresh {
        token: Token,
    },
    /// Your devices.
    Devices,
    /// Ends sessions: of all your devices, of one (`{"device": id}`), or of all but one (`{"others": id}`).
    RevokeLogins {
        which: Revoked,
    },
    /// Who is banned, for admins; those after `after`.
    Bans {
        group: GroupId,
        after: Option<UserId>,
        limit: Option<usize>,
    },
    /// From now on the client is told when these users come, go or turn away.
    SubscribePresence {
        users: Vec<UserId>,
    },
    UnsubscribePresence {
        users: Vec<UserId>,
    },
    /// How this session appears to others.
    SetPresence {
        state: Appearance,
    },
    /// Who may know when the user is there, and when the user last was.
    SetPrivacy {
        last_seen: Audience,
        online: Audience,
    },
    GetPrivacy,
    /// The user is writing something.
    Typing {
        conversation: ConversationId,
    },
    /// To whoever is online in the conversation now.
    Signal {
        to: Target,
        body: SignalBody,
    },
    /// Gives one of the user's own messages another body of the same kind.
    Edit {
        conversation: ConversationId,
        seq: u64,
        client_msg_id: ClientMsgId,
        body: Body,
    },
    /// Takes a message back, for everybody.
    Recall {
        conversation: ConversationId,
        seq: u64,
    },
    /// Sets or removes the user's own reaction to a message.
    React {
        conversation: ConversationId,
        seq: u64,
        reaction: String,
        on: bool,
    },
    Pin {
        conversation: ConversationId,
        seq: u64,
        on: bool,
    },
    /// The pinned messages of a conversation.
    Pins {
        conversation: ConversationId,
        #[serde(default, skip_serializing_if = "ReadMode::is_linearizable")]
        read: ReadMode,
    },
    /// What others see of the user; replaces what was there.
    SetProfile {
        profile: Profile,
    },
    /// Profiles of users who have one.
    Profiles {
        users: Vec<UserId>,
    },
    /// Who may begin a conversation with the user.
    SetSettings {
        settings: UserSettings,
    },
    /// What the user keeps that changed since a version: profile, settings, contacts, blocked users, marks.
    Sync {
        #[serde(default, skip_serializing_if = "is_default")]
        after: u64,
        limit: Option<usize>,
    },
    AskContact {
        user: UserId,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
    },
    AnswerContact {
        user: UserId,
        accept: bool,
    },
    /// Ends it, or takes back what was asked.
    RemoveContact {
        user: UserId,
    },
    /// The user's own words about a contact.
    DescribeContact {
        user: UserId,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        remark: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
    },
    /// Nothing that this user says to you in private is taken any more.
    Block {
        user: UserId,
    },
    Unblock {
        user: UserId,
    },
    /// How the user treats a conversation; what is not named stays.
    Mark {
        conversation: ConversationId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pinned: Option<bool>,
        /// 0: it may make a noise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        muted_until_ms: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unread: Option<bool>,
        /// Empty: there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        draft: Option<String>,
    },
    /// The user's devices have everything up to `seq`.
    Delivered {
        conversation: ConversationId,
        seq: u64,
    },
    /// Who has read and received a message; those after `after`.
    Readers {
        conversation: ConversationId,
        seq: u64,
        after: Option<UserId>,
        limit: Option<usize>,
    },
    /// Unread messages and mentions of all conversations together.
    UnreadTotal,
    /// What a message says so far that is still being written: `text` begins at byte `offset`. It is told to whoever is there and
    /// kept nowhere; `send` with the same id says the whole.
    Stream {
        to: Target,
        client_msg_id: ClientMsgId,
        offset: u64,
        text: String,
    },
    /// The user does not want to see these any more, on any device.
    DeleteForMe {
        conversation: ConversationId,
        first: u64,
        last: u64,
    },
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How fresh a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadMode {
    /// It shows everything that was acknowledged to anybody before it was asked for.
    #[default]
    Linearizable,
    /// It shows what the node has, at once, also while it reaches no other node: nothing wrong, but perhaps not the newest.
    Local,
}

impl ReadMode {
    pub fn is_linearizable(&self) -> bool {
        *self == Self::Linearizable
    }
}

/// Where a message goes: `{"user": "bob"}` or `{"group": "0190…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    User(UserId),
    Group(GroupId),
}

impl Target {
    /// The conversation this names when `sender` says it.
    pub fn conversation(&self, sender: &UserId) -> ConversationId {
        match self {
            Self::User(peer) => ConversationId::private(sender.clone(), peer.clone()),
            Self::Group(group) => ConversationId::Group(*group),
        }
    }
}

/// How a user proves who they are. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    Password {
        app: AppId,
        user: UserId,
        password: String,
    },
    /// A JWT signed by the app (EdDSA): `sub` user, `aud` app, `exp` at most a day ahead.
    Token(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { app, user, .. } => write!(f, "Password({app}/{user})"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

/// A token on its own. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// The device a connection belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub id: DeviceId,
    /// `web`, `ios`, `android`, `desktop`, `server` or the app's own word.
    pub platform: String,
    #[serde(default)]
    pub name: String,
}

/// The last event of a conversation that the client holds without a gap before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub conversation: ConversationId,
    pub seq: u64,
}

/// A frame from the node. `re` names the request it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// Answers `login`.
    Hello {
        re: u64,
        user: UserId,
        app: AppId,
        session: String,
        cluster: String,
        node: NodeId,
        /// Changes when the service was restored from a backup: then clients must drop what they hold.
        epoch: u32,
        time_ms: u64,
        /// When the session ends unless it is refreshed; none if it was begun with a password.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
        limits: Limits,
    },
    /// Answers everything that changes a conversation: committed on the durable disks of a majority.
    Ack {
        re: u64,
        conversation: ConversationId,
        /// The event's place, or the read position.
        seq: u64,
        epoch: u32,
        /// The same request had been applied before; `seq` is that of the first time.
        duplicate: bool,
    },
    /// Answers `resume`. Live delivery of each conversation starts after the position named here.
    Resumed {
        re: u64,
        conversations: Vec<Resumption>,
    },
    /// An event, in order within its conversation, each once per connection.
    Event {
        #[serde(flatten)]
        event: WireEvent,
    },
    History {
        re: u64,
        conversation: ConversationId,
        events: Vec<WireEvent>,
        /// The conversation's last event when this was read.
        head: u64,
        /// More events follow in the asked direction.
        more: bool,
        /// Events below it are deleted.
        #[serde(default = "first_seq", skip_serializing_if = "is_first_seq")]
        oldest_seq: u64,
        #[serde(default)]
        read: ReadMode,
        /// The last event that what is shown takes into account.
        #[serde(default)]
        as_of_seq: u64,
    },
    /// Each item is as of its own `head`.
    Conversations {
        re: u64,
        items: Vec<ConversationItem>,
        more: bool,
        #[serde(default)]
        read: ReadMode,
    },
    Members {
        re: u64,
        group: GroupId,
        members: Vec<Member>,
        more: bool,
        #[serde(default)]
        read: ReadMode,
        #[serde(default)]
        as_of_seq: u64,
    },
    /// Answers `refresh`.
    Refreshed {
        re: u64,
        expires_ms: u64,
    },
    Devices {
        re: u64,
        devices: Vec<DeviceItem>,
    },
    /// Answers what changes no conversation.
    Done {
        re: u64,
    },
    Group {
        re: u64,
        #[serde(flatten)]
        info: group::GroupInfo,
    },
    JoinRequests {
        re: u64,
        group: GroupId,
        requests: Vec<group::JoinRequest>,
        more: bool,
    },
    Bans {
        re: u64,
        group: GroupId,
        bans: Vec<group::Ban>,
        more: bool,
    },
    /// Somebody asks to join: to the group's admins.
    JoinAsked {
        group: GroupId,
        user: UserId,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
    },
    /// Answers `pins`: the pinned messages as they are now, in the order in which they were pinned.
    Pins {
        re: u64,
        conversation: ConversationId,
        events: Vec<WireEvent>,
        #[serde(default)]
        read: ReadMode,
        #[serde(default)]
        as_of_seq: u64,
    },
    /// A member's read position moved: to that member's own devices, to the peer of a private chat, and to the members of a
    /// small group.
    ReadMoved {
        conversation: ConversationId,
        user: UserId,
        seq: u64,
    },
    /// A member's devices have everything up to `seq`: to the peer of a private chat, and to the members of a small group.
    DeliveredMoved {
        conversation: ConversationId,
        user: UserId,
        seq: u64,
    },
    /// More of a message that is being written: `text` begins at byte `offset`. The message itself comes as an event.
    Stream {
        conversation: ConversationId,
        from: UserId,
        client_msg_id: ClientMsgId,
        offset: u64,
        text: String,
    },
    /// The user deleted these on another device, for themselves.
    DeletedForMe {
        conversation: ConversationId,
        first: u64,
        last: u64,
    },
    /// Answers `sync`.
    Synced {
        re: u64,
        items: Vec<UserItem>,
        /// Up to which this is all that changed.
        version: u64,
        more: bool,
        /// Drop what you hold: everything there is follows from the beginning.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        reset: bool,
    },
    /// What the user keeps has changed, up to `version`. Without items: ask for it with `sync`.
    ItemsChanged {
        items: Vec<UserItem>,
        version: u64,
    },
    Profiles {
        re: u64,
        profiles: Vec<UserProfile>,
    },
    /// Answers `readers`: how many of the members have read and received the message, and a page of all of them.
    Readers {
        re: u64,
        conversation: ConversationId,
        seq: u64,
        read: u64,
        delivered: u64,
        readers: Vec<Reader>,
        more: bool,
    },
    UnreadTotal {
        re: u64,
        unread: u64,
        mentions: u64,
        /// Conversations with something unread in them.
        conversations: u64,
    },
    /// A conversation entered the user's list: live delivery starts after `live_after`.
    ConversationAdded {
        conversation: ConversationId,
        live_after: u64,
    },
    /// The user is no longer a member: nothing of this conversation follows.
    ConversationRemoved {
        conversation: ConversationId,
    },
    /// Events of this conversation cannot be continued from where the client is.
    MustResync {
        conversation: ConversationId,
        reason: ResyncReason,
        oldest_seq: u64,
    },
    /// The node will close soon; reconnect elsewhere after the given time.
    Goaway {
        reconnect_after_ms: u64,
    },
    Pong {
        re: u64,
    },
    /// Answers `subscribe_presence`, or (without `re`) tells what has changed.
    Presence {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        re: Option<u64>,
        users: Vec<UserPresence>,
    },
    /// Answers `set_privacy` and `get_privacy`.
    Privacy {
        re: u64,
        last_seen: Audience,
        online: Audience,
    },
    Typing {
        conversation: ConversationId,
        user: UserId,
    },
    Signal {
        conversation: ConversationId,
        from: UserId,
        body: SignalBody,
    },
    /// A request failed, or (without `re`) the connection did.
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        re: Option<u64>,
        #[serde(flatten)]
        error: WireError,
    },
}

fn first_seq() -> u64 {
    1
}

fn is_first_seq(seq: &u64) -> bool {
    *seq == first_seq()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    pub code: u16,
    pub name: String,
    pub message: String,
    pub retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    pub effect: Effect,
    /// Names the request in the node's own log.
    pub trace_id: String,
}

impl WireError {
    pub fn new(code: ErrorCode, message: impl Into<String>, trace_id: impl Into<String>) -> Self {
        Self {
            code: code.number(),
            name: code.name().to_owned(),
            message: message.into(),
            retryable: code.retryable(),
            retry_after_ms: None,
            effect: code.effect(),
            trace_id: trace_id.into(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResyncReason {
    /// Older events are gone.
    Retention,
    /// The client holds more than the conversation has.
    Epoch,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumption {
    pub conversation: ConversationId,
    /// Events after this follow: what the client said it has, or the head where it said nothing.
    pub live_after: u64,
    pub head: u64,
    /// The user is no longer a member; nothing follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationItem {
    pub conversation: ConversationId,
    /// The group's name; none for private conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub head: u64,
    pub read: u64,
    pub unread: u64,
    /// Unread messages that name the user, or everybody.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mentions: u64,
    pub joined: u64,
    pub role: Role,
    pub members: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub user: UserId,
    pub role: Role,
    pub joined: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nickname: Option<String>,
    /// Until then this member may not speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until_ms: Option<u64>,
}

/// One of a user's devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceItem {
    pub id: DeviceId,
    pub platform: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub first_seen_ms: u64,
    /// Up to ten minutes old.
    pub last_login_ms: u64,
}

/// The limits a client should keep, announced in `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub frame_bytes: usize,
    pub text_bytes: usize,
    pub body_bytes: usize,
    pub in_flight: usize,
    pub heartbeat_ms: u64,
    pub history_page: usize,
    pub list_page: usize,
    pub invite_users: usize,
    pub dedupe_window_ms: u64,
    pub edit_window_ms: u64,
    pub recall_window_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: limits::FRAME_BYTES,
            text_bytes: limits::TEXT_BYTES,
            body_bytes: limits::BODY_BYTES,
            in_flight: limits::SESSION_IN_FLIGHT,
            heartbeat_ms: limits::HEARTBEAT_MS,
            history_page: limits::HISTORY_PAGE,
            list_page: limits::LIST_PAGE,
            invite_users: limits::INVITE_USERS,
            dedupe_window_ms: limits::DEDUPE_WINDOW_MS,
            edit_window_ms: limits::EDIT_WINDOW_MS,
            recall_window_ms: limits::RECALL_WINDOW_MS,
        }
    }
}
