use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;

const EXCERPT: &[u8] = include_bytes!("../../tests/data/excerpt.txt");

#[test]
fn lines_are_told_apart() {
    let said = |minute, nick, action, text| Some(Line::Said { minute, nick, action, text });
    assert_eq!(parse_line("[08:36] <mole_>  two  spaces\r\n"), said(516, "mole_", false, " two  spaces"));
    assert_eq!(parse_line("[23:59]  * loa slap <x> y"), said(1439, "loa", true, "slap <x> y"));
    assert_eq!(parse_line("[07:49] <Guard] [an> a > b"), said(469, "Guard] [an", false, "a > b"));
    assert_eq!(parse_line("=== sid77 [~v@1.2.3.4]  has joined #ubuntu"), Some(Line::Joined { nick: "sid77" }));
    for nothing in [
        "[05:10] <darknature>",
        "[05:10] <darknature>  ",
        "=== sid77 is now known as sid77_",
        "=== sid77 [~v@1.2.3.4]  has left #ubuntu []",
        "=== jiyuu0 here to witness...",
        "[24:00] <a> b",
        "[xx:00] <a> b",
        "[08:36] no nick",
        "",
    ] {
        assert_eq!(parse_line(nothing), None, "{nothing:?}");
    }
}

#[test]
fn a_log_keeps_its_order_and_its_clock() {
    let log = parse_log("excerpt", EXCERPT);
    assert_eq!((log.messages.len(), log.joined.as_slice()), (28, ["aisipos".to_owned()].as_slice()));
    let offsets: Vec<u64> = log.messages.iter().map(|m| m.offset_ms).collect();
    assert!(offsets.is_sorted());
    assert_eq!(offsets[..4], [0, 20_000, 40_000, 60_000], "three messages share 08:36");
    // 08:39 is followed by 07:49: midnight has passed.
    assert_eq!(offsets[23], (23 * 60 + 13) * 60_000);
    assert_eq!(log.messages.iter().filter(|m| m.action).count(), 3);
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_control_characters_left_out() {
    let log = parse_log("x", b"[00:00] <a> caf\xe9\n[00:01] <b> \x02bold\x02\ttab\n[00:02] <c> \x1f\n");
    let texts: Vec<&str> = log.messages.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(texts, ["caf\u{fffd}", "bold\ttab"]);
}

/// The sample logs lie beside the checkout on the machines that measure; elsewhere the excerpt above must do.
#[test]
fn every_line_of_the_real_logs_is_understood() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/ubuntu-irc");
    let Ok(entries) = std::fs::read_dir(&dir) else { return };
    let (mut nicks, mut messages) = (BTreeSet::new(), 0);
    for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "txt")) {
        let bytes = std::fs::read(&path).unwrap();
        let log = parse_log("log", &bytes);
        let text = String::from_utf8_lossy(&bytes);
        let clocked = text.lines().filter(|line| line.starts_with('[')).count();
        // Messages without text are the only ones left out: at most two in any of the logs.
        assert!(clocked - log.messages.len() <= 2, "{path:?}: {clocked} {}", log.messages.len());
        messages += log.messages.len();
        nicks.extend(log.messages.into_iter().map(|message| message.nick));
    }
    let users: BTreeSet<_> = nicks.iter().map(|nick| user_id(nick)).collect();
    // 3,394 nicks stand in angle brackets: two of them never said a word, and three others only acted.
    assert_eq!((nicks.len(), users.len(), messages), (3_395, 3_395, 37_962));
}
