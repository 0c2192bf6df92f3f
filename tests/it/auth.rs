//! Who may open a session: tokens of the app's backend, and a relay that does not open itself to the world by default.

use std::time::{SystemTime, UNIX_EPOCH};

use handoff_relay::protocol::Role::Old;
use handoff_relay::protocol::close::CloseReason::Unauthorized;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::secrets_in_logs::watched::Watched;
use crate::support::eventually;
use crate::support::messages::{Transfer, base64url, changed};
use crate::support::party::{Pair, Party};
use crate::support::relay::Relay;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn write_keys(file: &NamedTempFile, keys: &[(&str, &SigningKey)]) {
    let jwk = |(kid, key): &(&str, &SigningKey)| {
        let point = key.verifying_key().to_sec1_point(false);
        let coordinate = |range: std::ops::Range<usize>| base64url(&point.as_bytes()[range]);
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": coordinate(1..33), "y": coordinate(33..65)})
    };
    let keys: Vec<Value> = keys.iter().map(jwk).collect();
    std::fs::write(file.path(), json!({ "keys": keys }).to_string()).unwrap();
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({"iss": "https://backend.example", "aud": "handoff", "exp": now() + 60})
}

fn token(header: &Value, claims: &Value, key: &SigningKey) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let signature: Signature = key.sign(message.as_bytes());
    format!("{message}.{}", base64url(&signature.to_bytes()))
}

fn header(kid: &str) -> Value {
    json!({"alg": "ES256", "typ": "JWT", "kid": kid})
}

fn relay_with(file: &NamedTempFile) -> Watched {
    Watched::start(&[
        "open.policy=jwt",
        &format!("open.jwks_file={}", file.path().display()),
        "open.audience=handoff",
        "open.issuer=https://backend.example",
    ])
}

/// What the relay answers to an `open` with this token.
async fn open(relay: &Watched, token: Option<&str>) -> Result<Pair, Party> {
    let transfer = Transfer::usual();
    let first = token.map_or_else(|| transfer.open(), |token| changed(transfer.open(), "token", token));
    let mut old = Party::connect(relay.address(), &transfer.session, Old, &first).await;
    let answer = old.socket.frame().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    match answer["type"].as_str() {
        Some("opened") => Ok(Pair {
            address: relay.address(),
            transfer,
            old: Some(old),
            new: None,
            opened_at: std::time::Instant::now(),
        }),
        Some("ended") => {
            assert_eq!(answer["reason"], Unauthorized.label());
            Err(old)
        }
        _ => panic!("{answer}"),
    }
}

#[tokio::test]
async fn a_good_token_opens_a_session_and_joining_needs_none() {
    let file = NamedTempFile::new().unwrap();
    write_keys(&file, &[("a", &key(1))]);
    let relay = relay_with(&file);
    let mut pair = open(&relay, Some(&token(&header("a"), &claims(), &key(1)))).await.unwrap();
    pair.join().await;
    drop(pair.old.take());
    pair.new.as_mut().unwrap().hear("peer_offline").await;
    pair.finish().await;
}

#[tokio::test]
async fn every_bad_token_is_unauthorized_and_nothing_of_it_is_logged() {
    let file = NamedTempFile::new().unwrap();
    write_keys(&file, &[("a", &key(1)), ("b", &key(2))]);
    let relay = relay_with(&file);
    let good = token(&header("a"), &claims(), &key(1));
    let unsigned = |alg: &str| {
        format!("{}.{}.", base64url(json!({"alg": alg}).to_string().as_bytes()), good.split('.').nth(1).unwrap())
    };
    let bad: Vec<(&str, Option<String>)> = vec![
        ("none", None),
        ("not a token", Some("hunter2".to_owned())),
        ("three empty parts", Some("..".to_owned())),
        ("the algorithm none", Some(unsigned("none"))),
        ("a symmetric algorithm", Some(token(&changed(header("a"), "alg", "HS256"), &claims(), &key(1)))),
        ("a key that is not in the file", Some(token(&header("c"), &claims(), &key(3)))),
        ("no name of a key", Some(token(&json!({"alg": "ES256"}), &claims(), &key(1)))),
        ("another key's signature", Some(token(&header("a"), &claims(), &key(2)))),
        (
            "another token's signature",
            Some(format!("{}x.{}", &good[..good.rfind('.').unwrap()], good.rsplit('.').next().unwrap())),
        ),
        ("expired", Some(token(&header("a"), &changed(claims(), "exp", now() - 3600), &key(1)))),
        ("not valid yet", Some(token(&header("a"), &changed(claims(), "nbf", now() + 3600), &key(1)))),
        ("another audience", Some(token(&header("a"), &changed(claims(), "aud", "other"), &key(1)))),
        ("another issuer", Some(token(&header("a"), &changed(claims(), "iss", "https://evil.example"), &key(1)))),
        ("no expiry", Some(token(&header("a"), &json!({"aud": "handoff", "iss": "https://backend.example"}), &key(1)))),
        ("a critical extension", Some(token(&changed(header("a"), "crit", vec!["b64"]), &claims(), &key(1)))),
    ];
    for (name, token) in &bad {
        let Err(mut refused) = open(&relay, token.as_deref()).await else { panic!("{name} opened a session") };
        assert_eq!(refused.socket.until_end().await.close, Some((4526, "unauthorized".to_owned())), "{name}");
    }
    assert!(open(&relay, Some(&good)).await.is_ok());
    relay.expect_no_secret_in_the_log().await;
}

#[tokio::test]
async fn keys_are_changed_without_a_restart_and_a_bad_file_changes_nothing() {
    let file = NamedTempFile::new().unwrap();
    write_keys(&file, &[("a", &key(1))]);
    let relay = relay_with(&file);
    let (of_a, of_b) = (token(&header("a"), &claims(), &key(1)), token(&header("b"), &claims(), &key(2)));
    assert!(open(&relay, Some(&of_a)).await.is_ok());
    assert!(open(&relay, Some(&of_b)).await.is_err());

    let log_lines = |text: &str| relay.log().matches(text).count();
    write_keys(&file, &[("b", &key(2))]);
    relay.signal(Signal::HUP);
    eventually("reload", async || log_lines("\"what\":\"keys\""), |count| *count == 1).await;
    assert!(open(&relay, Some(&of_a)).await.is_err());
    assert!(open(&relay, Some(&of_b)).await.is_ok());

    std::fs::write(file.path(), "no keys").unwrap();
    relay.signal(Signal::HUP);
    eventually("refused reload", async || log_lines("not reloaded"), |count| *count == 1).await;
    assert!(open(&relay, Some(&of_b)).await.is_ok());
}

#[tokio::test]
async fn a_relay_opens_itself_to_the_world_only_when_somebody_says_so() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let listen = format!("server.listen={listen}");
        let refused = Relay::try_start(&[&listen]).unwrap_err();
        assert_eq!(refused.code, Some(78), "{}", refused.log);
        assert!(refused.log.contains("open.policy"), "{}", refused.log);
        Relay::start(&[&listen, "open.policy=anyone"]);
    }
    let refused = Relay::try_start(&["open.policy=jwt"]).unwrap_err();
    assert_eq!(refused.code, Some(78), "{}", refused.log);
    let refused =
        Relay::try_start(&["open.policy=jwt", "open.audience=handoff", "open.jwks_file=/nowhere"]).unwrap_err();
    assert_eq!(refused.code, Some(71), "{}", refused.log);
}
