//! The command line's part about apps.

use std::path::PathBuf;

use chat::app::{AppChange, LoginPolicy, Registration, Scope};
use chat::ids::{AppId, KeyId};
use clap::{Args, Subcommand, ValueEnum};

use super::args::age_ms;

#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Make an app
    #[command(after_help = "\
Example:
  campanile app create --config chat/node-1/campanile.toml shop --name Shop")]
    Create {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
        /// For people; the id if it is not given
        #[arg(long)]
        name: Option<String>,
    },
    /// List all apps
    List {
        #[command(flatten)]
        at: AppAt,
    },
    /// Show an app, its settings and its keys
    Show {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
    },
    /// Set something about an app
    #[command(after_help = "\
Examples:
  campanile app set --config chat/node-1/campanile.toml shop --login-policy newest-wins --edit-window 15m
  campanile app set --config chat/node-1/campanile.toml shop --registration app-only --users-max 5000")]
    Set {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
        #[command(flatten)]
        what: AppSetArgs,
    },
    /// The public keys that an app's tokens are verified with
    #[command(subcommand)]
    Key(AppKeyCommand),
    /// The keys that an app's backend uses the server API with
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// Let nobody of the app in, and end all its sessions, until it is thawed
    Freeze {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
    },
    /// Let users of a frozen app in again
    Thaw {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
    },
}

/// Whom to ask, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct AppAt {
    /// Configuration of a node that runs
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct AppSetArgs {
    /// For people
    #[arg(long)]
    name: Option<String>,
    /// For how long authors may recall a message: 90s, 12h, 2d
    #[arg(long, value_name = "TIME", value_parser = age_ms)]
    recall_window: Option<u64>,
    /// For how long authors may edit a message
    #[arg(long, value_name = "TIME", value_parser = age_ms)]
    edit_window: Option<u64>,
    /// Who makes the accounts of users who come with a token
    #[arg(long)]
    registration: Option<RegistrationArg>,
    /// Which of a user's sessions may be there at once
    #[arg(long)]
    login_policy: Option<LoginPolicyArg>,
    /// Users of the app
    #[arg(long)]
    users_max: Option<u64>,
    /// Groups of the app
    #[arg(long)]
    groups_max: Option<u64>,
    /// Members of each of its groups
    #[arg(long)]
    group_members_max: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RegistrationArg {
    /// A token's first login
    FirstLogin,
    /// The app's backend, before: nobody else is let in
    AppOnly,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LoginPolicyArg {
    Several,
    /// A new one ends those of the same platform
    OnePerPlatform,
    /// A new one ends all others
    NewestWins,
}

impl AppSetArgs {
    pub(crate) fn changes(self) -> Vec<AppChange> {
        let registration = self.registration.map(|arg| match arg {
            RegistrationArg::FirstLogin => Registration::FirstLogin,
            RegistrationArg::AppOnly => Registration::AppOnly,
        });
        let policy = self.login_policy.map(|arg| match arg {
            LoginPolicyArg::Several => LoginPolicy::Several,
            LoginPolicyArg::OnePerPlatform => LoginPolicy::OnePerPlatform,
            LoginPolicyArg::NewestWins => LoginPolicy::NewestWins,
        });
        let changes = [
            self.name.map(AppChange::Name),
            self.recall_window.map(AppChange::RecallWindowMs),
            self.edit_window.map(AppChange::EditWindowMs),
            registration.map(AppChange::Registration),
            policy.map(AppChange::LoginPolicy),
            self.users_max.map(AppChange::UsersMax),
            self.groups_max.map(AppChange::GroupsMax),
            self.group_members_max.map(AppChange::GroupMembersMax),
        ];
        changes.into_iter().flatten().collect()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppKeyCommand {
    /// Add a key: from now on tokens that it signed are good, too
    #[command(after_help = "\
To change an app's key: add the new one, sign with it, remove the old one once the last token of it is over (a day).
A token whose header names a key (`kid`) is verified with that one, any other with all of them.

Example:
  campanile app key add --config chat/node-1/campanile.toml shop 2027 --public-key shop-2027.pem")]
    Add {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
        key: KeyId,
        /// Ed25519 public key (PEM)
        #[arg(long, value_name = "FILE")]
        public_key: PathBuf,
    },
    /// Remove a key: tokens that it signed let nobody in any more
    Remove {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
        key: KeyId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApiKeyCommand {
    /// Make a key; it is shown once
    #[command(after_help = "\
Scopes: users:read users:write messages:send messages:read groups:read groups:write logins:write

Examples:
  campanile app api-key create --config chat/node-1/campanile.toml shop --name orders --scope messages:send
  campanile app api-key create --config chat/node-1/campanile.toml shop --name all --all-scopes --valid 90d")]
    Create {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
        /// What it is for
        #[arg(long)]
        name: String,
        /// What it is good for; may be given several times
        #[arg(long = "scope", value_name = "SCOPE", required_unless_present = "all_scopes")]
        scopes: Vec<Scope>,
        /// It is good for everything
        #[arg(long, conflicts_with = "scopes")]
        all_scopes: bool,
        /// How long it is valid: 12h, 90d. For ever, if it is not given
        #[arg(long, value_name = "TIME", value_parser = age_ms)]
        valid: Option<u64>,
    },
    /// List an app's keys
    List {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
    },
    /// Revoke a key, on every node at once
    Revoke {
        #[command(flatten)]
        at: AppAt,
        app: AppId,
        key: KeyId,
    },
}
