//! Conversations written down: what each side sends and what it hears, side by side, on a real cluster of three nodes.
//!
//! A line of `tests/scripts/*.script` is one of
//! - `alice @ 2`: alice connects to node 2, logs in and resumes. `alice.phone @ 3 [{"conversation":…,"seq":…}]` is another
//!   session of hers, which says what it has.
//! - `alice> {…}`: she sends the frame, with an id that the runner gives it.
//! - `alice< {…}`: the next frame of its kind that she hears is this one. Answers, events and other frames are three rows, each
//!   in its order; the answer's `re` is the last request's.
//! - `# …`: for people.
//!
//! `"*"` stands for any value, and the field `"*"` for any others. `"$name"` is any value the first time and the same
//! one from then on, in what is sent, too. A frame goes on over the following lines if they are indented. At the end nobody
//! may have heard anything that is not in the script.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use campanile_client::Auth;
use chat::wire::Credentials;
use serde_json::{Value, json};
use tests::Stage;
use tests::raw::Raw;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Answers,
    Events,
    Others,
}

impl Row {
    fn of(frame: &Value) -> Self {
        match frame["type"].as_str() {
            Some("event") => Self::Events,
            Some(
                "conversation_added"
                | "conversation_removed"
                | "read_moved"
                | "delivered_moved"
                | "items_changed"
                | "deleted_for_me"
                | "stream"
                | "must_resync"
                | "goaway",
            ) => Self::Others,
            _ => Self::Answers,
        }
    }
}

struct Session {
    raw: Raw,
    last_id: u64,
    heard: BTreeMap<Row, VecDeque<Value>>,
}

impl Session {
    async fn open(stage: &Stage, name: &str, node: u64, have: Value, packed: bool) -> Result<Self> {
        let user = name.split('.').next().unwrap_or(name);
        let Auth::Fixed(Credentials::Token(token)) = stage.options(user, &[node])?.auth else {
            bail!("the stage signs tokens");
        };
        let (url, ca_pem) = (stage.cluster.client_url(node)?, stage.cluster.ca_pem());
        let raw = if packed { Raw::connect_packed(&url, ca_pem).await? } else { Raw::connect(&url, ca_pem).await? };
        let mut session = Self { raw, last_id: 0, heard: BTreeMap::new() };
        let device = json!({"id": name, "platform": "test"});
        session.send(json!({"type": "login", "auth": {"token": token}, "device": device})).await?;
        ensure!(session.hear(Row::Answers).await?["type"] == "hello", "{name} is not let in");
        session.send(json!({"type": "resume", "have": have})).await?;
        ensure!(session.hear(Row::Answers).await?["type"] == "resumed", "{name} cannot resume");
        Ok(session)
    }

    async fn send(&mut self, mut frame: Value) -> Result<()> {
        self.last_id += 1;
        frame["id"] = self.last_id.into();
        self.raw.text(frame.to_string()).await
    }

    async fn hear(&mut self, row: Row) -> Result<Value> {
        loop {
            if let Some(frame) = self.heard.entry(row).or_default().pop_front() {
                return Ok(frame);
            }
            let mut frame = self.raw.frame().await?;
            let re = frame.as_object_mut().and_then(|fields| fields.remove("re"));
            ensure!(re.is_none_or(|re| re == self.last_id), "an answer to another request: {frame}");
            self.heard.entry(Row::of(&frame)).or_default().push_back(frame);
        }
    }

    /// What came by now and was not asked for.
    async fn rest(&mut self) -> Result<Vec<Value>> {
        self.send(json!({"type": "ping"})).await?;
        let answer = self.hear(Row::Answers).await?;
        let unasked = if answer["type"] == "pong" { None } else { Some(answer) };
        Ok(unasked.into_iter().chain(self.heard.values().flatten().cloned()).collect())
    }
}

/// Why the frame is not the one that is written: the place in it, and both values there.
fn differs(expected: &Value, came: &Value, known: &mut BTreeMap<String, Value>, at: &str) -> Option<String> {
    match (expected, came) {
        (Value::String(any), _) if any == "*" => None,
        (Value::String(name), _) if name.starts_with('$') => {
            let first = known.entry(name.clone()).or_insert_with(|| came.clone()).clone();
            (first != *came).then(|| format!("{at}: {name} was {first}, now {came}"))
        }
        (Value::Object(expected), Value::Object(came)) => {
            let missing = expected.iter().filter(|(field, _)| *field != "*").find_map(|(field, value)| {
                let at = format!("{at}.{field}");
                let Some(came) = came.get(field) else { return Some(format!("{at} is missing")) };
                differs(value, came, known, &at)
            });
            let more = || came.keys().find(|field| !expected.contains_key(*field) && !expected.contains_key("*"));
            missing.or_else(|| more().map(|field| format!("{at}.{field} is not expected: {}", came[field])))
        }
        (Value::Array(expected), Value::Array(came)) if expected.len() == came.len() => {
            let mut places = (0..).zip(expected.iter().zip(came));
            places.find_map(|(place, (expected, came))| differs(expected, came, known, &format!("{at}[{place}]")))
        }
        _ => (expected != came).then(|| format!("{at}: expected {expected}, came {came}")),
    }
}

/// The frame with what `$name` stands for.
fn filled(frame: Value, known: &BTreeMap<String, Value>) -> Value {
    match frame {
        Value::String(name) => known.get(&name).cloned().unwrap_or(Value::String(name)),
        Value::Array(items) => items.into_iter().map(|item| filled(item, known)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(field, value)| (field, filled(value, known))).collect(),
        other => other,
    }
}

/// The script's steps, each with the number of its first line.
fn steps(text: &str) -> Vec<(usize, String)> {
    let mut steps: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match steps.last_mut() {
            _ if line.trim().is_empty() || line.starts_with('#') => {}
            Some((_, step)) if line.starts_with(' ') => step.push_str(line),
            _ => steps.push((number, line.to_owned())),
        }
    }
    steps
}

#[derive(Default)]
struct Play {
    sessions: BTreeMap<String, Session>,
    known: BTreeMap<String, Value>,
    /// In MessagePack.
    packed: bool,
}

impl Play {
    async fn step(&mut self, stage: &Stage, step: &str) -> Result<()> {
        let end = step.find(['@', '>', '<']).context("a step is `name @ node`, `name> frame` or `name< frame`")?;
        let (name, (mark, rest)) = (step[..end].trim(), step[end..].split_at(1));
        if mark == "@" {
            let (node, have) = rest.trim().split_once(' ').unwrap_or((rest.trim(), "[]"));
            let have = filled(serde_json::from_str(have).context("what it has is JSON")?, &self.known);
            let session = Session::open(stage, name, node.parse()?, have, self.packed).await?;
            self.sessions.insert(name.to_owned(), session);
            return Ok(());
        }
        let frame: Value = serde_json::from_str(rest).context("the frame is JSON")?;
        let session = self.sessions.get_mut(name).with_context(|| format!("{name} is not connected"))?;
        if mark == ">" {
            return session.send(filled(frame, &self.known)).await;
        }
        let came = session.hear(Row::of(&frame)).await?;
        match differs(&frame, &came, &mut self.known, "frame") {
            None => Ok(()),
            Some(why) => bail!("{why}\n  expected {frame}\n  came     {came}"),
        }
    }
}

async fn play(stage: &Stage, path: &Path, packed: bool) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let mut play = Play { packed, ..Play::default() };
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for (line, step) in steps(&text) {
        play.step(stage, &step).await.with_context(|| format!("{file}:{line}: {step}"))?;
    }
    for (name, session) in &mut play.sessions {
        let rest = session.rest().await?;
        ensure!(rest.is_empty(), "{file}: at the end {name} has heard what is not in it: {rest:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_script_goes_as_it_is_written() -> Result<()> {
    all(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_script_goes_the_same_in_messagepack() -> Result<()> {
    all(true).await
}

async fn all(packed: bool) -> Result<()> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut scripts = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    scripts.sort();
    ensure!(!scripts.is_empty(), "there are no scripts");
    let mut stage = Stage::start(3, 4).await?;
    for script in scripts {
        play(&stage, &script, packed).await?;
    }
    stage.equal_digests().await
}
