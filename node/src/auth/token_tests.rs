//! Real tokens, signed as an app would sign them, and the ways they are forged.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat::ids::KeyId;
use jsonwebtoken::{EncodingKey, encode};
use serde_json::{Value, json};

use super::*;

const NOW_S: u64 = 1_800_000_000;
const HOUR_S: u64 = 3_600;

struct App {
    signing: EncodingKey,
    public_pem: String,
}

fn app() -> App {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let signing = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
    App { signing, public_pem: pair.public_key_pem() }
}

fn main_app() -> AppId {
    AppId::new("main").unwrap()
}

fn claims() -> Value {
    json!({ "sub": "alice", "aud": "main", "exp": NOW_S + HOUR_S })
}

impl App {
    fn sign(&self, claims: &Value) -> String {
        encode(&Header::new(Algorithm::EdDSA), claims, &self.signing).unwrap()
    }

    fn verify(&self, token: &str) -> Result<Identity, TokenFault> {
        self.verify_as("any", token)
    }

    /// With the app's key under this id, and another key beside it.
    fn verify_as(&self, id: &str, token: &str) -> Result<Identity, TokenFault> {
        let key = |id: &str, pem: &str| TokenKey { id: KeyId::new(id).unwrap(), pem: pem.to_owned(), added_ms: 1 };
        let keys = [key("older", &app().public_pem), key(id, &self.public_pem)];
        verify(token, &main_app(), &keys, NOW_S).map(|verified| verified.identity)
    }

    fn verify_claim(&self, name: &str, value: Value) -> Result<Identity, TokenFault> {
        let mut changed = claims();
        changed[name] = value;
        self.verify(&self.sign(&changed))
    }
}

/// A token with a header of our choice and whatever signature.
fn forge(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn the_app_vouches_for_its_user() {
    let app = app();
    let identity = app.verify(&app.sign(&claims())).unwrap();
    assert_eq!((identity.app.as_str(), identity.user.as_str()), ("main", "alice"));
    assert!(app.verify_claim("aud", json!(["main"])).is_ok());
    assert_eq!(claimed(&app.sign(&claims())).unwrap(), identity);
}

#[test]
fn a_header_may_say_which_key_it_was() {
    let app = app();
    let header = Header { kid: Some("2026".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let token = encode(&header, &claims(), &app.signing).unwrap();
    assert!(app.verify_as("2026", &token).is_ok());
    assert_eq!(app.verify_as("2027", &token), Err(TokenFault::UnknownKey));
    let header = Header { kid: Some("older".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let token = encode(&header, &claims(), &app.signing).unwrap();
    assert_eq!(app.verify_as("2026", &token), Err(TokenFault::Signature));
}

#[test]
fn another_key_or_a_changed_byte_is_no_signature() {
    let (app, other) = (app(), app());
    assert_eq!(app.verify(&other.sign(&claims())), Err(TokenFault::Signature));
    // The same signature under changed claims.
    let token = app.sign(&claims());
    let signature = token.rsplit('.').next().unwrap();
    let mut mallory = claims();
    mallory["sub"] = json!("mallory");
    let header = token.split('.').next().unwrap();
    let changed = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(mallory.to_string()));
    assert_eq!(app.verify(&changed), Err(TokenFault::Signature));
}

#[test]
fn no_algorithm_but_eddsa() {
    let app = app();
    // HMAC keyed with the public key, in PEM and in raw form: the classic confusion.
    let raw = DecodingKey::from_ed_pem(app.public_pem.as_bytes()).unwrap();
    for secret in [app.public_pem.as_bytes(), raw.try_get_as_bytes().unwrap()] {
        let token = encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(secret)).unwrap();
        assert_eq!(app.verify(&token), Err(TokenFault::Algorithm));
    }
    for none in ["none", "None", "NONE", ""] {
        let token = forge(&json!({ "alg": none, "typ": "JWT" }), &claims(), b"");
        assert_eq!(app.verify(&token), Err(TokenFault::Form), "{none:?}");
    }
    // EdDSA in the header, nothing or nonsense behind it.
    for signature in [&b""[..], &[0; 64], &[0; 63]] {
        let token = forge(&json!({ "alg": "EdDSA" }), &claims(), signature);
        assert_eq!(app.verify(&token), Err(TokenFault::Signature));
    }
}

#[test]
fn a_header_brings_no_keys_of_its_own() {
    let app = app();
    for change in [
        json!({ "jku": "https://evil.example/jwks.json" }),
        json!({ "x5u": "https://evil.example/cert.pem" }),
        json!({ "x5c": ["AAAA"] }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "zip": "DEF" }),
        json!({ "jwk": { "kty": "OKP", "crv": "Ed25519", "x": "AAAA" } }),
    ] {
        let mut header = json!({ "alg": "EdDSA" });
        header.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let token = forge(&header, &claims(), &[0; 64]);
        assert!(matches!(app.verify(&token), Err(TokenFault::Header | TokenFault::Form)), "{change}");
    }
    // Properly signed, and refused all the same.
    let header = Header { jku: Some("https://evil.example/".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let token = encode(&header, &claims(), &app.signing).unwrap();
    assert_eq!(app.verify(&token), Err(TokenFault::Header));
}

#[test]
fn audience_and_subject_are_ours() {
    let app = app();
    assert_eq!(app.verify_claim("aud", json!("other")), Err(TokenFault::Audience));
    assert_eq!(app.verify_claim("aud", json!(["main", "other"])), Err(TokenFault::Audience));
    assert_eq!(app.verify_claim("aud", json!("Not An App")), Err(TokenFault::Audience));
    assert_eq!(app.verify_claim("sub", json!("")), Err(TokenFault::Subject));
    assert_eq!(app.verify_claim("sub", json!("a:b")), Err(TokenFault::Subject));
    for missing in ["sub", "aud", "exp"] {
        let mut changed = claims();
        changed.as_object_mut().unwrap().remove(missing);
        assert_eq!(app.verify(&app.sign(&changed)), Err(TokenFault::Form), "{missing}");
    }
}

#[test]
fn a_token_lives_a_day_at_most() {
    let app = app();
    let day = limits::TOKEN_LIFETIME_S;
    let leeway = limits::TOKEN_LEEWAY_S;
    assert!(app.verify_claim("exp", json!(NOW_S + day)).is_ok());
    assert!(app.verify_claim("exp", json!(NOW_S - leeway + 1)).is_ok());
    assert_eq!(app.verify_claim("exp", json!(NOW_S - leeway)), Err(TokenFault::Expired));
    assert_eq!(app.verify_claim("exp", json!(NOW_S + day + leeway + 1)), Err(TokenFault::TooFarAhead));
    assert_eq!(app.verify_claim("exp", json!(u64::MAX)), Err(TokenFault::TooFarAhead));
    assert_eq!(app.verify_claim("exp", json!("tomorrow")), Err(TokenFault::Form));
    assert_eq!(app.verify_claim("exp", json!(-1)), Err(TokenFault::Form));
    assert_eq!(app.verify_claim("nbf", json!(NOW_S + leeway + 1)), Err(TokenFault::NotYetValid));
}

#[test]
fn expiry_is_told_to_the_signer_only() {
    let (app, other) = (app(), app());
    let mut old = claims();
    old["exp"] = json!(NOW_S - HOUR_S);
    assert_eq!(app.verify(&other.sign(&old)), Err(TokenFault::Signature));
}

#[test]
fn long_and_shapeless_tokens_are_refused() {
    let app = app();
    let mut long = claims();
    long["padding"] = json!("x".repeat(limits::TOKEN_BYTES));
    assert_eq!(app.verify(&app.sign(&long)), Err(TokenFault::TooLong));
    for shapeless in ["", "a", "a.b", "a.b.c", "....", "\u{0}"] {
        assert_eq!(app.verify(shapeless), Err(TokenFault::Form), "{shapeless:?}");
        assert_eq!(claimed(shapeless), Err(TokenFault::Form), "{shapeless:?}");
    }
}
