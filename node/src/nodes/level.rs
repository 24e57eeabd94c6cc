//! The cluster's feature level, as operators raise it and as nodes say what they support (docs/adr/0022).

use std::time::Duration;

use chat::command::{ClusterCommand, Command, Outcome};
use chat::errors::ErrorCode;
use chat::ids::{NodeId, ShardId};
use chat::level;
use chat::state::query;
use cluster::{Cluster, ClusterStatus, ProposeError, Proposed};

use super::NodesDesk;
use super::api::{Join, Raise};
use crate::admin::Refused;

/// Of this build, as it names itself to the others.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl NodesDesk {
    /// Switches feature levels on, up to `raise.level`, for good.
    pub(crate) async fn raise(&self, raise: &Raise) -> Result<(), Refused> {
        let wanted = raise.level;
        if wanted > level::NEWEST {
            let why = format!("this node's release ({VERSION}) knows feature levels up to {}", level::NEWEST);
            return Err(Refused::new(ErrorCode::InvalidField, why));
        }
        let status = self.cluster.status();
        self.decide(ClusterCommand::SetLevel { level: wanted }, |code| why_not_raised(code, wanted, &status)).await?;
        tracing::info!(event = "level_raised", level = wanted, "a feature level is switched on");
        Ok(())
    }

    /// Whether a node of that release may join at all.
    pub(super) fn fits(&self, join: &Join) -> Result<(), Refused> {
        let on = self.cluster.level();
        if join.level >= on {
            return Ok(());
        }
        let (version, supports) = (&join.version, join.level);
        let why = format!(
            "the cluster is at feature level {on}, release {version} supports {supports}: install release {VERSION}, \
             which this node runs, and join with that"
        );
        Err(Refused::new(ErrorCode::Forbidden, why))
    }

    /// Writes down what a node runs that was just let in. It says so itself once it is started.
    pub(super) async fn note_build(&self, node: NodeId, level: u16, version: String) {
        let described =
            self.decide(ClusterCommand::DescribeBuild { node, level, version }, |code| code.name().to_owned());
        if let Err(error) = described.await {
            tracing::info!(node, %error, "what the new node runs is not on record yet");
        }
    }

    /// No join token that was made lets anybody in any more.
    pub(crate) async fn withdraw_tokens(&self) -> Result<(), Refused> {
        self.decide(ClusterCommand::WithdrawJoinTokens, |code| code.name().to_owned()).await?;
        tracing::info!(event = "join_tokens_withdrawn", "all join tokens were withdrawn");
        Ok(())
    }
}

fn why_not_raised(code: ErrorCode, wanted: u16, status: &ClusterStatus) -> String {
    if code != ErrorCode::Forbidden {
        return code.name().to_owned();
    }
    if wanted < status.level {
        return format!("the cluster is at feature level {}, and there is no way back", status.level);
    }
    let behind = status.peers.iter().filter(|peer| peer.supports.is_none_or(|supports| supports < wanted));
    let behind: Vec<String> = behind
        .map(|peer| match peer.supports {
            Some(supports) => format!("node {} supports {supports}", peer.node),
            None => format!("node {} has not said what it supports", peer.node),
        })
        .collect();
    format!("not every node supports feature level {wanted}: {}", behind.join(", "))
}

/// Says which release this node runs, where the record has something else; again until it is taken.
pub(crate) async fn describe_build(cluster: Cluster, node: NodeId) {
    const RETRY: Duration = Duration::from_secs(1);
    let on_record =
        |build: &chat::state::record::Build| (build.level, build.version.as_str()) == (level::NEWEST, VERSION);
    let view = cluster.view(ShardId::META);
    let known = view.and_then(|view| query::builds(&view).ok()).unwrap_or_default();
    if known.iter().any(|(id, build)| *id == node && on_record(build)) {
        return;
    }
    loop {
        let command = ClusterCommand::DescribeBuild { node, level: level::NEWEST, version: VERSION.to_owned() };
        match cluster.submit(ShardId::META, Command::Cluster(command)).await {
            Ok(Proposed { outcome: Outcome::Applied { .. }, .. }) | Err(ProposeError::Storage) => return,
            Ok(Proposed { outcome: Outcome::Rejected(code), .. }) => {
                tracing::warn!(node, code = code.name(), "what this node runs was not written down");
                return;
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
