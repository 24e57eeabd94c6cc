use std::time::Duration;

use super::{Kill, Scenario, Victim};
use crate::engine::Loop;

const EVENING: &str = r#"
name = "evening"
payload_bytes = 120
warmup = "500ms"
slo = ["ack_p99<50ms", "lost==0"]

[[groups]]
count = 3
members = 4
senders = 2

[[groups]]
members = 100

[pairs]
count = 2

[idle]
users = 10

[[phase]]
name = "calm"
duration = "10s"
rate = 50.5
reads_per_s = 20

[[phase]]
name = "storm"
duration = "1m"
window = 8
cut_connections = "25%"
kill = "node-2"
restart_after = "2s"

[[phase]]
name = "night"
duration = "1h"
"#;

fn problems(text: &str) -> Vec<String> {
    Scenario::parse(text).unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn phases_and_people_are_read() {
    let evening = Scenario::parse(EVENING).unwrap();
    assert_eq!((evening.name.as_str(), evening.payload_bytes, evening.warmup.as_millis()), ("evening", 120, 500));
    assert_eq!((evening.drain.as_secs(), evening.slos.len()), (15, 2));
    assert_eq!((evening.shape.users, evening.shape.groups.len()), (12 + 100 + 4 + 10, 3 + 1 + 2));
    assert_eq!(evening.shape.groups[3].members, (12..112).collect::<Vec<_>>());
    assert_eq!((&evening.shape.groups[5].members[..], evening.shape.groups[5].private), (&[114, 115][..], true));
    let [calm, storm, night] = &evening.phases[..] else { panic!("three phases") };
    assert_eq!((calm.pace, calm.reads_per_s), (Some(Loop::Open { per_second: 50.5 }), 20.0));
    assert_eq!((storm.pace, storm.cut), (Some(Loop::Closed { window: 8 }), 0.25));
    assert_eq!(storm.kill, Some(Kill { victim: Victim::Node(2), restart_after: Duration::from_secs(2) }));
    assert_eq!((night.pace, night.kill.as_ref(), night.cut), (None, None, 0.0));
    assert_eq!(evening.begins(), [0, 10, 70].map(Duration::from_secs));
    assert_eq!(evening.duration(), Duration::from_secs(3_670));
    assert_eq!(evening.parameters["phases"][1]["kill"], "node-2");
    assert_eq!(evening.parameters["groups"][1]["members"], 100);
}

#[test]
fn unknown_keys_name_their_line_and_the_nearest_right_key() {
    let text = EVENING.replacen("duration = \"1m\"", "durration = \"1m\"", 1).replacen("[pairs]", "[peers]", 1);
    assert_eq!(
        problems(&text),
        [
            "line 15, column 2: unknown key `peers`; the nearest is `pairs`",
            "line 27, column 1: `duration` is missing in [[phase]]",
            "line 29, column 1: unknown key `durration` in [[phase]]; the nearest is `duration`",
        ]
    );
}

#[test]
fn wrong_values_say_what_is_expected() {
    let phase = "name = \"x\"\n[idle]\nusers = 1\n[[phase]]\nname = \"p\"\n";
    let one = |line: &str| problems(&format!("{phase}duration = \"1s\"\n{line}\n")).join("\n");
    assert_eq!(
        one("cut_connections = 0.5"),
        "line 7, column 19: cut_connections: expected a share such as \"30%\", found 0.5"
    );
    assert!(one("window = 0").contains("window: expected a whole number from 1 to 4096, found 0"));
    assert!(one("rate = -1").contains("rate: expected a number from 0 to"));
    assert!(one("rate = 5\nwindow = 5").contains("not both"));
    assert!(one("rate = 5").contains("nobody to send to"));
    assert!(one("kill = \"everybody\"").contains("expected \"leader\" or \"node-2\""));
    assert!(one("restart_after = \"1s\"").contains("nobody is killed here"));
    assert!(problems(&format!("{phase}duration = \"0s\"")).join("").contains("duration"));
    assert!(
        problems(&format!("{phase}duration = 10"))
            .join("")
            .contains("expected a time from 100ms to 604800s, such as \"500ms\"")
    );
    assert!(problems("name = \"x\"").join("").contains("nobody is there"));
    assert!(problems("name = \"x\"\n[idle]\nusers = 1").join("").contains("at least one [[phase]]"));
    assert!(problems("name = ").join("").starts_with("line 1"));
    assert!(
        problems("slo = [\"ack_p99<50kg\"]").join("").contains("line 1, column 8: slo: `50kg` is no number of ack_p99")
    );
    assert!(
        problems("[[groups]]\nmembers = 3\nsenders = 4")
            .join("")
            .contains("senders: expected a whole number from 1 to 3")
    );
    let huge = "name = \"x\"\n[[groups]]\ncount = 100000\nmembers = 10000\n";
    assert!(problems(huge).join("").contains("more than 1000000 users"));
}

#[test]
fn the_examples_are_right() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut seen = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let scenario = Scenario::parse(&std::fs::read_to_string(&path).unwrap());
        let scenario = scenario.unwrap_or_else(|error| panic!("{}:\n{error}", path.display()));
        assert_eq!(Some(scenario.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
        assert!(!scenario.description.is_empty() && !scenario.slos.is_empty(), "{}", scenario.name);
        seen += 1;
    }
    assert!(seen >= 3);
}
