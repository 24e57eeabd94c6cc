//! A node's data directory: `identity.toml`, `lock`, the database in `db`, and `wal.0` and
//! `wal.1`, which hold what was committed last.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use chat::ids::ShardId;
use chat::limits::SHARDS_MAX;
use parking_lot::Mutex;

use crate::compact::{self, Compacted, Compaction, DATABASE, Space};
use crate::disk::{Disk, Pair};
use crate::error::{OpenError, StorageError};
use crate::fault::WriteError;
use crate::identity::{self, Identity, io_error};
use crate::key::{self, ENGINE, meta};
use crate::log::{LogShared, LogStore};
use crate::queue::Work;
use crate::record::{self, IdentityRecord};
use crate::recover::{self, RecoverError};
use crate::seal::Sealer;
use crate::secret::NodeKey;
use crate::shared::{FailureHook, Shared};
use crate::spool::Spools;
use crate::state::{StateShared, StateStore};
use crate::thread;
use crate::wal::{Wal, WalError};

const CREATING: &str = "db.creating";
const LOCK: &str = "lock";
const SEAL_CONTEXT: &str = "campanile 2026 storage record seal v1";

#[derive(Debug, Clone)]
pub struct EngineOptions {
    pub dir: PathBuf,
    pub node_key: NodeKey,
    pub identity: Identity,
    /// Bytes of sled's page cache; resident memory is about 2.3 times that.
    pub cache_bytes: u64,
}

/// What the engine has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct EngineStats {
    /// Group commits: one fdatasync each.
    pub commits: u64,
    /// Log records made durable.
    pub records: u64,
    pub bytes_on_disk: u64,
    /// Of the database alone.
    pub space: Space,
    /// Requests that wait for the storage thread.
    pub queue_depth: usize,
}

/// The storage of one node. Clones are the same engine; the last one dropped closes it.
#[derive(Clone)]
pub struct Engine(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    shards: Mutex<Shards>,
    /// The engine's own records, opened.
    own: Vec<Pair>,
    thread: Mutex<Option<JoinHandle<()>>>,
    spools: Spools,
}

#[derive(Default)]
struct Shards {
    logs: HashMap<ShardId, Arc<LogShared>>,
    states: HashMap<ShardId, Arc<StateShared>>,
}

impl Engine {
    /// Makes a new data directory with its identity inside.
    pub fn create(options: &EngineOptions) -> Result<(), OpenError> {
        let dir = &options.dir;
        fs::create_dir_all(dir).map_err(io_error("creating", dir))?;
        let _lock = lock(dir)?;
        if identity::exists(dir) {
            return Err(OpenError::Exists { dir: dir.clone() });
        }
        if dir.join(DATABASE).exists() {
            return Err(OpenError::Unfinished { dir: dir.clone() });
        }
        let creating = dir.join(CREATING);
        if creating.exists() {
            fs::remove_dir_all(&creating).map_err(io_error("removing", &creating))?;
        }
        create_database(&creating, options).map_err(write_failed)?;
        Wal::create(dir).map_err(wal_failed)?;
        fs::rename(&creating, dir.join(DATABASE)).map_err(io_error("naming", &creating))?;
        identity::write(dir, &options.identity, &options.node_key)?;
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => identity::sync_dir(parent),
            _ => Ok(()),
        }
    }

    /// Opens this node's data directory and starts the storage thread.
    pub fn open(options: EngineOptions) -> Result<Self, OpenError> {
        Self::open_compacted(options, Compaction::Never).map(|(engine, _)| engine)
    }

    /// Opens the data directory, compacted first if that is wanted; what it came to. If it does not come about, which
    /// the log says, the database is as it was, and only [`Compaction::Now`] is an error.
    pub fn open_compacted(
        options: EngineOptions,
        compaction: Compaction,
    ) -> Result<(Self, Option<Compacted>), OpenError> {
        let dir = &options.dir;
        identity::check(dir, &options.identity, &options.node_key)?;
        let lock = lock(dir)?;
        let database = dir.join(DATABASE);
        compact::settle(dir).map_err(|error| compact_failed(&database, error))?;
        recover::remove_unfinished_files(&database).map_err(io_error("reading", &database))?;
        let sealer = sealer(&options.node_key);
        let open = |path: &Path| Disk::open(path, options.cache_bytes, sealer.clone());
        let disk = open(&database).map_err(write_failed)?;
        check_identity_record(&disk, &options.identity).map_err(|what| corrupt(&database, what))?;
        let wal = Wal::open(dir, &disk).map_err(wal_failed)?;
        recover::recover(&disk).map_err(|error| match error {
            RecoverError::Storage(error) => corrupt(&database, error.to_string()),
            RecoverError::Write(error) => write_failed(error),
        })?;
        let (disk, compacted) = compacted(dir, disk, compaction, open)?;
        let own = own_records(&disk).map_err(|error| corrupt(&database, error.to_string()))?;
        let spools = Spools::open(dir).map_err(io_error("emptying the spools of", dir))?;
        let started = Self::start(Shared::new(disk, lock), wal, own, spools);
        started.map(|engine| (engine, compacted)).map_err(io_error("starting the storage thread of", dir))
    }

    fn start(shared: Shared, wal: Wal, own: Vec<Pair>, spools: Spools) -> std::io::Result<Self> {
        let shared = Arc::new(shared);
        let thread = std::thread::Builder::new().name("storage".to_owned()).spawn({
            let shared = shared.clone();
            move || thread::run(shared, wal)
        })?;
        let shards = Mutex::default();
        Ok(Self(Arc::new(Running { shared, shards, own, thread: Mutex::new(Some(thread)), spools })))
    }

    /// The log of `shard`, always the same one.
    pub fn log(&self, shard: ShardId) -> Result<LogStore, StorageError> {
        self.0.shards.lock().log(&self.0.shared, shard).map(LogStore)
    }

    /// The state of `shard`, always the same one.
    pub fn state(&self, shard: ShardId) -> Result<StateStore, StorageError> {
        let mut shards = self.0.shards.lock();
        if let Some(state) = shards.states.get(&shard) {
            return Ok(StateStore(state.clone()));
        }
        let log = shards.log(&self.0.shared, shard)?;
        let state = Arc::new(StateShared::open(self.0.shared.clone(), log)?);
        shards.states.insert(shard, state.clone());
        Ok(StateStore(state))
    }

    /// Where snapshots on their way wait.
    pub fn spools(&self) -> Spools {
        self.0.spools.clone()
    }

    /// Why nothing is acknowledged any more, if so.
    pub fn failed(&self) -> Option<String> {
        self.0.shared.failure.error().map(|error| error.to_string())
    }

    /// Called once when a write, flush or fsync fails, at once if one has. A node ends its process then.
    pub fn on_failure(&self, hook: FailureHook) {
        self.0.shared.failure.on(hook);
    }

    pub fn stats(&self) -> EngineStats {
        let shared = &self.0.shared;
        let space = shared.disk.space();
        EngineStats {
            commits: shared.counters.commits(),
            records: shared.counters.records(),
            bytes_on_disk: space.disk_bytes + shared.counters.wal_bytes(),
            space,
            queue_depth: shared.queue.depth(),
        }
    }

    /// Does what waits, checkpoints every state, makes it durable and ends the storage thread. Stores that are still
    /// held answer [`StorageError::Closed`] to writes; the directory is free once they are dropped too.
    pub fn close(self) {
        self.0.close();
    }

    /// Writes the engine's own records again, as they were when it was opened. Durable on return.
    pub fn rewrite_own(&self) -> Result<(), StorageError> {
        let shared = &self.0.shared;
        let writes = self.0.own.iter().map(|(key, plain)| shared.disk.seal(key.clone(), plain)).collect();
        shared.durably(Work::Writes(writes))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl Shards {
    fn log(&mut self, shared: &Arc<Shared>, shard: ShardId) -> Result<Arc<LogShared>, StorageError> {
        if shard.0 > SHARDS_MAX {
            return Err(StorageError::Order { shard, what: format!("shards go up to {SHARDS_MAX}") });
        }
        if let Some(log) = self.logs.get(&shard) {
            return Ok(log.clone());
        }
        let log = Arc::new(LogShared::open(shared.clone(), shard)?);
        self.logs.insert(shard, log.clone());
        Ok(log)
    }
}

impl Running {
    fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        let committed = self.shards.lock().logs.values().filter_map(|log| log.take_committed_write()).collect();
        // A failed engine takes nothing more; its thread has ended.
        let _ = self.shared.write(committed);
        self.shared.queue.close();
        // A callback may hold the last clone of the engine: the thread cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the storage thread panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close();
    }
}

fn sealer(key: &NodeKey) -> Sealer {
    Sealer::new(&key.derive(SEAL_CONTEXT))
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(io_error("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.into() }),
        Err(TryLockError::Error(source)) => Err(io_error("locking", &path)(source)),
    }
}

fn create_database(dir: &Path, options: &EngineOptions) -> Result<(), WriteError> {
    let disk = Disk::open(dir, options.cache_bytes, sealer(&options.node_key))?;
    let record = IdentityRecord { cluster: options.identity.cluster.clone(), node: options.identity.node };
    disk.write(vec![disk.seal(key::named(ENGINE, meta::IDENTITY), &record::encode(&record))])?;
    disk.commit()
}

fn own_records(disk: &Disk) -> Result<Vec<Pair>, StorageError> {
    disk.range(key::space_range(ENGINE, key::Space::Meta)).collect()
}

/// The database, compacted if that is wanted.
fn compacted(
    dir: &Path,
    disk: Disk,
    compaction: Compaction,
    open: impl Fn(&Path) -> Result<Disk, WriteError>,
) -> Result<(Disk, Option<Compacted>), OpenError> {
    let (database, begun, before) = (dir.join(DATABASE), Instant::now(), disk.space());
    if !before.wants(compaction) {
        return Ok((disk, None));
    }
    tracing::info!(event = "compacting", bytes = before.disk_bytes, live_bytes = before.live_bytes, "compacting");
    let copied = match compact::copy(dir, &disk, &open) {
        Ok(copied) => copied,
        Err(error) if compaction == Compaction::Now => return Err(compact_failed(&database, error)),
        Err(error) => {
            tracing::warn!(event = "compaction_failed", %error, "the database was not compacted");
            return Ok((disk, None));
        }
    };
    drop(disk);
    let records = copied.records;
    copied.swap().map_err(|error| compact_failed(&database, error))?;
    let disk = open(&database).map_err(write_failed)?;
    disk.set_fresh().map_err(write_failed)?;
    let compacted = compact::compacted(before, disk.space(), records, begun);
    compact::tell(&compacted);
    Ok((disk, Some(compacted)))
}

fn check_identity_record(disk: &Disk, expected: &Identity) -> Result<(), String> {
    let key = key::named(ENGINE, meta::IDENTITY);
    let found: Option<IdentityRecord> = disk.load(&key).map_err(|error| error.to_string())?;
    match found {
        None => Err("the database has no identity record".to_owned()),
        Some(found) if found.cluster == expected.cluster && found.node == expected.node => Ok(()),
        Some(found) => Err(format!("the database belongs to node {} of cluster {}", found.node, found.cluster)),
    }
}

fn corrupt(place: &Path, what: String) -> OpenError {
    OpenError::Corrupt { place: place.into(), what }
}

fn write_failed(error: WriteError) -> OpenError {
    match error {
        WriteError::File { what, path, source } => io_error(what, &path)(source),
        WriteError::Sled { path, source, .. } => corrupt(&path, source.to_string()),
    }
}

fn compact_failed(place: &Path, source: compact::CompactError) -> OpenError {
    OpenError::Compact { place: place.into(), source: Box::new(source) }
}

fn wal_failed(error: WalError) -> OpenError {
    match error {
        WalError::Io(path, source) => io_error("opening", &path)(source),
        WalError::Corrupt { place, what } => corrupt(&place, what),
        WalError::Write(error) => write_failed(error),
    }
}
