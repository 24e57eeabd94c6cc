//! `campanile backup`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;
use storage::backup::{Backup, BackupError, BackupKey, Damage, Manifest};

use super::args::NodesArgs;
use super::backup_args::{BackupCommand, CreateArgs, KeyCommand, RestoreArgs, VerifyArgs};
use super::cluster_status::{admin_failure, targets};
use super::output::{complain, json, say, table};
use super::{Code, Exit, Failure, load_config, read_secret};
use crate::admin::{AdminClient, AdminError};
use crate::backup::{self, CreateError, RestoreError, RestoreOptions, Restored};
use crate::config::NodeConfig;
use crate::init::{InitError, InitOptions, Layout};

pub(super) async fn run(command: BackupCommand) -> Result<(), Failure> {
    match command {
        BackupCommand::Create(args) => create(args).await,
        BackupCommand::Verify(args) => within_blocking(move || verify(&args)).await,
        BackupCommand::Restore(args) => restore(args).await,
        BackupCommand::Key(KeyCommand::New { file }) => new_key(&file),
    }
}

async fn within_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = |error: tokio::task::JoinError| Failure::new(Code::Backup, Exit::Failed, error.to_string());
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

fn new_key(file: &Path) -> Result<(), Failure> {
    BackupKey::generate().save(file).map_err(|error| {
        Failure::new(Code::File, Exit::Configuration, format!("cannot write {}", file.display())).because(&error)
    })?;
    say(format_args!(
        "the backup key is in {}\nkeep it where the backups are not, and twice: without it a backup is noise\n\
         next: campanile backup create --config FILE --key {} --to DIR",
        file.display(),
        file.display()
    ));
    Ok(())
}

fn load_key(file: &Path) -> Result<BackupKey, Failure> {
    if !file.exists() {
        return Err(Failure::new(
            Code::File,
            Exit::Configuration,
            format!("there is no backup key {}", file.display()),
        )
        .next(format!("campanile backup key new {} makes one; keep it apart from the backups", file.display())));
    }
    // Refused if others can read it.
    read_secret(file)?;
    BackupKey::load(file)
        .map_err(|error| Failure::new(Code::File, Exit::Configuration, "this is no backup key").because(&error))
}

// --- create ----------------------------------------------------------------------------------------------------------

async fn create(args: CreateArgs) -> Result<(), Failure> {
    let key = load_key(&args.key)?;
    let (config, admin) = source(&args).await?;
    let keys = config
        .load_keys()
        .map_err(|error| Failure::new(Code::File, Exit::Configuration, error.to_string()).because(&error))?;
    let begun = Instant::now();
    let quiet = args.json;
    let told = |shard: chat::ids::ShardId, shards| {
        if !quiet {
            complain(format_args!("shard {shard} of {shards}"));
        }
    };
    let creating = backup::create(&admin, &config.cluster.id, &keys.cluster, &key, &args.to, told);
    let created = tokio::select! {
        created = creating => created,
        _ = tokio::signal::ctrl_c() => return Err(interrupted()),
    };
    let manifest = created.map_err(|error| create_failure(&error))?;
    if args.json {
        json(&summary(&manifest, &args.to));
        return Ok(());
    }
    say(cuts(&manifest));
    say(format_args!(
        "\nbackup {} of cluster {} is in {}: {:.1} MiB in {:.1} s\n\
         next: campanile backup verify {} --key {}, then move it off this machine; keep the key elsewhere",
        manifest.backup,
        manifest.cluster,
        args.to.display(),
        mebibytes(manifest.bytes()),
        begun.elapsed().as_secs_f64(),
        args.to.display(),
        args.key.display()
    ));
    Ok(())
}

/// A node that answers, and the configuration whose keys open what it sends.
async fn source(args: &CreateArgs) -> Result<(NodeConfig, AdminClient), Failure> {
    let nodes =
        NodesArgs { dir: args.dir.clone(), config: args.config.clone(), admin: None, ca: None, token_file: None };
    let config = match (&args.config, &args.dir) {
        (Some(config), _) => load_config(config)?,
        (None, Some(dir)) => load_config(&Layout::new(dir).config(1))?,
        (None, None) => return Err(Failure::new(Code::Argument, Exit::Usage, "no node to ask")),
    };
    let mut last: Option<AdminError> = None;
    for (_, admin) in targets(&nodes)? {
        match admin.status().await {
            Ok(_) => return Ok((config, admin)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| Failure::new(Code::Argument, Exit::Usage, "no node to ask"), |error| admin_failure(&error)))
}

fn create_failure(error: &CreateError) -> Failure {
    match error {
        CreateError::Admin(error) => admin_failure(error),
        CreateError::Backup(error) => backup_failure(error),
        CreateError::OtherCluster { .. } => Failure::new(Code::Argument, Exit::Configuration, error.to_string()),
        CreateError::Failed { .. } | CreateError::CutShort { .. } => {
            Failure::new(Code::Backup, Exit::Failed, error.to_string())
                .detail("nothing is left behind")
                .next("look at that node's log; the same again, or another node with --config")
        }
    }
}

fn summary(manifest: &Manifest, dir: &Path) -> serde_json::Value {
    let cuts = manifest.cuts.iter().map(|cut| {
        json!({
            "shard": cut.shard, "index": cut.index, "term": cut.term, "digest": cut.digest, "records": cut.records,
            "log_records": cut.log_records, "bytes": cut.bytes,
        })
    });
    let cuts = cuts.collect::<Vec<_>>();
    json!({
        "backup": manifest.backup, "cluster": manifest.cluster, "created": manifest.created, "dir": dir,
        "bytes": manifest.bytes(), "shards": cuts,
    })
}

fn cuts(manifest: &Manifest) -> String {
    let mut rows =
        vec![["shard", "index", "term", "records", "log records", "MiB", "digest"].map(str::to_owned).to_vec()];
    for cut in &manifest.cuts {
        rows.push(vec![
            chat::ids::ShardId(cut.shard).to_string(),
            cut.index.to_string(),
            cut.term.to_string(),
            cut.records.to_string(),
            cut.log_records.to_string(),
            format!("{:.1}", mebibytes(cut.bytes)),
            cut.digest.get(..16).unwrap_or(&cut.digest).to_owned(),
        ]);
    }
    table(&rows)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

// --- verify ----------------------------------------------------------------------------------------------------------

fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let key = args.key.as_deref().map(load_key).transpose()?;
    let (manifest, damages) = examine(&args.backup, key.as_ref())?;
    if args.json {
        let damages: Vec<_> =
            damages.iter().map(|damage| json!({ "file": damage.file, "what": damage.what })).collect();
        let mut told = summary(&manifest, &args.backup);
        told["opened"] = json!(key.is_some());
        told["damages"] = json!(damages);
        json(&told);
    }
    if !damages.is_empty() {
        return Err(damaged(&damages));
    }
    if !args.json {
        say(cuts(&manifest));
        let how = match key {
            Some(_) => "every chunk opens, and the shards are as they were cut",
            None => "every file has its checksum; with --key everything is opened, too",
        };
        say(format_args!("\nbackup {} of {} is whole: {how}", manifest.backup, manifest.created));
    }
    Ok(())
}

/// What the backup is, and everything that is wrong with it.
fn examine(dir: &Path, key: Option<&BackupKey>) -> Result<(Manifest, Vec<Damage>), Failure> {
    let failure = |error: BackupError| backup_failure(&error);
    // Another key is not damage, and said first.
    let opened = key.map(|key| Backup::open(dir, key)).transpose().map_err(failure)?;
    let (manifest, mut damages) = Backup::check_files(dir).map_err(failure)?;
    if let (Some(backup), true) = (opened, damages.is_empty()) {
        damages = backup.verify().map_err(failure)?;
    }
    Ok((manifest, damages))
}

fn damaged(damages: &[Damage]) -> Failure {
    let what = format!("the backup is damaged: {} of its files are not what was written", damages.len());
    damages
        .iter()
        .fold(Failure::new(Code::BackupDamaged, Exit::Failed, what), Failure::detail)
        .next("use another copy, or another backup: a damaged one is not restored")
}

fn backup_failure(error: &BackupError) -> Failure {
    let message = error.to_string();
    match error {
        BackupError::Exists { .. } | BackupError::Busy { .. } => {
            Failure::new(Code::DirectoryExists, Exit::Failed, message).next("name another directory")
        }
        BackupError::WrongKey => Failure::new(Code::BackupKey, Exit::Configuration, message),
        BackupError::Damaged(damage) => damaged(std::slice::from_ref(damage)),
        BackupError::Manifest { .. } | BackupError::NotABackup { .. } => {
            Failure::new(Code::BackupDamaged, Exit::Failed, message).next("use another copy, or another backup")
        }
        _ => Failure::new(Code::Backup, Exit::Failed, message).because(error),
    }
}

fn interrupted() -> Failure {
    Failure::new(Code::Backup, Exit::Failed, "interrupted").detail("nothing is left behind")
}

// --- restore ---------------------------------------------------------------------------------------------------------

async fn restore(args: RestoreArgs) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let signal = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    let restored = within_blocking(move || restore_now(&args, &stop)).await;
    signal.abort();
    restored
}

fn restore_now(args: &RestoreArgs, interrupted: &AtomicBool) -> Result<(), Failure> {
    let key = load_key(&args.key)?;
    let (manifest, damages) = examine(&args.backup, Some(&key))?;
    if !damages.is_empty() {
        return Err(damaged(&damages));
    }
    let shards = args.shards.unwrap_or(manifest.shards);
    if shards != manifest.shards {
        return Err(restore_failure(&RestoreError::Shards { found: manifest.shards, asked: shards }));
    }
    let init = InitOptions {
        dir: args.to.clone(),
        nodes: args.nodes,
        shards,
        port: args.port,
        hosts: args.host.clone(),
        client_tls: true,
        level: chat::level::NEWEST,
    };
    if args.dry_run {
        let addresses = crate::init::check(&init).map_err(|error| restore_failure(&error.into()))?;
        if std::fs::read_dir(&args.to).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(backup_failure(&BackupError::Exists { dir: args.to.clone() }));
        }
        say(cuts(&manifest));
        say(format_args!(
            "\nthe backup is whole; it would become {} node(s) with {shards} shards in {}, clients at {}\n\
             next: the same without --dry-run",
            addresses.len(),
            args.to.display(),
            addresses.iter().map(|at| at.client.to_string()).collect::<Vec<_>>().join(", ")
        ));
        return Ok(());
    }
    let backup = Backup::open(&args.backup, &key).map_err(|error| backup_failure(&error))?;
    let begun = Instant::now();
    let told = |node, nodes| {
        if !args.json {
            complain(format_args!("node {node} of {nodes}"));
        }
    };
    let options = RestoreOptions { init, new_app_keys: args.new_app_keys };
    let restored = backup::restore(&backup, &options, interrupted, told).map_err(|error| restore_failure(&error))?;
    if args.json {
        json(&restored_json(&restored, &manifest));
    } else {
        say(report(&restored, &manifest, begun));
    }
    Ok(())
}

fn restored_json(restored: &Restored, manifest: &Manifest) -> serde_json::Value {
    json!({
        "cluster": restored.created.cluster, "dir": restored.created.layout.dir(), "epoch": restored.stream_epoch,
        "nodes": restored.created.addresses.len(), "lists_put_right": restored.lists,
        "apps_without_signing_key": restored.apps, "backup": summary(manifest, restored.created.layout.dir()),
    })
}

fn report(restored: &Restored, manifest: &Manifest, begun: Instant) -> String {
    let layout = &restored.created.layout;
    let starts: Vec<_> = (1..=restored.created.addresses.len() as u64)
        .map(|node| format!("  campanile node start --config {}", layout.config(node).display()))
        .collect();
    let apps = match restored.apps.as_slice() {
        [] => "the apps have new signing keys, in apps/".to_owned(),
        apps => format!("app {} signs with the key that its servers have", apps.join(", ")),
    };
    format!(
        "{}\n\ncluster {} with {} node(s) is in {}: every shard of every node has the digest above ({:.1} s)\n\
         its epoch is {}: clients of the old cluster begin anew. {} list entries were put right; {apps}\n\n\
         next:\n{}\nthen:\n  campanile cluster verify --dir {}",
        cuts(manifest),
        restored.created.cluster,
        restored.created.addresses.len(),
        layout.dir().display(),
        begun.elapsed().as_secs_f64(),
        restored.stream_epoch,
        restored.lists,
        starts.join("\n"),
        layout.dir().display(),
    )
}

fn restore_failure(error: &RestoreError) -> Failure {
    let message = error.to_string();
    match error {
        RestoreError::Backup(error) => backup_failure(error),
        RestoreError::Shards { .. } => Failure::new(Code::Argument, Exit::Usage, message)
            .detail("users and conversations are spread over the shards by a hash, for good")
            .next("leave --shards out"),
        RestoreError::Init(InitError::Exists { .. }) => Failure::new(Code::DirectoryExists, Exit::Failed, message),
        RestoreError::Init(
            InitError::Nodes { .. } | InitError::Hosts { .. } | InitError::Port { .. } | InitError::Plaintext,
        ) => Failure::new(Code::Argument, Exit::Usage, message).next("campanile backup restore --help"),
        RestoreError::Interrupted => interrupted(),
        _ => Failure::new(Code::Backup, Exit::Failed, message).because(error).detail("nothing is left behind"),
    }
}
