use super::*;

const SEND: &str = r#"{"id":7,"type":"send","to":{"user":"bob"},
    "client_msg_id":"01936f3e-1111-7000-8000-000000000001","body":{"kind":"text","text":"hi"}}"#;

fn problem(text: &str) -> (Option<u64>, Problem) {
    let error = parse_frame(text).unwrap_err();
    (error.re, error.problem)
}

/// The field of a wrong value, and the number of its error.
fn wrong_field(text: &str) -> (&'static str, u16) {
    let error = parse_frame(text).unwrap_err();
    assert_eq!(error.re, Some(1), "{error}");
    match error.problem {
        Problem::Field { field, .. } | Problem::TooMany { field, .. } => (field, error.code().number()),
        other => panic!("{other}"),
    }
}

#[test]
fn a_frame_is_read_as_its_types_own_derive_reads_it() {
    assert_eq!(parse_frame(SEND).unwrap(), serde_json::from_str(SEND).unwrap());
    let unknown = SEND.replace("{\"id\":7,", "{\"id\":7,\"new\":{\"a\":1},");
    assert_eq!(parse_frame(&unknown), parse_frame(SEND));
}

#[test]
fn what_is_no_request_says_why_and_whose_it_was() {
    assert!(matches!(problem("hello"), (None, Problem::NotJson { .. })));
    assert!(matches!(problem(r#"{"id":7} x"#), (None, Problem::NotJson { .. })));
    assert_eq!(problem("[1]"), (None, Problem::NotAnObject));
    assert_eq!(problem(r#"{"type":"ping"}"#), (None, Problem::Missing { field: "id" }));
    assert_eq!(problem(r#"{"id":7}"#), (Some(7), Problem::Missing { field: "type" }));
    assert_eq!(problem(r#"{"id":7,"type":"fly"}"#), (Some(7), Problem::UnknownType { found: "fly".into() }));
    assert_eq!(problem(r#"{"id":7,"type":"join"}"#), (Some(7), Problem::Missing { field: "group" }));
    assert_eq!(parse_frame("hello").unwrap_err().code(), ErrorCode::MalformedFrame);
}

#[test]
fn repeated_keys_and_deep_nesting_are_refused() {
    let repeated = r#"{"id":7,"type":"read","conversation":"p:a:b","seq":1,"seq":2}"#;
    assert_eq!(problem(repeated), (Some(7), Problem::RepeatedKey { key: "seq".into() }));
    assert!(matches!(problem(r#"{"id":7,"id":8,"type":"ping"}"#), (None, Problem::RepeatedKey { .. })));
    let nested =
        |levels: usize| format!(r#"{{"id":7,"type":"ping","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(parse_frame(&nested(limits::FRAME_DEPTH - 1)).is_ok());
    assert_eq!(problem(&nested(limits::FRAME_DEPTH + 1)), (Some(7), Problem::TooDeep { max: limits::FRAME_DEPTH }));
    assert_eq!(problem(&nested(30_000)).1, Problem::TooDeep { max: limits::FRAME_DEPTH });
}

#[test]
fn a_wrong_value_is_named_with_what_was_expected() {
    assert_eq!(wrong_field(r#"{"id":1,"type":"read","conversation":"p:b:a","seq":1}"#), ("conversation", 1003));
    assert_eq!(wrong_field(r#"{"id":1,"type":"read","conversation":"p:a:b","seq":-1}"#), ("seq", 1003));
    assert_eq!(wrong_field(r#"{"id":1,"type":"join","group":"nonsense"}"#), ("group", 1003));
    assert_eq!(wrong_field(r#"{"id":1,"type":"send","to":{"users":"bob"}}"#), ("to", 1003));
    let error = parse_frame(&SEND.replace("\"text\":\"hi\"", "")).unwrap_err();
    assert!(matches!(error.problem, Problem::NotJson { .. }), "{error}");
    let error = parse_frame(&SEND.replace("\"text\":\"hi\"", "\"txt\":1")).unwrap_err();
    assert_eq!(error.to_string(), "the field `body` is not valid: missing field `text`");
}

#[test]
fn texts_and_lists_keep_their_limits() {
    let send = |text: &str| SEND.replace("\"hi\"", text).replace("\"id\":7", "\"id\":1");
    assert_eq!(wrong_field(&send(r#""""#)), ("body", 1003));
    assert_eq!(wrong_field(&send(r#""a\u0000b""#)), ("body", 1003));
    assert_eq!(wrong_field(&send(&format!("\"{}\"", "x".repeat(limits::TEXT_BYTES + 1)))), ("body", 1003));
    let crowd: Vec<String> = (0..=limits::MENTION_USERS).map(|n| format!("\"u{n}\"")).collect();
    let mentions = format!(r#""mentions":{{"users":[{}]}},"body":"#, crowd.join(","));
    assert_eq!(wrong_field(&send("\"hi\"").replace("\"body\":", &mentions)), ("mentions", 1308));
    let location = r#""kind":"location","latitude":91,"longitude":1"#;
    assert_eq!(wrong_field(&send("\"hi\"").replace(r#""kind":"text","text":"hi""#, location)), ("body", 1003));
    let react = |reaction: &str| {
        format!(r#"{{"id":1,"type":"react","conversation":"p:a:b","seq":1,"reaction":"{reaction}","on":true}}"#)
    };
    assert!(parse_frame(&react("+1")).is_ok());
    assert_eq!(wrong_field(&react(&"x".repeat(limits::REACTION_BYTES + 1))), ("reaction", 1003));
    let group = "01936f3e-1111-7000-8000-000000000002";
    let invite = |users: &str| format!(r#"{{"id":1,"type":"invite","group":"{group}","users":[{users}]}}"#);
    assert_eq!(wrong_field(&invite("")), ("users", 1003));
    let crowd: Vec<String> = (0..=limits::INVITE_USERS).map(|n| format!("\"u{n}\"")).collect();
    assert_eq!(wrong_field(&invite(&crowd.join(","))), ("users", 1308));
    let named = |name: &str| format!(r#"{{"id":1,"type":"create_group","group":"{group}","name":"{name}"}}"#);
    assert_eq!(wrong_field(&named(" ")), ("name", 1003));
    let login = |password: &str| {
        format!(
            r#"{{"id":1,"type":"login","auth":{{"password":{{"app":"a","user":"u","password":"{password}"}}}},
            "device":{{"id":"d","platform":"web"}}}}"#
        )
    };
    assert!(parse_frame(&login("short")).is_ok());
    assert_eq!(wrong_field(&login(&"x".repeat(limits::PASSWORD_BYTES_MAX + 1))), ("auth", 1003));
}

#[test]
fn an_error_never_repeats_a_secret() {
    let secret = "correct horse";
    let frames = [
        format!(r#"{{"id":1,"type":"login","auth":{{"password":"{secret}"}}}}"#),
        format!(r#"{{"id":1,"type":"login","auth":{{"token":["{secret}"]}}}}"#),
        format!(r#"{{"id":1,"type":"login","auth":"{secret}"}}"#),
        format!(r#"{{"id":1,"type":"login","auth":{{"{secret}":1}}}}"#),
    ];
    for frame in frames {
        let error = parse_frame(&frame).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
}
