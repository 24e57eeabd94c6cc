//! The command line's part about nodes that come and go, and about where shards are.

use std::net::IpAddr;
use std::path::PathBuf;

use chat::ids::NodeId;
use clap::{Args, Subcommand};

use super::args::NodesArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
The token carries the authority's certificate and a secret: whoever has it can make a node of this cluster, which reads
everything. It is valid for the given time, for the given number of nodes.

Examples:
  campanile cluster join-token --dir chat
  campanile cluster join-token --config chat/node-1/campanile.toml --uses 2 --valid 24 > join.token
  campanile cluster join-token --dir chat --withdraw      none that was made lets anybody in any more")]
pub(crate) struct JoinTokenArgs {
    #[command(flatten)]
    pub(crate) node: NodesArgs,
    /// Nodes that may join with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=7))]
    pub(crate) uses: u32,
    /// Make none: withdraw all that were made and not used
    #[arg(long, conflicts_with_all = ["uses", "valid"])]
    pub(crate) withdraw: bool,
    /// How long it is valid
    #[arg(long, value_name = "HOURS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=168))]
    pub(crate) valid: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("by").required(true).args(["token", "token_file"])), after_help = "\
Makes the node's directory: its own keys, a certificate that the cluster signs, its configuration, empty data. Started, it
catches up with every shard, and only then serves clients and votes. Asked again after a failure, it is the same node.

Examples:
  campanile node join --dir chat/node-4 --port 7440 --token-file join.token
  campanile node join --dir /var/lib/campanile --host 10.0.0.4 --zone b --token campanile-join-1.TOKEN")]
pub(crate) struct NodeJoinArgs {
    /// Directory to make; it must not exist or be empty
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Address of the node, where the others reach it
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) host: IpAddr,
    /// The node listens on PORT + 1 (clients), 2 (peers) and 3 (admin)
    #[arg(long, default_value_t = 7410)]
    pub(crate) port: u16,
    /// What fails together with it: a rack, a room, a provider's zone
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) zone: String,
    /// What `campanile cluster join-token` printed
    #[arg(long, env = "CAMPANILE_JOIN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// File that holds it; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Its replicas move to the other nodes first, its clients connect to them; then it is no member any more, and its process
ends. Also for a node that is lost: a majority of each shard's voters must live. The id is never used again.

Examples:
  campanile node remove 4 --dir chat
  campanile node remove 4 --config chat/node-1/campanile.toml --yes")]
pub(crate) struct NodeRemoveArgs {
    pub(crate) id: NodeId,
    #[command(flatten)]
    pub(crate) node: NodesArgs,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A new release of the nodes changes nothing that an earlier one cannot read until this is done: so each node can go back.
Afterwards none can. First install the release on every node, one after the other (docs/OPERATIONS.md, \"Upgrades\").

Examples:
  campanile cluster upgrade --dir chat --dry-run
  campanile cluster upgrade --config chat/node-1/campanile.toml --yes")]
pub(crate) struct UpgradeArgs {
    #[command(flatten)]
    pub(crate) node: NodesArgs,
    /// Feature level to switch on [default: the highest that every node supports]
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<u16>,
    /// Show what would be switched on, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ShardCommand {
    /// Show who votes in each shard, who leads, who follows
    #[command(after_help = "\
Examples:
  campanile shard list --dir chat
  campanile shard list --config chat/node-1/campanile.toml --json")]
    List {
        #[command(flatten)]
        node: NodesArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have one node vote in a shard instead of another
    #[command(after_help = "\
Every node holds every shard; moving one changes who decides, copies nothing and stops nothing. `shard rebalance` may move
it back.

Example:
  campanile shard move 3 --from 1 --to 4 --dir chat")]
    Move {
        /// Its number; 0 is the metadata group
        shard: u16,
        #[arg(long, value_name = "NODE")]
        from: NodeId,
        #[arg(long, value_name = "NODE")]
        to: NodeId,
        #[command(flatten)]
        node: NodesArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Spread voters and leaders evenly over nodes and zones
    #[command(after_help = "\
Happens by itself when a node has joined. A few shards move at a time.

Examples:
  campanile shard rebalance --dry-run --dir chat
  campanile shard rebalance --replicas 5 --dir chat")]
    Rebalance {
        /// Show what would move, and change nothing
        #[arg(long, conflicts_with = "replicas")]
        dry_run: bool,
        /// Nodes that vote in each shard from now on: 1, 3, 5 or 7
        #[arg(long, value_parser = replicas)]
        replicas: Option<u8>,
        #[command(flatten)]
        node: NodesArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

fn replicas(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(number @ (1 | 3 | 5 | 7)) => Ok(number),
        _ => Err("1, 3, 5 or 7".to_owned()),
    }
}
