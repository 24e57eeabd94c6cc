use super::{csv, hdr, terminal, write_all};
use crate::summary::{Summary, sample};

#[test]
fn the_terminal_table_fits_and_says_everything() {
    let mut summary = sample::summary();
    summary.checks.notes = vec!["group 7 of member 3: ".to_owned() + &"very long ".repeat(20)];
    let text = terminal::text(&summary);
    for line in text.lines() {
        assert!(line.chars().count() <= super::table::WIDTH, "{line}");
    }
    let wanted = [
        "failover on campanile 0.1.0 (3 nodes, no TLS)",
        "PASSED",
        "kill -9 of node 2",
        "lost 0, duplicated 0",
        "170 disconnected, 20 not_leader",
        "SLO held",
        "9.60 KiB resident per connection, 912 B on disk per message",
        "500 /s intended; at most 412",
    ];
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
}

#[test]
fn parameters_are_told_as_people_would() {
    let phases = serde_json::json!([{"name": "calm", "rate": 50.0}, {"name": "storm", "window": 8}]);
    assert_eq!(terminal::parameter(&phases), "(name calm, rate 50; name storm, window 8)");
    assert_eq!(terminal::parameter(&serde_json::json!(0.25)), "0.25");
}

#[test]
fn a_system_without_a_version_has_a_name() {
    let mut summary = sample::summary();
    (summary.system.name, summary.system.version, summary.system.nodes) = ("bare".to_owned(), String::new(), 1);
    assert_eq!(terminal::title(&summary), "failover on bare (1 node, no TLS)");
}

#[test]
fn a_bottleneck_and_several_runs_are_told() {
    let mut run = sample::summary();
    run.generator.bottleneck = true;
    run.exit_code = 4;
    let text = terminal::text(&Summary::of_runs(vec![run.clone(), run]).unwrap());
    assert!(text.contains("BOTTLENECK") && text.contains("PROMISE BROKEN") && text.contains("\n  median"), "{text}");
}

#[test]
fn a_run_without_sends_is_told_without_them() {
    let mut summary = sample::summary();
    summary.latencies.clear();
    summary.servers.clear();
    summary.timeline.clear();
    summary.cost = Default::default();
    assert!(!terminal::text(&summary).contains("p99.9"));
    assert_eq!(csv::timeline(&summary).lines().count(), 1);
    assert!(super::html::page(&summary).contains("</html>"));
}

#[test]
fn the_csv_has_a_column_for_everything_and_quotes_what_must_be() {
    let mut summary = sample::summary();
    summary.marks[0].text = "killed \"node 2\", hard".to_owned();
    let text = csv::timeline(&summary);
    let mut lines = text.lines();
    let header = lines.next().unwrap();
    assert!(header.ends_with(
        "node-1_cpu_share,node-1_rss_bytes,node-2_cpu_share,node-2_rss_bytes,node-3_cpu_share,node-3_rss_bytes,marks"
    ));
    let columns = header.split(',').count();
    assert!(lines.clone().take(10).all(|line| line.split(',').count() == columns));
    let killed = lines.find(|line| line.starts_with("15,")).unwrap();
    assert!(killed.ends_with("\"killed \"\"node 2\"\", hard; shards 2, 5, 8 are led by node 1\""), "{killed}");
    assert!(killed.contains(",,,0."), "a dead server has no share and no memory: {killed}");
}

#[test]
fn hdr_files_read_back_as_what_was_recorded() {
    let summary = sample::summary();
    let text = hdr::percentiles(&summary.latencies["ack"]).unwrap();
    let line = text.lines().find(|line| line.contains(" 0.500000000000 ")).unwrap();
    let cells: Vec<f64> = line.split_whitespace().map(|cell| cell.parse().unwrap()).collect();
    assert_eq!((cells[0], cells[3]), (summary.latencies["ack"].p50_ms, 2.0));
    assert!(text.contains("#[Max     =       61.375, Total count    =        20000]"), "{text}");
    let log = hdr::interval_log(&summary).unwrap();
    let mut histograms = hdrhistogram::serialization::interval_log::IntervalLogIterator::new(log.as_bytes());
    let tags = histograms.by_ref().filter_map(|entry| match entry.unwrap() {
        hdrhistogram::serialization::interval_log::LogEntry::Interval(interval) => {
            Some((interval.tag().unwrap().as_str().to_owned(), interval.max(), interval.duration().as_secs()))
        }
        _ => None,
    });
    let tags: Vec<_> = tags.collect();
    assert_eq!(tags.iter().map(|tag| tag.0.as_str()).collect::<Vec<_>>(), ["ack", "completion", "delivery"]);
    assert_eq!((tags[0].1, tags[0].2), (61.375, 40));
}

#[test]
fn a_directory_holds_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("new/run");
    let mut summary = sample::summary();
    let ack = summary.latencies["ack"].clone();
    summary.latencies.insert("../a, b".to_owned(), ack);
    write_all(&run, &summary).unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(&run).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let wanted = [
        "---a--b.hdr",
        "ack.hdr",
        "completion.hdr",
        "delivery.hdr",
        "latencies.hlog",
        "report.html",
        "summary.json",
        "timeline.csv",
    ];
    assert_eq!(names, wanted);
    assert_eq!(Summary::read(&run).unwrap(), summary);
    let error = write_all(&run.join("summary.json/x"), &sample::summary()).unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
}
