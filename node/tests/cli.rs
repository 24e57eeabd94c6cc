//! The real binary from outside: what it prints, where, and how it ends.

use std::path::Path;
use std::process::{Command, Output};

fn campanile(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
    // The environment can set configuration keys: none of ours may leak in.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CAMPANILE_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("the binary runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

#[test]
fn help_names_commands_exit_codes_and_examples() {
    let help = campanile(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for wanted in ["demo", "node", "cluster", "config", "user", "send", "tail", "Exit codes:", "Examples:"] {
        assert!(out(&help).contains(wanted), "{wanted}");
    }
    let wrong = campanile(&["cluster", "statsu"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("status"), "{}", err(&wrong));
}

#[test]
fn the_default_configuration_is_the_golden_file() {
    let default = campanile(&["config", "default"]);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/default.toml");
    assert_eq!(out(&default), std::fs::read_to_string(golden).unwrap());
    assert_eq!(default.status.code(), Some(0));
}

#[test]
fn a_misspelt_key_is_shown_with_its_place_and_the_key_that_was_meant() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("campanile.toml");
    std::fs::write(&file, "[node]\nid = 1\n[client]\n  lisen = \"127.0.0.1:1\"\n[log]\nformat = 3\n").unwrap();
    let check = campanile(&["config", "check", text(&file)]);
    assert_eq!(check.status.code(), Some(3));
    assert_eq!(out(&check), "");
    for wanted in [
        "error[C2002]",
        "has 2 problem(s)",
        "line 4, column 3: unknown key `lisen` in [client]",
        "did you mean `listen`?",
        "line 6, column 10: log.format",
        "next: campanile config default",
    ] {
        assert!(err(&check).contains(wanted), "{wanted}\nnot in\n{}", err(&check));
    }
}

#[test]
fn a_made_cluster_checks_out_and_is_never_overwritten() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("chat");
    let made = campanile(&["cluster", "init", "--dir", text(&dir), "--nodes", "3", "--json"]);
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    let summary: serde_json::Value = serde_json::from_str(&out(&made)).unwrap();
    assert_eq!(summary["nodes"].as_array().map(Vec::len), Some(3));

    let config = summary["nodes"][1]["config"].as_str().unwrap();
    let check = campanile(&["config", "check", config]);
    assert_eq!(check.status.code(), Some(0), "{}", err(&check));
    assert!(out(&check).contains("next: campanile node start"));

    let again = campanile(&["cluster", "init", "--dir", text(&dir), "--nodes", "3"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).starts_with("error[C2101]") && err(&again).contains("next:"), "{}", err(&again));
    assert_eq!(campanile(&["config", "check", config]).status.code(), Some(0));
}

#[test]
fn a_secret_that_others_can_read_keeps_a_node_from_starting() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("chat");
    assert!(campanile(&["cluster", "init", "--dir", text(&dir), "--nodes", "1"]).status.success());
    let secret = dir.join("node-1/keys/node.secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let start = campanile(&["node", "start", "--config", text(&dir.join("node-1/campanile.toml"))]);
    assert_eq!(start.status.code(), Some(3));
    assert!(err(&start).contains("error[C2003]") && err(&start).contains("chmod 600"), "{}", err(&start));
}

#[test]
fn nobody_there_is_said_with_its_own_exit_code() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("chat");
    assert!(campanile(&["cluster", "init", "--dir", text(&dir), "--nodes", "1", "--port", "0"]).status.success());
    let status = campanile(&["cluster", "status", "--dir", text(&dir)]);
    assert_eq!(status.status.code(), Some(4), "{}", err(&status));
    assert!(err(&status).contains("error[C2201]") && err(&status).contains("next:"), "{}", err(&status));
}

#[test]
fn the_demo_serves_its_page_kills_a_node_loses_nothing_and_ends() {
    let demo = campanile(&["demo", "--no-input", "--keys", "krq"]);
    assert_eq!(demo.status.code(), Some(0), "{}\n{}", out(&demo), err(&demo));
    for wanted in ["/#alice", "/#bob", "is dead (kill -9", "paused", "is back, caught up", "ending"] {
        assert!(out(&demo).contains(wanted), "{wanted}\nnot in\n{}", out(&demo));
    }
    let losses = out(&demo);
    let losses = losses.lines().find(|line| line.contains("acknowledged messages lost:")).unwrap();
    assert_eq!(losses.matches(": 0 of ").count() + losses.matches(", 0 of ").count(), 2, "{losses}");
    assert!(!losses.contains("0 of 0 "), "nothing was written: {losses}");
}
