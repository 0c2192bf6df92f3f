//! The enrolment token: the identity-proofing system says who is at this phone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use p256::ecdsa::VerifyingKey;
use serde::Deserialize;
use serde_json::Number;

use super::{BadGrant, Confirmation, OneOrMany, time, within};
use crate::activation::ids::{Thumbprint, UserId};
use crate::jwt::compact::{BadToken, Unverified};
use crate::jwt::jwks::{BadJwks, Keys};

/// Longest `jti`, in bytes.
const MOST_ID_BYTES: usize = 128;

/// Whose signature a token must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrolmentKeys {
    /// The proofing system's: a file with its public keys (RFC 7517).
    File(PathBuf),
    /// The development key's.
    Development(VerifyingKey),
}

impl EnrolmentKeys {
    fn read(&self) -> Result<Keys, BadJwks> {
        match self {
            Self::File(path) => Keys::read(path),
            Self::Development(key) => Ok(Keys::only(key)),
        }
    }
}

/// What a token must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentSettings {
    /// Who signs.
    pub keys: EnrolmentKeys,
    /// What must be among the token's audiences.
    pub audience: String,
    /// Who must have issued it; `None` leaves it to the keys.
    pub issuer: Option<String>,
    /// How far the proofing system's clock may be off.
    pub leeway: Duration,
}

/// Verifies enrolment tokens.
#[derive(Debug)]
pub struct EnrolmentVerifier {
    settings: EnrolmentSettings,
    keys: ArcSwap<Keys>,
}

/// A token that holds; it may have been used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentToken {
    /// Who proved the identity.
    pub user: UserId,
    /// What is used once: issuer and `jti`.
    pub id: String,
    /// From this time on the token is refused for its age.
    pub expires: SystemTime,
    /// The device that it is bound to, if it is.
    pub device: Option<Thumbprint>,
}

#[derive(Deserialize)]
struct Claims {
    sub: UserId,
    aud: OneOrMany,
    iss: Option<String>,
    exp: Number,
    nbf: Option<Number>,
    jti: String,
    cnf: Option<Confirmation>,
}

impl EnrolmentVerifier {
    /// Reads the key file, if there is one.
    ///
    /// # Errors
    /// [`BadJwks`] with what is wrong with it.
    pub fn load(settings: EnrolmentSettings) -> Result<Self, BadJwks> {
        let keys = ArcSwap::from_pointee(settings.keys.read()?);
        Ok(Self { settings, keys })
    }

    /// Reads the key file again. When it is bad, the keys stay as they were.
    ///
    /// # Errors
    /// [`BadJwks`] with what is wrong with it.
    pub fn reload(&self) -> Result<(), BadJwks> {
        self.keys.store(Arc::new(self.settings.keys.read()?));
        Ok(())
    }

    /// Checks a token.
    ///
    /// # Errors
    /// [`BadGrant`] with the first thing that is wrong.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<EnrolmentToken, BadGrant> {
        let token = Unverified::read(token, None)?;
        let keys = self.keys.load();
        let key = keys.select(token.kid.as_deref()).ok_or(BadGrant::UnknownKey)?;
        let claims: Claims = token.claims_by(key)?;
        let is_issuer = self.settings.issuer.is_none() || self.settings.issuer == claims.iss;
        if !is_issuer || !claims.aud.has(&self.settings.audience) {
            return Err(BadGrant::WrongAudience);
        }
        if claims.jti.is_empty() || claims.jti.len() > MOST_ID_BYTES {
            return Err(BadToken::Malformed.into());
        }
        let starts = claims.nbf.as_ref().map(time).transpose()?;
        let expires = within((starts, time(&claims.exp)?), self.settings.leeway, now)?;
        let id = format!("{}\0{}", claims.iss.unwrap_or_default(), claims.jti);
        Ok(EnrolmentToken { user: claims.sub, id, expires, device: claims.cnf.map(|confirmation| confirmation.jkt) })
    }
}
