use std::path::Path;

use super::*;

fn visit() -> Visit {
    Visit {
        app: Some(AppId::new("main").unwrap()),
        user: Some(UserId::new("alice").unwrap()),
        session: Some(SessionHash::of("0190d0a4-0000-7000-8000-000000000001")),
        ip: "2001:db8::1".parse().unwrap(),
        port: 54_321,
        user_agent: "Mozilla/5.0".to_owned(),
        device: Some(DeviceRecord {
            id: DeviceId::new("phone").unwrap(),
            platform: "android".to_owned(),
            name: "Alice's phone".to_owned(),
        }),
    }
}

fn one_of_each() -> Vec<Record> {
    let nobody = Visit { app: None, user: None, session: None, device: None, ip: [127, 0, 0, 1].into(), ..visit() };
    let refused = LoginResult::Refused { code: 1203, reason: "wrong password".to_owned() };
    let counters = Counters { requests: 1, errors: 2, sends: 3, events: 4 };
    let reason = EndReason::SlowConsumer;
    let events = [
        Event::Opened { version: "0.1.0".to_owned(), torn_bytes: 17 },
        Event::Login { visit: visit(), method: Method::Password, result: LoginResult::Accepted },
        Event::Login { visit: nobody, method: Method::Token, result: refused },
        Event::Logout { visit: visit() },
        Event::SessionEnded { visit: visit(), reason, duration_ms: 60_000, counters },
        Event::Gap { first_ms: 1, last_ms: 2, count: 3 },
    ];
    let time_ms = 1_800_000_000_000;
    events.into_iter().map(|event| Record { time_ms, node: 2, event }).collect()
}

fn acts() -> Vec<Record> {
    let act = |result| {
        Event::Administration(Administration {
            act: Uuid::from_u128(0x0193_6f3e_7c00_7000_8000_0000_0000_000a),
            by: "admin token 0011223344556677".to_owned(),
            ip: [127, 0, 0, 1].into(),
            port: 54_321,
            user_agent: "curl/8".to_owned(),
            verb: "node.remove".to_owned(),
            subject: "node=3".to_owned(),
            result,
        })
    };
    let refused = AdministrationResult::Refused { code: 1302, name: "forbidden".to_owned() };
    let left = Event::Membership { node: 3, state: "removed".to_owned() };
    let events = [act(AdministrationResult::Asked), act(AdministrationResult::Done), act(refused), left];
    events.into_iter().map(|event| Record { time_ms: 1_800_000_000_000, node: 2, event }).collect()
}

/// Length-prefixed records, as they were first written. A failure here means that old logs can no longer be read:
/// bring the old layout back, or give the new one a format number and a file of its own.
#[test]
fn every_record_ever_written_can_be_read() {
    golden("record-v1.bin", &one_of_each());
    // What came later.
    golden("record-v1-administration.bin", &acts());
}

fn golden(name: &str, records: &[Record]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/security/golden").join(name);
    let mut written = Vec::new();
    for record in records {
        let bytes = record.encode().unwrap();
        written.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        written.extend_from_slice(&bytes);
    }
    if std::env::var_os("CAMPANILE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert!(written == golden, "records are written in another form than before");

    let mut rest = &golden[..];
    for expected in records {
        let (len, after) = rest.split_at(4);
        let len = u32::from_be_bytes(len.try_into().unwrap()) as usize;
        assert_eq!(&Record::decode(&after[..len]).unwrap(), expected);
        rest = &after[len..];
    }
    assert!(rest.is_empty());
}

#[test]
fn text_from_outside_cannot_hide_or_forge() {
    assert_eq!(bounded("Mozilla/5.0 (X11; Linux) Schön 日本", 512), "Mozilla/5.0 (X11; Linux) Schön 日本");
    assert_eq!(bounded("a\r\nadmin logged in", 512), "a\\u{d}\\u{a}admin logged in");
    assert_eq!(bounded("\u{1b}[2J\u{202e}\u{200b}\0", 512), "\\u{1b}[2J\\u{202e}\\u{200b}\\u{0}");
    // What was escaped cannot be mistaken for what was sent.
    assert_eq!(bounded("\\u{a}", 512), "\\u{5c}u{a}");
}

#[test]
fn text_from_outside_is_bounded_after_escaping() {
    for text in ["x".repeat(10_000), "\n".repeat(10_000), "日".repeat(10_000)] {
        let bounded = bounded(&text, limits::USER_AGENT_BYTES);
        assert!(bounded.len() <= limits::USER_AGENT_BYTES, "{}", bounded.len());
        assert!(bounded.ends_with('…'));
    }
    assert_eq!(bounded("", 512), "");
}

#[test]
fn a_session_is_named_without_its_id() {
    let id = "0190d0a4-0000-7000-8000-000000000001";
    let SessionHash(hash) = SessionHash::of(id);
    assert_eq!(hash.len(), 32);
    assert_ne!(SessionHash::of(id), SessionHash::of("0190d0a4-0000-7000-8000-000000000002"));
    assert!(!hash.contains("0190d0a4"));
}

#[test]
fn a_secret_is_told_apart_and_not_told() {
    let told = fingerprint("secret");
    assert_eq!((told.len(), told == fingerprint("secret"), told == fingerprint("secret2")), (16, true, false));
}

#[test]
fn an_entry_reads_well_as_json() {
    let record = one_of_each().swap_remove(2);
    let json = serde_json::to_value(Entry { sequence: 7, record }).unwrap();
    assert_eq!(json["sequence"], 7);
    assert_eq!(json["node"], 2);
    assert_eq!(json["event"]["login"]["result"]["refused"]["reason"], "wrong password");
    assert_eq!(json["event"]["login"]["visit"]["ip"], "127.0.0.1");
    let json = serde_json::to_value(Entry { sequence: 8, record: acts().swap_remove(2) }).unwrap();
    assert_eq!(json["event"]["administration"]["result"]["refused"]["name"], "forbidden");
}
