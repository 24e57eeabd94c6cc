//! The server API on three real nodes: what a backend does for its users, what its keys are good for, and that it reaches nothing of
//! another app.

use anyhow::{Context, Result, ensure};
use campanile_client::{Client, ClientEvent, ConnectError, Events};
use chat::app::{AppChange, Scope};
use chat::errors::{CloseCode, ErrorCode};
use chat::ids::{AppId, DeviceId, KeyId};
use chat::limits;
use chat::wire::{Body, Credentials, EventContent};
use futures_util::future::{select_all, try_join_all};
use node::admin::WantedApiKey;
use serde_json::{Value, json};
use tests::http::Backend;
use tests::{DEADLINE, Stage, app, until, user};
use uuid::Uuid;

async fn key(stage: &Stage, app: &AppId, scopes: &[Scope]) -> Result<(KeyId, String)> {
    let wanted = WantedApiKey { name: "backend".into(), scopes: scopes.to_vec(), lifetime_ms: None };
    let made = stage.cluster.admin(1)?.make_api_key(app, &wanted).await?;
    Ok((made.id, made.key.to_string()))
}

/// A backend that may everything, asking this node.
async fn backend(stage: &Stage, node: u64) -> Result<Backend> {
    let (_, key) = key(stage, &app(), &Scope::ALL).await?;
    Backend::new(&stage.cluster.client_url(node)?, stage.cluster.ca_pem(), &key)
}

async fn next<T>(events: &mut Events, mut wanted: impl FnMut(ClientEvent) -> Option<T>) -> Result<T> {
    let found = async {
        loop {
            let event = events.next().await.context("the client ended")?;
            if let Some(found) = wanted(event) {
                return Ok(found);
            }
        }
    };
    tokio::time::timeout(DEADLINE, found).await.context("not in time")?
}

fn text(event: ClientEvent) -> Option<(String, String)> {
    let ClientEvent::Event(event) = event else { return None };
    match event.content {
        EventContent::Message { from, body: Some(Body::Text { text }), .. } => Some((from.to_string(), text)),
        _ => None,
    }
}

fn closed(event: ClientEvent) -> Option<u16> {
    if let ClientEvent::Closed { code, .. } = event { Some(code) } else { None }
}

fn id() -> String {
    Uuid::now_v7().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_runs_users_messages_and_groups() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let one = backend(&stage, 1).await?;
    let two = Backend::new(&stage.cluster.client_url(2)?, stage.cluster.ca_pem(), "")?;
    let (_, all) = key(&stage, &app(), &Scope::ALL).await?;
    let two = two.with_key(&all);
    users(&stage, &one, &two).await?;
    messages(&stage, &one, &two).await?;
    groups(&stage, &one, &two).await?;
    let settings = one.get("/v1/app").await?;
    assert_eq!((&settings["app"], &settings["groups"]), (&json!("main"), &json!(1)));
    Ok(())
}

async fn users(stage: &Stage, one: &Backend, two: &Backend) -> Result<()> {
    let import = json!({ "users": [
        { "user": "alice", "password": "correct horse" }, { "user": "bob" }, { "user": "carol" },
        { "user": "dave", "password": "short" }, { "user": "system" },
    ] });
    let results = one.done("POST", "/v1/users/import", Some(import.clone())).await?["results"].clone();
    let shown = |results: &Value| -> Vec<(bool, String)> {
        let result = |one: &Value| (one["created"] == true, one["problem"]["name"].as_str().unwrap_or("").to_owned());
        results.as_array().into_iter().flatten().map(result).collect()
    };
    let said = |created: bool, problem: &str| (created, problem.to_owned());
    let wrong = [said(false, "invalid_field"), said(false, "forbidden")];
    assert_eq!(shown(&results), [&[said(true, ""), said(true, ""), said(true, "")][..], &wrong].concat());
    let again = two.done("POST", "/v1/users/import", Some(import)).await?["results"].clone();
    let known = [said(false, "account_exists"), said(false, ""), said(false, "")];
    assert_eq!(shown(&again), [&known[..], &wrong].concat());
    let page = two.get("/v1/users?limit=2").await?;
    assert_eq!(
        (&page["users"][0]["user"], &page["users"][1]["user"], &page["more"]),
        (&json!("alice"), &json!("bob"), &json!(true))
    );
    let rest = two.get("/v1/users?after=bob").await?;
    assert_eq!((&rest["users"][0]["user"], &rest["more"]), (&json!("carol"), &json!(false)));

    let password =
        |password: &str| Credentials::Password { app: app(), user: user("alice"), password: password.into() };
    let login = async |credentials: Credentials| {
        let mut options = stage.options("alice", &[3])?;
        options.auth = credentials.into();
        anyhow::Ok(Client::connect(options).await)
    };
    let refused = |login: Result<(Client, Events), ConnectError>| match login {
        Err(ConnectError::Refused(error)) => Ok(error.code),
        other => anyhow::bail!("{:?}", other.err()),
    };
    let (_alice, mut alices) = login(password("correct horse")).await??;
    until("the device is listed", async || {
        let devices = one.get("/v1/users/alice/devices").await?;
        Ok(devices["devices"][0]["id"] == "alice-1")
    })
    .await?;
    one.done("POST", "/v1/users/alice/deactivate", None).await?;
    assert_eq!(next(&mut alices, closed).await?, CloseCode::Revoked as u16);
    assert_eq!(refused(login(password("correct horse")).await?)?, ErrorCode::UserDeactivated.number());
    assert_eq!(refused(login(password("wrong horse")).await?)?, ErrorCode::BadCredentials.number());
    assert_eq!(two.get("/v1/users/alice").await?["active"], false);
    let message = json!({ "from": "alice", "to": { "user": "bob" }, "client_msg_id": id(), "body": { "kind": "text", "text": "x" } });
    two.refused("POST", "/v1/messages", Some(message), 403, "user_deactivated").await?;
    two.done("POST", "/v1/users/alice/activate", None).await?;
    two.done("PUT", "/v1/users/alice/password", Some(json!({ "password": "battery staple" }))).await?;
    assert_eq!(refused(login(password("correct horse")).await?)?, ErrorCode::BadCredentials.number());
    let (_alice, mut alices) = login(password("battery staple")).await??;
    one.done("POST", "/v1/users/alice/revoke-logins", Some(json!({ "device": DeviceId::new("alice-1")? }))).await?;
    assert_eq!(next(&mut alices, closed).await?, CloseCode::Revoked as u16);
    stage.cluster.admin(2)?.set_app(&app(), vec![AppChange::UsersMax(5)]).await?;
    let many = json!({ "users": [{ "user": "bob" }, { "user": "erin" }, { "user": "frank" }, { "user": "grace" }] });
    let results = two.done("POST", "/v1/users/import", Some(many)).await?["results"].clone();
    assert_eq!(shown(&results), [said(false, ""), said(true, ""), said(true, ""), said(false, "limit_reached")]);
    let names = two.get("/v1/users").await?["users"].as_array().map_or(0, Vec::len);
    ensure!(names == 5, "{names} users in an app of 5");
    stage.cluster.admin(2)?.set_app(&app(), vec![AppChange::UsersMax(100)]).await?;
    // What was done to accounts is on record where it was done.
    let log: Value = stage.cluster.admin(1)?.get("/v1/security/log?limit=1000").await?;
    ensure!(log.to_string().contains("api.user.deactivate") && !log.to_string().contains("staple"), "{log}");
    Ok(())
}

async fn messages(stage: &Stage, one: &Backend, two: &Backend) -> Result<()> {
    let (_bob, mut bobs) = stage.connect("bob", &[3]).await?;
    let hello = |from: &str, words: &str, id: &str| {
        let body = json!({ "kind": "text", "text": words });
        Some(json!({ "from": from, "to": { "user": "bob" }, "client_msg_id": id, "body": body }))
    };
    let first = id();
    let sent = one.done("POST", "/v1/messages", hello("alice", "hi bob", &first)).await?;
    assert_eq!(
        (&sent["conversation"], &sent["seq"], &sent["duplicate"]),
        (&json!("p:alice:bob"), &json!(1), &json!(false))
    );
    assert_eq!(next(&mut bobs, text).await?, ("alice".to_owned(), "hi bob".to_owned()));
    // The same again, on another node, is the same message; with other words it is none.
    let again = two.done("POST", "/v1/messages", hello("alice", "hi bob", &first)).await?;
    assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)));
    two.refused("POST", "/v1/messages", hello("alice", "hi eve", &first), 409, "id_conflict").await?;
    two.done("POST", "/v1/messages", hello("system", "your order is here", &id())).await?;
    assert_eq!(next(&mut bobs, text).await?, ("system".to_owned(), "your order is here".to_owned()));
    two.refused("POST", "/v1/messages", hello("nobody", "x", &id()), 404, "user_not_found").await?;

    try_join_all((2..=9).map(|n| one.done("POST", "/v1/messages", hello("alice", &format!("message {n}"), &id()))))
        .await?;
    let page = two.get("/v1/conversations/p:alice:bob/messages?after=1&limit=3").await?;
    let seqs = |page: &Value| -> Vec<u64> {
        page["events"].as_array().into_iter().flatten().filter_map(|event| event["seq"].as_u64()).collect()
    };
    assert_eq!((seqs(&page), &page["head"], &page["more"]), (vec![2, 3, 4], &json!(9), &json!(true)));
    let back = one.get("/v1/conversations/p:alice:bob/messages?before=3").await?;
    assert_eq!((seqs(&back), &back["more"]), (vec![1, 2], &json!(false)));
    let recall = |seq: u64| format!("/v1/conversations/p:alice:bob/messages/{seq}/recall");
    one.refused("POST", &recall(1), Some(json!({ "by": "bob" })), 403, "forbidden").await?;
    one.done("POST", &recall(1), Some(json!({}))).await?;
    assert_eq!(two.done("POST", &recall(1), Some(json!({}))).await?["duplicate"], true);
    let shown = two.get("/v1/conversations/p:alice:bob/messages?limit=1").await?;
    assert_eq!((&shown["events"][0]["recalled"]["by"], &shown["events"][0]["body"]), (&json!("system"), &Value::Null));
    Ok(())
}

async fn groups(stage: &Stage, one: &Backend, two: &Backend) -> Result<()> {
    let (bob, mut bobs) = stage.connect("bob", &[3]).await?;
    let group = Uuid::now_v7();
    let at = |rest: &str| format!("/v1/groups/{group}{rest}");
    let new = || Some(json!({ "group": group, "owner": "alice", "name": "Team", "members": ["bob"], "kind": "work" }));
    assert_eq!(one.done("POST", "/v1/groups", new()).await?["duplicate"], false);
    assert_eq!(two.done("POST", "/v1/groups", new()).await?["duplicate"], true);
    two.done("POST", &at("/members"), Some(json!({ "users": ["carol"] }))).await?;
    two.refused("POST", &at("/members"), Some(json!({ "users": ["carol"] })), 409, "already_member").await?;
    one.done("PUT", &at("/members/bob/role"), Some(json!({ "role": "owner" }))).await?;
    one.done("PATCH", &at(""), Some(json!({ "change": { "name": "The team" } }))).await?;
    let shown = two.get(&at("")).await?;
    assert_eq!(
        (&shown["name"], &shown["members"], &shown["admins"]),
        (&json!("The team"), &json!(3), &json!(["alice", "bob"]))
    );
    let say = json!({ "from": "system", "to": { "group": group }, "client_msg_id": id(), "body": { "kind": "text", "text": "welcome" } });
    two.done("POST", "/v1/messages", Some(say)).await?;
    assert_eq!(next(&mut bobs, text).await?, ("system".to_owned(), "welcome".to_owned()));
    one.done("PUT", &at("/mutes/carol"), Some(json!({ "duration_ms": 600_000 }))).await?;
    let members = two.get(&at("/members")).await?["members"].clone();
    let named: Vec<(&str, &str, bool)> = members
        .as_array()
        .into_iter()
        .flatten()
        .map(|member| {
            let field = |name: &str| member[name].as_str().unwrap_or_default();
            (field("user"), field("role"), member["muted_until_ms"].is_u64())
        })
        .collect();
    assert_eq!(named, [("alice", "admin", false), ("bob", "owner", false), ("carol", "member", true)]);
    one.done("DELETE", &at("/mutes/carol"), None).await?;
    one.refused("DELETE", &at("/members/bob"), None, 403, "forbidden").await?;
    one.done("DELETE", &at("/members/carol"), None).await?;
    one.done("PUT", &at("/bans/carol"), Some(json!({}))).await?;
    two.refused("POST", &at("/members"), Some(json!({ "users": ["carol"] })), 403, "banned").await?;
    two.done("DELETE", &at("/bans/carol"), None).await?;
    two.done("DELETE", &at(""), None).await?;
    ensure!(bob.group(chat::ids::GroupId(group)).await?.dissolved, "it is over");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_opens_its_own_app_and_no_more_than_it_is_for() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let main = backend(&stage, 1).await?;
    let shop = AppId::new("shop")?;
    stage.cluster.admin(1)?.create_app(shop.clone(), "The shop".into()).await?;
    let (shop_id, shop_key) = key(&stage, &shop, &Scope::ALL).await?;
    let other = main.with_key(&shop_key);
    let group = Uuid::now_v7();
    main.done("POST", "/v1/users/import", Some(json!({ "users": [{ "user": "alice" }, { "user": "bob" }] }))).await?;
    main.done("POST", "/v1/groups", Some(json!({ "group": group, "owner": "alice", "name": "Ours" }))).await?;
    let hi = json!({ "from": "alice", "to": { "user": "bob" }, "client_msg_id": id(), "body": { "kind": "text", "text": "hi" } });
    main.done("POST", "/v1/messages", Some(hi.clone())).await?;
    other.done("POST", "/v1/users/import", Some(json!({ "users": [{ "user": "olga" }] }))).await?;

    // What is another app's and what is nowhere are told alike.
    let nowhere = Uuid::now_v7();
    let foreign_and_missing = [
        ("GET", "/v1/users/alice".to_owned(), "/v1/users/nobody".to_owned(), None),
        ("GET", "/v1/users/alice/devices".to_owned(), "/v1/users/nobody/devices".to_owned(), None),
        ("POST", "/v1/users/alice/deactivate".to_owned(), "/v1/users/nobody/deactivate".to_owned(), None),
        ("PUT", "/v1/users/alice/password".to_owned(), "/v1/users/nobody/password".to_owned(), Some(json!({}))),
        (
            "GET",
            "/v1/conversations/p:alice:bob/messages".to_owned(),
            "/v1/conversations/p:a:b/messages".to_owned(),
            None,
        ),
        (
            "POST",
            "/v1/conversations/p:alice:bob/messages/1/recall".to_owned(),
            "/v1/conversations/p:a:b/messages/1/recall".to_owned(),
            Some(json!({})),
        ),
        ("GET", format!("/v1/groups/{group}"), format!("/v1/groups/{nowhere}"), None),
        ("GET", format!("/v1/groups/{group}/members"), format!("/v1/groups/{nowhere}/members"), None),
        ("DELETE", format!("/v1/groups/{group}"), format!("/v1/groups/{nowhere}"), None),
        (
            "POST",
            format!("/v1/groups/{group}/members"),
            format!("/v1/groups/{nowhere}/members"),
            Some(json!({ "users": ["olga"] })),
        ),
    ];
    for (method, foreign, missing, body) in foreign_and_missing {
        let foreign = other.ask(method, &foreign, body.clone()).await?;
        let missing = other.ask(method, &missing, body).await?;
        ensure!(foreign.status == 404, "{method}: {foreign:?}");
        assert_eq!(foreign.told(), missing.told());
    }
    assert_eq!(other.get("/v1/users").await?["users"].as_array().map(Vec::len), Some(1));
    other.refused("POST", "/v1/messages", Some(hi.clone()), 404, "user_not_found").await?;
    assert_eq!(main.get("/v1/users/alice").await?["active"], true);

    what_keys_are_for(&stage, &main, &other, group, hi).await?;
    // Revoked on one node, good for nothing on any.
    stage.cluster.admin(2)?.revoke_api_key(&shop, &shop_id).await?;
    for node in 1..=3 {
        let at = Backend::new(&stage.cluster.client_url(node)?, stage.cluster.ca_pem(), &shop_key)?;
        at.refused("GET", "/v1/app", None, 401, "bad_api_key").await?;
    }
    Ok(())
}

/// Scopes, keys that are none, and an app that is frozen.
async fn what_keys_are_for(stage: &Stage, main: &Backend, other: &Backend, group: Uuid, hi: Value) -> Result<()> {
    let (_, text) = key(stage, &app(), &[Scope::UsersRead]).await?;
    let reader = main.with_key(&text);
    reader.get("/v1/users/alice").await?;
    reader.get("/v1/app").await?;
    reader.refused("POST", "/v1/messages", Some(hi), 403, "missing_scope").await?;
    reader.refused("GET", &format!("/v1/groups/{group}"), None, 403, "missing_scope").await?;
    // The id of a key that there is, with another secret.
    let changed = format!("{}{}", &text[..text.len() - 20], "x".repeat(20));
    let bad = main.with_key("").ask("GET", "/v1/app", None).await?.told();
    for key in ["cak_0011223344556677_", &changed, "nonsense"] {
        assert_eq!(main.with_key(key).ask("GET", "/v1/app", None).await?.told(), bad, "{key}");
    }
    assert_eq!((bad.0, &bad.1["name"]), (401, &json!("bad_api_key")));
    stage.cluster.admin(3)?.freeze_app(&AppId::new("shop")?).await?;
    other.refused("GET", "/v1/app", None, 403, "app_frozen").await?;
    stage.cluster.admin(3)?.thaw_app(&AppId::new("shop")?).await?;
    other.get("/v1/app").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_what_is_served() -> Result<()> {
    let stage = Stage::start(1, 2).await?;
    let backend = backend(&stage, 1).await?;
    let document = backend.with_key("").get("/v1/openapi.json").await?;
    assert_eq!((&document["openapi"], &document["servers"][0]["url"]), (&json!("3.1.0"), &json!("/v1")));
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().context("paths")? {
        let values = [
            ("{user}", "nobody"),
            ("{conversation}", "p:a:b"),
            ("{seq}", "1"),
            ("{group}", "01936f3e-7c00-7000-8000-00000000000a"),
        ];
        let at = values.iter().fold(format!("/v1{path}"), |at, (name, value)| at.replace(name, value));
        for (method, operation) in methods.as_object().context("methods")? {
            let answer = backend.send(&method.to_uppercase(), &at, "{}".to_owned()).await?;
            ensure!(answer.name() != "no_such_resource", "{method} {path} is described and not served");
            let stranger = backend.with_key("").ask(&method.to_uppercase(), &at, None).await?;
            ensure!(stranger.status == 401, "{method} {path} answers strangers: {stranger:?}");
            let statuses = operation["responses"].as_object().context("responses")?;
            ensure!(statuses.contains_key(&answer.status.to_string()), "{method} {path}: {answer:?} is not described");
            operations += 1;
        }
    }
    ensure!(operations >= 24, "only {operations} operations");
    backend.refused("GET", "/v1/no/such", None, 404, "no_such_resource").await?;

    // Bodies that are too large, or none; and who asks too often.
    let large = format!("{{\"users\": \"{}\"}}", "x".repeat(limits::API_BODY_BYTES));
    let answer = backend.send("POST", "/v1/users/import", large).await?;
    assert_eq!((answer.status, answer.name()), (413, "frame_too_large"));
    for body in ["", "[", "{\"users\": 7}", "{\"users\": [], \"more\": 1}"] {
        let answer = backend.send("POST", "/v1/users/import", body.to_owned()).await?;
        assert_eq!((answer.status, answer.name()), (400, "invalid_field"), "{body}");
    }
    let often = select_all((0..16).map(|_| Box::pin(backend.until_refused("/v1/app"))));
    let (limited, ..) = tokio::time::timeout(DEADLINE, often).await.context("nobody asks too often")?;
    let limited = limited?;
    assert_eq!((limited.status, limited.name()), (429, "rate_limited"));
    ensure!(limited.retry_after.is_some() && limited.body["retry_after_ms"].is_u64(), "{limited:?}");
    Ok(())
}
