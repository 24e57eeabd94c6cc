//! A user's logins on three real nodes: the list of devices, ending sessions everywhere at once, tokens that are too old then.

use anyhow::{Context, Result, bail};
use campanile_client::{Client, ClientEvent, Events, RequestError};
use chat::command::Revoked;
use chat::errors::{CloseCode, ErrorCode};
use chat::ids::{DeviceId, NodeId};
use chat::wire::Credentials;
use tests::{DEADLINE, Stage, until, user};

async fn on(stage: &Stage, device: &str, node: NodeId) -> Result<(Client, Events)> {
    let mut options = stage.options("alice", &[node])?;
    options.device.id = DeviceId::new(device)?;
    Client::connect(options).await.with_context(|| format!("{device} connects"))
}

async fn closed(mut events: Events) -> Result<u16> {
    let closed = async {
        while let Some(event) = events.next().await {
            if let ClientEvent::Closed { code, .. } = event {
                return Ok(code);
            }
        }
        bail!("the client ended without a word")
    };
    tokio::time::timeout(DEADLINE, closed).await.context("not closed in time")?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_on_every_node_and_older_tokens_are_good_for_nothing() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let old = stage.options("alice", &[1, 2, 3])?;
    let (phone, _phone) = on(&stage, "phone", 1).await?;
    let (_tab, tabs) = on(&stage, "tab", 2).await?;
    let (_desk, desks) = on(&stage, "desk", 3).await?;
    let listed = async || {
        let mut ids: Vec<String> = phone.devices().await?.into_iter().map(|device| device.id.to_string()).collect();
        ids.sort();
        Ok(ids == ["desk", "phone", "tab"])
    };
    until("all devices are listed", listed).await?;

    phone.revoke_logins(Revoked::Device(DeviceId::new("tab")?)).await?;
    assert_eq!(closed(tabs).await?, CloseCode::Revoked as u16);
    phone.revoke_logins(Revoked::Others(DeviceId::new("phone")?)).await?;
    assert_eq!(closed(desks).await?, CloseCode::Revoked as u16);
    // The phone goes on; the token that it came with lets nobody in, on any node, itself included.
    phone.ping().await?;
    for node in 1..=3 {
        let mut options = old.clone();
        options.urls = vec![stage.cluster.client_url(node)?];
        let refused = Client::connect(options).await.err().context("an old token let somebody in")?;
        assert!(refused.to_string().contains(ErrorCode::LoginRevoked.name()), "{refused}");
    }
    // A token counts in whole seconds: it is good once it is of a later one.
    let good = async || {
        let Credentials::Token(token) = stage.credentials("alice")? else { bail!("the stage signs tokens") };
        match phone.refresh(token).await {
            Ok(_) => Ok(true),
            Err(RequestError::Rejected { error, .. }) if error.code == ErrorCode::LoginRevoked.number() => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    until("a new token is good", good).await?;
    let Credentials::Token(token) = stage.credentials("alice")? else { bail!("the stage signs tokens") };
    let (bob, _) = stage.connect("bob", &[2]).await?;
    let foreign = bob.refresh(token).await.err().context("a token of somebody else")?;
    assert!(
        matches!(foreign, RequestError::Rejected { ref error, .. } if error.code == ErrorCode::BadCredentials.number())
    );
    assert_eq!(bob.session().map(|session| session.user), Some(user("bob")));
    Ok(())
}
