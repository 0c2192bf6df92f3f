use p256::ecdsa::{SigningKey, VerifyingKey};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::*;
use crate::activation::device_proof::tests::{device_key, jwk, jws};
use crate::activation::ids::{AppId, Thumbprint, UserId};

const NOW: u64 = 1_800_000_000;
const TRANSCRIPT: [u8; 32] = [9; 32];
/// `TRANSCRIPT` in base64url.
const TH2: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn device(seed: u8) -> Thumbprint {
    Thumbprint::of(&device_key(&key(seed)))
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

fn verifier() -> (EnrolmentVerifier, NamedTempFile) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({"keys": [with(jwk(&key(1)), "kid", json!("proofing"))]}).to_string()).unwrap();
    let settings = EnrolmentSettings {
        keys: EnrolmentKeys::File(file.path().to_owned()),
        audience: "handoff-activation".to_owned(),
        issuer: Some("https://proofing.example".to_owned()),
        leeway: Duration::from_secs(30),
    };
    (EnrolmentVerifier::load(settings).unwrap(), file)
}

fn enrolment_claims() -> Value {
    json!({"sub": "Maria82", "aud": ["handoff-activation"], "iss": "https://proofing.example", "exp": NOW + 600,
           "jti": "e1", "cnf": {"jkt": device(3).to_string()}})
}

fn enrolment(claims: &Value) -> Result<EnrolmentToken, BadGrant> {
    let token = jws(&json!({"alg": "ES256", "kid": "proofing"}), claims, &key(1));
    verifier().0.verify(&token, at(NOW))
}

#[test]
fn an_enrolment_token_names_user_device_and_time() {
    let token = enrolment(&enrolment_claims()).unwrap();
    assert_eq!(token.user, "maria82".parse().unwrap());
    assert_eq!(token.device, Some(device(3)));
    assert_eq!(token.expires, at(NOW + 630));
    let without = enrolment(&with(enrolment_claims(), "cnf", json!(null))).unwrap();
    assert_eq!(without.device, None);
}

#[test]
fn two_tokens_are_the_same_only_by_issuer_and_id() {
    let id = |claims: Value| enrolment(&claims).unwrap().id;
    assert_eq!(id(enrolment_claims()), id(with(enrolment_claims(), "exp", json!(NOW + 1))));
    assert_ne!(id(enrolment_claims()), id(with(enrolment_claims(), "jti", json!("e2"))));
}

#[test]
fn a_bad_enrolment_token_is_refused_by_name() {
    let malformed = BadGrant::Token(BadToken::Malformed);
    for (name, value, refused) in [
        ("aud", json!("handoff"), BadGrant::WrongAudience),
        ("iss", json!("https://evil.example"), BadGrant::WrongAudience),
        ("iss", json!(null), BadGrant::WrongAudience),
        ("exp", json!(NOW - 30), BadGrant::Expired),
        ("nbf", json!(NOW + 31), BadGrant::NotYetValid),
        ("exp", json!(null), malformed),
        ("sub", json!("a b"), malformed),
        ("sub", json!(null), malformed),
        ("jti", json!(null), malformed),
        ("jti", json!(""), malformed),
        ("cnf", json!({"jkt": "x"}), malformed),
    ] {
        assert_eq!(enrolment(&with(enrolment_claims(), name, value.clone())), Err(refused), "{name} {value}");
    }
    assert!(enrolment(&with(enrolment_claims(), "exp", json!(NOW - 29))).is_ok(), "clocks may differ");
    let (verifier, _file) = verifier();
    let other_key = jws(&json!({"alg": "ES256", "kid": "proofing"}), &enrolment_claims(), &key(2));
    assert_eq!(verifier.verify(&other_key, at(NOW)), Err(BadToken::BadSignature.into()));
    let unknown = jws(&json!({"alg": "ES256", "kid": "other"}), &enrolment_claims(), &key(1));
    assert_eq!(verifier.verify(&unknown, at(NOW)), Err(BadGrant::UnknownKey));
    assert_eq!(verifier.verify("a.b.c", at(NOW)), Err(malformed));
}

#[test]
fn keys_can_be_exchanged_while_running_and_a_bad_file_changes_nothing() {
    let (verifier, file) = verifier();
    let token = jws(&json!({"alg": "ES256", "kid": "next"}), &enrolment_claims(), &key(2));
    assert_eq!(verifier.verify(&token, at(NOW)), Err(BadGrant::UnknownKey));
    std::fs::write(file.path(), "nothing").unwrap();
    assert!(verifier.reload().is_err());
    std::fs::write(file.path(), json!({"keys": [with(jwk(&key(2)), "kid", json!("next"))]}).to_string()).unwrap();
    verifier.reload().unwrap();
    assert!(verifier.verify(&token, at(NOW)).is_ok());
}

fn app() -> AppId {
    AppId::from_random([1; 16])
}

fn grant_header() -> Value {
    json!({"alg": "ES256", "typ": GRANT_TYPE, "kid": app().to_string()})
}

fn grant_claims() -> Value {
    json!({"cnf": {"jkt": device(3).to_string()}, "th2": TH2, "iat": NOW, "exp": NOW + 300, "jti": "g1"})
}

fn grant(header: &Value, claims: &Value) -> Result<CopyGrant, BadGrant> {
    let text = jws(header, claims, &key(1));
    UnverifiedGrant::read(&text)?.verify(&device_key(&key(1)), (device(3), &TRANSCRIPT), at(NOW))
}

#[test]
fn a_grant_of_an_app_names_app_device_and_handoff() {
    let text = jws(&grant_header(), &grant_claims(), &key(1));
    assert_eq!(UnverifiedGrant::read(&text).unwrap().signer, Signer::App(app()));
    let expected = CopyGrant { id: "g1".to_owned(), expires: at(NOW + 360), enrolment: None };
    assert_eq!(grant(&grant_header(), &grant_claims()), Ok(expected));
}

#[test]
fn a_grant_of_the_enrolling_phone_brings_its_key_and_the_enrolment_token() {
    let header = json!({"alg": "ES256", "typ": GRANT_TYPE, "jwk": jwk(&key(1))});
    let claims = with(grant_claims(), "enrolment", json!("a.b.c"));
    let text = jws(&header, &claims, &key(1));
    assert_eq!(UnverifiedGrant::read(&text).unwrap().signer, Signer::EnrollingPhone(device_key(&key(1))));
    assert_eq!(grant(&header, &claims).unwrap().enrolment.as_deref(), Some("a.b.c"));
    let malformed = Err(BadGrant::Token(BadToken::Malformed));
    assert_eq!(grant(&header, &grant_claims()), malformed, "without the token nobody knows the key");
    assert_eq!(grant(&grant_header(), &claims), malformed, "an app needs no token");
}

#[test]
fn a_bad_grant_is_refused_by_name() {
    let malformed = BadGrant::Token(BadToken::Malformed);
    for (name, value, refused) in [
        ("cnf", json!({"jkt": device(4).to_string()}), BadGrant::OtherDevice),
        ("th2", json!("CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg"), BadGrant::OtherHandoff),
        ("th2", json!(""), BadGrant::OtherHandoff),
        ("th2", json!("?"), malformed),
        ("exp", json!(NOW + 301), BadGrant::TooLong),
        ("iat", json!(NOW + 61), BadGrant::NotYetValid),
        ("jti", json!(""), malformed),
        ("cnf", json!(null), malformed),
    ] {
        assert_eq!(grant(&grant_header(), &with(grant_claims(), name, value.clone())), Err(refused), "{name} {value}");
    }
    let old =
        json!({"cnf": {"jkt": device(3).to_string()}, "th2": TH2, "iat": NOW - 360, "exp": NOW - 60, "jti": "g1"});
    assert_eq!(grant(&grant_header(), &old), Err(BadGrant::Expired));
    let text = jws(&grant_header(), &grant_claims(), &key(2));
    let read = UnverifiedGrant::read(&text).unwrap();
    let refused = read.verify(&device_key(&key(1)), (device(3), &TRANSCRIPT), at(NOW));
    assert_eq!(refused, Err(BadToken::BadSignature.into()));
}

#[test]
fn a_token_of_another_kind_is_no_grant() {
    for (name, value) in [("typ", json!("JWT")), ("typ", json!(null)), ("typ", json!("dpop+jwt"))] {
        let outcome = grant(&with(grant_header(), name, value), &grant_claims());
        assert_eq!(outcome, Err(BadToken::WrongType.into()));
    }
    for header in [with(grant_header(), "kid", json!("me")), with(grant_header(), "jwk", jwk(&key(1)))] {
        assert_eq!(grant(&header, &grant_claims()), Err(BadToken::Malformed.into()));
    }
}

#[test]
fn a_token_of_the_development_key_holds_for_its_person_device_and_time_and_under_no_other_key() {
    let development = DevelopmentKey::from_bytes(&[7; 32]).unwrap();
    let settings = |key: VerifyingKey| EnrolmentSettings {
        keys: EnrolmentKeys::Development(key),
        audience: "handoff-activation".to_owned(),
        issuer: Some("development".to_owned()),
        leeway: Duration::from_secs(30),
    };
    let user: UserId = "maria82".parse().unwrap();
    let person =
        Person { user: &user, device: Some(device(3)), audience: "handoff-activation", issuer: Some("development") };
    let token = |id: u8| development.token(&person, Duration::from_mins(10), at(NOW), [id; 16]);
    let verifier = EnrolmentVerifier::load(settings(development.verifying_key())).unwrap();
    let read = verifier.verify(&token(1), at(NOW)).unwrap();
    assert_eq!((&read.user, read.device), (&user, Some(device(3))));
    assert_ne!(read.id, verifier.verify(&token(2), at(NOW)).unwrap().id);
    assert_eq!(verifier.verify(&token(1), at(NOW + 630)), Err(BadGrant::Expired));
    let other = DevelopmentKey::from_bytes(&[8; 32]).unwrap().verifying_key();
    let verifier = EnrolmentVerifier::load(settings(other)).unwrap();
    assert_eq!(verifier.verify(&token(1), at(NOW)), Err(BadToken::BadSignature.into()));
    assert_eq!(format!("{development:?}"), "DevelopmentKey([redacted])");
}
