//! openraft's own storage test suite against our stores.

use std::sync::Arc;

use chat::ids::ShardId;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use storage::{Engine, EngineOptions, Identity, NodeKey};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};

use super::log_store::ShardLog;
use super::state_machine::{ShardState, Shared};
use super::types::Types;
use crate::Feed;
use crate::repair::{Health, LogRepair};
use crate::roster::Lanes;

struct NoFeed;

impl Feed for NoFeed {
    fn committed(&self, _: ShardId, _: u64, _: Arc<[chat::event::Committed]>) {}
    fn jumped(&self, _: ShardId, _: u64) {}
    fn leadership(&self, _: ShardId, _: bool) {}
}

struct Builder;

/// Keeps the engine and its directory until a case of the suite is done.
struct Guard {
    engine: Option<Engine>,
    _dir: TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close();
        }
    }
}

impl StoreBuilder<Types, ShardLog, ShardState, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, ShardLog, ShardState), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let options = || EngineOptions {
            dir: dir.path().join("data"),
            node_key: NodeKey::from_bytes([7; 32]),
            identity: Identity { cluster: "suite".to_owned(), node: 0, name: "suite".to_owned() },
            cache_bytes: 8 * 1024 * 1024,
        };
        Engine::create(&options()).unwrap();
        let engine = Engine::open(options()).unwrap();
        let shard = ShardId(1);
        let state = engine.state(shard).unwrap();
        let (applied, outbox_filled) = (watch::channel(0).0, Arc::new(Notify::new()));
        let chores = watch::Sender::default();
        let feed = Arc::new(NoFeed);
        let health = Arc::new(Health::new(shard, feed.clone(), applied.clone()));
        let log = engine.log(shard).unwrap();
        let repair = LogRepair::new(shard, log.clone(), state.clone(), Arc::new(Lanes::none()), health.clone());
        let log = ShardLog::new(log, Arc::new(repair), false);
        let (digests, source, roster_changed) = (Arc::default(), Arc::default(), Arc::default());
        let shared = Shared { feed, applied, chores, outbox_filled, digests, source, health, roster_changed };
        let machine = ShardState::new(shard, state, shared);
        Ok((Guard { engine: Some(engine), _dir: dir }, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openrafts_storage_suite_passes() {
    Suite::<Types, ShardLog, ShardState, Builder, Guard>::test_all(Builder).await.unwrap();
}
