//! What operators change is in the sealed log of the node that was asked: who, from where, what, and what came of it.

use anyhow::{Context, Result, ensure};
use chat::ids::ShardId;
use node::admin::{AdminClient, Drain, Policy, RetentionChange, RetentionOf};
use node::nodes::api::{NewJoinToken, Place, Raise, Rebalance};
use serde_json::Value;
use tests::cli::done;
use tests::{DEADLINE, Stage, app, until};

/// The events of one kind in a node's security log, oldest first.
async fn events(admin: &AdminClient, kind: &str) -> Result<Vec<Value>> {
    let entries: Vec<Value> = admin.get("/v1/security/log?limit=1000").await?;
    Ok(entries.into_iter().filter_map(|mut entry| Some(entry["event"].get_mut(kind)?.take())).collect())
}

/// `verb subject result`, each act once, with what came of it.
async fn acts(admin: &AdminClient) -> Result<Vec<String>> {
    let records = events(admin, "administration").await?;
    let (asked, ended): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record["result"] == "asked");
    ensure!(asked.len() == ended.len(), "an act without an end: {asked:?} {ended:?}");
    let mut acts = Vec::new();
    for (asked, ended) in asked.iter().zip(&ended) {
        ensure!(asked["act"] == ended["act"] && asked["subject"] == ended["subject"], "{asked} {ended}");
        ensure!(ended["ip"] == "127.0.0.1" && ended["by"].as_str().is_some_and(|by| by.contains(" token ")), "{ended}");
        let (verb, subject) = (ended["verb"].as_str(), ended["subject"].as_str());
        let result = match &ended["result"] {
            Value::String(result) => result.clone(),
            refused => format!("refused {}", refused["refused"]["code"]),
        };
        acts.push(format!("{} {} {result}", verb.context("a verb")?, subject.context("a subject")?));
    }
    Ok(acts)
}

/// Long because every kind of act has its turn in it.
#[tokio::test(flavor = "multi_thread")]
async fn what_operators_change_is_in_the_security_log() -> Result<()> {
    let mut stage = Stage::start(1, 2).await?;
    let admin = stage.cluster.admin(1)?;
    let home = stage.cluster.dir().to_str().context("temporary paths are text")?.to_owned();
    ensure!(acts(&admin).await?.is_empty());

    let newcomer = stage.cluster.join("", None).await?;
    stage.cluster.start(newcomer)?;
    stage.cluster.wait_ready(newcomer, DEADLINE).await?;
    admin.join_token(&NewJoinToken { uses: 0, lifetime_ms: 1 }).await.err().context("nobody may join with it")?;
    done(&["cluster", "join-token", "--withdraw", "--dir", &home]).await?;
    until("both vote", async || Ok(admin.status().await?.cluster.shards.iter().all(|shard| shard.voters == [1, 2])))
        .await?;
    admin.place(&Place { shard: ShardId(1), voters: vec![2, 1] }).await?;
    admin.rebalance(&Rebalance { replicas: 3 }).await?;
    let policy = Some(Policy { max_age_ms: None, max_count: Some(9) });
    admin.set_retention(&RetentionChange { app: app(), conversation: None, policy }).await?;
    admin.retention(&RetentionOf { app: app(), conversation: None }).await?;
    admin.raise(&Raise { level: 1 }).await.err().context("there is no way back")?;
    admin.scrub().await?;
    admin.verify(ShardId(2)).await?;
    admin.drain(&Drain { spread_ms: 0 }).await?;
    until("it is drained", async || {
        let status = admin.status().await?;
        Ok(status.draining && status.leads() == 0)
    })
    .await?;
    admin.resume().await?;
    admin.remove_node(newcomer).await?;
    until("it is gone", async || Ok(admin.status().await?.cluster.peers.len() == 1)).await?;

    let acts = acts(&admin).await?;
    let expected = [
        "join_token.make uses=1 lifetime_ms=600000 done",
        "node.join facts=",
        "join_token.make uses=0 lifetime_ms=1 refused 1003",
        "join_token.withdraw  done",
        "shard.place shard=1 voters=[2,1] done",
        "shard.rebalance replicas=3 done",
        r#"retention.set app=main policy={"max_age_ms":null,"max_count":9} done"#,
        "level.raise level=1 refused 1302",
        "node.scrub  done",
        "shard.verify shard=2 done",
        "node.drain spread_ms=0 done",
        "node.resume  done",
        "node.remove node=2 done",
    ];
    ensure!(acts.len() == expected.len(), "{acts:#?}");
    for (act, expected) in acts.iter().zip(expected) {
        ensure!(act.starts_with(expected), "{act:?} is not {expected:?}");
    }
    // The log is sealed: what was written is not in the file for all to see.
    let dir = stage.cluster.config(1)?.node.data_dir.join("security");
    for file in std::fs::read_dir(dir)? {
        let bytes = std::fs::read(file?.path())?;
        ensure!(!bytes.windows(11).any(|window| window == b"node.remove"), "it is there in the clear");
    }

    // The cluster did the rest, and the node heard of it. It looks once a second: a state of less than that may be missed.
    until("the membership's changes are recorded", async || {
        let heard = events(&admin, "membership").await?;
        let heard: Vec<_> = heard.iter().filter_map(|event| event["state"].as_str()).collect();
        Ok(heard.last() == Some(&"removed"))
    })
    .await?;
    // It outlives the process.
    let before = events(&admin, "administration").await?.len();
    stage.cluster.kill(1)?;
    stage.cluster.start(1)?;
    stage.cluster.wait_ready(1, DEADLINE).await?;
    ensure!(events(&admin, "administration").await?.len() == before);
    Ok(())
}
