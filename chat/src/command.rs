//! What goes into a shard's log. A command asks; [`crate::state::apply`] decides, the same on every replica.
//! Long because it is the whole of the log's format, in one place.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::{AppCommand, LoginPolicy};
use crate::errors::ErrorCode;
use crate::event::{BodyKind, Relations, Role, SealedBody};
use crate::group::{GroupChange, GroupKind};
use crate::ids::{AppId, ClientMsgId, ConversationId, DeviceId, GroupId, NodeId, ShardId, UserId};
use crate::limits;
use crate::retention::Retention;
use crate::state::record::Privacy;
use crate::user::{Contact, Profile, UserSettings};

/// The payload of one log entry: commands of many conversations, and the clock they are applied with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryBatch {
    /// The proposing leader's clock, Unix milliseconds.
    pub time_ms: u64,
    pub commands: Vec<Command>,
}

/// One command. The order of variants is the log format: new ones go last, retired ones keep their place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Metadata group.
    Cluster(ClusterCommand),
    /// The user's home shard.
    User { app: AppId, user: UserId, command: UserCommand },
    /// The conversation's shard.
    Conversation { app: AppId, conversation: ConversationId, actor: UserId, command: ConversationCommand },
    /// Items of this shard's outbox up to and including `through` have reached their home shards.
    OutboxDelivered { through: u64 },
    /// From another shard's outbox to users' home shards. Repeating it changes nothing.
    ListChanges { changes: Vec<ListChange> },
    /// Changes nothing: every replica makes a digest of its state as it is after this entry, to be compared.
    Compare,
    /// How long messages are kept, and deleting those that are kept no longer.
    Retention(RetentionCommand),
    /// In a cluster that was made from a backup: entries of users' lists as the conversations' shards have them, whatever
    /// was there before. The shards of a backup are cut one after the other, and what one shard owed another at its own
    /// cut may be on neither side, or on one too early.
    ListsRestored { entries: Vec<ListChange> },
    /// From another shard's outbox to users' home shards. Repeating it changes nothing.
    PairNews { news: Vec<PairNews> },
}

/// Retention: what operators set, and what a shard's leader then has every replica delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetentionCommand {
    /// Metadata group: what holds for the app's conversations.
    SetApp { app: AppId, retention: Retention },
    /// The conversation's shard. None: what holds for the app holds for it again.
    SetConversation { app: AppId, conversation: ConversationId, retention: Option<Retention> },
    /// The conversation's shard: events below `oldest_seq` are deleted, at most [`limits::TRIM_EVENTS`] at once.
    Trim { app: AppId, conversation: ConversationId, oldest_seq: u64 },
    /// The conversation's shard: ids of messages below `below` are forgotten, as far as that is long enough ago. Looks at
    /// the ids after `after` up to and including `through`, which are places of `state::query::IdPage`.
    Forget { app: AppId, conversation: ConversationId, below: u64, after: Option<Bytes>, through: Option<Bytes> },
    /// Entries up to `through` are on every member, or on as many as are waited for: a replica need not keep them for Raft.
    /// Changes nothing in the state.
    Purge { through: u64 },
    /// The conversation's shard: the message at `seq` was to end at `at_ms`, which is over.
    Expire { app: AppId, conversation: ConversationId, seq: u64, at_ms: u64 },
    /// Feature level 3, metadata group: how long the ids of the app's messages are remembered after retention deleted those.
    SetIdWindow { app: AppId, window_ms: u64 },
    /// Feature level 3: as `Trim` and `Forget`, where ids are remembered for `window_ms`, which the shard does not know.
    TrimWithin { app: AppId, conversation: ConversationId, oldest_seq: u64, window_ms: u64 },
    ForgetWithin {
        app: AppId,
        conversation: ConversationId,
        below: u64,
        after: Option<Bytes>,
        through: Option<Bytes>,
        window_ms: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterCommand {
    /// First entry of a cluster's life. A second one with other values is rejected.
    Found { cluster: String, shards: u16, stream_epoch: u32, nodes: Vec<(NodeId, String)> },
    /// An app that a node is configured with, and the Ed25519 public key (PEM) that verifies its users' tokens. Of one that is on
    /// record it changes nothing.
    RegisterApp { app: AppId, token_public_key_pem: String },
    /// Lets `uses` nodes join until `expires_ms` (Unix milliseconds). `secret` is a hash of what the token holds.
    AddJoinToken { secret: [u8; 32], expires_ms: u64, uses: u32 },
    /// A node joins, by a token: the outcome's seq is its id, never given before. `key` is a hash of the public key that
    /// its certificate is made for: the same node again gets the same id.
    JoinNode { secret: [u8; 32], key: [u8; 32], facts: NodeFacts },
    /// Where a node is reached now, and where it stands.
    DescribeNode { node: NodeId, facts: NodeFacts },
    /// A node that joined has caught up with every shard.
    PromoteNode { node: NodeId },
    /// A node is to leave for good: its replicas move elsewhere.
    RemoveNode { node: NodeId },
    /// A node that was to leave has no replica any more.
    ForgetNode { node: NodeId },
    /// Which nodes vote in a shard; the first one leads when all are well.
    Place { shard: ShardId, voters: Vec<NodeId> },
    /// Whether replicas are to be spread evenly anew, and over how many nodes each; 0 leaves that number.
    Rebalance { wanted: bool, replicas: u8 },
    /// First entry of a cluster that was made from a backup: what the settings say from now on.
    Restored { cluster: String, stream_epoch: u32, nodes: Vec<(NodeId, String)> },
    /// First entry of the life of a cluster that begins at a later feature level than the first.
    FoundAt { cluster: String, shards: u16, stream_epoch: u32, nodes: Vec<(NodeId, String)>, level: u16 },
    /// Which release a node runs, and the highest feature level that it supports.
    DescribeBuild { node: NodeId, level: u16, version: String },
    /// Switches a feature level on, for good: every node that is not gone must have said that it supports it.
    SetLevel { level: u16 },
    /// Feature level 2: no join token lets anybody in any more.
    WithdrawJoinTokens,
    /// What an app is, and is set to.
    App { app: AppId, command: AppCommand },
    /// Feature level 3: it is the node's turn to be away, to compact its database, for so long at most. Rejected with
    /// `LimitReached` while it is another's.
    TakeTurn { node: NodeId, for_ms: u64 },
    /// Feature level 3: the node is back.
    EndTurn { node: NodeId },
}

/// What a node says of itself to the others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeFacts {
    /// `host:port` of its listeners.
    pub peer: String,
    pub client: String,
    pub admin: String,
    /// What fails together: a rack, a room, a provider's zone. Empty if that was not said.
    pub zone: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserCommand {
    /// `password` is a PHC string (argon2id) or none for users the app's tokens vouch for.
    /// Rejected with `AccountExists` if there is one, unless both have no password (then it is a repetition).
    CreateAccount {
        password: Option<String>,
    },
    SetPassword {
        password: Option<String>,
    },
    /// Remembers the device's name, platform and last login. The longest unused one makes room at the limit.
    SeeDevice {
        device: DeviceId,
        platform: String,
        name: String,
    },
    /// Ends sessions, and refuses tokens that were issued before.
    RevokeLogins {
        which: Revoked,
    },
    /// The user's last session ended then, Unix milliseconds. An earlier time than the known one changes nothing.
    SeeUser {
        at_ms: u64,
    },
    SetPrivacy {
        privacy: Privacy,
    },
    SetProfile {
        profile: Profile,
    },
    SetSettings {
        settings: UserSettings,
    },
    /// The user's own words about a contact.
    DescribeContact {
        user: UserId,
        remark: String,
        tags: Vec<String>,
    },
    /// How the user treats a conversation.
    Mark {
        conversation: ConversationId,
        change: MarksChange,
    },
    /// Whether the user is let in. Whoever is not any more has no sessions from then on.
    SetActive {
        active: bool,
    },
    /// A session of the user begins under a policy that ends others. Of two that begin at once, the log says which is newer.
    BeginSession {
        session: Uuid,
        platform: String,
        policy: LoginPolicy,
    },
}

/// What changes of a user's marks on a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarksChange {
    pub pinned: Option<bool>,
    /// 0: it may make a noise.
    pub muted_until_ms: Option<u64>,
    pub unread: Option<bool>,
    /// Empty: there is none.
    pub draft: Option<String>,
}

/// Whose sessions end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// All of the user's.
    All,
    /// Those of one device.
    Device(DeviceId),
    /// Those of all other devices.
    Others(DeviceId),
}

impl Revoked {
    /// Whether sessions of this device end.
    pub fn ends(&self, device: &DeviceId) -> bool {
        match self {
            Self::All => true,
            Self::Device(revoked) => revoked == device,
            Self::Others(kept) => kept != device,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConversationCommand {
    /// `digest` is a keyed digest of the plain body: the same id with another digest is a conflict.
    Send {
        client_msg_id: ClientMsgId,
        digest: [u8; 16],
        body: SealedBody,
        relations: Option<Box<Relations>>,
    },
    /// Creates the group with the actor as owner. The same creation again answers the first one's seq.
    CreateGroup {
        name: String,
        members: Vec<UserId>,
        kind: GroupKind,
    },
    /// `invite`: a hash of an invite's code. `text`: to the admins, where they are asked.
    Join {
        invite: Option<[u8; 32]>,
        text: String,
    },
    Leave,
    /// Members already in are passed over; if all are, the outcome is `AlreadyMember`.
    Invite {
        users: Vec<UserId>,
    },
    Kick {
        user: UserId,
    },
    /// Making another member owner makes the present owner an admin.
    SetRole {
        user: UserId,
        role: Role,
    },
    MarkRead {
        seq: u64,
    },
    ChangeGroup {
        change: GroupChange,
    },
    /// None: for good. Also for who is no member.
    Ban {
        user: UserId,
        duration_ms: Option<u64>,
    },
    Unban {
        user: UserId,
    },
    Mute {
        user: UserId,
        duration_ms: Option<u64>,
    },
    Unmute {
        user: UserId,
    },
    /// The actor's own.
    SetNickname {
        nickname: Option<String>,
    },
    /// Lets in whoever asked to join, or not.
    AnswerJoin {
        user: UserId,
        accept: bool,
    },
    /// The same code again changes nothing.
    AddInvite {
        code: [u8; 32],
        life_ms: u64,
        uses: u32,
    },
    RevokeInvite {
        code: [u8; 32],
    },
    Dissolve,
    /// Another body for one of the actor's own messages. Ids and digests are as those of messages.
    Edit {
        /// In a box: commands are moved often, and few are edits.
        original: Box<Original>,
        client_msg_id: ClientMsgId,
        digest: [u8; 16],
        body: SealedBody,
    },
    Recall {
        original: Original,
    },
    React {
        seq: u64,
        reaction: String,
        on: bool,
    },
    Pin {
        seq: u64,
        on: bool,
    },
    /// In a private conversation, which need not have begun: to be a contact of the other side.
    AskContact {
        text: String,
    },
    AnswerContact {
        accept: bool,
    },
    RemoveContact,
    Block {
        on: bool,
    },
    /// The actor's devices have everything up to `seq`.
    MarkDelivered {
        seq: u64,
    },
    /// The actor does not want to see these any more.
    DeleteForMe {
        first: u64,
        last: u64,
    },
}

/// A message as it stands in the log, read there by whoever proposes to change it: the state knows only where it is.
/// It never changes, so every proposer says the same of it, but for the app's window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    pub seq: u64,
    pub author: UserId,
    pub client_msg_id: ClientMsgId,
    pub time_ms: u64,
    pub kind: BodyKind,
    /// It stays as it was sent.
    pub fixed: bool,
    /// For how long after its sending the app lets its author change it so, as whoever proposes it knows the app's settings.
    pub window_ms: u64,
}

/// A conversation entering or leaving users' lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListChange {
    pub app: AppId,
    pub user: UserId,
    pub conversation: ConversationId,
    /// The seq of the event behind it: an older change never overrides a newer one.
    pub seq: u64,
    pub listed: bool,
}

/// How two users stand to each other, as `user` is to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairNews {
    pub app: AppId,
    pub user: UserId,
    pub peer: UserId,
    /// The newest one of a pair counts.
    pub stamp: u64,
    /// Without the user's own words, which only the home shard knows.
    pub contact: Option<Contact>,
    pub blocked_ms: Option<u64>,
}

/// What a conversation's shard owes a user's home shard: an item of its outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owed {
    List(ListChange),
    Pair(PairNews),
}

impl Owed {
    /// Whose home shard it goes to.
    pub fn to(&self) -> (&AppId, &UserId) {
        match self {
            Self::List(change) => (&change.app, &change.user),
            Self::Pair(news) => (&news.app, &news.user),
        }
    }
}

/// What a command came to, in the order of the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// `seq` is the event's place, or 0 where the command makes no event.
    Applied {
        seq: u64,
        duplicate: bool,
    },
    Rejected(ErrorCode),
}

impl Command {
    /// An upper bound of the command's encoded bytes: what a proposer counts against `ENTRY_BYTES`.
    pub fn size_bound(&self) -> usize {
        const IDS: usize = 4 * limits::ID_BYTES + 64;
        let users = |users: &[UserId]| users.iter().map(|user| user.as_str().len() + 4).sum::<usize>();
        IDS + match self {
            Self::Cluster(
                ClusterCommand::Found { cluster, nodes, .. }
                | ClusterCommand::FoundAt { cluster, nodes, .. }
                | ClusterCommand::Restored { cluster, nodes, .. },
            ) => cluster.len() + nodes.iter().map(|(_, address)| address.len() + 16).sum::<usize>(),
            Self::Cluster(ClusterCommand::RegisterApp { token_public_key_pem, .. }) => token_public_key_pem.len(),
            Self::Cluster(ClusterCommand::JoinNode { facts, .. } | ClusterCommand::DescribeNode { facts, .. }) => {
                facts.bytes()
            }
            Self::Cluster(ClusterCommand::DescribeBuild { version, .. }) => version.len() + 16,
            Self::Cluster(ClusterCommand::Place { voters, .. }) => voters.len() * 16,
            Self::Cluster(ClusterCommand::App { command, .. }) => 64 + command.size_bound(),
            Self::Cluster(_) => 64,
            Self::User { command, .. } => match command {
                UserCommand::CreateAccount { password } | UserCommand::SetPassword { password } => {
                    password.as_ref().map_or(0, String::len)
                }
                UserCommand::SeeDevice { platform, name, .. } => platform.len() + name.len(),
                UserCommand::RevokeLogins { .. } => 0,
                UserCommand::BeginSession { platform, .. } => 16 + platform.len(),
                UserCommand::SeeUser { .. }
                | UserCommand::SetPrivacy { .. }
                | UserCommand::SetSettings { .. }
                | UserCommand::SetActive { .. } => 16,
                UserCommand::SetProfile { profile } => {
                    let fields = profile.fields.iter().map(|(key, value)| key.len() + value.len() + 8);
                    profile.name.len() + profile.avatar.len() + fields.sum::<usize>()
                }
                UserCommand::DescribeContact { remark, tags, .. } => {
                    remark.len() + tags.iter().map(|tag| tag.len() + 4).sum::<usize>() + IDS
                }
                UserCommand::Mark { change, .. } => change.draft.as_ref().map_or(0, String::len) + IDS,
            },
            Self::Conversation { command, .. } => match command {
                ConversationCommand::Send { body, relations, .. } => {
                    let named =
                        |relations: &Relations| IDS + users(&relations.mentions.users) + users(&relations.only_to);
                    body.bytes.len() + relations.as_deref().map_or(0, named)
                }
                ConversationCommand::Edit { body, .. } => body.bytes.len() + IDS,
                ConversationCommand::Recall { .. } => IDS,
                ConversationCommand::React { reaction, .. } => reaction.len(),
                ConversationCommand::CreateGroup { name, members, .. } => name.len() + users(members),
                ConversationCommand::Join { text, .. } | ConversationCommand::AskContact { text } => text.len(),
                ConversationCommand::ChangeGroup { change } => change.text_bytes(),
                ConversationCommand::SetNickname { nickname } => nickname.as_ref().map_or(0, String::len),
                ConversationCommand::Invite { users: invited } => users(invited),
                _ => 0,
            },
            Self::OutboxDelivered { .. } | Self::Compare => 0,
            // Two places: an author each, and what is behind it in a key.
            Self::Retention(_) => 2 * IDS,
            Self::ListChanges { changes } | Self::ListsRestored { entries: changes } => changes.len() * IDS,
            Self::PairNews { news } => news.len() * (IDS + limits::REQUEST_TEXT_BYTES),
        }
    }

    /// Whether proposing the command again after an unknown outcome changes nothing and gives the same answer.
    pub fn repeatable(&self) -> bool {
        match self {
            Self::Conversation { command, .. } => matches!(
                command,
                ConversationCommand::Send { .. }
                    | ConversationCommand::CreateGroup { .. }
                    | ConversationCommand::MarkRead { .. }
                    | ConversationCommand::ChangeGroup { .. }
                    | ConversationCommand::Unban { .. }
                    | ConversationCommand::Unmute { .. }
                    | ConversationCommand::SetNickname { .. }
                    | ConversationCommand::RevokeInvite { .. }
                    | ConversationCommand::Edit { .. }
                    | ConversationCommand::Recall { .. }
                    | ConversationCommand::AskContact { .. }
                    | ConversationCommand::RemoveContact
                    | ConversationCommand::Block { .. }
                    | ConversationCommand::MarkDelivered { .. }
                    | ConversationCommand::DeleteForMe { .. }
            ),
            Self::User { command, .. } => !matches!(command, UserCommand::CreateAccount { password: Some(_) }),
            Self::Cluster(_)
            | Self::OutboxDelivered { .. }
            | Self::ListChanges { .. }
            | Self::Compare
            | Self::Retention(_)
            | Self::ListsRestored { .. }
            | Self::PairNews { .. } => true,
        }
    }
}

impl NodeFacts {
    fn bytes(&self) -> usize {
        [&self.peer, &self.client, &self.admin, &self.zone].iter().map(|text| text.len() + 8).sum()
    }

    /// Whether every part is of a length that is kept.
    pub fn fits(&self) -> bool {
        !self.peer.is_empty() && self.bytes() <= limits::NODE_FACTS_BYTES
    }
}

/// The conversation a group id names.
impl From<GroupId> for ConversationId {
    fn from(group: GroupId) -> Self {
        Self::Group(group)
    }
}
