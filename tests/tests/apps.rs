//! Apps as tenants on three real nodes: made and set by operators, keys that rotate, one app's tokens in another, policies of logins,
//! limits, freezing.

use anyhow::{Context, Result, bail, ensure};
use campanile_client::{Client, ClientEvent, ConnectError, Events, SendError};
use chat::app::{AppChange, LoginPolicy, Registration};
use chat::errors::{CloseCode, ErrorCode};
use chat::ids::{AppId, ConversationId, DeviceId, GroupId, KeyId, NodeId};
use chat::wire::{Body, Target};
use futures_util::future::join_all;
use node::admin::AdminClient;
use node::auth::signer::TokenSigner;
use node::local::LocalCluster;
use serde_json::Value;
use tests::cli::{done, refused};
use tests::{DEADLINE, Stage, app, until, user};
use uuid::Uuid;

/// Pairs of logins at the same moment.
const ROUNDS: usize = 20;

/// Another app's signing key, and the file of its public half: of a cluster that is never started.
fn key_pair(stage: &Stage, name: &str) -> Result<(String, String)> {
    let other = LocalCluster::init(&stage.cluster.dir().join(format!("../{name}")), 1, 1, 7400)?;
    let public = other.dir().join("node-1/keys/app-main.pem");
    Ok((other.app_key_pem().to_owned(), public.to_str().context("a path")?.to_owned()))
}

/// Logs in with a token that this key signed for `name` of the app.
async fn with_key(
    stage: &Stage,
    of: &AppId,
    key: &str,
    name: &str,
    node: NodeId,
) -> Result<(Client, Events), ConnectError> {
    let mut options = stage.options(name, &[node]).expect("the node is there");
    options.auth = TokenSigner::new(of.clone(), key).expect("a key").credentials(&user(name)).expect("it signs").into();
    Client::connect(options).await
}

fn refusal(connected: Result<(Client, Events), ConnectError>) -> Result<u16> {
    match connected {
        Err(ConnectError::Refused(error)) => Ok(error.code),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("it was let in"),
    }
}

async fn closed(events: &mut Events) -> Result<u16> {
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
async fn operators_make_apps_and_rotate_their_keys() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let config = |node: NodeId| stage.cluster.dir().join(format!("node-{node}/campanile.toml")).display().to_string();
    let (one, two) = (config(1), config(2));
    let shop = AppId::new("shop")?;
    done(&["app", "create", "--config", &one, "shop", "--name", "The shop"]).await?;
    refused(&["app", "create", "--config", &two, "shop", "--name", "Another"], 5, "there is an app shop already")
        .await?;
    refused(&["app", "show", "--config", &two, "nothing"], 5, "there is no app nothing").await?;
    let listed = done(&["app", "list", "--config", &two]).await?;
    ensure!(listed.contains("The shop") && listed.contains("main"), "{listed}");
    let set =
        ["app", "set", "--config", &one, "shop", "--login-policy", "newest-wins", "--edit-window", "15m", "--json"];
    let shown: Value = serde_json::from_str(&done(&set).await?)?;
    assert_eq!(
        (&shown["settings"]["login_policy"], &shown["settings"]["edit_window_ms"]),
        (&"newest_wins".into(), &900_000.into())
    );
    refused(&["app", "set", "--config", &one, "shop", "--edit-window", "30d"], 5, "not one that may be set").await?;

    rotation(&stage, &one, &shop).await?;

    let scopes = ["--name", "orders", "--scope", "messages:send", "--json"];
    let made = [&["app", "api-key", "create", "--config", &one, "shop"][..], &scopes].concat();
    let made: Value = serde_json::from_str(&done(&made).await?)?;
    let (id, secret) = (made["id"].as_str().context("an id")?, made["key"].as_str().context("a key")?);
    let keys = done(&["app", "api-key", "list", "--config", &two, "shop"]).await?;
    ensure!(keys.contains(id) && keys.contains(&secret[secret.len() - 4..]) && !keys.contains(secret), "{keys}");
    done(&["app", "api-key", "revoke", "--config", &one, "shop", id]).await?;
    let keys = done(&["app", "api-key", "list", "--config", &two, "shop"]).await?;
    ensure!(!keys.contains(id), "{keys}");
    done(&["app", "freeze", "--config", &one, "shop"]).await?;
    ensure!(done(&["app", "show", "--config", &two, "shop"]).await?.contains("frozen"), "it is frozen");
    done(&["app", "thaw", "--config", &one, "shop"]).await?;
    on_record(&stage.cluster.admin(1)?, secret).await
}

/// A key is added, signs, is replaced by the next one, and no other app takes what it signed.
async fn rotation(stage: &Stage, config: &str, shop: &AppId) -> Result<()> {
    let ((first, first_file), (second, second_file)) = (key_pair(stage, "first")?, key_pair(stage, "second")?);
    let bad = ErrorCode::BadCredentials.number();
    assert_eq!(refusal(with_key(stage, shop, &first, "carol", 2).await)?, bad, "the app has no key yet");
    done(&["app", "key", "add", "--config", config, "shop", "2026", "--public-key", &first_file]).await?;
    with_key(stage, shop, &first, "carol", 2).await?;
    assert_eq!(refusal(with_key(stage, &app(), &first, "carol", 2).await)?, bad, "another app's key");
    assert_eq!(refusal(with_key(stage, shop, stage.cluster.app_key_pem(), "carol", 3).await)?, bad);
    done(&["app", "key", "add", "--config", config, "shop", "2027", "--public-key", &second_file]).await?;
    with_key(stage, shop, &first, "carol", 3).await?;
    with_key(stage, shop, &second, "carol", 3).await?;
    done(&["app", "key", "remove", "--config", config, "shop", "2026"]).await?;
    for node in 1..=3 {
        assert_eq!(refusal(with_key(stage, shop, &first, "carol", node).await)?, bad, "it was taken away");
        with_key(stage, shop, &second, "carol", node).await?;
    }
    // Carol of one app is not carol of another.
    let (carol, _events) = with_key(stage, shop, &second, "carol", 1).await?;
    assert_eq!(carol.conversations(None).await?.items.len(), 0);
    refused(&["app", "key", "add", "--config", config, "nothing", "k", "--public-key", &first_file], 5, "no app").await
}

/// Every act is in the sealed log, and no secret.
async fn on_record(admin: &AdminClient, secret: &str) -> Result<()> {
    let log: Value = admin.get("/v1/security/log?limit=1000").await?;
    let text = log.to_string();
    let verbs = ["create", "set", "key.add", "key.remove", "api_key.make", "api_key.revoke", "freeze", "thaw"];
    for verb in verbs {
        ensure!(text.contains(&format!("\"app.{verb}\"")), "app.{verb} is not on record");
    }
    // `cak_ID_SECRET`, and the secret may have an underscore, too.
    let secret = secret.splitn(3, '_').nth(2).context("a secret")?;
    ensure!(!text.contains(secret), "a secret is on record");
    Ok(())
}

async fn set(stage: &Stage, changes: Vec<AppChange>) -> Result<()> {
    stage.cluster.admin(1)?.set_app(&app(), changes).await?;
    // Settings are read where they are applied.
    until("every node has it", async || {
        let mut digests = Vec::new();
        for node in 1..=3 {
            digests.push(stage.cluster.admin(node)?.digests().await?.swap_remove(0));
        }
        Ok(digests.windows(2).all(|pair| pair[0] == pair[1]))
    })
    .await
}

async fn on(stage: &Stage, device: &str, platform: &str, node: NodeId) -> Result<(Client, Events)> {
    let mut options = stage.options("alice", &[node])?;
    options.device.id = DeviceId::new(device)?;
    options.device.platform = platform.to_owned();
    Client::connect(options).await.with_context(|| format!("{device} connects"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_session_stays_and_of_two_at_once_one() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let (_before, mut befores) = on(&stage, "desk", "web", 3).await?;
    set(&stage, vec![AppChange::LoginPolicy(LoginPolicy::NewestWins)]).await?;
    let (first, mut firsts) = on(&stage, "phone", "ios", 1).await?;
    assert_eq!(closed(&mut befores).await?, CloseCode::Replaced as u16, "of before the policy");
    first.ping().await?;
    let (second, _seconds) = on(&stage, "tab", "web", 2).await?;
    assert_eq!(closed(&mut firsts).await?, CloseCode::Replaced as u16);
    second.ping().await?;

    for round in 0..ROUNDS {
        let logins = [on(&stage, "a", "ios", 1), on(&stage, "b", "web", 2), on(&stage, "c", "web", 3)];
        let logins = join_all(logins).await;
        // Whoever was replaced before it heard a word has not connected.
        let mut there: Vec<(Client, Events)> = logins.into_iter().filter_map(Result::ok).collect();
        let one_is_left = async || {
            let mut rest = Vec::new();
            for (client, mut events) in std::mem::take(&mut there) {
                let mut over = false;
                while let Some(event) = events.try_next() {
                    over |= matches!(event, ClientEvent::Closed { code, .. } if code == CloseCode::Replaced as u16);
                }
                if !over {
                    rest.push((client, events));
                }
            }
            there = rest;
            ensure!(!there.is_empty(), "round {round}: all of them went");
            Ok(there.len() == 1)
        };
        until("one is left", one_is_left).await?;
        there[0].0.ping().await.with_context(|| format!("round {round}: the last one went, too"))?;
    }

    set(&stage, vec![AppChange::LoginPolicy(LoginPolicy::OnePerPlatform)]).await?;
    let (_phone, mut phones) = on(&stage, "phone", "ios", 1).await?;
    let (tab, _tabs) = on(&stage, "tab", "web", 2).await?;
    let (newer, _newers) = on(&stage, "newer", "ios", 2).await?;
    assert_eq!(closed(&mut phones).await?, CloseCode::Replaced as u16);
    tab.ping().await?;
    newer.ping().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_app_is_set_to_holds() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let (alice, mut alices) = stage.connect("alice", &[1]).await?;
    let (_bob, mut bobs) = stage.connect("bob", &[2]).await?;
    let sent = alice.send_text(Target::User(user("bob")), "hi").await?;
    let talk = ConversationId::private(user("alice"), user("bob"));
    let changes = vec![
        AppChange::EditWindowMs(0),
        AppChange::RecallWindowMs(0),
        AppChange::Registration(Registration::AppOnly),
        AppChange::GroupMembersMax(2),
        AppChange::GroupsMax(1),
    ];
    set(&stage, changes).await?;
    let too_late = ErrorCode::TooLate.number();
    let text = Body::Text { text: "ho".to_owned() };
    let edited = alice.edit(talk.clone(), sent.seq, text).await;
    ensure!(matches!(&edited, Err(SendError::Rejected { error }) if error.code == too_late), "{edited:?}");
    let recalled = alice.recall(talk, sent.seq).await.err().context("it is too late")?;
    ensure!(recalled.to_string().contains("too_late"), "{recalled}");
    // Whoever has no account gets none.
    assert_eq!(refusal(Client::connect(stage.options("eve", &[3])?).await)?, ErrorCode::BadCredentials.number());
    let group = |n| GroupId(Uuid::from_u128(n));
    let full = |error: String| error.contains(ErrorCode::LimitReached.name());
    alice.create_group(group(1), "Two", vec![user("bob")]).await?;
    ensure!(
        full(alice.create_group(group(2), "Another", vec![]).await.err().context("one group")?.to_string()),
        "full"
    );
    alice.create_group(group(1), "Two", vec![user("bob")]).await.context("the same again is no second one")?;
    set(&stage, vec![AppChange::Registration(Registration::FirstLogin)]).await?;
    let (carol, _carols) = stage.connect("carol", &[3]).await?;
    ensure!(full(carol.join(group(1)).await.err().context("two members")?.to_string()), "full");
    ensure!(full(alice.invite(group(1), vec![user("carol")]).await.err().context("two members")?.to_string()), "full");
    set(&stage, vec![AppChange::UsersMax(3)]).await?;
    assert_eq!(refusal(Client::connect(stage.options("dave", &[1])?).await)?, ErrorCode::LimitReached.number());
    assert_eq!(stage.cluster.admin(2)?.app(&app()).await?.users, 3);

    // Frozen, nobody is there and nobody comes in; thawed, everything is as it was.
    let admin = stage.cluster.admin(3)?;
    admin.freeze_app(&app()).await?;
    for events in [&mut alices, &mut bobs] {
        assert_eq!(closed(events).await?, CloseCode::Revoked as u16);
    }
    for node in 1..=3 {
        let frozen = refusal(Client::connect(stage.options("alice", &[node])?).await)?;
        assert_eq!(frozen, ErrorCode::AppFrozen.number());
    }
    admin.thaw_app(&app()).await?;
    let (alice, _alices) = stage.connect("alice", &[2]).await?;
    assert_eq!(alice.conversations(None).await?.items.len(), 2);
    let missing = admin.remove_token_key(&app(), &KeyId::new("none")?).await?;
    assert_eq!(missing.token_keys.len(), 1, "nothing is taken away that is not there");
    Ok(())
}
