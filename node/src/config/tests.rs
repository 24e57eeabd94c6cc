//! Configurations as people write them, right and wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{DEFAULT, LogFormat, NodeConfig, Place, Problem};

fn parse(text: &str) -> Result<NodeConfig, Vec<Problem>> {
    NodeConfig::parse(text, &BTreeMap::new(), Path::new(""))
}

fn problems(text: &str) -> Vec<String> {
    parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn the_printed_default_is_the_default_and_nothing_is_required() {
    assert_eq!(parse(DEFAULT), Ok(NodeConfig::default()));
    assert_eq!(parse(""), Ok(NodeConfig::default()));
}

#[test]
fn unknown_keys_name_line_column_and_the_nearest_right_key() {
    let found = problems("[node]\nid = 1\n\n[client]\n  lisen = \"127.0.0.1:1\"\n");
    assert_eq!(found, ["line 5, column 3: unknown key `lisen` in [client]\n    did you mean `listen`?"]);
    let found = problems("[cleint]\nlisten = \"127.0.0.1:1\"\n");
    assert_eq!(found, ["line 1, column 2: unknown key `cleint`\n    did you mean `client`?"]);
    let found = problems("[log]\ncolour = \"red\"\n");
    assert_eq!(found, ["line 2, column 1: unknown key `colour` in [log]\n    known here: level, format"]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = r#"
[node]
id = "one"
[cluster]
shards = 0
heartbeat = "100"
members = [{ id = 1, peer = "nowhere" }, 7]
[storage]
cache = "12 KiB"
stop_below = "3 MiB"
[log]
format = "xml"
"#;
    let found = problems(text);
    let expected = [
        "line 3, column 6: node.id: expected a number, found the text \"one\"",
        "line 5, column 10: cluster.shards: 0 shards; 1 to 1024 are possible",
        "line 6, column 13: cluster.heartbeat: \"100\" has no unit",
        "line 7, column 42: cluster.members: expected a table",
        "line 7, column 29: cluster.members.peer: \"nowhere\" is not an address",
        "line 9, column 9: storage.cache: the cache needs at least 1 MiB",
        "line 10, column 14: storage.stop_below: at least 128 MiB",
        "line 12, column 10: log.format: \"xml\" is not one of",
    ];
    for wanted in expected {
        assert!(found.iter().any(|line| line.starts_with(wanted)), "{wanted}\nnot in\n{}", found.join("\n"));
    }
}

#[test]
fn a_document_that_is_not_toml_says_where() {
    let found = parse("[node\nid = 1\n").unwrap_err();
    assert!(matches!(found[0].place, Place::Line { line: 1, .. }), "{found:?}");
}

#[test]
fn keys_must_fit_each_other() {
    let found = problems(
        r#"
[node]
id = 4
[cluster]
heartbeat = "1s"
election_max = "100ms"
members = [{ id = 1, peer = "127.0.0.1:1" }, { id = 1, peer = "127.0.0.1:2" }]
[admin]
listen = "127.0.0.1:7411"
"#,
    );
    for wanted in ["three heartbeats", "longer than election_min", "the same id", "this node (4)", "three different"] {
        assert!(found.iter().any(|line| line.contains(wanted)), "{wanted}\nnot in\n{}", found.join("\n"));
    }
}

#[test]
fn the_environment_overrides_the_file_and_is_checked_like_it() {
    let environment = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let text = "[log]\nlevel = \"warn\"\n";
    let good = environment(&[
        ("CAMPANILE_LOG__LEVEL", "debug"),
        ("CAMPANILE_LOG__FORMAT", "json"),
        ("CAMPANILE_CLUSTER__SHARDS", "4"),
        ("CAMPANILE_NODE__DATA_DIR", "/srv/chat"),
        ("CAMPANILE_BIN", "not a key"),
        ("HOME", "/root"),
    ]);
    let config = NodeConfig::parse(text, &good, Path::new("/etc/campanile")).unwrap();
    assert_eq!((config.log.level.as_str(), config.log.format, config.cluster.shards), ("debug", LogFormat::Json, 4));
    assert_eq!(config.node.data_dir, Path::new("/srv/chat"));
    assert_eq!(config.client.certificate, Path::new("/etc/campanile/node.pem"));

    let bad = environment(&[("CAMPANILE_LOG__LEVLE", "debug"), ("CAMPANILE_CLUSTER__HEARTBEAT", "soon")]);
    let found: Vec<_> = NodeConfig::parse(text, &bad, Path::new("")).unwrap_err();
    let places: Vec<_> = found.iter().map(|p| p.place.to_string()).collect();
    assert_eq!(
        places,
        ["environment variable CAMPANILE_CLUSTER__HEARTBEAT", "environment variable CAMPANILE_LOG__LEVLE"]
    );
}

#[test]
fn members_and_apps_are_read() {
    let config = parse(
        r#"
[cluster]
heartbeat = "50ms"
members = [{ id = 1, peer = "10.0.0.1:7412", client = "chat.example.com:7411" }, { id = 2, peer = "[::1]:7412" }]
[[apps]]
id = "main"
token_public_key = "keys/app-main.pem"
"#,
    )
    .unwrap();
    assert_eq!(config.cluster.heartbeat, Duration::from_millis(50));
    assert_eq!(config.members().len(), 2);
    assert_eq!(config.members()[0].client.as_deref(), Some("chat.example.com:7411"));
    assert_eq!(config.apps[0].id.as_str(), "main");
    assert_eq!(NodeConfig::default().members().len(), 1);
}

#[test]
fn clients_are_served_without_tls_on_this_machine_only() {
    let config = parse("[client]\ntls = false\n").unwrap();
    assert_eq!(config.client_scheme(), "ws");
    let found = problems("[client]\nlisten = \"0.0.0.0:7411\"\ntls = false\n");
    assert!(
        found[0].starts_with("line 3, column 1: client.tls: clients are served without TLS on loopback"),
        "{found:?}"
    );
    let found = problems("[client]\ntls = \"no\"\n");
    assert!(found[0].contains("expected true or false"), "{found:?}");
}
