//! The configuration file of a new node.

use chat::ids::NodeId;

use super::{Addresses, AppOrigin, Plan};

pub(super) fn render(plan: &Plan, apps: &[AppOrigin], node: NodeId, own: &Addresses) -> String {
    let member = |(id, at): (NodeId, &Addresses)| {
        format!("    {{ id = {id}, peer = \"{}\", client = \"{}\" }},\n", at.peer, at.client)
    };
    let members: String = (1..).zip(&plan.addresses).map(member).collect();
    let app = |AppOrigin { app, .. }: &AppOrigin| {
        format!("\n[[apps]]\nid = \"{app}\"\ntoken_public_key = \"keys/app-{app}.pem\"\n")
    };
    let apps: String = apps.iter().map(app).collect();
    let (cluster, shards) = (&plan.cluster, plan.shards);
    let Addresses { client, peer, admin } = own;
    let tls = if plan.client_tls { "" } else { "tls = false\n" };
    format!(
        r#"# Node {node} of cluster {cluster}, made by `campanile cluster init`.
# What is not here has its default: `campanile config default` shows and explains every key.

[node]
id = {node}
name = "node-{node}"
data_dir = "data"

[cluster]
id = "{cluster}"
shards = {shards}
members = [
{members}]

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
{apps}"#
    )
}
