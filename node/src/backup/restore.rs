//! A new cluster from a backup: as many nodes as wanted, each with every shard as it was cut. Its own id, certificate
//! authority, node keys and admin token; the cluster key and the apps' public keys are those of the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use chat::app::AppCommand;
use chat::command::{ClusterCommand, Command, EntryBatch, ListChange};
use chat::ids::{AppId, KeyId, NodeId, ShardId};
use chat::limits::{APPS, RESTORED_LIST_ENTRIES};
use chat::state::memory::MemoryState;
use chat::state::record::ClusterSettings;
use chat::state::{query, relist};
use cluster::{RestoredShard, RestoredView};
use storage::backup::{Backup, BackupError, Staging};
use storage::{Engine, OpenError, SnapshotChunk, StorageError, hex};

use crate::config::{ConfigError, NodeConfig, SecretError};
use crate::init::{self, AppOrigin, Created, InitError, InitOptions, Layout, Origin};

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the backup has {found} shards; a cluster made from it has as many, not {asked}")]
    Shards { found: u16, asked: u16 },
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("the new node's directory cannot be used")]
    Config(#[from] ConfigError),
    #[error("the new node's keys cannot be used")]
    Keys(#[from] SecretError),
    #[error("the data directory of node {node} does not open")]
    Open { node: NodeId, source: OpenError },
    #[error("node {node}: shard {shard} is not what the backup holds: {what}")]
    Differs { node: NodeId, shard: ShardId, what: String },
    #[error("the backup holds no cluster: its metadata group has no settings")]
    NoSettings,
    #[error("storing a shard")]
    Shard(#[from] cluster::RestoreError),
    #[error("reading a restored shard")]
    Read(#[from] StorageError),
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    #[error("interrupted")]
    Interrupted,
}

/// What to make of a backup.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Of the new cluster; its number of shards is overruled by the backup's.
    pub init: InitOptions,
    /// Apps get new signing keys: their old ones are lost or known to others.
    pub new_app_keys: bool,
}

/// What was made.
#[derive(Debug)]
pub struct Restored {
    pub created: Created,
    pub stream_epoch: u32,
    /// Entries of conversation lists that were put right: what was on its way between shards when they were cut.
    pub lists: usize,
    /// Whose signing keys are not in the new cluster's directory.
    pub apps: Vec<String>,
}

/// Makes the cluster; complete on return, absent after an error. `told` hears of each node that is done.
pub fn restore(
    backup: &Backup,
    options: &RestoreOptions,
    interrupted: &AtomicBool,
    told: impl Fn(NodeId, u16),
) -> Result<Restored, RestoreError> {
    let found = backup.manifest().shards;
    if options.init.shards != found {
        return Err(RestoreError::Shards { found, asked: options.init.shards });
    }
    let meta = metadata(backup)?;
    let settings = query::cluster_settings(&meta).unwrap_or_else(|never| match never {});
    let settings = settings.ok_or(RestoreError::NoSettings)?;
    let origin = Origin { cluster_key: backup.cluster_key()?, apps: apps(&meta, options.new_app_keys)? };
    let staging = Staging::begin(&options.init.dir)?;
    let created = init::create_from(staging.dir(), &options.init, &origin)?;
    let mut work = Work {
        backup,
        layout: &created.layout,
        members: (1..=NodeId::from(options.init.nodes)).collect(),
        interrupted,
    };
    let keys = new_keys(&meta, &origin.apps);
    let behind = work.first(|views| behind(views, &settings, &created, keys))?;
    told(1, options.init.nodes);
    for node in 2..=NodeId::from(options.init.nodes) {
        work.node(node, &behind.batches)?;
        told(node, options.init.nodes);
    }
    staging.commit()?;
    let created = Created { layout: Layout::new(&options.init.dir), ..created };
    let apps = origin.apps.into_iter().filter(|app| app.private.is_none()).map(|app| app.app).collect();
    Ok(Restored { created, stream_epoch: behind.stream_epoch, lists: behind.lists, apps })
}

/// The metadata group's state: settings and apps, which is little.
fn metadata(backup: &Backup) -> Result<MemoryState, RestoreError> {
    let mut meta = MemoryState::default();
    let Some(mut reader) = backup.shard(ShardId::META) else { return Ok(meta) };
    while let Some(chunk) = reader.next_chunk()? {
        if let SnapshotChunk::State(pairs) = chunk {
            meta.write(pairs.into_iter().map(|(key, value)| (key, Some(value))));
        }
    }
    Ok(meta)
}

fn apps(meta: &MemoryState, new_keys: bool) -> Result<Vec<AppOrigin>, InitError> {
    let known = query::apps(meta, APPS).unwrap_or_else(|never| match never {});
    let origin = |(app, known): (AppId, chat::state::record::App)| {
        if new_keys {
            return Some(AppOrigin::new(app.as_str()));
        }
        // An app without a key has nothing to configure: it is on record.
        let public = known.token_keys.into_iter().next()?.pem;
        Some(Ok(AppOrigin { app: app.to_string(), public, private: None }))
    };
    known.into_iter().filter_map(origin).collect()
}

/// Where apps get new keys, whatever their users and backends came with before is good for nothing.
fn new_keys(meta: &MemoryState, apps: &[AppOrigin]) -> Vec<Command> {
    let mut commands = Vec::new();
    for origin in apps.iter().filter(|origin| origin.private.is_some()) {
        let Ok(app) = AppId::new(origin.app.as_str()) else { continue };
        let known = query::app(meta, &app).unwrap_or_else(|never| match never {});
        let token_keys = known.into_iter().flat_map(|known| known.token_keys);
        let api_keys = chat::state::apps::api_keys(meta, &app).unwrap_or_else(|never| match never {});
        let removed = token_keys.map(|key| AppCommand::RemoveTokenKey { id: key.id });
        let revoked = api_keys.into_iter().map(|(id, _)| AppCommand::RevokeApiKey { id });
        let id = KeyId::new("config").expect("it is a valid id");
        let added = AppCommand::AddTokenKey { id, pem: origin.public.clone() };
        let of_app = |command| Command::Cluster(ClusterCommand::App { app: app.clone(), command });
        commands.extend(removed.chain(revoked).chain([added]).map(of_app));
    }
    commands
}

/// What comes behind the cuts, the same on every node.
struct Behind {
    batches: BTreeMap<ShardId, Vec<EntryBatch>>,
    stream_epoch: u32,
    lists: usize,
}

fn behind(
    views: &[RestoredView],
    settings: &ClusterSettings,
    created: &Created,
    keys: Vec<Command>,
) -> Result<Behind, RestoreError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(settings.founded_ms);
    let batch = |command| EntryBatch { time_ms, commands: vec![command] };
    let stream_epoch = new_epoch(settings.stream_epoch)?;
    let nodes = (1..).zip(&created.addresses).map(|(node, at)| (node, at.peer.to_string())).collect();
    let restored = ClusterCommand::Restored { cluster: created.cluster.clone(), stream_epoch, nodes };
    let first = [Command::Cluster(restored)].into_iter().chain(keys).map(batch).collect();
    let mut batches = BTreeMap::from([(ShardId::META, first)]);
    let mut lists = 0;
    let mut homes: BTreeMap<ShardId, Vec<ListChange>> = BTreeMap::new();
    for (home, entry) in relist::repairs(views)? {
        homes.entry(home).or_default().push(entry);
        lists += 1;
    }
    for (home, entries) in homes {
        let entries = entries.chunks(RESTORED_LIST_ENTRIES).map(<[ListChange]>::to_vec);
        batches.insert(home, entries.map(|entries| batch(Command::ListsRestored { entries })).collect());
    }
    Ok(Behind { batches, stream_epoch, lists })
}

/// Another one than any that clients have seen, of whatever was restored from the same backup before.
fn new_epoch(before: u32) -> Result<u32, getrandom::Error> {
    loop {
        let epoch = getrandom::u32()? >> 1;
        if epoch > 1 && epoch != before {
            return Ok(epoch);
        }
    }
}

struct Work<'a> {
    backup: &'a Backup,
    layout: &'a Layout,
    members: BTreeSet<NodeId>,
    interrupted: &'a AtomicBool,
}

impl Work<'_> {
    /// Fills node 1, and asks `behind` what comes behind the cuts.
    fn first(
        &mut self,
        behind: impl FnOnce(&[RestoredView]) -> Result<Behind, RestoreError>,
    ) -> Result<Behind, RestoreError> {
        let (engine, shards) = self.install(1)?;
        let views = shards.iter().map(RestoredShard::view).collect::<Result<Vec<_>, _>>()?;
        let behind = behind(&views)?;
        drop(views);
        self.end(1, engine, shards, &behind.batches)?;
        Ok(behind)
    }

    fn node(&mut self, node: NodeId, batches: &BTreeMap<ShardId, Vec<EntryBatch>>) -> Result<(), RestoreError> {
        let (engine, shards) = self.install(node)?;
        self.end(node, engine, shards, batches)
    }

    fn open(&self, node: NodeId) -> Result<Engine, RestoreError> {
        let config = NodeConfig::load(&self.layout.config(node))?;
        let options = config.storage_options(&config.load_keys()?);
        Engine::open(options).map_err(|source| RestoreError::Open { node, source })
    }

    /// Every shard as it was cut.
    fn install(&self, node: NodeId) -> Result<(Engine, Vec<RestoredShard>), RestoreError> {
        let engine = self.open(node)?;
        let mut shards = Vec::new();
        for shard in (0..=self.backup.manifest().shards).map(ShardId) {
            let Some(mut reader) = self.backup.shard(shard) else { continue };
            let (position, mut broken) = (reader.position(), None);
            let next = || {
                if self.interrupted.load(Ordering::Relaxed) {
                    broken = Some(RestoreError::Interrupted);
                    return Err(StorageError::Source { reason: "interrupted".to_owned() });
                }
                reader.next_chunk().map_err(|error| {
                    let reason = error.to_string();
                    broken = Some(error.into());
                    StorageError::Source { reason }
                })
            };
            let installed = RestoredShard::install(&engine, shard, position, &self.members, next);
            if let Some(why) = broken {
                return Err(why);
            }
            let installed = installed?;
            let digest = hex(&installed.digest()?.digest);
            if digest != reader.manifest().digest {
                return Err(RestoreError::Differs { node, shard, what: format!("its digest is {digest}") });
            }
            shards.push(installed);
        }
        Ok((engine, shards))
    }

    /// Puts down what comes behind the cuts, closes the data directory and looks whether it is there.
    fn end(
        &self,
        node: NodeId,
        engine: Engine,
        shards: Vec<RestoredShard>,
        batches: &BTreeMap<ShardId, Vec<EntryBatch>>,
    ) -> Result<(), RestoreError> {
        for (shard, restored) in (0..).map(ShardId).zip(&shards) {
            restored.follow(batches.get(&shard).map_or(&[], Vec::as_slice))?;
        }
        drop(shards);
        engine.close();
        let engine = self.open(node)?;
        for (shard, cut) in (0..).map(ShardId).zip(&self.backup.manifest().cuts) {
            let log = engine.log(shard)?;
            let last = cut.index + batches.get(&shard).map_or(0, Vec::len) as u64;
            let found = (log.bounds().last, log.committed()?);
            let wanted = |position: Option<storage::LogPosition>| position.map_or(0, |position| position.index);
            if wanted(found.0) != last || last > cut.index && wanted(found.1) != last {
                return Err(RestoreError::Differs { node, shard, what: format!("its log ends at {found:?}") });
            }
        }
        engine.close();
        Ok(())
    }
}
