//! What proves that a request comes from the device that it says: DPoP (RFC 9449), a token in a header, signed with the
//! device's key over method, address, time and a number that is used once.
//!
//! Not RFC 9421, whose signatures over any part of a message need a canonical form of headers on every phone platform;
//! DPoP is a JWT, which all have. It does not cover the body, and need not: TLS does, from the same device. Whether a
//! proof was seen before is the registry's to say.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Number;
use url::Url;

use super::ids::{DeviceKey, Thumbprint};
use crate::jwt::compact::{BadToken, Unverified};
use crate::jwt::whole_seconds;

/// The header that a proof travels in.
pub const HEADER: &str = "DPoP";

/// How far a device's clock may be off, either way. Phones with a clock set by hand are off by minutes.
pub const MOST_SKEW: Duration = Duration::from_mins(5);

/// Longest `jti`, in bytes.
const MOST_ID_BYTES: usize = 128;

/// A proof that holds; it may have been seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The device's key.
    pub key: DeviceKey,
    /// What names the key.
    pub device: Thumbprint,
    /// What is used once.
    pub id: String,
    /// From this time on the proof is refused for its age.
    pub expires: SystemTime,
}

/// What a proof must be for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The path, without a query.
    pub path: &'a str,
    /// Host and port as the device sees them.
    pub host: &'a str,
    /// `https`, if it is known that the device sees it so; a proxy may have taken TLS off.
    pub scheme: Option<&'a str>,
}

/// Why a proof is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// There is none.
    #[error("the proof of the device key is missing")]
    Missing,
    /// Not a proof.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// For another request.
    #[error("the proof is for another request")]
    OtherRequest,
    /// Too old, or from the future.
    #[error("the proof's time is off by more than five minutes")]
    WrongTime,
}

#[derive(Deserialize)]
struct Claims {
    htm: String,
    htu: String,
    iat: Number,
    jti: String,
}

/// Checks a proof against the request that it came with.
///
/// # Errors
/// [`BadProof`] with the first thing that is wrong.
pub fn check(proof: Option<&str>, request: &Request<'_>, now: SystemTime) -> Result<Proof, BadProof> {
    let token = Unverified::read(proof.ok_or(BadProof::Missing)?, Some("dpop+jwt"))?;
    let jwk = token.jwk.as_ref().ok_or(BadToken::Malformed)?;
    let key = DeviceKey::from_coordinates(&jwk.x, &jwk.y).map_err(|_| BadToken::Malformed)?;
    let claims: Claims = token.claims(key.verifying_key())?;
    if claims.htm != request.method || !is_address(&claims.htu, request) {
        return Err(BadProof::OtherRequest);
    }
    if claims.jti.is_empty() || claims.jti.len() > MOST_ID_BYTES {
        return Err(BadToken::Malformed.into());
    }
    let issued = whole_seconds(&claims.iat).map(Duration::from_secs).ok_or(BadToken::Malformed)?;
    let issued = SystemTime::UNIX_EPOCH.checked_add(issued).ok_or(BadToken::Malformed)?;
    let skew = now.duration_since(issued).unwrap_or_else(|ahead| ahead.duration());
    let expires = issued.checked_add(MOST_SKEW).ok_or(BadToken::Malformed)?;
    if skew >= MOST_SKEW {
        return Err(BadProof::WrongTime);
    }
    Ok(Proof { key, device: Thumbprint::of(&key), id: claims.jti, expires })
}

/// RFC 9449 section 4.3: compared after normalisation, without query and fragment.
fn is_address(written: &str, request: &Request<'_>) -> bool {
    let Ok(written) = Url::parse(written) else { return false };
    let scheme = written.scheme();
    let is_scheme = request.scheme.map_or(scheme == "https" || scheme == "http", |known| known == scheme);
    // Parsed the same way, so that upper case and default ports are the same for both.
    let Ok(own) = Url::parse(&format!("{scheme}://{}{}", request.host, request.path)) else { return false };
    is_scheme
        && written.host() == own.host()
        && written.port_or_known_default() == own.port_or_known_default()
        && written.path() == own.path()
        && written.username().is_empty()
        && written.password().is_none()
}

#[cfg(test)]
pub(crate) mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use p256::ecdsa::signature::Signer as _;
    use p256::ecdsa::{Signature, SigningKey};
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn jws(header: &Value, claims: &Value, key: &SigningKey) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature: Signature = key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    pub(crate) fn device_key(key: &SigningKey) -> DeviceKey {
        DeviceKey::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap()
    }

    pub(crate) fn jwk(key: &SigningKey) -> Value {
        let (x, y) = device_key(key).coordinates();
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_slice(&[seed; 32]).unwrap()
    }

    const NOW: u64 = 1_800_000_000;
    const REQUEST: Request<'static> =
        Request { method: "PUT", path: "/v1/activations/7/user-id", host: "api.example:8443", scheme: None };

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn header() -> Value {
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk(&key(1))})
    }

    fn claims() -> Value {
        json!({"htm": "PUT", "htu": "https://api.example:8443/v1/activations/7/user-id", "iat": NOW, "jti": "a1"})
    }

    fn with(mut value: Value, name: &str, member: Value) -> Value {
        value[name] = member;
        value
    }

    fn checked(header: &Value, claims: &Value) -> Result<Proof, BadProof> {
        check(Some(&jws(header, claims, &key(1))), &REQUEST, now())
    }

    #[test]
    fn a_good_proof_names_the_device() {
        let expected = Proof {
            key: device_key(&key(1)),
            device: Thumbprint::of(&device_key(&key(1))),
            id: "a1".to_owned(),
            expires: now() + MOST_SKEW,
        };
        assert_eq!(checked(&header(), &claims()), Ok(expected));
    }

    #[test]
    fn a_proof_of_another_key_method_path_host_or_scheme_is_refused() {
        let other_key = jws(&header(), &claims(), &key(2));
        assert_eq!(check(Some(&other_key), &REQUEST, now()), Err(BadToken::BadSignature.into()));
        for (name, value) in [
            ("htm", "GET"),
            ("htm", "put"),
            ("htu", "https://api.example:8443/v1/activations/8/user-id"),
            ("htu", "https://api.example/v1/activations/7/user-id"),
            ("htu", "https://evil.example:8443/v1/activations/7/user-id"),
            ("htu", "https://api.example:8443@evil.example/v1/activations/7/user-id"),
            ("htu", "ftp://api.example:8443/v1/activations/7/user-id"),
            ("htu", "/v1/activations/7/user-id"),
        ] {
            let claims = with(claims(), name, json!(value));
            assert_eq!(checked(&header(), &claims), Err(BadProof::OtherRequest), "{name} {value}");
        }
        let plain = with(claims(), "htu", json!("http://api.example:8443/v1/activations/7/user-id"));
        assert!(checked(&header(), &plain).is_ok(), "a proxy may have taken TLS off");
        let known = Request { scheme: Some("https"), ..REQUEST };
        let proof = jws(&header(), &plain, &key(1));
        assert_eq!(check(Some(&proof), &known, now()), Err(BadProof::OtherRequest));
    }

    #[test]
    fn a_query_upper_case_and_a_default_port_make_no_difference() {
        let request = Request { host: "api.example", ..REQUEST };
        for address in
            ["https://API.example:443/v1/activations/7/user-id?x=1#y", "https://api.example/v1/activations/7/user-id"]
        {
            let proof = jws(&header(), &with(claims(), "htu", json!(address)), &key(1));
            assert!(check(Some(&proof), &request, now()).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_clock_may_be_off_by_almost_five_minutes() {
        for (offset, is_good) in [(-299, true), (299, true), (-300, false), (300, false), (-86_400, false)] {
            let issued = NOW.checked_add_signed(offset).unwrap();
            let outcome = checked(&header(), &with(claims(), "iat", json!(issued)));
            let is_expected = if is_good { outcome.is_ok() } else { outcome == Err(BadProof::WrongTime) };
            assert!(is_expected, "{offset} {outcome:?}");
            // Who remembers it so long never takes it twice.
            let is_remembered = outcome.is_ok_and(|proof| proof.expires > now());
            assert_eq!(is_remembered, is_good);
        }
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        assert_eq!(check(None, &REQUEST, now()), Err(BadProof::Missing));
        for text in ["", ".", "..", "a.b.c", "e30.e30.e30", &"a".repeat(10_000)] {
            assert_eq!(check(Some(text), &REQUEST, now()), Err(BadToken::Malformed.into()), "{text}");
        }
        let refused = |header: Value| checked(&header, &claims()).unwrap_err();
        assert_eq!(refused(with(header(), "typ", json!("JWT"))), BadToken::WrongType.into());
        assert_eq!(refused(with(header(), "alg", json!("none"))), BadToken::WrongAlgorithm.into());
        assert_eq!(refused(with(header(), "alg", json!("HS256"))), BadToken::WrongAlgorithm.into());
        assert_eq!(refused(with(header(), "crit", json!(["exp"]))), BadToken::Malformed.into());
        assert_eq!(refused(with(header(), "jwk", json!(null))), BadToken::Malformed.into());
        let private = with(jwk(&key(1)), "d", json!("AQ"));
        assert_eq!(refused(with(header(), "jwk", private)), BadToken::PrivateKey.into());
        let curve = with(jwk(&key(1)), "crv", json!("P-384"));
        assert_eq!(refused(with(header(), "jwk", curve)), BadToken::WrongAlgorithm.into());
        for (name, value) in
            [("jti", json!("")), ("jti", json!("a".repeat(129))), ("iat", json!(-1)), ("iat", json!("x"))]
        {
            let outcome = checked(&header(), &with(claims(), name, value.clone()));
            assert_eq!(outcome, Err(BadToken::Malformed.into()), "{name} {value}");
        }
    }
}
