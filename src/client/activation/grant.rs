//! The copy grant: an active app says that the phone which it has just handed over to may become an app of the same user.
//!
//! It is what travels as the credential of such a handoff, and names new's key and the handoff itself (th2), so that it
//! is worth nothing on any other phone or after any other handoff. Time and randomness are passed in.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::proof::{seconds, thumbprint};
use crate::crypto::{Binding, DeviceKey};

/// The `typ` of a copy grant.
const TYPE: &str = "handoff-copy+jwt";

/// How long a grant is good: as long as the server allows, for the new app has to get through to it.
const LIFETIME_SECONDS: u64 = 300;

/// Longest grant in bytes: as the server has it.
const MOST_BYTES: usize = 6 * 1024;

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
    let issued = seconds(now);
    let header = json!({"typ": TYPE, "alg": "ES256", "kid": app});
    let claims = json!({
        "cnf": {"jkt": thumbprint(binding.device_key())},
        "th2": URL_SAFE_NO_PAD.encode(binding.transcript()),
        "iat": issued,
        "exp": issued.saturating_add(LIFETIME_SECONDS),
        "jti": URL_SAFE_NO_PAD.encode(random),
    });
    key.jws(&header.to_string(), &claims.to_string())
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
        let read = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| BadGrant::Other);
        let header: Header = serde_json::from_slice(&read(header)?).map_err(|_| BadGrant::Other)?;
        if !header.typ.eq_ignore_ascii_case(TYPE) {
            return Err(BadGrant::Other);
        }
        let claims: Claims = serde_json::from_slice(&read(claims)?).map_err(|_| BadGrant::Other)?;
        let th2 = URL_SAFE_NO_PAD.encode(binding.transcript());
        if claims.th2 != th2 || claims.cnf.jkt != thumbprint(binding.device_key()) {
            return Err(BadGrant::NotForThis);
        }
        Ok(Self { grant: Zeroizing::new(text.to_owned()), th2 })
    }
}
