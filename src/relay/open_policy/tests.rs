use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::*;
use crate::protocol::limits;

const NOW: u64 = 1_800_000_000;

/// The backend's signing key number `seed`.
fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn jwk(kid: &str, key: &SigningKey) -> Value {
    let point = key.verifying_key().to_sec1_point(false);
    let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point.as_bytes()[range]);
    json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
           "x": coordinate(1..33), "y": coordinate(33..65)})
}

/// The JWK without some of its members.
fn without(mut jwk: Value, names: &[&str]) -> Value {
    for name in names {
        jwk.as_object_mut().unwrap().remove(*name);
    }
    jwk
}

/// The JWK with a member set.
fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn jwks_file(keys: &[Value]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    write(&file, keys);
    file
}

fn write(file: &NamedTempFile, keys: &[Value]) {
    std::fs::write(file.path(), json!({ "keys": keys }).to_string()).unwrap();
}

fn settings(path: &Path) -> JwtSettings {
    JwtSettings {
        jwks_file: path.to_owned(),
        audience: "handoff".to_owned(),
        issuer: None,
        leeway: Duration::from_secs(10),
    }
}

fn policy_with(settings: JwtSettings) -> OpenPolicy {
    OpenPolicy::Jwt(Box::new(JwtVerifier::load(settings).unwrap()))
}

fn policy(keys: &[Value]) -> OpenPolicy {
    policy_with(settings(jwks_file(keys).path()))
}

fn policy_with_issuer(keys: &[Value]) -> OpenPolicy {
    let file = jwks_file(keys);
    let settings = JwtSettings { issuer: Some("https://backend.example".to_owned()), ..settings(file.path()) };
    policy_with(settings)
}

/// A policy with the one key that [`good_token`] is signed with.
fn usual_policy() -> OpenPolicy {
    policy(&[jwk("a", &key(1))])
}

fn claims() -> Value {
    json!({"iss": "https://backend.example", "aud": "handoff", "exp": NOW + 60})
}

fn header() -> Value {
    json!({"alg": "ES256", "typ": "JWT", "kid": "a"})
}

fn signed(header: &Value, claims: &Value, key: &SigningKey) -> OpenToken {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature: Signature = key.sign(message.as_bytes());
    OpenToken::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))).unwrap()
}

fn good_token() -> OpenToken {
    signed(&header(), &claims(), &key(1))
}

fn with_claims(claims: &Value) -> Result<(), Refused> {
    usual_policy().authorize(Some(&signed(&header(), claims, &key(1))), NOW)
}

fn with_header(header: &Value) -> Result<(), Refused> {
    usual_policy().authorize(Some(&signed(header, &claims(), &key(1))), NOW)
}

fn load_error(keys: &[Value]) -> String {
    JwtVerifier::load(settings(jwks_file(keys).path())).unwrap_err().problem.to_string()
}

#[test]
fn anyone_may_open_where_the_policy_says_so() {
    assert_eq!(OpenPolicy::Anyone.authorize(None, NOW), Ok(()));
    assert_eq!(OpenPolicy::Anyone.authorize(OpenToken::new("garbage".to_owned()).as_ref(), NOW), Ok(()));
    assert!(OpenPolicy::Anyone.reload().is_ok());
}

#[test]
fn a_token_of_the_backend_opens_a_session() {
    assert_eq!(usual_policy().authorize(Some(&good_token()), NOW), Ok(()));
}

#[test]
fn without_a_token_nothing_opens() {
    assert_eq!(usual_policy().authorize(None, NOW), Err(Refused::Missing));
}

#[test]
fn a_token_expires_at_its_exp_plus_the_leeway() {
    let policy = usual_policy();
    assert_eq!(policy.authorize(Some(&good_token()), NOW + 69), Ok(()));
    assert_eq!(policy.authorize(Some(&good_token()), NOW + 70), Err(Refused::Expired));
    assert_eq!(policy.authorize(Some(&good_token()), u64::MAX), Err(Refused::Expired));
    assert_eq!(with_claims(&with(claims(), "exp", json!(0))), Err(Refused::Expired));
}

#[test]
fn a_token_is_not_valid_before_its_nbf_minus_the_leeway() {
    assert_eq!(with_claims(&with(claims(), "nbf", json!(NOW + 10))), Ok(()));
    assert_eq!(with_claims(&with(claims(), "nbf", json!(NOW + 11))), Err(Refused::NotYetValid));
    assert_eq!(with_claims(&with(claims(), "nbf", json!(u64::MAX))), Err(Refused::NotYetValid));
}

#[test]
fn dates_may_have_a_fraction_and_nothing_else_passes_for_a_date() {
    assert_eq!(with_claims(&with(claims(), "exp", json!(1_800_000_001.5))), Ok(()));
    for bad in [json!("1900000000"), json!(-1), json!(1e300), json!(null), json!([NOW]), json!(true)] {
        assert!(with_claims(&with(claims(), "exp", bad.clone())).is_err(), "{bad}");
        let with_nbf = with_claims(&with(claims(), "nbf", bad.clone()));
        assert_eq!(with_nbf.is_ok(), bad.is_null(), "{bad}");
    }
}

#[test]
fn a_token_without_an_expiry_or_an_audience_is_refused() {
    assert!(with_claims(&without(claims(), &["exp"])).is_err());
    assert_eq!(with_claims(&without(claims(), &["aud"])), Err(Refused::ClaimMissing));
}

#[test]
fn the_relay_must_be_among_the_audiences() {
    assert_eq!(with_claims(&with(claims(), "aud", json!(["other", "handoff"]))), Ok(()));
    for wrong in [json!("other"), json!(["other"]), json!("handoff2"), json!("")] {
        assert_eq!(with_claims(&with(claims(), "aud", wrong.clone())), Err(Refused::WrongAudience), "{wrong}");
    }
    for bad in [json!([]), json!(null), json!(7), json!({"handoff": true})] {
        assert!(with_claims(&with(claims(), "aud", bad.clone())).is_err(), "{bad}");
    }
}

#[test]
fn a_configured_issuer_must_have_issued_the_token() {
    let policy = policy_with_issuer(&[jwk("a", &key(1))]);
    let authorize = |claims: &Value| policy.authorize(Some(&signed(&header(), claims, &key(1))), NOW);
    assert_eq!(authorize(&claims()), Ok(()));
    assert_eq!(authorize(&with(claims(), "iss", json!("https://evil.example"))), Err(Refused::WrongIssuer));
    assert_eq!(authorize(&without(claims(), &["iss"])), Err(Refused::ClaimMissing));
    assert_eq!(with_claims(&without(claims(), &["iss"])), Ok(()), "no issuer is configured here");
}

#[test]
fn a_signature_of_another_key_or_over_another_text_is_wrong() {
    let policy = usual_policy();
    let forged = signed(&header(), &claims(), &key(2));
    assert_eq!(policy.authorize(Some(&forged), NOW), Err(Refused::BadSignature));
    let good = good_token();
    let [head, _, signature] = good.expose().split('.').collect::<Vec<_>>().try_into().unwrap();
    let other_claims = URL_SAFE_NO_PAD.encode(with(claims(), "exp", json!(NOW + 9999)).to_string());
    let mixed = OpenToken::new(format!("{head}.{other_claims}.{signature}")).unwrap();
    assert_eq!(policy.authorize(Some(&mixed), NOW), Err(Refused::BadSignature));
}

#[test]
fn only_es256_is_accepted_whatever_the_header_says() {
    for alg in ["HS256", "HS512", "ES384", "RS256", "PS256", "EdDSA"] {
        assert_eq!(with_header(&with(header(), "alg", json!(alg))), Err(Refused::WrongAlgorithm), "{alg}");
    }
    for alg in [json!("none"), json!("None"), json!("NONE"), json!("es256"), json!(""), json!(null)] {
        assert_eq!(with_header(&with(header(), "alg", alg.clone())), Err(Refused::Malformed), "{alg}");
    }
}

#[test]
fn an_unsigned_token_is_refused() {
    for alg in ["none", "ES256"] {
        let unsigned = signed(&with(header(), "alg", json!(alg)), &claims(), &key(1));
        let (message, _) = unsigned.expose().rsplit_once('.').unwrap();
        for text in [format!("{message}."), message.to_owned()] {
            assert!(usual_policy().authorize(OpenToken::new(text).as_ref(), NOW).is_err());
        }
    }
}

#[test]
fn the_public_key_is_not_taken_for_a_shared_secret() {
    // The classic confusion: HMAC with the text of the public key as its secret.
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": "a"}).to_string());
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims().to_string()));
    let point = key(1).verifying_key().to_sec1_point(false);
    let (mac, _) = hkdf::Hkdf::<sha2::Sha256>::extract(Some(point.as_bytes()), message.as_bytes());
    let token = OpenToken::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac))).unwrap();
    assert_eq!(usual_policy().authorize(Some(&token), NOW), Err(Refused::WrongAlgorithm));
}

#[test]
fn a_critical_extension_is_refused_since_none_is_understood() {
    assert_eq!(with_header(&with(header(), "crit", json!(["b64"]))), Err(Refused::Malformed));
}

#[test]
fn a_key_that_the_token_brings_along_is_not_used() {
    let header = with(header(), "jwk", jwk("a", &key(2)));
    let token = signed(&header, &claims(), &key(2));
    assert!(usual_policy().authorize(Some(&token), NOW).is_err());
}

#[test]
fn the_kid_selects_the_key() {
    let policy = policy(&[jwk("a", &key(1)), jwk("b", &key(2))]);
    let authorize = |kid: &str, seed| {
        policy.authorize(Some(&signed(&with(header(), "kid", json!(kid)), &claims(), &key(seed))), NOW)
    };
    assert_eq!(authorize("a", 1), Ok(()));
    assert_eq!(authorize("b", 2), Ok(()));
    assert_eq!(authorize("a", 2), Err(Refused::BadSignature));
    assert_eq!(authorize("c", 1), Err(Refused::UnknownKey));
}

#[test]
fn a_token_may_leave_the_kid_out_where_there_is_one_key() {
    let token = signed(&without(header(), &["kid"]), &claims(), &key(1));
    assert_eq!(usual_policy().authorize(Some(&token), NOW), Ok(()));
    let nameless = policy(&[without(jwk("a", &key(1)), &["kid"])]);
    assert_eq!(nameless.authorize(Some(&token), NOW), Ok(()));
    assert_eq!(nameless.authorize(Some(&good_token()), NOW), Err(Refused::UnknownKey));
    let two = policy(&[jwk("a", &key(1)), jwk("b", &key(2))]);
    assert_eq!(two.authorize(Some(&token), NOW), Err(Refused::UnknownKey));
}

#[test]
fn after_a_reload_the_new_key_counts_and_the_old_one_does_not() {
    let file = jwks_file(&[jwk("a", &key(1))]);
    let policy = policy_with(settings(file.path()));
    let new_token = signed(&with(header(), "kid", json!("b")), &claims(), &key(2));
    assert_eq!(policy.authorize(Some(&new_token), NOW), Err(Refused::UnknownKey));
    write(&file, &[jwk("b", &key(2))]);
    assert_eq!(policy.authorize(Some(&good_token()), NOW), Ok(()), "not before the reload");
    policy.reload().unwrap();
    assert_eq!(policy.authorize(Some(&new_token), NOW), Ok(()));
    assert_eq!(policy.authorize(Some(&good_token()), NOW), Err(Refused::UnknownKey));
}

#[test]
fn a_bad_file_at_reload_is_reported_and_the_old_keys_stay() {
    let file = jwks_file(&[jwk("a", &key(1))]);
    let policy = policy_with(settings(file.path()));
    std::fs::write(file.path(), "{").unwrap();
    let error = policy.reload().unwrap_err().to_string();
    assert!(error.contains(&file.path().display().to_string()), "{error}");
    assert_eq!(policy.authorize(Some(&good_token()), NOW), Ok(()));
}

#[test]
fn keys_of_other_kinds_may_stand_in_the_file_and_are_passed_over() {
    let others = [
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "rsa"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "ed"}),
        json!({"kty": "later", "kid": "later"}),
        with(jwk("p384", &key(3)), "crv", json!("P-384")),
        with(jwk("enc", &key(3)), "use", json!("enc")),
        with(jwk("ecdh", &key(3)), "alg", json!("ECDH-ES")),
        with(jwk("sign", &key(3)), "key_ops", json!(["sign"])),
    ];
    let keys = [&others[..], &[jwk("a", &key(1))]].concat();
    assert_eq!(policy(&keys).authorize(Some(&good_token()), NOW), Ok(()));
    let with_passed_over = signed(&with(header(), "kid", json!("enc")), &claims(), &key(3));
    assert_eq!(policy(&keys).authorize(Some(&with_passed_over), NOW), Err(Refused::UnknownKey));
    assert_eq!(load_error(&others), "has no P-256 key for ES256 signatures");
}

#[test]
fn a_key_file_that_cannot_be_right_is_refused_with_what_is_wrong() {
    let good = || jwk("a", &key(1));
    assert_eq!(load_error(&[]), "has no P-256 key for ES256 signatures");
    assert_eq!(load_error(&[good(), good()]), "has two keys with the kid \"a\"");
    let nameless = without(jwk("b", &key(2)), &["kid"]);
    assert_eq!(load_error(&[good(), nameless]), "has several keys and one of them, entry 1, without a kid");
    let private = with(jwk("b", &key(2)), "d", json!("c2VjcmV0"));
    assert!(load_error(&[good(), private]).starts_with("has a private key in entry 1"));
    let shared = json!({"kty": "oct", "k": "c2VjcmV0"});
    assert!(load_error(&[good(), shared]).starts_with("has a private key in entry 1"));
    for bad in [json!("AA"), json!("!"), json!(URL_SAFE_NO_PAD.encode([7; 32])), json!(null)] {
        let error = load_error(&[with(good(), "x", bad)]);
        assert!(error.starts_with("has in entry 0 a P-256 key that is not a point"), "{error}");
    }
}

#[test]
fn a_key_file_that_is_missing_huge_or_not_json_is_refused_with_its_name() {
    let error = |path: &Path| JwtVerifier::load(settings(path)).unwrap_err().to_string();
    assert!(error(Path::new("/nowhere/jwks.json")).starts_with("the key file /nowhere/jwks.json cannot be read"));
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"keys\": \n\"secret\"}").unwrap();
    let text = error(file.path());
    assert!(text.ends_with("is not a JWK Set, at line 2, column 8"), "{text}");
    std::fs::write(file.path(), vec![b' '; 300_000]).unwrap();
    assert!(error(file.path()).ends_with("is larger than 256 KiB"));
}

#[test]
fn garbage_is_malformed_and_no_error_repeats_it() {
    let huge = "A".repeat(limits::MAX_TOKEN_BYTES);
    let dots = ".".repeat(limits::MAX_TOKEN_BYTES);
    for text in ["hunter2", "..", "a.b", "a.b.c", "e30.e30.e30", "🔑.🔑.🔑", &huge, &dots] {
        let token = OpenToken::new(text.to_owned());
        let refused = usual_policy().authorize(token.as_ref(), NOW).unwrap_err();
        assert_eq!(refused, Refused::Malformed, "{text}");
        assert!(!refused.to_string().contains("hunter2"));
    }
    assert!(OpenToken::new("A".repeat(limits::MAX_TOKEN_BYTES + 1)).is_none(), "the protocol takes no longer one");
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"aud":"handoff","exp":{},"exp":{}}}"#, NOW - 60, NOW + 60);
    let message = format!("{}.{}", part(&header().to_string()), part(&claims));
    let signature: Signature = key(1).sign(message.as_bytes());
    let token = OpenToken::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))).unwrap();
    assert_eq!(usual_policy().authorize(Some(&token), NOW), Err(Refused::Malformed));
}

#[test]
fn debug_output_shows_the_settings_and_no_key() {
    let text = format!("{:?}", usual_policy());
    assert!(text.contains("audience: \"handoff\"") && !text.contains("DecodingKey"), "{text}");
}

proptest! {
    #[test]
    fn any_text_is_refused_without_panic(text in ".{1,200}|([A-Za-z0-9_-]{0,40}\\.){2}[A-Za-z0-9_-]{0,90}") {
        let token = OpenToken::new(text);
        prop_assert!(usual_policy().authorize(token.as_ref(), NOW).is_err());
    }

    #[test]
    fn a_token_with_one_character_changed_is_refused(at: prop::sample::Index, with in "[A-Za-z0-9]") {
        let good = good_token();
        let mut text = good.expose().to_owned();
        let at = at.index(text.len());
        prop_assume!(text.get(at..=at) != Some(with.as_str()));
        text.replace_range(at..=at, &with);
        let changed = OpenToken::new(text);
        prop_assert!(usual_policy().authorize(changed.as_ref(), NOW).is_err());
    }
}
