//! What an app signs: the proof of its device key in every request (DPoP, RFC 9449). Time and randomness are passed in.
//! For an app that has its own way to the server; [`super::Server`] does all this itself.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::crypto::DeviceKey;

/// The header that a proof travels in.
pub const PROOF_HEADER: &str = "DPoP";

/// A proof for one request: the method in upper case, the address without a query, 16 random bytes. It serves once.
#[must_use]
pub fn proof(key: &DeviceKey, (method, url): (&str, &str), now: SystemTime, random: [u8; 16]) -> String {
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk(&key.public())});
    let claims = json!({"htm": method, "htu": url, "iat": seconds(now), "jti": URL_SAFE_NO_PAD.encode(random)});
    key.jws(&header.to_string(), &claims.to_string())
}

/// Whole seconds since 1970, as tokens have them.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// What names a device key: the SHA-256 of its JWK's required members (RFC 7638), in base64url. Of an uncompressed point.
#[must_use]
pub fn thumbprint(public: &[u8]) -> String {
    let (x, y) = coordinates(public);
    // RFC 7638 section 3.2: in lexicographic order, without spaces.
    let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(jwk))
}

/// A public key as a JWK (RFC 7518 section 6.2.1).
pub(super) fn jwk(public: &[u8]) -> Value {
    let (x, y) = coordinates(public);
    json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
}

fn coordinates(public: &[u8]) -> (String, String) {
    let coordinate = |range| URL_SAFE_NO_PAD.encode(public.get(range).unwrap_or_default());
    (coordinate(1..33), coordinate(33..65))
}
