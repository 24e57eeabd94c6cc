//! The command line of `campanile backup`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make a backup of a running cluster
    #[command(after_help = "\
Run it where a node's configuration and keys are: the backup holds the cluster's key, which seals the messages, and a node
gives its data to nobody else. Everything in it is sealed under the backup key: keep that file apart from it.

Examples:
  campanile backup key new backup.key
  campanile backup create --config chat/node-1/campanile.toml --key backup.key --to backups/monday
  campanile backup create --dir chat --key backup.key --to backups/monday")]
    Create(CreateArgs),
    /// Find out whether a backup is whole
    #[command(after_help = "\
Without the key the files are compared with their checksums: anybody who stores a backup can do that. With it everything is
opened and counted, too, and nobody without the key can have made or changed it. Exit code 1 if anything is wrong.

Examples:
  campanile backup verify backups/monday
  campanile backup verify backups/monday --key backup.key")]
    Verify(VerifyArgs),
    /// Make a new cluster from a backup
    #[command(after_help = "\
The new cluster has its own id, certificates, node keys and admin token, and as many nodes as you like. The number of shards
is the backup's. Apps go on signing with the keys they have. Clients of the old cluster begin anew: it has another epoch.

Examples:
  campanile backup restore backups/monday --key backup.key --to chat2 --nodes 3 --dry-run
  campanile backup restore backups/monday --key backup.key --to chat2 --nodes 3
  campanile backup restore backups/monday --key backup.key --to chat2 --nodes 2 --host 10.0.0.1 --host 10.0.0.2")]
    Restore(RestoreArgs),
    /// Make the key that seals backups
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Write a new backup key to a file that must not exist
    #[command(after_help = "\
Keep it where the backups are not, and twice: without it a backup is noise.

Example:
  campanile backup key new backup.key")]
    New { file: PathBuf },
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["dir", "config"])))]
pub(crate) struct CreateArgs {
    /// A directory made by `cluster init`: the first of its nodes that answers is asked
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// A node's configuration: that node is asked
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The backup key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Directory to make; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The backup
    pub(crate) backup: PathBuf,
    /// The backup key: opens everything
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) backup: PathBuf,
    /// The backup key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Directory of the new cluster to make; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// How many nodes, 1 to 7; a majority of them must live
    #[arg(long, default_value_t = 3)]
    pub(crate) nodes: u16,
    /// Must be the backup's, if given: conversations are spread over the shards for good
    #[arg(long)]
    pub(crate) shards: Option<u16>,
    /// First port: node i listens on PORT + 10 * i + 1 (clients), 2 (peers) and 3 (admin)
    #[arg(long, default_value_t = 7400)]
    pub(crate) port: u16,
    /// Address of the nodes: one for all, or one for each
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) host: Vec<IpAddr>,
    /// Make new signing keys for the apps: the old ones are lost, or others have them
    #[arg(long)]
    pub(crate) new_app_keys: bool,
    /// Check everything and say what would be made
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print what was made as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
