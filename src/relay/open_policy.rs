//! Who may open a session: anyone, or whoever has a token (JWT, RFC 7519) that the app's backend signed.
//!
//! Joining and resuming need no token: what the QR code carries opens those. Tokens are verified with ES256 only, so
//! that no header can choose another algorithm. Everything that is compared here is public, the tokens' signatures
//! included; nothing needs constant time.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;

use crate::jwt::jwks::Keys;
pub use crate::jwt::jwks::{self, BadJwks};
use crate::jwt::whole_seconds;
use crate::protocol::ids::OpenToken;

/// Who may open a session.
#[derive(Debug)]
pub enum OpenPolicy {
    /// Everyone who can connect; for development, and behind a gateway that decides itself.
    Anyone,
    /// Whoever shows a token of the app's backend.
    Jwt(Box<JwtVerifier>),
}

/// Why opening was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No token.
    #[error("the token is missing")]
    Missing,
    /// Not a JWT, or one with parts that this relay does not understand.
    #[error("the token is malformed")]
    Malformed,
    /// Not signed with ES256.
    #[error("the token's algorithm is not ES256")]
    WrongAlgorithm,
    /// No key has the token's `kid`, or it has none and there are several keys.
    #[error("the token's key is not in the key file")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// `exp` or `aud` is missing, or `iss` where one is demanded.
    #[error("the token lacks a claim")]
    ClaimMissing,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Meant for something else.
    #[error("the token's audience is not this relay")]
    WrongAudience,
    /// Issued by somebody else.
    #[error("the token's issuer is not the configured one")]
    WrongIssuer,
}

impl OpenPolicy {
    /// Whether a session may be opened with this token at this time.
    ///
    /// # Errors
    /// [`Refused`] with the reason, for the log; the app hears `unauthorized` and no more.
    pub fn authorize(&self, token: Option<&OpenToken>, now_unix_seconds: u64) -> Result<(), Refused> {
        match self {
            Self::Anyone => Ok(()),
            Self::Jwt(verifier) => verifier.verify(token.ok_or(Refused::Missing)?, now_unix_seconds),
        }
    }

    /// Reads the key file again. When it is bad, the keys stay as they were.
    ///
    /// # Errors
    /// [`BadJwks`] with what is wrong with the file.
    pub fn reload(&self) -> Result<(), BadJwks> {
        match self {
            Self::Anyone => Ok(()),
            Self::Jwt(verifier) => verifier.reload(),
        }
    }
}

/// What a token must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// The file with the backend's public keys (RFC 7517).
    pub jwks_file: PathBuf,
    /// What must be among the token's audiences.
    pub audience: String,
    /// Who must have issued it; `None` leaves it to the keys.
    pub issuer: Option<String>,
    /// How far the backend's clock may be off.
    pub leeway: Duration,
}

/// Verifies tokens with the keys of one file.
pub struct JwtVerifier {
    settings: JwtSettings,
    validation: Validation,
    keys: ArcSwap<Keys>,
}

/// The claims that are checked here and not by `jsonwebtoken`, which would ask the system's clock.
#[derive(Deserialize)]
struct Claims {
    exp: serde_json::Number,
    nbf: Option<serde_json::Number>,
}

impl JwtVerifier {
    /// Reads the key file.
    ///
    /// # Errors
    /// [`BadJwks`] with what is wrong with the file.
    pub fn load(settings: JwtSettings) -> Result<Self, BadJwks> {
        crate::jwt::install();
        let keys = ArcSwap::from_pointee(Keys::read(&settings.jwks_file)?);
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_audience(&[&settings.audience]);
        validation.set_required_spec_claims(&["exp", "aud"]);
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        Ok(Self { settings, validation, keys })
    }

    /// Reads the key file again. When it is bad, the keys stay as they were.
    ///
    /// # Errors
    /// [`BadJwks`] with what is wrong with the file.
    pub fn reload(&self) -> Result<(), BadJwks> {
        let keys = Keys::read(&self.settings.jwks_file)?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    fn verify(&self, token: &OpenToken, now: u64) -> Result<(), Refused> {
        // An algorithm that `jsonwebtoken` does not know, `none` first of all, does not even decode.
        let header = decode_header(token.expose()).map_err(|_| Refused::Malformed)?;
        if header.alg != Algorithm::ES256 {
            return Err(Refused::WrongAlgorithm);
        }
        // RFC 7515 section 4.1.11: extensions that are not understood must be refused. None is.
        if header.crit.is_some() {
            return Err(Refused::Malformed);
        }
        let keys = self.keys.load();
        let key = keys.select(header.kid.as_deref()).ok_or(Refused::UnknownKey)?;
        let token = decode::<Claims>(token.expose(), key, &self.validation).map_err(|error| refused(error.kind()))?;
        self.check_time(&token.claims, now)
    }

    fn check_time(&self, claims: &Claims, now: u64) -> Result<(), Refused> {
        let leeway = self.settings.leeway.as_secs();
        let expires = whole_seconds(&claims.exp).ok_or(Refused::Malformed)?;
        // RFC 7519 section 4.1.4: on or after this time the token must not be accepted.
        if now >= expires.saturating_add(leeway) {
            return Err(Refused::Expired);
        }
        if let Some(not_before) = &claims.nbf {
            let starts = whole_seconds(not_before).ok_or(Refused::Malformed)?;
            if now.saturating_add(leeway) < starts {
                return Err(Refused::NotYetValid);
            }
        }
        Ok(())
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all the rest is one thing to us")]
fn refused(error: &ErrorKind) -> Refused {
    match error {
        ErrorKind::InvalidSignature => Refused::BadSignature,
        ErrorKind::InvalidAlgorithm => Refused::WrongAlgorithm,
        ErrorKind::InvalidAudience => Refused::WrongAudience,
        ErrorKind::InvalidIssuer => Refused::WrongIssuer,
        ErrorKind::MissingRequiredClaim(_) => Refused::ClaimMissing,
        _ => Refused::Malformed,
    }
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier").field("settings", &self.settings).finish_non_exhaustive()
    }
}
