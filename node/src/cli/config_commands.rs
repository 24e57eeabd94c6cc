//! `campanile config check` and `default`.

use std::path::Path;

use serde_json::json;

use super::output::{json, put, say};
use super::{Code, Exit, Failure, load_config};
use crate::config::DEFAULT;

pub(super) fn check(file: &Path, text_only: bool, as_json: bool) -> Result<(), Failure> {
    let config = load_config(file)?;
    let problems = if text_only { Vec::new() } else { config.check_files() };
    if !problems.is_empty() {
        let message = format!("{} names {} thing(s) that are not fit to use", file.display(), problems.len());
        let failure = Failure::new(Code::ConfiguredFiles, Exit::Configuration, message);
        let failure = problems.iter().fold(failure, |failure, problem| match &problem.help {
            Some(help) => failure.detail(format!("{}\n  {help}", problem.message)),
            None => failure.detail(&problem.message),
        });
        return Err(failure.next("campanile cluster init --dir DIR --nodes 3 makes everything a node needs"));
    }
    let members = config.members().len();
    if as_json {
        json(&json!({ "ok": true, "node": config.node.id, "cluster": config.cluster.id, "members": members }));
    } else {
        say(format_args!(
            "ok: {} configures node {} of {members}, clients on {}",
            file.display(),
            config.node.id,
            config.client.listen
        ));
        say(format_args!("next: campanile node start --config {}", file.display()));
    }
    Ok(())
}

pub(super) fn default() {
    put(DEFAULT);
}
