//! Who asks more often than they may is told when to come again, and nothing is done meanwhile.

use anyhow::{Result, bail, ensure};
use campanile_client::Auth;
use chat::wire::Credentials;
use serde_json::{Value, json};
use tests::raw::Raw;
use tests::{Stage, until};
use uuid::Uuid;

const FEW: &str = "\n[rates]\nrequests_per_user = 20\nmessages_per_conversation = 2\n";

async fn login(stage: &Stage, name: &str, device: &str) -> Result<Raw> {
    let Auth::Fixed(Credentials::Token(token)) = stage.options(name, &[1])?.auth else { bail!("a token") };
    let mut raw = Raw::connect(&stage.cluster.client_url(1)?, stage.cluster.ca_pem()).await?;
    let device = json!({"id": device, "platform": "test"});
    raw.text(json!({"id": 1, "type": "login", "auth": {"token": token}, "device": device}).to_string()).await?;
    ensure!(raw.frame().await?["type"] == "hello");
    Ok(raw)
}

fn is_limited(frame: &Value) -> bool {
    let retry = frame["retry_after_ms"].as_u64();
    frame["name"] == "rate_limited" && frame["effect"] == "none" && retry.is_some_and(|ms| (1..=1_000).contains(&ms))
}

/// How many of `count` requests at once are taken.
async fn taken(raw: &mut Raw, count: u64, request: impl Fn(u64) -> Value) -> Result<u64> {
    for id in 0..count {
        let mut request = request(id);
        request["id"] = (100 + id).into();
        raw.text(request.to_string()).await?;
    }
    let mut taken = 0;
    for _ in 0..count {
        let answer = raw.frame().await?;
        ensure!(answer["re"].is_u64(), "{answer}");
        if answer["type"] != "error" {
            taken += 1;
        } else {
            ensure!(is_limited(&answer), "{answer}");
        }
    }
    Ok(taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_conversations_have_their_rates() -> Result<()> {
    let stage = Stage::configured(1, 2, FEW).await?;

    // Two seconds' worth at once; the other device of the same user has what is left of it, another user all.
    let (mut ann, mut phone) = (login(&stage, "ann", "desk").await?, login(&stage, "ann", "phone").await?);
    let ping = |_| json!({"type": "ping"});
    let first = taken(&mut ann, 100, ping).await?;
    ensure!((40..100).contains(&first), "{first} of 100 pings were taken");
    let second = taken(&mut phone, 60, ping).await?;
    ensure!(second < 40, "{second} more were taken on the other device");
    let mut ben = login(&stage, "ben", "desk").await?;
    ensure!(taken(&mut ben, 30, ping).await? == 30);
    until("ann may ask again", async || Ok(taken(&mut ann, 1, ping).await? == 1)).await?;

    // Messages of one conversation, whoever says them; a message that was refused was not said.
    let notes = |_| {
        let body = json!({"kind": "text", "text": "milk"});
        json!({"type": "send", "to": {"user": "cleo"}, "client_msg_id": Uuid::now_v7(), "body": body})
    };
    let mut cleo = login(&stage, "cleo", "desk").await?;
    let said = taken(&mut cleo, 20, notes).await?;
    ensure!((4..20).contains(&said), "{said} of 20 messages were taken");
    cleo.text(json!({"id": 7, "type": "history", "conversation": "p:cleo:cleo"}).to_string()).await?;
    let head = cleo.frame().await?;
    ensure!(head["head"] == said, "{head} after {said} messages");
    Ok(())
}
