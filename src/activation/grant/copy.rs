//! The copy grant: a device that may says that a new device may become an app of the same user.
//!
//! It is signed by an active app with its registered key, which `kid` names; or by the phone that has just proved the
//! identity, whose key the enrolment token in it names, and which need not have an app of its own. It names the new
//! device's key and the handoff's transcript, so that it is worth nothing on any other device or after any other handoff.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Number;

use super::{BadGrant, Confirmation, time, within};
use crate::activation::ids::{AppId, DeviceKey, Thumbprint};
use crate::jwt::compact::{BadToken, Unverified};

/// The `typ` of a copy grant.
pub const GRANT_TYPE: &str = "handoff-copy+jwt";

/// How long a grant may live, by its own claims.
pub const LONGEST_GRANT: Duration = Duration::from_mins(5);

/// How far the signing phone's clock may be off; its proofs tell it when it is off by more.
const LEEWAY: Duration = Duration::from_mins(1);

/// Longest `jti`, in bytes.
const MOST_ID_BYTES: usize = 128;

/// Who signed a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// An app that must be active, with the key that is in the registry.
    App(AppId),
    /// The phone that has just proved the identity, with the key in the grant's header. The enrolment token in the grant
    /// must name it.
    EnrollingPhone(DeviceKey),
}

/// A grant whose signature was not looked at yet.
#[derive(Clone, Debug)]
pub struct UnverifiedGrant<'a> {
    token: Unverified<'a>,
    /// Who is said to have signed it.
    pub signer: Signer,
}

/// A grant that holds; it may have been used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyGrant {
    /// What is used once; unique for its signer.
    pub id: String,
    /// From this time on the grant is refused for its age.
    pub expires: SystemTime,
    /// The enrolment token of the enrolling phone.
    pub enrolment: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    cnf: Confirmation,
    th2: String,
    iat: Number,
    exp: Number,
    jti: String,
    enrolment: Option<String>,
}

impl<'a> UnverifiedGrant<'a> {
    /// Reads who is said to have signed it.
    ///
    /// # Errors
    /// [`BadGrant`] if it is no grant.
    pub fn read(grant: &'a str) -> Result<Self, BadGrant> {
        let token = Unverified::read(grant, Some(GRANT_TYPE))?;
        let signer = match (&token.kid, &token.jwk) {
            (Some(kid), None) => Signer::App(kid.parse().map_err(|_| BadToken::Malformed)?),
            (None, Some(jwk)) => {
                let key = DeviceKey::from_coordinates(&jwk.x, &jwk.y).map_err(|_| BadToken::Malformed)?;
                Signer::EnrollingPhone(key)
            }
            (Some(_), Some(_)) | (None, None) => return Err(BadToken::Malformed.into()),
        };
        Ok(Self { token, signer })
    }

    /// Checks the grant for a new device after a handoff with this transcript (`th2`). `key` is the signer's.
    ///
    /// # Errors
    /// [`BadGrant`] with the first thing that is wrong.
    pub fn verify(
        &self,
        key: &DeviceKey,
        (device, transcript): (Thumbprint, &[u8; 32]),
        now: SystemTime,
    ) -> Result<CopyGrant, BadGrant> {
        let claims: Claims = self.token.claims(key.verifying_key())?;
        let (issued, expires) = (time(&claims.iat)?, time(&claims.exp)?);
        if expires.duration_since(issued).is_ok_and(|life| life > LONGEST_GRANT) {
            return Err(BadGrant::TooLong);
        }
        let expires = within((Some(issued), expires), LEEWAY, now)?;
        if claims.cnf.jkt != device {
            return Err(BadGrant::OtherDevice);
        }
        if URL_SAFE_NO_PAD.decode(&claims.th2).is_ok_and(|written| written != transcript) {
            return Err(BadGrant::OtherHandoff);
        }
        let is_from_app = matches!(self.signer, Signer::App(_));
        let is_good = (1..=MOST_ID_BYTES).contains(&claims.jti.len())
            && is_from_app == claims.enrolment.is_none()
            && URL_SAFE_NO_PAD.decode(&claims.th2).is_ok();
        if !is_good {
            return Err(BadToken::Malformed.into());
        }
        Ok(CopyGrant { id: claims.jti, expires, enrolment: claims.enrolment })
    }
}
