//! The configuration file of a new node.

use std::net::SocketAddr;

use chat::ids::NodeId;

use super::Addresses;

/// What a node's configuration says.
pub(super) struct Settings<'a> {
    pub(super) cluster: &'a str,
    pub(super) shards: u16,
    pub(super) node: NodeId,
    pub(super) own: &'a Addresses,
    /// Every node, with where peers and clients reach it.
    pub(super) members: Vec<(NodeId, SocketAddr, String)>,
    pub(super) client_tls: bool,
    /// That a new cluster begins at; none for one that is there.
    pub(super) level: Option<u16>,
    pub(super) zone: &'a str,
    pub(super) joined: bool,
    pub(super) apps: &'a [String],
}

pub(super) fn render(settings: &Settings<'_>) -> String {
    let Settings { cluster, shards, node, own, .. } = settings;
    let member = |(id, peer, client): &(NodeId, SocketAddr, String)| {
        format!("    {{ id = {id}, peer = \"{peer}\", client = \"{client}\" }},\n")
    };
    let members: String = settings.members.iter().map(member).collect();
    let app = |id: &String| format!("\n[[apps]]\nid = \"{id}\"\ntoken_public_key = \"keys/app-{id}.pem\"\n");
    let apps: String = settings.apps.iter().map(app).collect();
    let Addresses { client, peer, admin } = own;
    let tls = if settings.client_tls { "" } else { "tls = false\n" };
    let made_by = if settings.joined { "node join" } else { "cluster init" };
    let joined = if settings.joined { "joined = true\n" } else { "" };
    let level = settings.level.map_or_else(String::new, |level| format!("level = {level}\n"));
    let zone = if settings.zone.is_empty() { String::new() } else { format!("zone = {:?}\n", settings.zone) };
    format!(
        r#"# Node {node} of cluster {cluster}, made by `campanile {made_by}`.
# What is not here has its default: `campanile config default` shows and explains every key.

[node]
id = {node}
name = "node-{node}"
data_dir = "data"
{zone}
[cluster]
id = "{cluster}"
shards = {shards}
members = [
{members}]
{level}{joined}
[client]
listen = "{client}"
{tls}certificate = "node.pem"
private_key = "node.key"

[peer]
listen = "{peer}"
certificate = "node.pem"
private_key = "node.key"
ca = "ca.pem"

[admin]
listen = "{admin}"
token_file = "keys/admin.token"

[keys]
node_key = "keys/node.secret"
cluster_key = "keys/cluster.secret"
ca_key = "keys/ca.secret"
{apps}"#
    )
}
