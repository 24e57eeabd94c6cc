//! The command line parses as its own help says.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_example_of_the_help_parses() {
    fn examples(command: &clap::Command, found: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        found.extend(help.lines().filter_map(|l| l.trim().strip_prefix("campanile ").map(str::to_owned)));
        command.get_subcommands().for_each(|command| examples(command, found));
    }
    let mut found = Vec::new();
    examples(&Cli::command(), &mut found);
    assert!(found.len() > 12, "{found:?}");
    for example in found {
        let command = example.split("   ").next().unwrap().split(" > ").next().unwrap();
        let command = command.replace("UUID", &Uuid::nil().to_string()).replace("'hello all'", "hello");
        assert!(parse(&format!("campanile {command}")).is_ok(), "{command}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for line in [
        "campanile",
        "campanile cluster status",
        "campanile cluster status --dir d --config c",
        "campanile cluster status --admin https://x --ca c",
        "campanile send --url u --ca c --user a --to b hi",
        "campanile send --url u --ca c --user a --app-key k hi",
        "campanile send --url u --ca c --user a:b --app-key k --to b hi",
        "campanile retention set --config c",
        "campanile retention set --config c --max-age 30",
        "campanile retention set --config c --max-age 30d --keep-for-ever",
        "campanile demo --users 1",
        "campanile demo --keys kx",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}
