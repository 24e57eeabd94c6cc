//! The rules of the house, read from the source text: who may use what, how long things are, which calls are never
//! made and what stands for them. Every failure names file, line and the way out.

#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeMap;

use source::{Source, files, names, read, sources, workspace};

/// Fails with all findings at once.
fn report(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}\n{}\n", findings.join("\n"));
}

/// Every line of code in `sources` where `wanted(line, is_test)` holds, as a finding.
fn find<'a>(
    sources: impl IntoIterator<Item = &'a Source>,
    wanted: impl Fn(&str, bool) -> bool,
    instead: &str,
) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        for line in source.lines(&wanted) {
            findings.push(format!("{}:{line}: {}\n    instead: {instead}", source.path, source.raw[line - 1].trim()));
        }
    }
    findings
}

/// A given package may be named under its home only.
const HOMES: &[(&str, &str)] = &[
    ("sled", "storage/"),
    ("chacha20poly1305", "storage/"),
    ("openraft", "cluster/"),
    ("actix", "node/"),
    ("actix_web", "node/"),
    ("actix_web_actors", "node/"),
    ("actix_http", "node/"),
    ("bincode", "chat/src/codec.rs"),
];

/// `(crate, what it must not see)`: arrows go down.
const ARROWS: &[(&str, &[&str])] = &[
    ("chat/", &["storage", "cluster", "node", "campanile_client", "bench"]),
    ("storage/", &["cluster", "node", "campanile_client", "bench"]),
    ("cluster/", &["node", "campanile_client", "bench"]),
    ("client/", &["storage", "cluster", "node", "bench"]),
    ("node/", &["bench"]),
    ("bench/", &["storage", "cluster"]),
];

#[test]
fn each_given_package_has_one_home() {
    let sources = sources();
    let mut findings = Vec::new();
    for (package, home) in HOMES {
        let outside = sources.iter().filter(|source| !source.path.starts_with(home));
        let used = |line: &str, _| names(line, &format!("{package}::")) || names(line, &format!("use {package}"));
        findings.extend(find(outside, used, &format!("{home} has its own types for what {package} does")));
    }
    report("given packages stay in their one home (docs/DEPENDENCIES.md)", findings);
}

#[test]
fn arrows_go_down() {
    let sources = sources();
    let mut findings = Vec::new();
    for (room, above) in ARROWS {
        for other in *above {
            let inside = sources.iter().filter(|source| source.path.starts_with(room));
            let used = |line: &str, _| {
                line.split("::").next().is_some_and(|first| names(first, other) && first.contains("use "))
            };
            findings.extend(find(inside, used, "node → cluster → storage → chat, client → chat"));
            let manifest = format!("{room}Cargo.toml");
            let package = other.replace('_', "-");
            let listed =
                |line: &str| line.starts_with(&format!("{package}.")) || line.starts_with(&format!("{package} "));
            if let Some(at) = read(&manifest).lines().position(listed) {
                findings.push(format!("{manifest}:{}: depends on {package}", at + 1));
            }
        }
    }
    report("a crate sees only what is below it (docs/ARCHITECTURE.md)", findings);
}

#[test]
fn cores_are_pure() {
    let sources = sources();
    let core = |source: &&Source| {
        let path = source.path.as_str();
        path.starts_with("chat/src/") || path.ends_with("/core.rs") || path.contains("/core/")
    };
    let impure = |line: &str, test: bool| {
        let words = ["SystemTime::now", "Instant::now", "std::fs", "std::net::Tcp", "tokio::", "getrandom::", ".await"];
        !test && words.iter().any(|word| line.contains(word))
    };
    let findings = find(sources.iter().filter(core), impure, "time, ids and answers come in with the input");
    report("a core decides and does nothing else: no clock, no randomness, no I/O, no await", findings);
}

/// What a doc comment says to justify length.
const REASON: &str = "Long because";

#[test]
fn functions_and_files_are_short() {
    const FUNCTION_LINES: usize = 70;
    const FILE_LINES: usize = 500;
    let mut findings = Vec::new();
    for source in sources() {
        let lines = source.raw.len();
        let module_doc = source.raw.iter().take_while(|line| line.starts_with("//!"));
        if lines > FILE_LINES && !module_doc.into_iter().any(|line| line.contains(REASON)) {
            findings.push(format!("{}: {lines} lines, at most {FILE_LINES}", source.path));
        }
        for function in source.functions() {
            let lines = function.last - function.first + 1;
            if lines > FUNCTION_LINES && !function.doc.contains(REASON) {
                let place = format!("{}:{}", source.path, function.first + 1);
                findings.push(format!("{place}: fn {} has {lines} lines, at most {FUNCTION_LINES}", function.name));
            }
        }
    }
    report(&format!("split it, or say in its doc comment \"{REASON} …\""), findings);
}

/// `(call, what to do instead)`, outside tests.
const FORBIDDEN: &[(&str, &str)] = &[
    (".do_send(", "try_send, with a written answer for a full mailbox (do_send ignores the limit)"),
    ("flush_async", "storage's commit: flush, then fdatasync (flush_async deadlocks under concurrency)"),
    (".unwrap()", "`?`, or expect(\"why it cannot fail\")"),
    ("unbounded_channel(", "a bounded channel, its size in chat::limits"),
    ("mpsc::unbounded(", "a bounded channel, its size in chat::limits"),
    ("mpsc::channel()", "sync_channel, its size in chat::limits"),
    ("thread::sleep", "wait on a condition with a deadline"),
];

/// `(file, call, why)`: where a forbidden call is right.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("bench/src/replay/drive.rs", "unbounded_channel(", "a window of permits bounds all its queues together"),
    (
        "bench/src/usage.rs",
        "thread::sleep",
        "a program that begins anew shows nothing of itself for a moment: five looks at most",
    ),
    (
        "node/src/group/mod.rs",
        ".do_send(",
        "one verdict for each request that the mailbox or the actor held, and those are bounded",
    ),
    (
        "bench/src/systems/nats.rs",
        "thread::sleep",
        "its callers wait on their own thread for a program they started, each with a deadline",
    ),
    (
        "bench/src/systems/process.rs",
        "thread::sleep",
        "its callers wait on their own thread for a program they started, each with a deadline",
    ),
    (
        "bench/src/systems/mod.rs",
        "thread::sleep",
        "its callers wait on their own thread for a program they started, each with a deadline",
    ),
    (
        "bench/src/run/rival.rs",
        "thread::sleep",
        "its callers wait on their own thread for a program they started, each with a deadline",
    ),
    ("node/src/cli/node_start.rs", "thread::sleep", "a thread of its own that waits for the end of the process"),
];

#[test]
fn forbidden_calls_are_not_made() {
    let sources = sources();
    let mut findings = Vec::new();
    for (call, instead) in FORBIDDEN {
        let excepted = |source: &&Source| EXCEPTIONS.iter().any(|(path, what, _)| source.path == *path && what == call);
        let checked = sources.iter().filter(|source| !excepted(source));
        findings.extend(find(checked, |line, test| !test && line.contains(call), instead));
    }
    report("calls that are never made, and what stands for them", findings);
}

/// `(file, why)`: tests that pause between two looks at a condition, under a deadline.
const POLLERS: &[(&str, &str)] = &[
    ("cluster/tests/three_nodes.rs", "leaders and applied positions of other replicas are only to be asked for"),
    ("tests/src/lib.rs", "real processes are watched from outside: ports, status, logs"),
];

#[test]
fn tests_wait_on_conditions() {
    let sources = sources();
    let checked = sources.iter().filter(|source| !POLLERS.iter().any(|(path, _)| *path == source.path));
    let sleeps = |line: &str, test: bool| test && (line.contains("sleep(") || line.contains("sleep_until("));
    let instead =
        "wait for what the test is about, with a deadline; a file that polls is listed in POLLERS with its reason";
    report("tests do not sleep", find(checked, sleeps, instead));
}

#[test]
fn every_exception_is_still_needed() {
    let sources = sources();
    let makes = |path: &str, call: &str| {
        let file = sources.iter().find(|source| source.path == path);
        file.is_some_and(|source| source.lines(|line, _| line.contains(call)).next().is_some())
    };
    let calls = EXCEPTIONS.iter().map(|(path, call, _)| (*path, *call));
    let polls = POLLERS.iter().map(|(path, _)| (*path, "sleep"));
    let stale = calls.chain(polls).filter(|(path, call)| !makes(path, call));
    report("take these off the list", stale.map(|(path, call)| format!("{path}: does not call {call}")).collect());
}

#[test]
fn nothing_is_left_over() {
    // Spelt so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|halves| halves.concat());
    let places = [["/wor", "k/"], ["/ro", "ot/"], ["/ho", "me/"], ["/t", "mp/"], ["index.", "crates.io"]];
    let places = places.map(|halves| halves.concat());
    let mut findings = Vec::new();
    let text_ends = [".rs", ".toml", ".md", ".html", ".js", ".css", ".json", "justfile", ".ci/run", ".txt"];
    for path in files(&workspace()) {
        // Chat logs and golden files are what people and programs wrote.
        if path.contains("/data/") || path.contains("/golden/") || !text_ends.iter().any(|end| path.ends_with(end)) {
            continue;
        }
        for (at, line) in read(&path).lines().enumerate() {
            let word = words.iter().find(|word| names(line, word));
            if let Some(found) = word.or_else(|| places.iter().find(|place| line.contains(place.as_str()))) {
                findings.push(format!("{path}:{}: {found}: {}", at + 1, line.trim()));
            }
        }
    }
    report("no open ends and no paths of one machine: finish it, write an issue, or use a relative path", findings);
}

#[test]
fn every_limit_is_enforced_somewhere() {
    const HOME: &str = "chat/src/limits.rs";
    let sources = sources();
    let home = sources.iter().find(|source| source.path == HOME).expect("the limits have a file");
    let mut declared = BTreeMap::new();
    for (at, line) in home.code.iter().enumerate() {
        if let Some(name) = line.trim().strip_prefix("pub const ").and_then(|rest| rest.split(':').next()) {
            declared.insert(name.to_owned(), at + 1);
        }
    }
    assert!(declared.len() > 20, "the limits are declared in another way than this test reads");
    for source in sources.iter().filter(|source| source.path != HOME) {
        for (line, _) in source.code.iter().zip(&source.test).filter(|(_, test)| !**test) {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words {
                declared.remove(word);
            }
        }
    }
    let unused = declared.into_iter().map(|(name, line)| format!("{HOME}:{line}: {name} is enforced nowhere"));
    report("a limit that nothing enforces is a promise that nothing keeps", unused.collect());
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut findings = Vec::new();
    for path in files(&workspace()).into_iter().filter(|path| path.ends_with(".md")) {
        let dir = workspace().join(&path).parent().expect("a file has a directory").to_owned();
        for (at, line) in read(&path).lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = link.split('#').next().unwrap_or_default();
                let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
                if !elsewhere && !dir.join(target).exists() {
                    findings.push(format!("{path}:{}: {link}", at + 1));
                }
            }
        }
    }
    report("links in documents lead to files that are there", findings);
}

#[test]
fn the_rules_see_what_they_should() {
    let text = "/// Doc\nfn long(a: [u8; 2]) -> Vec<u8> {\n    // .unwrap()\n    \"}.unwrap() {\".len();\n    '{';\n}\n\
                #[cfg(test)]\nmod tests {\n    fn t() { x.unwrap(); }\n}\nfn after<'a>(b: &'a str) { r#\"\" {\"#; b.unwrap() }\n";
    let source = Source::parse("x/src/x.rs", text);
    let found: Vec<_> = source.functions().iter().map(|f| (f.name.clone(), f.first, f.last)).collect();
    assert_eq!(found, [("long".to_owned(), 1, 5), ("t".to_owned(), 8, 8), ("after".to_owned(), 10, 10)]);
    assert_eq!(source.functions()[0].doc, "/// Doc");
    let unwraps: Vec<_> = source.lines(|line, test| !test && line.contains(".unwrap()")).collect();
    assert_eq!(unwraps, [11]);
    assert!(names("use sled::Db;", "sled::") || names("use sled::Db;", "use sled"));
    assert!(!names("crate::cluster::x", "cluster"));
    assert!(!names("assembled::x", "sled::"));
}
