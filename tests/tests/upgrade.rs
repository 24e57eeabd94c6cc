//! A cluster that was founded at the first feature level is upgraded while it serves; a new one begins at the newest.

use anyhow::{Context, Result, ensure};
use chat::level;
use chat::wire::Target;
use node::init::InitOptions;
use node::local::LocalCluster;
use node::nodes::api::NewJoinToken;
use tests::cli::{done, refused};
use tests::{DEADLINE, Stage, until, user};

/// Three nodes that could go back to the first release.
async fn first_level() -> Result<Stage> {
    let dir = tempfile::tempdir()?;
    let (home, port) = (dir.path().join("cluster"), LocalCluster::free_port(3)?);
    let home = home.to_str().context("temporary paths are text")?;
    done(&["cluster", "init", "--dir", home, "--shards", "4", "--port", &port.to_string(), "--level", "1"]).await?;
    Stage::of(LocalCluster::open(home.as_ref())?, dir).await
}

/// Long because it is one story: each step needs the cluster as the one before left it.
#[tokio::test(flavor = "multi_thread")]
async fn a_level_is_switched_on_by_an_operator_once_every_node_supports_it() -> Result<()> {
    let mut stage = first_level().await?;
    let home = stage.cluster.dir().to_str().context("temporary paths are text")?.to_owned();
    let dir = ["--dir", home.as_str()];
    let on = |words: &[&'static str]| [words, &dir].concat();
    let admin = stage.cluster.admin(1)?;
    until("every node says what it runs", async || Ok(admin.status().await?.cluster.supported == level::NEWEST))
        .await?;
    assert_eq!(admin.status().await?.cluster.level, 1);

    // What the level brings is refused, by every node, with the way out.
    let old = admin.join_token(&NewJoinToken { uses: 7, lifetime_ms: 600_000 }).await?.token;
    for node in stage.cluster.nodes() {
        let refusal = stage.cluster.admin(node)?.withdraw_join_tokens().await.err().context("it is not switched on")?;
        ensure!(refusal.to_string().contains("campanile cluster upgrade"), "{refusal}");
    }
    refused(&on(&["cluster", "join-token", "--withdraw"]), 5, "error[C1505]: not_switched_on").await?;

    let status = done(&on(&["cluster", "status"])).await?;
    let newest = level::NEWEST;
    let available = format!("upgrade available, to feature level {newest}: run campanile cluster upgrade");
    ensure!(status.contains(&format!("feature level 1\n{available}")), "{status}");
    let shown = done(&on(&["cluster", "upgrade", "--dry-run"])).await?;
    let version = env!("CARGO_PKG_VERSION");
    let each = format!("3     {version}    level {newest}");
    for wanted in [&each, "level 2 brings: join tokens", "level 3 brings: nodes compact", "nothing was changed"] {
        ensure!(shown.contains(wanted), "{wanted}\nnot in\n{shown}");
    }
    refused(&on(&["cluster", "upgrade"]), 2, "nothing was changed").await?;
    let (beyond, supports) = ((newest + 1).to_string(), format!("node 1 supports {newest}"));
    refused(&["cluster", "upgrade", "--to", &beyond, "--yes", "--dir", &home], 5, &supports).await?;
    assert_eq!(admin.status().await?.cluster.level, 1, "nothing has changed yet");

    let (alice, _events) = stage.connect("alice", &[1]).await?;
    let (_bob, _bobs) = stage.connect("bob", &[2]).await?;
    alice.send_text(Target::User(user("bob")), "before").await?;
    let raised = done(&on(&["cluster", "upgrade", "--yes", "--json"])).await?;
    let raised: serde_json::Value = serde_json::from_str(&raised)?;
    assert_eq!((&raised["before"], &raised["level"]), (&1.into(), &newest.into()), "{raised}");
    until("every node has heard", async || {
        for node in stage.cluster.nodes() {
            if stage.cluster.admin(node)?.status().await?.cluster.level != newest {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    alice.send_text(Target::User(user("bob")), "after").await?;
    refused(&on(&["cluster", "upgrade", "--to", "1", "--yes"]), 5, "there is no way back").await?;
    ensure!(done(&on(&["cluster", "upgrade"])).await?.contains("nothing to switch on"));

    // Now it works; a token that was out there lets nobody in any more.
    done(&on(&["cluster", "join-token", "--withdraw"])).await?;
    let late = format!("{home}/late");
    refused(&["node", "join", "--dir", &late, "--token", &old], 5, "the join token is not known").await?;
    let newcomer = stage.cluster.join("", None).await?;
    stage.cluster.start(newcomer)?;
    stage.cluster.wait_ready(newcomer, DEADLINE).await?;
    until("the newcomer supports it, too", async || {
        let peers = admin.status().await?.cluster.peers;
        Ok(peers.iter().any(|peer| peer.node == newcomer && peer.supports == Some(level::NEWEST)))
    })
    .await?;
    // Its level is in what is stored.
    stage.cluster.kill(2)?;
    stage.cluster.start(2)?;
    stage.cluster.wait_ready(2, DEADLINE).await?;
    assert_eq!(stage.cluster.admin(2)?.status().await?.cluster.level, newest);
    stage.equal_digests().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_begins_at_the_newest_level_and_a_joiner_of_an_earlier_release_is_refused() -> Result<()> {
    let stage = Stage::start(1, 1).await?;
    let admin = stage.cluster.admin(1)?;
    assert_eq!(admin.status().await?.cluster.level, level::NEWEST);
    let InitOptions { level: newest, .. } = InitOptions::local("", 1, 1, 7400);
    assert_eq!(newest, level::NEWEST);

    // A request as the first release makes it: it says nothing of levels.
    let token = admin.join_token(&NewJoinToken { uses: 1, lifetime_ms: 600_000 }).await?.token;
    let secret = node::nodes::JoinToken::decode(&token)?.secret;
    let join = node::nodes::api::Join {
        secret,
        request: String::new(),
        facts: chat::command::NodeFacts { peer: "127.0.0.1:1".to_owned(), ..Default::default() },
        level: level::OLDEST,
        version: "0.1.0".to_owned(),
    };
    let refusal = admin.join(&join).await.err().context("it is too old")?;
    let newest = level::NEWEST;
    let wanted = format!("the cluster is at feature level {newest}, release 0.1.0 supports 1: install release");
    ensure!(refusal.to_string().contains(&wanted), "{refusal}");
    Ok(())
}
