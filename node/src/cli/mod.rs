//! The command line. Every command returns a [`Failure`] or what it printed; [`run`] turns it into an exit code.

mod app_commands;
mod args;
mod args_apps;
mod args_nodes;
mod backup_args;
mod backup_commands;
mod chat_commands;
mod cluster_init;
mod cluster_scrub;
mod cluster_status;
mod cluster_upgrade;
mod cluster_verify;
mod config_commands;
mod failure;
mod logging;
mod login;
mod node_compact;
mod node_duty;
mod node_membership;
mod node_start;
pub(crate) mod output;
mod password;
mod retention_commands;
mod shard_commands;
mod user_commands;

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::config::{ConfigError, NodeConfig};
pub(crate) use args::DemoArgs;
use args::{Cli, ClusterCommand, Command, ConfigCommand, NodeCommand, RetentionCommand, UserCommand};
pub(crate) use failure::{Code, Exit, Failure};

/// Runs the command of `arguments` (with the program's name first) and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => within_runtime(crate::demo::run(args)),
        Command::Node(NodeCommand::Start { config, exit_with_stdin }) => node_start::run(&config, exit_with_stdin),
        Command::Node(NodeCommand::Join(args)) => within_runtime(node_membership::join(args)),
        Command::Node(NodeCommand::Remove(args)) => within_runtime(node_membership::remove(args)),
        Command::Node(NodeCommand::Drain { config, over, json }) => {
            within_runtime(node_duty::drain(&config, over, json))
        }
        Command::Node(NodeCommand::Compact { config, json }) => node_compact::run(&config, json),
        Command::Node(NodeCommand::Resume { config, json }) => within_runtime(node_duty::resume(&config, json)),
        Command::Cluster(ClusterCommand::Init(args)) => cluster_init::run(args),
        Command::Cluster(ClusterCommand::Status(args)) => within_runtime(cluster_status::run(args)),
        Command::Cluster(ClusterCommand::Upgrade(args)) => within_runtime(cluster_upgrade::run(args)),
        Command::Cluster(ClusterCommand::JoinToken(args)) => within_runtime(node_membership::join_token(args)),
        Command::Shard(command) => within_runtime(shard_commands::run(command)),
        Command::Cluster(ClusterCommand::Verify(args)) => within_runtime(cluster_verify::run(args)),
        Command::Cluster(ClusterCommand::Scrub(args)) => within_runtime(cluster_scrub::run(args)),
        Command::Backup(command) => within_runtime(backup_commands::run(command)),
        Command::Config(ConfigCommand::Check { file, text_only, json }) => {
            config_commands::check(&file, text_only, json)
        }
        Command::Config(ConfigCommand::Default) => {
            config_commands::default();
            Ok(())
        }
        Command::User(UserCommand::Add { config, app, user, password_file, json }) => {
            let password = password::obtain(password_file.as_deref())?;
            within_runtime(user_commands::add(&config, app, user, password, json))
        }
        Command::App(command) => within_runtime(app_commands::run(command)),
        Command::Retention(RetentionCommand::Show { target, json }) => {
            within_runtime(retention_commands::show(target, json))
        }
        Command::Retention(RetentionCommand::Set(args)) => within_runtime(retention_commands::set(args)),
        Command::Retention(RetentionCommand::Ids(args)) => within_runtime(retention_commands::ids(args)),
        Command::Send(args) => within_runtime(chat_commands::send(args)),
        Command::Tail(args) => within_runtime(chat_commands::tail(args)),
    }
}

/// Runs a command that talks to the network.
fn within_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(Failure::new(Code::Node, Exit::Failed, "the runtime does not start").because(&error)),
    }
}

/// A configuration, or a failure that lists its problems.
fn load_config(path: &Path) -> Result<NodeConfig, Failure> {
    NodeConfig::load(path).map_err(|error| match &error {
        ConfigError::Read { .. } => Failure::new(Code::File, Exit::Configuration, error.to_string())
            .because(&error)
            .next("campanile cluster init --dir DIR --nodes 3 makes complete configurations"),
        ConfigError::Invalid { problems, .. } => problems
            .iter()
            .fold(Failure::new(Code::Configuration, Exit::Configuration, error.to_string()), Failure::detail)
            .next("campanile config default shows and explains every key"),
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        Failure::new(Code::File, Exit::Configuration, format!("cannot read {}", path.display())).because(&error)
    })
}

/// A secret from a file that only its owner may read.
fn read_secret(path: &Path) -> Result<zeroize::Zeroizing<String>, Failure> {
    crate::config::read_secret_text(path)
        .map_err(|error| Failure::new(Code::File, Exit::Configuration, error.to_string()).because(&error))
}
