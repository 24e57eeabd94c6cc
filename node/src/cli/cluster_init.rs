//! `campanile cluster init`.

use std::path::Path;

use serde_json::json;

use super::args::InitArgs;
use super::output::{json, say, table};
use super::{Code, Exit, Failure};
use crate::init::{Created, InitError, InitOptions, MAIN_APP, create};

pub(super) fn run(args: InitArgs) -> Result<(), Failure> {
    let options = InitOptions {
        dir: args.dir,
        nodes: args.nodes,
        shards: args.shards,
        port: args.port,
        hosts: args.host,
        client_tls: true,
        level: args.level,
    };
    let created = create(&options).map_err(|error| failure(&error, &options.dir))?;
    if args.json {
        json(&summary(&created));
    } else {
        say(report(&created, options.shards));
    }
    Ok(())
}

fn failure(error: &InitError, dir: &Path) -> Failure {
    let message = error.to_string();
    match error {
        InitError::Exists { .. } => Failure::new(Code::DirectoryExists, Exit::Failed, message)
            .detail("nothing was changed: a cluster's keys and data are never overwritten")
            .next(
                "name another --dir, or start what is there: campanile node start --config DIR/node-1/campanile.toml",
            ),
        InitError::Nodes { .. }
        | InitError::Shards { .. }
        | InitError::Hosts { .. }
        | InitError::Port { .. }
        | InitError::Plaintext => {
            Failure::new(Code::Argument, Exit::Usage, message).next("campanile cluster init --help")
        }
        _ => Failure::new(Code::Init, Exit::Failed, format!("cannot make a cluster in {}", dir.display()))
            .because(error)
            .detail("nothing is left behind"),
    }
}

fn summary(created: &Created) -> serde_json::Value {
    let nodes: Vec<_> = (1..)
        .zip(&created.addresses)
        .map(|(node, at)| {
            json!({
                "node": node,
                "config": created.layout.config(node),
                "client": format!("wss://{}", at.client),
                "peer": at.peer,
                "admin": format!("https://{}", at.admin),
            })
        })
        .collect();
    json!({
        "cluster": created.cluster,
        "ca": created.layout.ca(),
        "admin_token_file": created.layout.admin_token(),
        "app_key_file": created.layout.app_key(MAIN_APP),
        "nodes": nodes,
    })
}

fn report(created: &Created, shards: u16) -> String {
    let layout = &created.layout;
    let head = ["node", "clients", "peers", "admin"].map(str::to_owned).to_vec();
    let rows = (1..).zip(&created.addresses).map(|(node, at): (u64, _)| {
        vec![node.to_string(), at.client.to_string(), at.peer.to_string(), at.admin.to_string()]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let starts: Vec<_> = (1..)
        .zip(&created.addresses)
        .map(|(node, _)| format!("  campanile node start --config {}", layout.config(node).display()))
        .collect();
    format!(
        "cluster {} with {} node(s) and {shards} shards is in {}\n\n{}\n\n\
         {}  what clients and operators trust\n\
         {}  signs user tokens of app {MAIN_APP}; belongs on the app's servers\n\
         {}  lets operators in; keep it secret\n\
         {}  can make new nodes of this cluster; keep it offline\n\n\
         next, each in its own terminal or on its own machine:\n{}\nthen:\n  campanile cluster status --dir {}",
        created.cluster,
        created.addresses.len(),
        layout.dir().display(),
        table(&rows),
        layout.ca().display(),
        layout.app_key(MAIN_APP).display(),
        layout.admin_token().display(),
        layout.ca_key().display(),
        starts.join("\n"),
        layout.dir().display(),
    )
}
