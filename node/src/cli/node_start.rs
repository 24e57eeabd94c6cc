//! `campanile node start`.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::{Code, Exit, Failure, load_config, logging};
use crate::start::disk;

/// How long a node may take to end after its standard input has.
const PARENT_GONE_GRACE: Duration = Duration::from_secs(10);

pub(super) fn run(path: &Path, exit_with_stdin: bool) -> Result<(), Failure> {
    let config = load_config(path)?;
    let problems = config.check_files();
    if !problems.is_empty() {
        let message = format!("{} names things that are not fit to use", path.display());
        let failure = Failure::new(Code::ConfiguredFiles, Exit::Configuration, message);
        return Err(problems
            .iter()
            .flat_map(|problem| [Some(&problem.message), problem.help.as_ref()])
            .flatten()
            .fold(failure, Failure::detail)
            .next(format!("campanile config check {}", path.display())));
    }
    logging::start(&config.log);
    if exit_with_stdin {
        std::thread::Builder::new()
            .name("stdin-watch".to_owned())
            .spawn(end_with_stdin)
            .map_err(|error| Failure::new(Code::Node, Exit::Failed, "cannot watch standard input").because(&error))?;
    }
    let (node, dir) = (config.node.id, config.node.data_dir.clone());
    let again = format!("campanile node start --config {}", path.display());
    crate::start::run(config, &again).map_err(|error| {
        let (exit, code, next) = match disk::fault_of(&error) {
            Some(fault) => {
                let (exit, next) = disk::advice(fault, &dir, &again);
                (exit, Code::Disk, next)
            }
            None => {
                let next = "the lines above this one tell more; campanile config check FILE checks the files";
                (Exit::Failed, Code::Node, next.to_owned())
            }
        };
        let causes = error.chain().skip(1).map(ToString::to_string);
        let next = if is_damaged(&error) {
            format!(
                "after a bad read, {again}; else what this node promised the others is lost, replace it: campanile node \
                 remove {node} --config FILE of another node, then campanile cluster join-token and node join \
                 (docs/OPERATIONS.md, \"Damaged records\")"
            )
        } else if is_outgrown(&error) {
            format!("install the release that the other nodes run (campanile --version), then {again}")
        } else {
            next
        };
        causes.fold(Failure::new(code, exit, format!("node {node}: {error}")), Failure::detail).next(next)
    })
}

/// Whether stored records are the reason, and no other node can give them back.
fn is_damaged(error: &anyhow::Error) -> bool {
    let storage = error.chain().any(|cause| {
        cause.downcast_ref::<storage::StorageError>().is_some_and(|error| error.damage() == Some(storage::Damage::Meta))
            || matches!(cause.downcast_ref(), Some(storage::OpenError::Corrupt { .. }))
    });
    storage || matches!(error.chain().find_map(|cause| cause.downcast_ref()), Some(cluster::StartError::Damaged { .. }))
}

/// Whether this build is too old for the cluster.
fn is_outgrown(error: &anyhow::Error) -> bool {
    matches!(error.chain().find_map(|cause| cause.downcast_ref()), Some(cluster::StartError::Outgrown { .. }))
}

/// Asks this process to end once standard input does, as SIGTERM would; and ends it if it does not.
fn end_with_stdin() {
    let mut input = std::io::stdin().lock();
    let mut scrap = [0; 256];
    while input.read(&mut scrap).is_ok_and(|bytes| bytes > 0) {}
    tracing::info!("the program that started this node is gone: ending");
    let own = rustix::process::getpid();
    if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::TERM) {
        tracing::warn!(%error, "no signal to this process");
    }
    std::thread::sleep(PARENT_GONE_GRACE);
    std::process::exit(i32::from(Exit::Failed as u8));
}
