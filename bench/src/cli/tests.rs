use bench::plan::Pace;
use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
    let Command::Replay(replay) = Cli::try_parse_from(["b", "replay", "logs"]).map(|cli| cli.command).unwrap() else {
        panic!("a replay")
    };
    assert!(replay.cluster.target().is_err(), "a cluster must be named");
    assert!(Cli::try_parse_from(["b", "replay", "logs", "--target", "wss://a:1"]).is_err(), "a CA must be named");
    let kill = ["b", "replay", "logs", "--spawn", "3", "--kill-leader-at", "50%", "--speed", "60"];
    let Command::Replay(replay) = Cli::try_parse_from(kill).map(|cli| cli.command).unwrap() else { panic!("a replay") };
    let seen = (replay.kill_leader_at, replay.speed, replay.cluster.spawn);
    assert_eq!(seen, (Some(50), Pace::Times(60), Some(3)));
    assert_eq!((replay::percent("100%"), replay::pace("0")).0, Err("expected 0% to 99%".to_owned()));
    assert!(replay::pace("0").is_err());
}
