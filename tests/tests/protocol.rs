//! What the service answers to clients that misuse the protocol. Every answer is typed, and nobody else is disturbed.

use anyhow::Result;
use chat::limits;
use chat::wire::{Credentials, Target};
use serde_json::{Value, json};
use tests::raw::{Heard, Raw};
use tests::{Stage, user};

fn login(credentials: &Value) -> String {
    json!({"type": "login", "id": 1, "auth": credentials, "device": {"id": "d1", "platform": "test"}}).to_string()
}

struct Scene {
    stage: Stage,
    url: String,
}

impl Scene {
    async fn raw(&self) -> Result<Raw> {
        Raw::connect(&self.url, self.stage.cluster.ca_pem()).await
    }

    fn token(&self, name: &str) -> Result<Value> {
        let options = self.stage.options(name, &[1])?;
        let campanile_client::Auth::Fixed(Credentials::Token(token)) = options.auth else {
            anyhow::bail!("the stage signs tokens");
        };
        Ok(json!({"token": token}))
    }

    async fn logged_in(&self, name: &str) -> Result<Raw> {
        let mut raw = self.raw().await?;
        raw.text(login(&self.token(name)?)).await?;
        assert_eq!(raw.frame().await?["type"], "hello");
        Ok(raw)
    }
}

fn answer(name: &str, re: Option<u64>) -> (String, Option<u64>) {
    (name.to_owned(), re)
}

async fn before_login(scene: &Scene) -> Result<()> {
    let mut raw = scene.raw().await?;
    raw.text(r#"{"type":"ping","id":7}"#).await?;
    assert_eq!(raw.error().await?, answer("not_logged_in", Some(7)));
    assert_eq!(raw.closed().await?, 4503);

    let mut raw = scene.raw().await?;
    raw.text(login(&json!({"token": "nonsense"}))).await?;
    assert_eq!(raw.error().await?, answer("bad_credentials", Some(1)));
    assert_eq!(raw.closed().await?, 4503);

    // Unknown user and wrong password are the same answer.
    let password = |user: &str| json!({"password": {"app": "main", "user": user, "password": "wrong password"}});
    let mut said = Vec::new();
    for name in ["nobody", "known"] {
        let mut raw = scene.raw().await?;
        raw.text(login(&password(name))).await?;
        let mut frame = raw.frame().await?;
        frame["trace_id"] = Value::Null;
        said.push(frame);
    }
    assert_eq!(said[0], said[1]);

    let mut raw = scene.raw().await?;
    assert_eq!(raw.error().await?, answer("login_timeout", None));
    assert_eq!(raw.closed().await?, 4502);
    Ok(())
}

async fn after_login(scene: &Scene) -> Result<()> {
    let mut raw = scene.logged_in("erin").await?;
    for (text, name, re) in [
        ("{", "malformed_frame", None),
        (r#"{"type":"fly","id":3}"#, "malformed_frame", Some(3)),
        (r#"{"type":"read","id":4,"conversation":"x:1","seq":1}"#, "invalid_field", Some(4)),
        (r#"{"type":"read","id":5,"conversation":"p:bob:carol","seq":1}"#, "not_a_member", Some(5)),
        (
            r#"{"type":"history","id":6,"conversation":"g:0190aaaa-0000-7000-8000-000000000001"}"#,
            "not_a_member",
            Some(6),
        ),
    ] {
        raw.text(text).await?;
        assert_eq!(raw.error().await?, answer(name, re), "{text}");
    }
    raw.text(login(&scene.token("erin")?)).await?;
    assert_eq!(raw.error().await?, answer("out_of_order", Some(1)));
    raw.binary(vec![1, 2, 3]).await?;
    assert_eq!(raw.error().await?.0, "unsupported_frame");

    let mut packed = Raw::connect_packed(&scene.url, scene.stage.cluster.ca_pem()).await?;
    for bytes in [vec![0xc1], vec![0x80, 0x80], vec![0x91; 100], vec![0xdf, 0xff, 0xff, 0xff, 0xff]] {
        packed.binary(bytes).await?;
        assert_eq!(packed.error().await?, answer("malformed_frame", None));
    }
    packed.text(login(&scene.token("frida")?)).await?;
    assert_eq!(packed.frame().await?["type"], "hello");

    // The connection is still good.
    raw.text(r#"{"type":"ping","id":8}"#).await?;
    assert_eq!(raw.frame().await?, json!({"type": "pong", "re": 8}));
    raw.text(r#"{"type":"resume","id":9}"#).await?;
    assert_eq!(raw.frame().await?["type"], "resumed");
    raw.text(r#"{"type":"resume","id":10}"#).await?;
    assert_eq!(raw.error().await?, answer("out_of_order", Some(10)));

    let send = |id: u64, to: Value, text: &str| {
        json!({"type": "send", "id": id, "to": to, "client_msg_id": "0190aaaa-0000-7000-8000-00000000000a",
               "body": {"kind": "text", "text": text}})
        .to_string()
    };
    raw.text(send(11, json!({"user": "never-seen"}), "hi")).await?;
    assert_eq!(raw.error().await?, answer("user_not_found", Some(11)));
    raw.text(send(12, json!({"user": "erin"}), "")).await?;
    assert_eq!(raw.error().await?, answer("invalid_field", Some(12)));
    raw.text(send(13, json!({"user": "erin"}), "note to self")).await?;
    loop {
        let frame = raw.frame().await?;
        if frame["re"] == 13 {
            assert_eq!((&frame["type"], &frame["seq"]), (&json!("ack"), &json!(1)));
            break;
        }
    }
    raw.text(send(14, json!({"user": "erin"}), "other words, same id")).await?;
    loop {
        let frame = raw.frame().await?;
        if frame["re"] == 14 {
            assert_eq!(frame["name"], "id_conflict");
            break;
        }
    }
    Ok(())
}

async fn too_much(scene: &Scene) -> Result<()> {
    let mut raw = scene.logged_in("frank").await?;
    raw.text("x".repeat(limits::FRAME_BYTES + 1)).await?;
    assert_eq!(raw.error().await?.0, "frame_too_large");
    assert_eq!(raw.closed().await?, 4501);

    let mut raw = scene.logged_in("frank").await?;
    for _ in 0..limits::BAD_FRAMES {
        raw.text("nonsense").await?;
    }
    let code = loop {
        match raw.hear().await? {
            Heard::Frame(frame) => assert_eq!(frame["name"], "malformed_frame"),
            Heard::Closed(code) => break code,
        }
    };
    assert_eq!(code, 4500);
    Ok(())
}

/// Requests that do not become a connection are told why over HTTP.
async fn refused_at_the_door(scene: &Scene) -> Result<()> {
    let ca = scene.stage.cluster.ca_pem();
    let elsewhere = scene.url.replace("/v1/connect", "/v1/elsewhere");
    for (url, protocol, status, says) in [
        (&elsewhere, Some("campanile.v1.json"), 404, "/v1/connect"),
        (&scene.url, Some("mqtt"), 400, "campanile.v1.json"),
        (&scene.url, None, 400, "campanile.v1.json"),
    ] {
        let (found, body) = Raw::refused(url, protocol, ca).await?;
        let error: Value = serde_json::from_slice(&body)?;
        assert_eq!(found, status, "{error}");
        assert_eq!(error["name"], "invalid_field");
        assert!(error["message"].as_str().unwrap_or_default().contains(says), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn misuse_is_answered_and_disturbs_nobody() -> Result<()> {
    let stage = Stage::start(1, 4).await?;
    let url = stage.cluster.client_url(1)?;
    // A well-behaved pair chats all along.
    let (known, _) = stage.connect("known", &[1]).await?;
    let (peer, mut events) = stage.connect("peer", &[1]).await?;
    let scene = Scene { stage, url };
    refused_at_the_door(&scene).await?;
    before_login(&scene).await?;
    after_login(&scene).await?;
    too_much(&scene).await?;
    known.send_text(Target::User(user("peer")), "still here").await?;
    while let Some(event) = events.next().await {
        if let campanile_client::ClientEvent::Event(event) = event {
            assert_eq!(event.seq, 1);
            break;
        }
    }
    peer.logout().await?;
    Ok(())
}
