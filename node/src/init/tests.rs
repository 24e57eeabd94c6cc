//! A cluster directory is complete, private and never overwritten.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chat::event::BodyKind;
use chat::ids::{AppId, ClientMsgId, ConversationId, UserId};
use storage::{BodyContext, BodySealer};

use super::{Created, InitError, InitOptions, create};
use crate::config::{NodeConfig, read_secret_text};

fn three(dir: &Path) -> Created {
    create(&InitOptions::local(dir, 3, 8, 7400)).unwrap()
}

#[test]
fn three_nodes_share_the_cluster_and_have_their_own_keys() {
    let temp = tempfile::tempdir().unwrap();
    let created = three(&temp.path().join("cluster"));
    let configs: Vec<_> = (1..=3).map(|node| NodeConfig::load(&created.layout.config(node)).unwrap()).collect();
    for (config, node) in configs.iter().zip(1..) {
        assert_eq!(config.check_files(), []);
        assert_eq!((config.node.id, &config.cluster.id), (node, &created.cluster));
        assert_eq!((config.cluster.shards, config.cluster.members.len()), (8, 3));
        assert_eq!(config.client.listen, created.addresses[node as usize - 1].client);
        assert_eq!(config.apps[0].id.as_str(), "main");
    }
    // One cluster key, sealed apart for each node: no node's key opens another's file.
    let keys: Vec<_> = configs.iter().map(|config| config.load_keys().unwrap()).collect();
    assert!(storage::ClusterKey::load(&configs[1].keys.cluster_key, &keys[0].node).is_err());
    let (app, user) = (AppId::new("main").unwrap(), UserId::new("alice").unwrap());
    let conversation = ConversationId::private(user.clone(), user.clone());
    let client_msg_id = ClientMsgId(uuid::Uuid::nil());
    let context = BodyContext { app: &app, conversation: &conversation, author: &user, client_msg_id };
    let sealed = BodySealer::new(&keys[0].cluster).seal(&context, BodyKind::Text, b"hello");
    assert_eq!(BodySealer::new(&keys[2].cluster).open(&context, &sealed).unwrap(), b"hello");
    let token = read_secret_text(&created.layout.admin_token()).unwrap();
    assert_eq!(read_secret_text(&configs[2].admin.token_file).unwrap(), token);
}

#[test]
fn a_node_opens_its_own_data_directory_and_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let created = three(&temp.path().join("cluster"));
    let open = |own: u64, data: u64| {
        let config = NodeConfig::load(&created.layout.config(own)).unwrap();
        let mut options = config.storage_options(&config.load_keys().unwrap());
        options.dir = created.layout.node_dir(data).join("data");
        storage::Engine::open(options).map(storage::Engine::close)
    };
    assert!(open(1, 1).is_ok());
    assert!(open(1, 2).is_err());
}

#[test]
fn secrets_and_directories_are_private() {
    let temp = tempfile::tempdir().unwrap();
    let created = three(&temp.path().join("cluster"));
    let mut seen = 0;
    let mut pending = vec![created.layout.dir().to_owned()];
    while let Some(path) = pending.pop() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
            if path.ends_with("data") {
                continue; // Closed to others; what is inside is the engine's.
            }
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("key" | "secret" | "token" | "toml")) {
            assert_eq!(mode, 0o600, "{} has mode {mode:o}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 3 + 3 * 6, "ca.key, admin.token, main.key, and per node: a key, four secrets, a configuration");
}

#[test]
fn an_existing_directory_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cluster");
    let first = three(&dir);
    let again = create(&InitOptions::local(&dir, 3, 8, 7400));
    assert!(matches!(again, Err(InitError::Exists { .. })), "{again:?}");
    assert_eq!(NodeConfig::load(&first.layout.config(1)).unwrap().cluster.id, first.cluster);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1, "nothing half-made is left beside it");
    assert!(create(&InitOptions::local(temp.path().join("none"), 0, 8, 7400)).is_err());
    assert!(create(&InitOptions::local(temp.path().join("none"), 8, 8, 7400)).is_err());
    assert!(create(&InitOptions::local(temp.path().join("none"), 3, 8, 65_510)).is_err());
    assert!(!temp.path().join("none").exists());
}
