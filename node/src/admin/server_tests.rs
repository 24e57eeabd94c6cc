//! The admin listener over real TLS, asked by the client that operators use.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use chat::ids::UserId;
use cluster::{ClusterStatus, ScrubProgress};
use parking_lot::Mutex;

use super::*;
use crate::admin::{AdminClient, AdminError, Policy, StorageStatus};
use crate::init::{InitOptions, Layout, create};
use crate::presence::PresenceInfo;
use crate::security::record::AdministrationResult;

const TOKEN: &str = "the-right-token";

/// What was recorded, and whether more can be.
#[derive(Default)]
struct Journal {
    acts: Mutex<Vec<Administration>>,
    broken: AtomicBool,
}

#[derive(Default)]
struct Fixed(Arc<Journal>);

impl Backend for Fixed {
    fn status(&self) -> NodeStatus {
        NodeStatus {
            version: "1".into(),
            uptime_ms: 5,
            sessions: 2,
            draining: false,
            storage: StorageStatus::default(),
            presence: PresenceInfo::default(),
            cluster: ClusterStatus {
                cluster: "c".into(),
                node: 7,
                level: 2,
                supported: 2,
                peers: Vec::new(),
                shards: Vec::new(),
                scrub: ScrubProgress::default(),
            },
        }
    }

    fn readiness(&self) -> Readiness {
        Readiness { ready: false, reasons: vec!["shard 3 has no leader".into()] }
    }

    fn digests(&self) -> BoxFuture<'_, Result<Vec<ShardDigest>, Refused>> {
        let digest = ShardDigest { shard: ShardId(3), applied: 9, digest: "ab".into(), records: 1 };
        Box::pin(async { Ok(vec![digest]) })
    }

    fn verify(&self, shard: ShardId) -> BoxFuture<'_, Result<Comparison, Refused>> {
        Box::pin(async move { Ok(Comparison { shard, index: 9, replicas: Vec::new(), agreed: None }) })
    }

    fn scrub(&self) {}

    fn backup(&self, backup: Uuid, shard: ShardId) -> BoxFuture<'_, Result<mpsc::Receiver<Bytes>, Refused>> {
        assert_eq!((backup, shard), (Uuid::from_u128(1), ShardId(4)));
        let (sender, frames) = mpsc::channel(2);
        let frame = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat().into();
        sender.try_send(frame(&[7; 200_000])).unwrap();
        sender.try_send(frame(b"end")).unwrap();
        Box::pin(async move { Ok(frames) })
    }

    fn drain(&self, spread: Duration) {
        assert_eq!(spread, Duration::from_millis(1_500));
    }

    fn resume(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn add_user(&self, user: NewUser) -> BoxFuture<'_, Result<(), Refused>> {
        Box::pin(async move {
            match user.user.as_str() {
                "alice" => Err(Refused::new(ErrorCode::AccountExists, "alice exists already")),
                _ => Ok(()),
            }
        })
    }

    fn apps(&self) -> BoxFuture<'_, Result<Vec<AppInfo>, Refused>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn app(&self, app: AppId) -> BoxFuture<'_, Result<AppInfo, Refused>> {
        Box::pin(async move { Err(Refused::new(ErrorCode::AppNotFound, format!("there is no app {app}"))) })
    }

    fn change_app(&self, app: AppId, _: AppCommand) -> BoxFuture<'_, Result<AppInfo, Refused>> {
        self.app(app)
    }

    fn retention(&self, of: RetentionOf) -> BoxFuture<'_, Result<RetentionStatus, Refused>> {
        let app_policy = Policy { max_age_ms: Some(1_000), max_count: None };
        let (own_policy, id_window_ms) = (None, 604_800_000);
        Box::pin(async move {
            Ok(RetentionStatus { of, app_policy, id_window_ms, own_policy, oldest_seq: None, head: Some(7) })
        })
    }

    fn set_retention(&self, change: RetentionChange) -> BoxFuture<'_, Result<RetentionStatus, Refused>> {
        let RetentionChange { app, conversation, policy } = change;
        Box::pin(async move {
            let own_policy = Some(policy.ok_or_else(|| Refused::new(ErrorCode::InvalidField, "policy"))?);
            Ok(RetentionStatus { own_policy, ..self.retention(RetentionOf { app, conversation }).await? })
        })
    }

    fn set_id_window(&self, change: IdWindowChange) -> BoxFuture<'_, Result<RetentionStatus, Refused>> {
        let IdWindowChange { app, window_ms } = change;
        Box::pin(async move {
            let status = self.retention(RetentionOf { app, conversation: None }).await?;
            Ok(RetentionStatus { id_window_ms: window_ms, ..status })
        })
    }

    fn record(&self, administration: Administration) -> BoxFuture<'_, Result<(), NotRecorded>> {
        Box::pin(async move {
            if self.0.broken.load(Ordering::Relaxed) {
                return Err(NotRecorded::Failed);
            }
            self.0.acts.lock().push(administration);
            Ok(())
        })
    }

    fn security_log(&self, limit: usize) -> BoxFuture<'_, Result<serde_json::Value, Refused>> {
        Box::pin(async move { Ok(serde_json::json!({ "limit": limit })) })
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A listener with a node's real certificate, and what a client needs to reach it.
fn start(dir: &Path) -> (SocketAddr, Vec<u8>) {
    let (address, ca, _) = recording(dir);
    (address, ca)
}

/// The same, and what is recorded.
fn recording(dir: &Path) -> (SocketAddr, Vec<u8>, Arc<Journal>) {
    let journal = Arc::new(Journal::default());
    let layout: Layout = create(&InitOptions::local(dir.join("cluster"), 1, 1, 7400)).unwrap().layout;
    let node = layout.node_dir(1);
    let tls = crate::tls::server_config(&node.join("node.pem"), &node.join("node.key")).unwrap();
    let address = free_address();
    let backend = Arc::new(Fixed(journal.clone()));
    actix_web::rt::spawn(serve(address, tls, TOKEN, backend, None).unwrap());
    (address, std::fs::read(layout.ca()).unwrap(), journal)
}

fn client(address: SocketAddr, ca: &[u8], token: &str) -> AdminClient {
    AdminClient::new(&format!("https://{address}"), ca, token).unwrap()
}

fn user(name: &str) -> NewUser {
    NewUser { app: AppId::new("main").unwrap(), user: UserId::new(name).unwrap(), password: Some("longenough".into()) }
}

#[actix_web::test]
async fn an_operator_with_the_token_sees_and_does_everything() {
    let temp = tempfile::tempdir().unwrap();
    let (address, ca) = start(temp.path());
    let admin = client(address, &ca, TOKEN);
    assert_eq!(admin.status().await.unwrap(), Fixed::default().status());
    assert_eq!(admin.digests().await.unwrap()[0].applied, 9);
    admin.add_user(&user("bob")).await.unwrap();
    let refused = admin.add_user(&user("alice")).await.unwrap_err();
    assert!(matches!(&refused, AdminError::Refused { problem } if problem.code == 1309), "{refused:?}");
    assert_eq!(admin.verify(ShardId(4)).await.unwrap().shard, ShardId(4));
    let mut frames = admin.backup(Uuid::from_u128(1), ShardId(4)).await.unwrap();
    assert_eq!(frames.next().await.unwrap().unwrap(), [7; 200_000][..]);
    assert_eq!(frames.next().await.unwrap().unwrap(), "end");
    assert_eq!(frames.next().await.unwrap(), None);
    admin.drain(&Drain { spread_ms: 1_500 }).await.unwrap();
    admin.resume().await.unwrap();
    let endless = admin.drain(&Drain { spread_ms: SPREAD_MS_MAX + 1 }).await.unwrap_err();
    assert!(matches!(&endless, AdminError::Refused { problem } if problem.name == "invalid_field"), "{endless:?}");
    let log: serde_json::Value = admin.get("/v1/security/log?limit=5").await.unwrap();
    assert_eq!(log["limit"], 5);
}

#[actix_web::test]
async fn without_the_token_only_health_and_readiness_are_told() {
    let temp = tempfile::tempdir().unwrap();
    let (address, ca) = start(temp.path());
    for token in ["", "the-right-toke", "the-right-token2"] {
        let stranger = client(address, &ca, token);
        assert_eq!(stranger.ready().await.unwrap(), Fixed::default().readiness());
        assert!(matches!(stranger.status().await, Err(AdminError::Unauthorized { .. })));
        let drained = stranger.drain(&Drain { spread_ms: 0 }).await;
        assert!(matches!(drained, Err(AdminError::Unauthorized { .. })));
        assert!(matches!(stranger.verify(ShardId(1)).await, Err(AdminError::Unauthorized { .. })));
        let copied = stranger.backup(Uuid::from_u128(1), ShardId(4)).await;
        assert!(matches!(copied, Err(AdminError::Unauthorized { .. })));
        assert!(matches!(stranger.resume().await, Err(AdminError::Unauthorized { .. })));
        assert!(matches!(stranger.digests().await, Err(AdminError::Unauthorized { .. })));
        assert!(matches!(stranger.add_user(&user("bob")).await, Err(AdminError::Unauthorized { .. })));
        assert!(stranger.get::<serde_json::Value>("/v1/security/log").await.is_err());
    }
    let health: serde_json::Value = client(address, &ca, "").get("/healthz").await.unwrap();
    assert_eq!(health["status"], "ok");
}

#[actix_web::test]
async fn a_node_of_another_authority_is_not_spoken_to() {
    let temp = tempfile::tempdir().unwrap();
    let (address, _) = start(temp.path());
    let other = create(&InitOptions::local(temp.path().join("other"), 1, 1, 7400)).unwrap().layout;
    let admin = client(address, &std::fs::read(other.ca()).unwrap(), TOKEN);
    assert!(matches!(admin.status().await, Err(AdminError::Connect { .. })));
}

#[test]
fn only_https_addresses_are_taken() {
    for url in ["http://127.0.0.1:1", "127.0.0.1:1", "https://", ""] {
        assert!(matches!(AdminClient::new(url, b"", ""), Err(AdminError::Url { .. })), "{url}");
    }
    assert!(matches!(AdminClient::new("https://[::1]:1", b"", ""), Err(AdminError::Ca)));
}

#[actix_web::test]
async fn retention_is_asked_and_set_for_any_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let (address, ca) = start(dir.path());
    let client = AdminClient::new(&format!("https://{address}"), &ca, TOKEN).unwrap();
    // Characters that mean something in a query.
    let conversation: Option<chat::ids::ConversationId> = Some("p:a+=[b]:c|?;".parse().unwrap());
    let app = chat::ids::AppId::new("main").unwrap();
    let status = client.retention(&RetentionOf { app: app.clone(), conversation: conversation.clone() }).await.unwrap();
    assert_eq!(
        (&status.of.conversation, status.head, status.holds().max_age_ms),
        (&conversation, Some(7), Some(1_000))
    );
    let policy = Some(Policy { max_age_ms: None, max_count: Some(9) });
    let change = RetentionChange { app, conversation, policy };
    assert_eq!(Some(client.set_retention(&change).await.unwrap().holds()), policy);
    let refused = client.set_retention(&RetentionChange { policy: None, ..change }).await.unwrap_err();
    assert!(matches!(&refused, AdminError::Refused { problem } if problem.code == 1003), "{refused}");
}

#[actix_web::test]
async fn what_changes_something_is_recorded_before_and_after_and_refused_if_it_cannot_be() {
    let temp = tempfile::tempdir().unwrap();
    let (address, ca, journal) = recording(temp.path());
    let admin = client(address, &ca, TOKEN);
    admin.status().await.unwrap();
    admin.add_user(&user("bob")).await.unwrap();
    admin.add_user(&user("alice")).await.unwrap_err();
    client(address, &ca, "wrong").add_user(&user("carol")).await.unwrap_err();
    let acts = std::mem::take(&mut *journal.acts.lock());
    let said: Vec<_> = acts.iter().map(|act| (act.verb.as_str(), act.subject.as_str(), act.result.clone())).collect();
    let refused = AdministrationResult::Refused { code: 1309, name: "account_exists".to_owned() };
    let expected = [
        ("user.add", "app=main user=bob", AdministrationResult::Asked),
        ("user.add", "app=main user=bob", AdministrationResult::Done),
        ("user.add", "app=main user=alice", AdministrationResult::Asked),
        ("user.add", "app=main user=alice", refused),
    ];
    assert_eq!(said, expected);
    assert_eq!((acts[0].act, acts[0].ip), (acts[1].act, Ipv4Addr::LOCALHOST.into()));
    assert_ne!(acts[0].act, acts[2].act);
    assert_eq!(acts[0].by, format!("admin token {}", fingerprint(TOKEN)));

    // Looking is still possible, doing is not: with this spread the backend would panic.
    journal.broken.store(true, Ordering::Relaxed);
    admin.status().await.unwrap();
    let refused = admin.drain(&Drain { spread_ms: 77 }).await.unwrap_err();
    assert!(refused.to_string().contains("what is not recorded is not done"), "{refused}");
    assert!(matches!(&refused, AdminError::Refused { problem } if problem.code == 1502), "{refused:?}");
    assert!(journal.acts.lock().is_empty());
}
