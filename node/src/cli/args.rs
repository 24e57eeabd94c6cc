//! The command line: `campanile <noun> <verb>`. Long because it has every verb.

use std::net::IpAddr;
use std::path::PathBuf;

use chat::ids::{AppId, ConversationId, UserId};
use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use super::args_apps::AppCommand;
use super::args_nodes::{JoinTokenArgs, NodeJoinArgs, NodeRemoveArgs, ShardCommand, UpgradeArgs};
use super::backup_args::BackupCommand;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  the configuration, or a file it names, is wrong
  4  nobody answers, or not now: the same again later may succeed
  5  the service refused
  6  the outcome is unknown: the same again is safe
 70  node start: a replica cannot go on, start the node again
 74  node start: the disk failed, look at it first
 75  node start: the disk is full or read-only, start the node again once that has changed

Examples:
  campanile demo                                             three nodes and a chat page, here and now
  campanile cluster init --dir chat --nodes 3                keys, certificates and configuration of a new cluster
  campanile node start --config chat/node-1/campanile.toml   one of its nodes
  campanile cluster status --dir chat                        how it is";

/// Self-hosted instant messaging: a cluster of equal nodes, one binary.
#[derive(Debug, Parser)]
#[command(name = "campanile", version, after_help = EXIT_CODES, arg_required_else_help = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run three nodes on this machine, with users, a group and a chat page, and let you kill them
    Demo(DemoArgs),
    /// Run a node
    #[command(subcommand)]
    Node(NodeCommand),
    /// Make a cluster, or look at one
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Look at where shards are, or move them
    #[command(subcommand)]
    Shard(ShardCommand),
    /// Back up a cluster, and make a new one from a backup
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Check a configuration, or print the default one
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Administer users
    #[command(subcommand)]
    User(UserCommand),
    /// Administer apps: settings, keys of their tokens, keys of their backends
    #[command(subcommand)]
    App(AppCommand),
    /// How long messages are kept
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Send one message, and wait until it is stored on a majority
    Send(SendArgs),
    /// Follow a user's conversations
    Tail(TailArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Keys on a terminal: k kills a random node (SIGKILL), r brings it back, q ends.

Examples:
  campanile demo
  campanile demo --dir demo --port 7400       keeps the data in ./demo; the same again continues there
  campanile demo --no-input                   for scripts: runs until SIGINT or SIGTERM
  campanile demo --no-input --keys krq        kills a node, brings it back, ends")]
pub(crate) struct DemoArgs {
    /// Keep the data here; without it, a temporary directory is used and removed at the end
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// First port: node i listens on PORT + 10 * i + 1, 2 and 3 [default: free ports]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,
    /// Take no keys, even on a terminal
    #[arg(long)]
    pub(crate) no_input: bool,
    /// Press these keys one after the other, then end unless there is a terminal: for scripts
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true, value_parser = keys)]
    pub(crate) keys: String,
    /// Sample users with passwords
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=12))]
    pub(crate) users: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Make the directory of a node that joins a cluster
    Join(NodeJoinArgs),
    /// Have a node leave its cluster for good
    Remove(NodeRemoveArgs),
    /// Run a node until SIGINT or SIGTERM
    #[command(after_help = "\
Prints one line when it serves clients: ready node=1 client=wss://... admin=https://...

Example:
  campanile node start --config chat/node-1/campanile.toml")]
    Start {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Leave when standard input ends: for nodes started by another program
        #[arg(long, env = "CAMPANILE_EXIT_WITH_STDIN", value_parser = clap::builder::BoolishValueParser::new(),
              num_args = 0..=1, default_value = "false", default_missing_value = "true", hide_default_value = true,
              hide_env_values = true)]
        exit_with_stdin: bool,
    },
    /// Hand over what a running node leads and whom it serves, before it is stopped or looked after
    #[command(after_help = "\
Waits until the node leads no shard and serves no client. It still keeps its replicas up to date. SIGTERM does the same,
within seconds, and then stops the node. A node that is started again is on duty.

Examples:
  campanile node drain --config chat/node-1/campanile.toml
  campanile node drain --config chat/node-1/campanile.toml --over 60")]
    Drain {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Clients are told to connect elsewhere one after the other within this
        #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3_600))]
        over: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy the database of a node that is stopped into a fresh one: gives disk and memory back
    #[command(after_help = "\
Needs as much free disk as the database holds (`live` in cluster status --json). Whatever interrupts it, the database is whole.
A start does the same by itself when [storage] compact_dead_percent of it is dead.

Example:
  campanile node compact --config chat/node-1/campanile.toml")]
    Compact {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a drain: the node serves clients, and leads again
    #[command(after_help = "\
Example:
  campanile node resume --config chat/node-1/campanile.toml")]
    Resume {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make the keys, certificates, configuration and data directories of a new cluster
    #[command(after_help = "\
Each DIR/node-N is complete in itself: move it to its machine. Keep DIR/ca.key and DIR/apps offline. A cluster of one node
grows later: campanile cluster join-token, campanile node join.

Examples:
  campanile cluster init --dir chat --nodes 3
  campanile cluster init --dir chat --nodes 3 --host 10.0.0.1 --host 10.0.0.2 --host 10.0.0.3")]
    Init(InitArgs),
    /// Show nodes, shards, leaders and how far replicas are
    #[command(after_help = "\
Examples:
  campanile cluster status --dir chat                 asks every node of a cluster directory
  campanile cluster status --dir chat --digests       also compares the replicas' states
  campanile cluster status --config chat/node-1/campanile.toml --json
  campanile cluster status --admin https://127.0.0.1:7413 --ca chat/ca.pem --token-file chat/admin.token")]
    Status(StatusArgs),
    /// Make a token that lets nodes join
    JoinToken(JoinTokenArgs),
    /// Show which release each node runs, and switch on what all of them support
    Upgrade(UpgradeArgs),
    /// Compare all replicas of every shard, each after one and the same entry of its log
    #[command(after_help = "\
Succeeds if every replica was compared and all are equal; exit code 1 if some differ, 4 if some gave no answer. Reads the
whole state of every replica, beside what goes on. The nodes do the same by themselves, each shard once an hour.

Examples:
  campanile cluster verify --dir chat
  campanile cluster verify --config chat/node-1/campanile.toml --json")]
    Verify(VerifyArgs),
    /// Open every stored record of the asked nodes, and repair what is damaged from the other nodes
    #[command(after_help = "\
Waits until every record was looked at and what is damaged repaired; exit code 1 if damage is left. Goes slowly, beside
what the nodes do ([storage] scrub_rate). They do the same by themselves ([storage] scrub_every).

Examples:
  campanile cluster scrub --dir chat
  campanile cluster scrub --config chat/node-1/campanile.toml --no-wait")]
    Scrub(ScrubArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Directory to make; it must not exist or be empty
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// How many nodes, 1 to 7; a majority of them must live
    #[arg(long, default_value_t = 3)]
    pub(crate) nodes: u16,
    /// Shards of users and conversations, fixed for the cluster's life
    #[arg(long, default_value_t = chat::limits::SHARDS_DEFAULT)]
    pub(crate) shards: u16,
    /// First port: node i listens on PORT + 10 * i + 1 (clients), 2 (peers) and 3 (admin)
    #[arg(long, default_value_t = 7400)]
    pub(crate) port: u16,
    /// Address of the nodes: one for all, or one for each
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) host: Vec<IpAddr>,
    /// Feature level to begin at: an earlier one for a cluster that must be able to go back to that release
    #[arg(long, default_value_t = chat::level::NEWEST,
          value_parser = clap::value_parser!(u16).range(i64::from(chat::level::OLDEST)..=i64::from(chat::level::NEWEST)))]
    pub(crate) level: u16,
    /// Print what was made as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which running nodes are asked.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["dir", "config", "admin"])))]
pub(crate) struct NodesArgs {
    /// A directory made by `cluster init`: all its nodes are asked
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// A node's configuration: that node is asked
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A node's admin listener
    #[arg(long, value_name = "URL", requires = "ca", requires = "token_file")]
    pub(crate) admin: Option<String>,
    /// Certificate authority of the cluster (PEM)
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub(crate) ca: Option<PathBuf>,
    /// File that holds the admin token
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) node: NodesArgs,
    /// Also compute and compare the digests of the replicas' states
    #[arg(long)]
    pub(crate) digests: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) node: NodesArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    #[command(flatten)]
    pub(crate) node: NodesArgs,
    /// Begin and return: `campanile cluster status` shows how far it is
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration and the files it names; reports every problem
    #[command(after_help = "Example:\n  campanile config check chat/node-1/campanile.toml")]
    Check {
        file: PathBuf,
        /// Check the text alone, not the files it names
        #[arg(long)]
        text_only: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the default configuration with an explanation of every key
    #[command(after_help = "Example:\n  campanile config default > campanile.toml")]
    Default,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user who logs in with a password
    #[command(after_help = "\
Without --password-file the password is asked for on a terminal, or read as one line from standard input.

Examples:
  campanile user add --config chat/node-1/campanile.toml alice
  campanile user add --config chat/node-1/campanile.toml --password-file alice.pw alice")]
    Add {
        /// Configuration of a node that runs
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[arg(long, default_value = "main")]
        app: AppId,
        user: UserId,
        /// File that holds the password; only its owner may read it
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Show what holds for an app, or for one of its conversations
    #[command(after_help = "\
Examples:
  campanile retention show --config chat/node-1/campanile.toml
  campanile retention show --config chat/node-1/campanile.toml --app main --conversation p:alice:bob --json")]
    Show {
        #[command(flatten)]
        target: RetentionTarget,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set it for an app, or for one conversation instead of the app's
    #[command(after_help = "\
What is older than --max-age or not among the newest --max-count events is deleted for good, on all nodes, within minutes.

Examples:
  campanile retention set --config chat/node-1/campanile.toml --app main --max-age 30d --yes
  campanile retention set --config chat/node-1/campanile.toml --conversation g:UUID --max-count 10000 --dry-run
  campanile retention set --config chat/node-1/campanile.toml --conversation g:UUID --inherit
  campanile retention set --config chat/node-1/campanile.toml --keep-for-ever")]
    Set(RetentionSetArgs),
    /// Show or set how long the ids of an app's messages are remembered after those were deleted
    #[command(after_help = "\
A client that repeats a send after that, whose message was deleted meanwhile, has it twice. 7 days unless set otherwise;
`hello` announces it to clients.

Examples:
  campanile retention ids --config chat/node-1/campanile.toml --app main
  campanile retention ids --config chat/node-1/campanile.toml --app main --remember 12h")]
    Ids(RetentionIdsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RetentionIdsArgs {
    /// Configuration of a node that runs
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    #[arg(long, default_value = "main")]
    pub(crate) app: AppId,
    /// Remember them for so long: 5m to 7d
    #[arg(long, value_name = "TIME", value_parser = age_ms)]
    pub(crate) remember: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a retention policy is of.
#[derive(Debug, Args)]
pub(crate) struct RetentionTarget {
    /// Configuration of a node that runs
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    #[arg(long, default_value = "main")]
    pub(crate) app: AppId,
    /// One conversation of the app: p:USER:USER or g:UUID
    #[arg(long, value_name = "ID")]
    pub(crate) conversation: Option<ConversationId>,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("policy").required(true).multiple(true)
    .args(["max_age", "max_count", "keep_for_ever", "inherit"])))]
pub(crate) struct RetentionSetArgs {
    #[command(flatten)]
    pub(crate) target: RetentionTarget,
    /// Keep messages for this long: 90s, 12h, 30d
    #[arg(long, value_name = "TIME", value_parser = age_ms)]
    pub(crate) max_age: Option<u64>,
    /// Keep the newest N events of a conversation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_count: Option<u64>,
    /// Delete nothing
    #[arg(long, conflicts_with_all = ["max_age", "max_count"])]
    pub(crate) keep_for_ever: bool,
    /// Take the conversation's own policy away
    #[arg(long, conflicts_with_all = ["max_age", "max_count", "keep_for_ever"])]
    pub(crate) inherit: bool,
    /// Do not ask for a confirmation
    #[arg(long)]
    pub(crate) yes: bool,
    /// Only say what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Milliseconds of `90s`, `15m`, `12h`, `30d`.
pub(super) fn age_ms(text: &str) -> Result<u64, String> {
    let units = [('s', 1_000), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)];
    let scaled = units.iter().find_map(|(unit, ms)| text.strip_suffix(*unit)?.parse::<u64>().ok()?.checked_mul(*ms));
    let scaled = scaled.filter(|ms| *ms >= chat::limits::RETENTION_AGE_MS_MIN);
    scaled.ok_or_else(|| format!("{text:?} is not a time such as 90s, 15m, 12h or 30d"))
}

/// Who connects, and where.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("proof").required(true).args(["password_file", "app_key"])))]
pub(crate) struct LoginArgs {
    /// A node's client listener, wss://host:port; may be repeated
    #[arg(long, required = true)]
    pub(crate) url: Vec<String>,
    /// Certificate authority of the cluster (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: PathBuf,
    #[arg(long, default_value = "main")]
    pub(crate) app: AppId,
    #[arg(long)]
    pub(crate) user: UserId,
    /// File that holds the user's password; only its owner may read it
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The app's signing key (apps/main.key): vouches for the user, who is added if unknown
    #[arg(long, value_name = "FILE")]
    pub(crate) app_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("addressee").required(true).args(["to", "group"])))]
#[command(after_help = "\
Examples:
  campanile send --url wss://127.0.0.1:7411 --ca chat/ca.pem --user alice --app-key chat/apps/main.key --to bob hello
  campanile send --url wss://127.0.0.1:7411 --ca chat/ca.pem --user alice --password-file pw --group UUID 'hello all'")]
pub(crate) struct SendArgs {
    #[command(flatten)]
    pub(crate) login: LoginArgs,
    /// To a user
    #[arg(long, value_name = "USER")]
    pub(crate) to: Option<UserId>,
    /// To a group
    #[arg(long, value_name = "UUID")]
    pub(crate) group: Option<Uuid>,
    /// Continue an earlier send whose outcome is unknown
    #[arg(long, value_name = "UUID")]
    pub(crate) id: Option<Uuid>,
    pub(crate) text: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  campanile tail --url wss://127.0.0.1:7411 --ca chat/ca.pem --user bob --app-key chat/apps/main.key")]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) login: LoginArgs,
    /// First show the last N events of each conversation
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) last: u64,
    /// Print each event as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn keys(text: &str) -> Result<String, String> {
    match text.chars().find(|key| !"krq".contains(*key)) {
        None => Ok(text.to_owned()),
        Some(key) => Err(format!("{key:?} is not one of the keys k, r and q")),
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
