//! Feature levels: what a cluster's log may hold. A release that adds a command adds it behind a new level; the level is
//! raised by a command once every node runs a release that knows it, and never goes down. Until then every node can go
//! back to the release before. docs/adr/0022.

use crate::command::{ClusterCommand, Command, ConversationCommand, RetentionCommand, UserCommand};

/// The level of clusters that have no level on record, and of builds that say nothing of theirs.
pub const OLDEST: u16 = 1;
/// The highest level that this build supports; it supports all below, too.
pub const NEWEST: u16 = 3;

/// What a level is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureLevel {
    pub level: u16,
    /// What switching it on makes possible, for people.
    pub brings: &'static str,
}

/// Every level that this build supports, in order.
pub const LEVELS: [FeatureLevel; NEWEST as usize] = [
    FeatureLevel { level: 1, brings: "private chats, groups, retention, nodes that join and leave" },
    FeatureLevel { level: 2, brings: "join tokens can be withdrawn (campanile cluster join-token --withdraw)" },
    FeatureLevel {
        level: 3,
        brings: "nodes compact their databases by themselves, one at a time; message ids can be forgotten sooner \
                 (campanile retention ids)",
    },
];

/// Whether a log of a cluster at `level` may hold the command.
pub fn allowed(command: &Command, level: u16) -> bool {
    needed(command) <= level
}

/// The level that brings the command. Long because every variant is named, so that nobody adds one without deciding.
pub fn needed(command: &Command) -> u16 {
    match command {
        Command::Cluster(command) => match command {
            ClusterCommand::Found { .. }
            | ClusterCommand::RegisterApp { .. }
            | ClusterCommand::AddJoinToken { .. }
            | ClusterCommand::JoinNode { .. }
            | ClusterCommand::DescribeNode { .. }
            | ClusterCommand::PromoteNode { .. }
            | ClusterCommand::RemoveNode { .. }
            | ClusterCommand::ForgetNode { .. }
            | ClusterCommand::Place { .. }
            | ClusterCommand::Rebalance { .. }
            | ClusterCommand::Restored { .. }
            | ClusterCommand::FoundAt { .. }
            | ClusterCommand::DescribeBuild { .. }
            | ClusterCommand::SetLevel { .. }
            | ClusterCommand::App { .. } => 1,
            ClusterCommand::WithdrawJoinTokens => 2,
            ClusterCommand::TakeTurn { .. } | ClusterCommand::EndTurn { .. } => 3,
        },
        Command::User { command, .. } => match command {
            UserCommand::CreateAccount { .. }
            | UserCommand::SetPassword { .. }
            | UserCommand::SeeDevice { .. }
            | UserCommand::RevokeLogins { .. }
            | UserCommand::SeeUser { .. }
            | UserCommand::SetPrivacy { .. }
            | UserCommand::SetProfile { .. }
            | UserCommand::SetSettings { .. }
            | UserCommand::DescribeContact { .. }
            | UserCommand::Mark { .. }
            | UserCommand::SetActive { .. }
            | UserCommand::BeginSession { .. } => 1,
        },
        Command::Conversation { command, .. } => match command {
            ConversationCommand::Send { .. }
            | ConversationCommand::CreateGroup { .. }
            | ConversationCommand::Join { .. }
            | ConversationCommand::Leave
            | ConversationCommand::Invite { .. }
            | ConversationCommand::Kick { .. }
            | ConversationCommand::SetRole { .. }
            | ConversationCommand::MarkRead { .. }
            | ConversationCommand::ChangeGroup { .. }
            | ConversationCommand::Ban { .. }
            | ConversationCommand::Unban { .. }
            | ConversationCommand::Mute { .. }
            | ConversationCommand::Unmute { .. }
            | ConversationCommand::SetNickname { .. }
            | ConversationCommand::AnswerJoin { .. }
            | ConversationCommand::AddInvite { .. }
            | ConversationCommand::RevokeInvite { .. }
            | ConversationCommand::Dissolve
            | ConversationCommand::Edit { .. }
            | ConversationCommand::Recall { .. }
            | ConversationCommand::React { .. }
            | ConversationCommand::Pin { .. }
            | ConversationCommand::AskContact { .. }
            | ConversationCommand::AnswerContact { .. }
            | ConversationCommand::RemoveContact
            | ConversationCommand::Block { .. }
            | ConversationCommand::MarkDelivered { .. }
            | ConversationCommand::DeleteForMe { .. } => 1,
        },
        Command::Retention(command) => match command {
            RetentionCommand::SetApp { .. }
            | RetentionCommand::SetConversation { .. }
            | RetentionCommand::Trim { .. }
            | RetentionCommand::Forget { .. }
            | RetentionCommand::Purge { .. }
            | RetentionCommand::Expire { .. } => 1,
            RetentionCommand::SetIdWindow { .. }
            | RetentionCommand::TrimWithin { .. }
            | RetentionCommand::ForgetWithin { .. } => 3,
        },
        Command::OutboxDelivered { .. }
        | Command::ListChanges { .. }
        | Command::Compare
        | Command::ListsRestored { .. }
        | Command::PairNews { .. } => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_its_place_in_the_table() {
        let levels: Vec<u16> = LEVELS.iter().map(|level| level.level).collect();
        assert_eq!(levels, (OLDEST..=NEWEST).collect::<Vec<_>>());
        assert!(LEVELS.iter().all(|level| !level.brings.is_empty()));
    }

    #[test]
    fn a_later_levels_command_waits_for_its_level_and_the_way_there_is_open() {
        let later = Command::Cluster(ClusterCommand::WithdrawJoinTokens);
        assert_eq!((allowed(&later, 1), allowed(&later, 2), allowed(&later, 3)), (false, true, true));
        for command in [
            ClusterCommand::SetLevel { level: 2 },
            ClusterCommand::DescribeBuild { node: 1, level: 2, version: "1".to_owned() },
            ClusterCommand::PromoteNode { node: 1 },
        ] {
            assert!(allowed(&Command::Cluster(command), OLDEST));
        }
    }
}
