//! `campanile cluster join-token`, `node join` and `node remove`.

use std::io::Read;
use std::time::{Duration, Instant};

use chat::errors::ErrorCode;
use serde_json::json;

use super::args_nodes::{JoinTokenArgs, NodeJoinArgs, NodeRemoveArgs};
use super::cluster_status::{admin_failure, somebody};
use super::output::{confirm, json, say};
use super::{Code, Exit, Failure};
use crate::admin::AdminError;
use crate::init::join::{JoinError, JoinOptions, join as join_cluster};
use crate::nodes::JoinToken;
use crate::nodes::api::NewJoinToken;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(500);
/// Moving a few shards at a time, each in a few steps, takes seconds; past this it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) async fn join_token(args: JoinTokenArgs) -> Result<(), Failure> {
    let (admin, _) = somebody(&args.node).await?;
    if args.withdraw {
        admin.withdraw_join_tokens().await.map_err(|error| admin_failure(&error))?;
        if args.json {
            json(&json!({ "withdrawn": true }));
        } else {
            say("no join token that was made before lets anybody in any more");
        }
        return Ok(());
    }
    let wanted = NewJoinToken { uses: args.uses, lifetime_ms: args.valid * 3_600_000 };
    let made = admin.join_token(&wanted).await.map_err(|error| admin_failure(&error))?;
    if args.json {
        json(&json!({ "token": *made.token, "expires_ms": made.expires_ms, "uses": args.uses }));
    } else {
        say(&*made.token);
    }
    Ok(())
}

pub(super) async fn join(args: NodeJoinArgs) -> Result<(), Failure> {
    let text = token_text(&args)?;
    let token = JoinToken::decode(&text).map_err(|error| {
        Failure::new(Code::Argument, Exit::Usage, error.to_string())
            .next("campanile cluster join-token makes one, on a machine that has the cluster's admin token")
    })?;
    let options = JoinOptions { dir: args.dir, host: args.host, port: args.port, zone: args.zone, token };
    let joined = join_cluster(&options).await.map_err(|error| join_failure(&error))?;
    if args.json {
        json(&json!({
            "node": joined.node,
            "cluster": joined.cluster,
            "config": joined.config,
            "client": joined.addresses.client,
            "peer": joined.addresses.peer,
            "admin": joined.addresses.admin,
        }));
    } else {
        say(format_args!("node {} of cluster {} is in {}", joined.node, joined.cluster, options.dir.display()));
        say(format_args!("next: campanile node start --config {}", joined.config.display()));
    }
    Ok(())
}

fn token_text(args: &NodeJoinArgs) -> Result<String, Failure> {
    let Some(path) = &args.token_file else { return Ok(args.token.clone().unwrap_or_default()) };
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| {
        Failure::new(Code::File, Exit::Configuration, format!("cannot read {}", path.display())).because(&error)
    })
}

fn join_failure(error: &JoinError) -> Failure {
    match error {
        JoinError::Refused(AdminError::Refused { problem }) if problem.code == ErrorCode::Forbidden.number() => {
            Failure { number: problem.code, ..Failure::new(Code::Init, Exit::Refused, problem.message.clone()) }
                .next("campanile --version shows which release this is")
        }
        JoinError::Refused(error) => admin_failure(error).next("campanile cluster join-token makes a new token"),
        JoinError::Unreachable(_) => Failure::new(Code::AdminUnreachable, Exit::Unreachable, error.to_string())
            .because(error)
            .next("the token names the admin listeners: are they reachable from this machine?"),
        JoinError::Answer(_) => Failure::new(Code::AdminForm, Exit::Failed, error.to_string())
            .next("use the `campanile` of the version that the cluster runs"),
        JoinError::Init(error) => {
            Failure::new(Code::Init, Exit::Failed, error.to_string()).because(error).next("campanile node join --help")
        }
    }
}

pub(super) async fn remove(args: NodeRemoveArgs) -> Result<(), Failure> {
    let node = args.id;
    let (admin, status) = somebody(&args.node).await?;
    if !status.cluster.peers.iter().any(|peer| peer.node == node) {
        return Err(Failure::new(Code::Argument, Exit::Refused, format!("there is no node {node} in the cluster"))
            .next("campanile cluster status shows who is"));
    }
    let question = format!("node {node} leaves the cluster for good; type its number to go on: ");
    if !args.yes && !confirm(&question, &node.to_string()) {
        return Err(Failure::new(Code::Argument, Exit::Usage, "nothing was changed").next("with --yes it is not asked"));
    }
    admin.remove_node(node).await.map_err(|error| admin_failure(&error))?;
    let begun = Instant::now();
    loop {
        // Another node answers, should this one be the one that leaves.
        let (_, status) = somebody(&args.node).await?;
        let gone = status.cluster.node != node && status.cluster.peers.iter().all(|peer| peer.node != node);
        if gone {
            break;
        }
        if begun.elapsed() >= PATIENCE {
            let left = status.cluster.shards.iter().filter(|shard| shard.voters.contains(&node)).count();
            let what = format!("node {node} still votes in {left} shards; it goes on leaving");
            return Err(Failure::new(Code::Node, Exit::Unreachable, what)
                .next("campanile cluster status shows whether every shard has a leader"));
        }
        tokio::time::sleep(LOOK).await;
    }
    if args.json {
        json(&json!({ "node": node, "removed": true }));
    } else {
        say(format_args!("node {node} is no member of the cluster any more; its directory can be deleted"));
    }
    Ok(())
}
