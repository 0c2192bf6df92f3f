//! The copy grant: an active app, or a phone whose person has just proved an identity, says that the phone which it has
//! just handed over to may become an app of the same user.
//!
//! It is what travels as the credential of such a handoff, and names new's key and the handoff itself (th2), so that it
//! is worth nothing on any other phone or after any other handoff. Time and randomness are passed in.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::proof::{jwk, seconds, thumbprint};
use super::server::wall;
use crate::client::payload::Payload;
use crate::crypto::{Binding, Credential, DeviceKey};

/// The `typ` of a copy grant.
const TYPE: &str = "handoff-copy+jwt";

/// How long a grant is good: as long as the server allows, for the new app has to get through to it.
const LIFETIME_SECONDS: u64 = 300;

/// Longest grant in bytes: as the server has it.
const MOST_BYTES: usize = 6 * 1024;

/// Longest enrolment token in bytes: inside a grant a third longer, beside some 500 bytes.
const MOST_TOKEN_BYTES: usize = 4 * 1024;

/// A phone whose person has just proved an identity to help somebody: it grants one copy and has no app of its own.
/// Nothing of it needs to be kept.
#[derive(Clone)]
pub struct EnrolledPhone {
    key: DeviceKey,
    token: Zeroizing<String>,
}

impl std::fmt::Debug for EnrolledPhone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnrolledPhone([redacted])")
    }
}

/// Why an enrolment token lets this phone grant nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEnrolmentToken {
    /// Something else.
    #[error("this is not an enrolment token")]
    Malformed,
    /// It would not fit into a grant.
    #[error("the enrolment token has more than {MOST_TOKEN_BYTES} bytes")]
    TooLong,
    /// It names another phone's key, or none.
    #[error("the enrolment token is not for this phone")]
    OtherDevice,
}

/// A grant that came through a handoff, and that handoff's transcript.
#[derive(Clone)]
pub struct CopyGrant {
    pub(super) grant: Zeroizing<String>,
    /// In base64url.
    pub(super) th2: String,
}

impl std::fmt::Debug for CopyGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CopyGrant([redacted])")
    }
}

/// Why what came through a handoff cannot be used to be activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGrant {
    /// Something else was handed over.
    #[error("what was handed over is not a copy grant")]
    Other,
    /// It names another phone or another handoff: the old app is broken, or somebody stands between.
    #[error("the copy grant is not for this phone and this handoff")]
    NotForThis,
}

#[derive(Deserialize)]
struct Header {
    typ: String,
}

#[derive(Deserialize)]
struct TokenClaims {
    cnf: Option<Confirmation>,
}

#[derive(Deserialize)]
struct Claims {
    cnf: Confirmation,
    th2: String,
}

#[derive(Deserialize)]
struct Confirmation {
    jkt: String,
}

/// A grant by the app of this id, signed with its registered key.
pub(super) fn sign(app: &str, key: &DeviceKey, binding: &Binding, now: SystemTime, random: [u8; 16]) -> String {
    let header = json!({"typ": TYPE, "alg": "ES256", "kid": app});
    key.jws(&header.to_string(), &Value::Object(claims(binding, now, random)).to_string())
}

fn claims(binding: &Binding, now: SystemTime, random: [u8; 16]) -> Map<String, Value> {
    let issued = seconds(now);
    let claims = [
        ("cnf", json!({"jkt": thumbprint(binding.device_key())})),
        ("th2", json!(URL_SAFE_NO_PAD.encode(binding.transcript()))),
        ("iat", json!(issued)),
        ("exp", json!(issued.saturating_add(LIFETIME_SECONDS))),
        ("jti", json!(URL_SAFE_NO_PAD.encode(random))),
    ];
    claims.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// A part of a token in its compact form.
fn part<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&Zeroizing::new(URL_SAFE_NO_PAD.decode(part).ok()?)).ok()
}

impl EnrolledPhone {
    /// With the token that the identity-proofing system has issued for this key ([`thumbprint`]), which was made for it.
    ///
    /// # Errors
    /// [`BadEnrolmentToken`]. The signature is the server's to check.
    pub fn new(key: DeviceKey, token: &str) -> Result<Self, BadEnrolmentToken> {
        if token.len() > MOST_TOKEN_BYTES {
            return Err(BadEnrolmentToken::TooLong);
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [_, claims, _] = parts[..] else { return Err(BadEnrolmentToken::Malformed) };
        let claims: TokenClaims = part(claims).ok_or(BadEnrolmentToken::Malformed)?;
        if claims.cnf.is_none_or(|named| named.jkt != thumbprint(&key.public())) {
            return Err(BadEnrolmentToken::OtherDevice);
        }
        Ok(Self { key, token: Zeroizing::new(token.to_owned()) })
    }

    /// What this phone hands over so that the other one may become an app of whoever has proved the identity: a grant that
    /// is made, and dated, when the check code was right. The token serves once.
    #[must_use]
    pub fn grant_copy(&self) -> Payload {
        let phone = self.clone();
        Payload::bound(move |binding: &Binding| {
            Credential::new(phone.sign(binding, wall(), rand::random()).into_bytes())
        })
    }

    pub(super) fn sign(&self, binding: &Binding, now: SystemTime, random: [u8; 16]) -> String {
        let header = json!({"typ": TYPE, "alg": "ES256", "jwk": jwk(&self.key.public())});
        let mut claims = claims(binding, now, random);
        claims.insert("enrolment".to_owned(), json!(*self.token));
        self.key.jws(&header.to_string(), &Value::Object(claims).to_string())
    }
}

impl CopyGrant {
    /// What a handoff brought. The signature is the server's to check: this app does not know the old one's key.
    ///
    /// # Errors
    /// [`BadGrant`].
    pub fn received(credential: &[u8], binding: &Binding) -> Result<Self, BadGrant> {
        if credential.len() > MOST_BYTES {
            return Err(BadGrant::Other);
        }
        let text = std::str::from_utf8(credential).map_err(|_| BadGrant::Other)?;
        let parts: Vec<&str> = text.split('.').collect();
        let [header, claims, _] = parts[..] else { return Err(BadGrant::Other) };
        let header: Header = part(header).ok_or(BadGrant::Other)?;
        if !header.typ.eq_ignore_ascii_case(TYPE) {
            return Err(BadGrant::Other);
        }
        let claims: Claims = part(claims).ok_or(BadGrant::Other)?;
        let th2 = URL_SAFE_NO_PAD.encode(binding.transcript());
        if claims.th2 != th2 || claims.cnf.jkt != thumbprint(binding.device_key()) {
            return Err(BadGrant::NotForThis);
        }
        Ok(Self { grant: Zeroizing::new(text.to_owned()), th2 })
    }
}
