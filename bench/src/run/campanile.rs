//! Runs against Campanile: users by token, groups by the client crate, histories and digests at the end.

use std::sync::Arc;
use std::time::Duration;

use campanile_client::Client;
use chat::ids::{ConversationId, ShardId, UserId};
use chat::limits;
use chat::wire::Credentials;
use futures_util::{StreamExt, TryStreamExt};
use node::admin::NewUser;
use node::auth::signer::TokenSigner;

use super::watch::Conductor;
use super::{Measured, Plan, RunError, Stage, verify};
use crate::engine::Connector;
use crate::ledger::new_run;
use crate::progress::Progress;
use crate::protocol::campanile::{Campanile, Cast, Place, group_id};
use crate::target::{Target, TargetOptions, unix_ms};
use crate::usage::Process;
use crate::workload::Shape;

/// Groups made at once.
const GROUPS_AT_ONCE: usize = 8;
const ACCOUNTS_AT_ONCE: usize = 64;
const TOKEN_LIFETIME: Duration = Duration::from_secs(20 * 3_600);

/// A cluster, and what its processes are.
pub struct Cluster {
    pub options: TargetOptions,
    pub processes: Vec<Process>,
    pub runtime: tokio::runtime::Runtime,
    /// Called when everything is ready for the load; which begins when it returns.
    pub gate: fn() -> Result<(), RunError>,
}

/// Users, groups and load, from the first login to the last check. `conduct` is given the shard of each group; the
/// conductor and the shards come back with what was measured.
pub fn run<C: Conductor>(
    cluster: &Cluster,
    plan: &Plan,
    conduct: impl FnOnce(&[ShardId]) -> Result<C, RunError>,
    progress: Progress,
) -> Result<(Measured, C, Vec<ShardId>), RunError> {
    let (run, began_ms) = (new_run(), unix_ms());
    let target = Target::new(cluster.options.clone())?;
    let users = user_names(run, plan.shape.users);
    let places = places(run, began_ms, &plan.shape);
    let protocol = Arc::new(Campanile::new(Cast {
        run,
        began_ms,
        tokens: sign(&cluster.options, &users)?,
        users: users.clone(),
        places: places.clone(),
        lane_users: plan.shape.lane_users(),
        device: "bench".to_owned(),
    }));
    let mut conductor = conduct(&cluster.runtime.block_on(shards(cluster, &protocol, &places)))?;
    if plan.accounts_first {
        cluster.runtime.block_on(make_accounts(&target, &users))?;
    }
    let connector = Connector::new(&cluster.options.urls, &cluster.options.ca_pem)?;
    let groups = plan.shape.groups.iter().filter(|group| !group.private);
    // A private conversation begins with its first message.
    let joining = groups.map(|group| group.members.len() as u64).sum();
    let stage = Stage { plan, connector, processes: &cluster.processes, joining, progress, gate: cluster.gate };
    let make = || cluster.runtime.block_on(make_groups(&target, &users, &places, &plan.shape));
    let mut measured = stage.play(&protocol, make, &mut conductor)?;
    let target = conductor.present().map_or(Ok(target), Target::new)?;
    let checking = verify::check(&target, &protocol, &users, plan, &mut measured, progress);
    cluster.runtime.block_on(checking)?;
    let shards = cluster.runtime.block_on(shards(cluster, &protocol, &places));
    Ok((measured, conductor, shards))
}

/// Of each place, its shard, as far as the cluster tells how many there are.
async fn shards(cluster: &Cluster, protocol: &Campanile, places: &[Place]) -> Vec<ShardId> {
    let Some(admin) = cluster.options.admins.first() else { return Vec::new() };
    let Ok(status) = admin.status().await else { return Vec::new() };
    // One of them is the metadata group.
    let count = status.cluster.shards.len().saturating_sub(1) as u16;
    let conversations = (0..places.len() as u32).map(|place| protocol.conversation(place).parse());
    let shard = |id: Result<ConversationId, _>| Some(ShardId::of_conversation(&cluster.options.app, &id.ok()?, count));
    conversations.filter_map(shard).collect()
}

/// Accounts without connections, by the admin listener.
async fn make_accounts(target: &Target, users: &[String]) -> Result<(), RunError> {
    let Some(admin) = target.admins.first() else {
        return Err(RunError::Usage(
            "accounts are made by the admin listener: give --admin and --admin-token".to_owned(),
        ));
    };
    let failed = |e: &dyn std::fmt::Display| RunError::Unhealthy(format!("an account could not be made: {e}"));
    let making = users.iter().map(|user| async move {
        let user = UserId::new(user.as_str()).map_err(|e| failed(&e))?;
        let account = NewUser { app: target.app.clone(), user, password: None };
        admin.add_user(&account).await.map_err(|e| failed(&e))
    });
    futures_util::stream::iter(making).buffer_unordered(ACCOUNTS_AT_ONCE).try_collect::<()>().await
}

fn user_names(run: u32, users: u32) -> Vec<String> {
    (0..users).map(|number| format!("b{run:08x}-u{number}")).collect()
}

fn places(run: u32, began_ms: u64, shape: &Shape) -> Vec<Place> {
    let place = |(number, group): (usize, &crate::workload::GroupShape)| match group.members[..] {
        [a, b] if group.private => Place::Pair(a, b),
        _ => Place::Group(group_id(run, began_ms, number as u32)),
    };
    shape.groups.iter().enumerate().map(place).collect()
}

/// A token for everybody, signed on all cores.
fn sign(options: &TargetOptions, users: &[String]) -> Result<Vec<String>, RunError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let signer = TokenSigner::new(options.app.clone(), &options.app_key_pem)
        .map_err(crate::target::TargetError::from)?
        .lasting(TOKEN_LIFETIME);
    let one = |user: &String| -> Result<String, crate::target::TargetError> {
        match signer.credentials(&UserId::new(user.as_str())?)? {
            Credentials::Token(token) => Ok(token),
            Credentials::Password { .. } => Ok(String::new()),
        }
    };
    let share = users.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = users
            .chunks(share)
            .map(|part| scope.spawn(|| part.iter().map(one).collect::<Result<Vec<String>, _>>()))
            .collect();
        let mut tokens = Vec::with_capacity(users.len());
        for part in parts {
            let part =
                part.join().map_err(|_| RunError::Unhealthy("a thread that signs tokens panicked".to_owned()))?;
            tokens.extend(part?);
        }
        Ok(tokens)
    })
}

/// The first member of each group makes it, over a connection of its own.
async fn make_groups(target: &Target, users: &[String], places: &[Place], shape: &Shape) -> Result<(), RunError> {
    let groups = places.iter().zip(&shape.groups).enumerate().filter_map(|(number, (place, group))| match place {
        Place::Group(id) => Some((number, *id, group)),
        Place::Pair(..) => None,
    });
    let making = groups.map(|(number, id, group)| async move {
        let failed =
            |what: &str, e: &dyn std::fmt::Display| RunError::Unhealthy(format!("cannot {what} group {number}: {e}"));
        let ids: Vec<UserId> = group
            .members
            .iter()
            .map(|member| UserId::new(users[*member as usize].as_str()))
            .collect::<Result<_, _>>()
            .map_err(|e| failed("name", &e))?;
        let options = target.client(&ids[0], "bench-setup", number)?;
        let (client, _events) = Client::connect(options).await.map_err(|e| failed("log in for", &e))?;
        let mut pages = ids[1..].chunks(limits::INVITE_USERS);
        let first = pages.next().unwrap_or_default().to_vec();
        client.create_group(id, format!("bench {number}"), first).await.map_err(|e| failed("create", &e))?;
        for page in pages {
            client.invite(id, page.to_vec()).await.map_err(|e| failed("invite members to", &e))?;
        }
        Ok::<(), RunError>(())
    });
    futures_util::stream::iter(making).buffer_unordered(GROUPS_AT_ONCE).try_collect::<()>().await
}
