//! Every limit of Campanile, with its unit, in one place; the assertions at the end keep them consistent.
//! What a client needs to know of them is announced in `hello`.

/// Bytes of an app, user or device id.
pub const ID_BYTES: usize = 64;
/// Bytes of a group's or device's display name.
pub const NAME_BYTES: usize = 128;
/// Bytes of a message text.
pub const TEXT_BYTES: usize = 16 * 1024;
/// Bytes of a body that is no text, as JSON.
pub const BODY_BYTES: usize = 32 * 1024;
/// Messages in one merged body.
pub const MERGED_ITEMS: usize = 100;
/// Users that one message names.
pub const MENTION_USERS: usize = 50;
/// In a group of more members only those who run it may name everybody.
pub const MENTION_ALL_MEMBERS: u64 = 100;
/// How long after its sending a message may be edited, and recalled by its author, in milliseconds.
pub const EDIT_WINDOW_MS: u64 = 24 * 3_600 * 1_000;
pub const RECALL_WINDOW_MS: u64 = 48 * 3_600 * 1_000;
/// Edits of one message.
pub const EDITS: usize = 20;
/// Bytes of a reaction.
pub const REACTION_BYTES: usize = 32;
/// Different reactions to one message, and all reactions of all users to it.
pub const REACTION_KINDS: usize = 20;
pub const REACTIONS: usize = 500;
/// Users whom a message shows with each of its reactions.
pub const REACTION_USERS_SHOWN: usize = 5;
/// Pinned messages of one conversation.
pub const PINS: usize = 20;
/// Bytes of one client frame, after reassembly.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Fragments that may make one client frame.
pub const FRAME_FRAGMENTS: usize = 64;
/// Levels that a client frame's JSON may be nested.
pub const FRAME_DEPTH: usize = 32;
/// Malformed frames a connection may send before it is closed.
pub const BAD_FRAMES: u32 = 8;
/// Time from connecting to a successful login, in milliseconds.
pub const LOGIN_TIMEOUT_MS: u64 = 5_000;
/// Interval of the server's WebSocket pings, in milliseconds.
pub const HEARTBEAT_MS: u64 = 20_000;
/// A connection silent for this long is dead, in milliseconds.
pub const HEARTBEAT_TIMEOUT_MS: u64 = 45_000;
/// Requests of one connection that may be unanswered at once.
pub const SESSION_IN_FLIGHT: usize = 64;
/// Bytes of a password.
pub const PASSWORD_BYTES_MIN: usize = 8;
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Bytes of an app-signed token.
pub const TOKEN_BYTES: usize = 4 * 1024;
/// Bytes of an app's public key (PEM).
pub const PUBLIC_KEY_BYTES: usize = 4 * 1024;
/// How far ahead an app-signed token may expire, and how much clocks may differ, in seconds.
pub const TOKEN_LIFETIME_S: u64 = 24 * 3_600;
pub const TOKEN_LEEWAY_S: u64 = 60;
/// Bytes of a user agent in the security log, after escaping.
pub const USER_AGENT_BYTES: usize = 512;
/// Bytes of what an act of administration was about, in the security log, after escaping.
pub const ACT_SUBJECT_BYTES: usize = 512;

/// Apps of one cluster.
pub const APPS: usize = 256;
/// Public keys of one app's tokens, and keys of its backend.
pub const TOKEN_KEYS: usize = 8;
pub const API_KEYS: usize = 32;
/// Longest life of an API key that has an end, in milliseconds (ten years).
pub const API_KEY_LIFETIME_MS: u64 = 10 * 365 * 24 * 3_600 * 1_000;
/// Settings of an app that are changed at once.
pub const APP_CHANGES: usize = 16;
/// Users and groups of one app.
pub const APP_USERS: u64 = 100_000_000;
pub const APP_GROUPS: u64 = 10_000_000;
/// Users whom an app's backend imports, and lists, at once.
pub const API_USERS: usize = 100;
/// Bytes of the body of a request to the server API.
pub const API_BODY_BYTES: usize = 128 * 1024;
/// Requests a second of one API key to one node, and how many of them may come at once.
pub const API_REQUESTS_PER_S: u32 = 200;
pub const API_BURST: u32 = 400;
/// Requests to the server API that a node serves at once.
pub const API_AT_ONCE: usize = 256;

/// Members of one group, and of a community or a channel.
pub const GROUP_MEMBERS: usize = 10_000;
pub const COMMUNITY_MEMBERS: usize = 100_000;
/// Admins of one group, its owner included.
pub const GROUP_ADMINS: usize = 50;
/// Bytes of a group's announcement.
pub const ANNOUNCEMENT_BYTES: usize = 4 * 1024;
/// Attributes of one group, and bytes of the key and the value of each.
pub const ATTRIBUTES: usize = 16;
pub const ATTRIBUTE_KEY_BYTES: usize = 32;
pub const ATTRIBUTE_VALUE_BYTES: usize = 512;
/// Longest time between two messages of one member that slow mode may ask for, in milliseconds.
pub const SLOW_MODE_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// Longest time for which somebody is muted or banned other than for good, in milliseconds (ten years).
pub const SENTENCE_MS_MAX: u64 = 10 * 365 * 24 * 3_600 * 1_000;
/// Users banned from one group, users who wait for an answer to their wish to join it, and invites to it that hold.
pub const GROUP_BANS: usize = 1_000;
pub const GROUP_REQUESTS: usize = 500;
pub const GROUP_INVITES: usize = 50;
/// Bytes of an invite's code: too many to be guessed.
pub const INVITE_CODE_BYTES_MIN: usize = 22;
pub const INVITE_CODE_BYTES_MAX: usize = 64;
/// Longest life of an invite, in milliseconds (a year).
pub const INVITE_LIFE_MS_MAX: u64 = 365 * 24 * 3_600 * 1_000;
/// Bytes of what somebody says who wants to join.
pub const REQUEST_TEXT_BYTES: usize = 512;
/// Users named in one create or invite.
pub const INVITE_USERS: usize = 500;
/// Conversations of one user.
pub const USER_CONVERSATIONS: usize = 2_000;
/// A device that logs in again within this is not written down anew: how old the list of devices may be, in milliseconds.
pub const DEVICE_SEEN_MS: u64 = 10 * 60 * 1_000;
/// Items that one user keeps: contacts, blocked users, marks on conversations, and what was removed of them lately.
pub const USER_ITEMS: usize = 10_000;
/// Items in one page of changes, and bytes of them.
pub const ITEMS_PAGE: usize = 200;
/// Fields of a profile, each as a group's attribute; bytes of where its picture is.
pub const PROFILE_FIELDS: usize = 16;
pub const PROFILE_AVATAR_BYTES: usize = 512;
/// Users whose profiles are asked for at once.
pub const PROFILES: usize = 100;
/// Tags of one contact.
pub const CONTACT_TAGS: usize = 16;
/// Bytes of a message that is not sent yet.
pub const DRAFT_BYTES: usize = 4 * 1024;
/// Mentions that a member, or all members of a conversation, are remembered to have: older ones are not counted any more.
pub const MENTIONS_KEPT: usize = 100;
/// Users whom one message may be meant for alone.
pub const TARGET_USERS: usize = 50;
/// Shortest and longest life of a message that ends by itself, in milliseconds (a second, a year).
pub const EXPIRY_MS_MIN: u64 = 1_000;
pub const EXPIRY_MS_MAX: u64 = 365 * 24 * 3_600 * 1_000;
/// Unread messages of one private conversation that end when they are read.
pub const BURNING: usize = 200;
/// Messages that ended and are taken away in one go.
pub const EXPIRE_AT_ONCE: usize = 128;
/// Ranges of one conversation that one member does not want to see.
pub const DELETED_RANGES: usize = 500;
/// Members of a group in which everybody hears what the others have read and received.
pub const RECEIPT_GROUP_MEMBERS: u64 = 100;
/// Members of a conversation of which it is said who has read a message.
pub const READERS_MEMBERS: u64 = 10_000;
/// Devices remembered for one user.
pub const USER_DEVICES: usize = 32;
/// Live connections of one user on one node.
pub const USER_SESSIONS: usize = 16;
/// Live connections of one node.
pub const NODE_SESSIONS: usize = 50_000;
/// Conversations with a group actor on one node.
pub const NODE_GROUPS: usize = 100_000;
/// Events in one page of history.
pub const HISTORY_PAGE: usize = 200;
/// Bytes of events in one page of history: it must fit a frame the client accepts.
pub const HISTORY_PAGE_BYTES: usize = 512 * 1024;
/// Entries in one page of the conversation or member list.
pub const LIST_PAGE: usize = 500;
/// Bytes of a frame from server to client; history pages are the largest.
pub const SERVER_FRAME_BYTES: usize = 1024 * 1024;
/// How long a `client_msg_id` is remembered at least, in milliseconds (7 days). It is in fact remembered as long as its message,
/// and for this long after retention deleted that.
pub const DEDUPE_WINDOW_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// An operator may shorten that for an app, to this at least, in milliseconds (5 minutes): clients that come back later and
/// repeat what was deleted meanwhile have it twice.
pub const DEDUPE_WINDOW_MS_MIN: u64 = 5 * 60 * 1_000;

/// Users whose presence one session hears of, and those named in one request.
pub const PRESENCE_SUBSCRIPTIONS: usize = 500;
pub const PRESENCE_USERS: usize = 100;
/// A user who comes back within this was never gone, for others, in milliseconds.
pub const PRESENCE_FADE_MS: u64 = 5_000;
/// The sessions of a node that cannot be reached are taken to be there for so long, in milliseconds.
pub const PRESENCE_LOST_MS: u64 = 5_000;
/// A node reports one user's comings and goings at most once in this time, in milliseconds.
pub const PRESENCE_REPORT_MS: u64 = 1_000;
/// A question between nodes about presence that is not answered within this is asked again, in milliseconds.
pub const PRESENCE_AGAIN_MS: u64 = 1_000;
/// How long the answer to a subscription waits for users of whom nothing is known yet, in milliseconds. They follow later.
pub const PRESENCE_ANSWER_MS: u64 = 8_000;
/// When a user was last seen is written down at most once in this time, in milliseconds.
pub const LAST_SEEN_MS: u64 = 60_000;
/// Users in one message between nodes about presence.
pub const PRESENCE_PAGE: usize = 256;
/// Messages from other nodes about presence that wait to be looked at. One more, and everything is asked for anew.
pub const PRESENCE_INBOX: usize = 8_192;
/// Members of a group in which it is told who is typing.
pub const TYPING_GROUP_MEMBERS: u64 = 100;
/// Somebody who types is told so at most once in this time, per session and conversation, in milliseconds.
pub const TYPING_EVERY_MS: u64 = 3_000;
/// Bytes of a signal's JSON.
pub const SIGNAL_BYTES: usize = 4 * 1024;
/// Signals of one session in a second.
pub const SIGNALS_PER_S: u32 = 20;

/// Messages that one session writes before the eyes of others at once.
pub const STREAMS: usize = 8;
/// What is written so is told at most once in this time, for each message, in milliseconds.
pub const STREAM_EVERY_MS: u64 = 100;
/// Bytes of it in one request, and those that wait to be told.
pub const STREAM_BYTES: usize = 4 * 1024;

/// Shortest age at which an operator may have messages deleted, in milliseconds, and the fewest to keep.
pub const RETENTION_AGE_MS_MIN: u64 = 1_000;
pub const RETENTION_COUNT_MIN: u64 = 1;
/// Events that one command of the log may delete from a conversation.
pub const TRIM_EVENTS: u64 = 1_024;
/// Pages of ids that one command of the log looks at.
pub const FORGET_PAGES: usize = 256;
/// Ids are forgotten in so many steps of their window: a conversation remembers as many times.
pub const FORGET_STEPS: u64 = 16;

/// Messages an actor's mailbox holds.
pub const SESSION_MAILBOX: usize = 256;
pub const GROUP_MAILBOX: usize = 1_024;
pub const FANOUT_MAILBOX: usize = 4_096;
/// Bytes of committed events waiting for the fan-out; past it sessions read from history.
pub const FANOUT_BYTES: usize = 32 * 1024 * 1024;
pub const SECURITY_MAILBOX: usize = 8_192;
pub const PUMP_MAILBOX: usize = 64;
/// Bytes handed to a connection's socket and not yet taken; past it the session stops pushing.
pub const SESSION_CREDIT_BYTES: usize = 1024 * 1024;
/// A connection that takes nothing for this long while bytes wait is cut, in milliseconds.
pub const SLOW_CONSUMER_MS: u64 = 15_000;
/// Bytes read from a client's socket at once, and how often before what they ask for is looked at.
pub const READ_BYTES: usize = 16 * 1024;
pub const READS_AT_ONCE: u32 = 2;
/// After the last byte to a client, its end of the connection is waited for so long.
pub const LINGER_MS: u64 = 500;
/// A group actor without work for this long is dropped, in milliseconds.
pub const GROUP_IDLE_MS: u64 = 60_000;

/// Commands waiting for one shard's proposer.
pub const PROPOSER_QUEUE: usize = 4_096;
/// A shard in whose proposer's queue every command waited longer than the first of these, for as long as the second, takes no
/// new messages until that is over, in milliseconds.
pub const SHED_ABOVE_MS: u64 = 1_000;
pub const SHED_AFTER_MS: u64 = 500;
/// Nor one whose queue would take longer than this to empty, in milliseconds: what enters it would be given up before its turn.
pub const SHED_AT_ONCE_MS: u64 = 2_000;
/// After which they may come again, in milliseconds: those that were refused before come first.
pub const SHED_RETRY_MIN_MS: u64 = 250;
pub const SHED_RETRY_MAX_MS: u64 = 10_000;
/// When a request that found a full queue may come again, in milliseconds.
pub const FULL_RETRY_MS: u64 = 200;
/// Pages of history and lists that a node reads for clients at once, and when one of its shards takes no new messages.
pub const PAGES_AT_ONCE: usize = 16;
pub const PAGES_AT_ONCE_PRESSED: usize = 2;
/// Pages that wait for their turn; one more is refused.
pub const PAGES_WAITING: usize = 256;
/// When a refused page may be asked for again, in milliseconds.
pub const PAGES_RETRY_MS: u64 = 1_000;
/// Commands in one log entry.
pub const ENTRY_COMMANDS: usize = 256;
/// Bytes of one log entry. With its header and seal it stays below [`VALUE_BYTES`].
pub const ENTRY_BYTES: usize = 60 * 1024;
/// How long a leader that has lost touch with the majority tries to get an entry written before it refuses it, in milliseconds.
pub const LEASE_WAIT_MS: u64 = 1_000;
/// Sessions whose order a group actor remembers twice over; one that is forgotten asks again.
pub const GROUP_TURNS: usize = 4_096;
/// Bytes of one value in storage; larger pages would leave sled's fsynced files.
pub const VALUE_BYTES: usize = 64 * 1024;
/// Bytes of one frame between nodes.
pub const PEER_FRAME_BYTES: usize = 8 * 1024 * 1024;
/// Messages waiting for one peer's connection.
pub const PEER_QUEUE: usize = 4_096;
/// Shards of a cluster.
pub const SHARDS_MAX: u16 = 1_024;
pub const SHARDS_DEFAULT: u16 = 16;
/// Nodes of a cluster: every one of them holds every shard.
pub const NODES_MAX: usize = 7;
/// Nodes that vote in a shard, unless the operator chose otherwise.
pub const REPLICAS_DEFAULT: u8 = 3;
/// How long a node's turn to be away may last, in milliseconds (6 hours).
pub const TURN_MS_MAX: u64 = 6 * 3_600 * 1_000;
/// Nodes that vote in the metadata group, if there are so many.
pub const META_REPLICAS: u8 = 5;
/// Bytes of what a node says of itself.
pub const NODE_FACTS_BYTES: usize = 1024;
/// Bytes of the release that a node names as its own.
pub const VERSION_BYTES: usize = 64;
/// Join tokens that wait to be used, and how long one is valid at most, in milliseconds (7 days).
pub const JOIN_TOKENS: usize = 64;
pub const JOIN_TOKEN_LIFETIME_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// Deadline of a client's request inside the cluster, in milliseconds. After it the outcome is `unknown`.
pub const REQUEST_TIMEOUT_MS: u64 = 10_000;
/// The replicas of each shard are compared once in this time, in milliseconds.
pub const VERIFY_EVERY_MS: u64 = 3_600 * 1_000;
/// Every stored record is looked at once in this time, in milliseconds, and no more bytes of them a second than this.
pub const SCRUB_EVERY_MS: u64 = 24 * 3_600 * 1_000;
pub const SCRUB_BYTES_PER_S: u64 = 4 * 1024 * 1024;
/// Bytes of records that are looked at in one go.
pub const SCRUB_STEP_BYTES: u64 = 256 * 1024;
/// Damaged records of one replica that wait for their repair; more are found again later.
pub const REPAIR_DAMAGES: usize = 1_024;
/// Pieces of a replica's state, each at most 256 KiB, that wait on their way to a peer.
pub const REPAIR_PARTS: usize = 4;
/// How long a piece may take to be read, and how long a copy may wait to be begun, in milliseconds.
pub const REPAIR_PART_TIMEOUT_MS: u64 = 10_000;
/// Pause after a repair that came to nothing, and how long one that a replica cannot go on without may take, in milliseconds.
pub const REPAIR_RETRY_MS: u64 = 1_000;
pub const REPAIR_PATIENCE_MS: u64 = 120_000;
/// How long the digest of a shard's whole state may take to make, in milliseconds.
pub const DIGEST_TIMEOUT_MS: u64 = 60_000;
/// Deadline of one call between nodes, in milliseconds.
pub const PEER_TIMEOUT_MS: u64 = 4_000;
/// Backups that may be made of one node at once, and how long either side of one waits for the other, in milliseconds.
pub const BACKUPS: usize = 1;
pub const BACKUP_STALL_MS: u64 = 300_000;
/// Entries of users' lists that one log entry of a restored cluster puts right.
pub const RESTORED_LIST_ENTRIES: usize = 128;
/// Password hashes computed at once per node, and how many may wait for their turn.
pub const PASSWORD_HASHES: usize = 2;
pub const PASSWORD_QUEUE: usize = 256;
/// A security record waits this long at most before it is made durable, in milliseconds; later ones join it.
pub const SECURITY_SYNC_MS: u64 = 10;
/// Security records made durable together at most.
pub const SECURITY_BATCH: usize = 512;
/// Newest security records a node keeps in memory to answer queries.
pub const SECURITY_TAIL: usize = 1_000;

const _: () = {
    assert!(ENTRY_BYTES + 1024 <= VALUE_BYTES);
    assert!(TEXT_BYTES * 2 + 4 * ID_BYTES + 512 < ENTRY_BYTES, "one message must fit one entry");
    assert!(BODY_BYTES + (MENTION_USERS + TARGET_USERS) * (ID_BYTES + 4) + 8 * ID_BYTES + 512 < ENTRY_BYTES);
    assert!(REACTIONS * (ID_BYTES + 1) + REACTION_KINDS * (REACTION_BYTES + 4) + EDITS * 48 + 512 < VALUE_BYTES);
    assert!(INVITE_USERS * (ID_BYTES + 16) < ENTRY_BYTES, "one invite must fit one entry");
    assert!(INVITE_USERS * (ID_BYTES + 8) < FRAME_BYTES, "one invite must fit one frame");
    assert!(TEXT_BYTES * 3 < FRAME_BYTES, "escaped text must fit one frame in ordinary cases");
    assert!(HISTORY_PAGE_BYTES * 2 <= SERVER_FRAME_BYTES);
    assert!(PINS * (BODY_BYTES + 12 * 1024) <= SERVER_FRAME_BYTES, "all pins fit one frame");
    assert!(ENTRY_BYTES < PEER_FRAME_BYTES);
    assert!(LEASE_WAIT_MS < PEER_TIMEOUT_MS, "refused before it is given up");
    assert!(HEARTBEAT_TIMEOUT_MS > 2 * HEARTBEAT_MS);
    assert!(PRESENCE_USERS <= PRESENCE_SUBSCRIPTIONS && PRESENCE_USERS * (ID_BYTES + 8) < FRAME_BYTES);
    assert!(PRESENCE_LOST_MS < PRESENCE_ANSWER_MS && PRESENCE_ANSWER_MS < REQUEST_TIMEOUT_MS);
    assert!(PRESENCE_LOST_MS + PRESENCE_FADE_MS + HEARTBEAT_MS < HEARTBEAT_TIMEOUT_MS, "no ghosts");
    assert!(PRESENCE_PAGE * USER_SESSIONS * (NAME_BYTES + 8) < PEER_FRAME_BYTES / 2, "a page fits a bundle");
    assert!(ITEMS_PAGE * (DRAFT_BYTES + 512) <= SERVER_FRAME_BYTES, "a page of drafts fits one frame");
    assert!(BURNING * (ID_BYTES + 48) + 512 < VALUE_BYTES && DELETED_RANGES * 20 < VALUE_BYTES);
    assert!(SECURITY_SYNC_MS <= 50 && SECURITY_BATCH < SECURITY_MAILBOX);
    assert!(REQUEST_TIMEOUT_MS > 2 * PEER_TIMEOUT_MS);
    assert!(DEDUPE_WINDOW_MS_MIN > 10 * REQUEST_TIMEOUT_MS, "longer than a request is repeated");
    assert!(DEDUPE_WINDOW_MS_MIN < DEDUPE_WINDOW_MS);
    assert!(SHED_ABOVE_MS + SHED_AFTER_MS < PEER_TIMEOUT_MS, "refused before those ahead are given up");
    assert!(SHED_ABOVE_MS < SHED_AT_ONCE_MS && 2 * SHED_AT_ONCE_MS <= PEER_TIMEOUT_MS);
    assert!(PAGES_AT_ONCE_PRESSED < PAGES_AT_ONCE && SHED_RETRY_MIN_MS < SHED_RETRY_MAX_MS);
};
