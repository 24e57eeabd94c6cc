//! Who may join, who may not, and what becomes of a node that was removed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chat::ids::{NodeId, ShardId};
use chat::wire::Target;
use node::admin::AdminClient;
use node::init::join::{JoinError, JoinOptions, JoinedNode, join};
use node::local::{LocalCluster, LocalError};
use node::nodes::JoinToken;
use node::nodes::api::{NewJoinToken, Place};
use tests::{DEADLINE, Stage, until, user};

async fn joins(token: &str, dir: &Path, port: u16) -> Result<JoinedNode, JoinError> {
    let token = JoinToken::decode(token).expect("a token that the cluster made");
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    join(&JoinOptions { dir: dir.to_owned(), host, port, zone: "b".to_owned(), token }).await
}

fn refusal(answer: Result<JoinedNode, JoinError>) -> Result<String> {
    match answer {
        Err(JoinError::Refused(error)) => Ok(error.to_string()),
        other => anyhow::bail!("not refused: {other:?}"),
    }
}

async fn token(admin: &AdminClient, uses: u32) -> Result<String> {
    Ok(admin.join_token(&NewJoinToken { uses, lifetime_ms: 60_000 }).await?.token.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_one_node_in_and_refuses_say_why() -> Result<()> {
    let mut stage = Stage::start(1, 4).await?;
    let admin = stage.cluster.admin(1)?;
    let good = token(&admin, 1).await?;
    let port = LocalCluster::free_port(2)?;
    let dir = stage.cluster.dir().join("node-2");
    let taken = stage.cluster.config(1)?.peer.listen.port() - 2;
    ensure!(refusal(joins(&good, &dir, taken).await)?.contains("has the peer address"), "an address that is taken");
    let joined = joins(&good, &dir, port + 10).await?;
    assert_eq!(joined.node, 2);
    let again = joins(&good, &stage.cluster.dir().join("node-3"), port + 20).await;
    ensure!(refusal(again)?.contains("used as often"), "a token that is used up");
    let occupied = joins(&good, &dir, port + 10).await;
    ensure!(occupied.is_err_and(|error| error.to_string().contains("not empty")), "a directory that is there");
    let mut unknown = JoinToken::decode(&good)?;
    unknown.secret = "ab".repeat(32).into();
    let unknown = unknown.encode();
    ensure!(refusal(joins(&unknown, &stage.cluster.dir().join("node-4"), port + 20).await)?.contains("not known"));

    // It serves nobody before it has everything, and then votes.
    stage.cluster.adopt(2)?;
    stage.cluster.start(2)?;
    stage.cluster.wait_ready(2, DEADLINE).await?;
    let (alice, _events) = stage.connect("alice", &[2]).await?;
    let (_bob, _bobs) = stage.connect("bob", &[1]).await?;
    alice.send_text(Target::User(user("bob")), "hello from the new node").await?;
    until("both vote everywhere", async || {
        let shards = admin.status().await?.cluster.shards;
        Ok(shards.iter().all(|shard| shard.voters == [1, 2]))
    })
    .await?;
    stage.equal_digests().await
}

/// Who votes in shard 1, as a node tells.
async fn voters(admin: &AdminClient) -> Result<Vec<NodeId>> {
    let shards = admin.status().await?.cluster.shards;
    Ok(shards.into_iter().find(|shard| shard.shard == ShardId(1)).context("there is a shard 1")?.voters)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_refused_and_its_id_is_not_given_again() -> Result<()> {
    let mut stage = Stage::start(3, 2).await?;
    let admin = stage.cluster.admin(1)?;
    // Lost, with its disk: the others go on, and give its place to another.
    stage.cluster.kill(3)?;
    admin.remove_node(3).await?;
    until("node 3 is gone", async || Ok(admin.status().await?.cluster.peers.iter().all(|peer| peer.node != 3))).await?;
    let newcomer = stage.cluster.join("", None).await?;
    assert_eq!(newcomer, 4, "an id is given once");
    stage.cluster.start(4)?;
    stage.cluster.wait_ready(4, DEADLINE).await?;
    until("node 4 votes", async || Ok(voters(&admin).await? == [1, 2, 4])).await?;

    admin.place(&Place { shard: ShardId(1), voters: vec![2] }).await?;
    // One voter is not what was asked for once: it is given the others back.
    until("three vote again", async || Ok(voters(&admin).await? == [1, 2, 4])).await?;

    stage.cluster.start(3)?;
    match stage.cluster.wait_ready(3, DEADLINE).await {
        Err(LocalError::Ended { tail, .. }) => ensure!(tail.contains("was removed from the cluster"), "{tail}"),
        other => anyhow::bail!("a removed node did not end: {other:?}"),
    }
    let refused = admin.remove_node(3).await.err().context("it is gone already")?;
    ensure!(refused.to_string().contains("left already"), "{refused}");
    let (alice, _events) = stage.connect("alice", &[4]).await?;
    let (_bob, _bobs) = stage.connect("bob", &[1]).await?;
    alice.send_text(Target::User(user("bob")), "still here").await?;
    Ok(())
}
