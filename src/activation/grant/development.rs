//! The development key: signs enrolment tokens where nobody has an identity-proofing system yet. Whoever can read its file
//! is everybody, so that a service takes it beside the development outbox only; that is the wiring's to see to.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::activation::ids::{Thumbprint, UserId};

/// A key pair of this computer.
pub struct DevelopmentKey(SigningKey);

/// Whom a token is for.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// The user on file.
    pub user: &'a UserId,
    /// The one device that may use the token; any without.
    pub device: Option<Thumbprint>,
    /// What must be among the audiences.
    pub audience: &'a str,
    /// Who issues it, if the service asks for somebody.
    pub issuer: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmed>,
}

#[derive(Serialize)]
struct Confirmed {
    jkt: Thumbprint,
}

impl DevelopmentKey {
    /// The pair of these 32 secret bytes; `None` of one among four billion that are no key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(bytes).ok().map(Self)
    }

    /// What a service verifies with.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        *self.0.verifying_key()
    }

    /// A token that lives from now on for this time, in whole seconds; `id` makes it one of its own.
    #[must_use]
    pub fn token(&self, person: &Person<'_>, lifetime: Duration, now: SystemTime, id: [u8; 16]) -> Zeroizing<String> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            sub: person.user.expose(),
            aud: person.audience,
            iss: person.issuer,
            iat: now,
            exp: now.saturating_add(lifetime.as_secs()),
            jti: URL_SAFE_NO_PAD.encode(id),
            cnf: person.device.map(|jkt| Confirmed { jkt }),
        };
        let header = json!({"alg": "ES256", "typ": "JWT"}).to_string();
        // Texts and numbers only: it cannot fail.
        let claims = Zeroizing::new(serde_json::to_vec(&claims).unwrap_or_default());
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.as_slice()));
        let message = Zeroizing::new(message);
        let signature: Signature = self.0.sign(message.as_bytes());
        Zeroizing::new(format!("{}.{}", *message, URL_SAFE_NO_PAD.encode(signature.to_bytes())))
    }
}

impl fmt::Debug for DevelopmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DevelopmentKey([redacted])")
    }
}
