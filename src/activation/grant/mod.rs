//! What lets an activation begin: an enrolment token of the identity-proofing system, or a copy grant of a device.
//!
//! Both are JWTs that are used once. Whether one was used before, and whether the app that signed a grant is active, is
//! the registry's to say; so is who the user is.

mod copy;
mod development;
mod enrolment;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use serde_json::Number;

pub use copy::{CopyGrant, GRANT_TYPE, LONGEST_GRANT, Signer, UnverifiedGrant};
pub use development::{DevelopmentKey, Person};
pub use enrolment::{EnrolmentKeys, EnrolmentSettings, EnrolmentToken, EnrolmentVerifier};

use crate::jwt::compact::BadToken;
use crate::jwt::whole_seconds;

/// Why a token or a grant is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGrant {
    /// Not a token, or its signature is wrong.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// No key has the token's `kid`, or it has none and there are several keys.
    #[error("the token's key is not in the key file")]
    UnknownKey,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A grant that would live too long.
    #[error("a copy grant may live for five minutes at most")]
    TooLong,
    /// Meant for something else.
    #[error("the token's audience or issuer is another one")]
    WrongAudience,
    /// For another device, or by another than the token names.
    #[error("the token is bound to another device key")]
    OtherDevice,
    /// For another handoff.
    #[error("the grant is of another handoff")]
    OtherHandoff,
}

/// A claim that is one text or a list of them.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(text) => text == wanted,
            Self::Many(texts) => texts.iter().any(|text| text == wanted),
        }
    }
}

/// What a token confirms a key with (RFC 7800, RFC 9449 section 6.1).
#[derive(serde::Deserialize)]
struct Confirmation {
    jkt: super::ids::Thumbprint,
}

fn time(date: &Number) -> Result<SystemTime, BadGrant> {
    let since = whole_seconds(date).map(Duration::from_secs).ok_or(BadToken::Malformed)?;
    Ok(SystemTime::UNIX_EPOCH.checked_add(since).ok_or(BadToken::Malformed)?)
}

/// The time until when the token is remembered, if now is within its time.
fn within(
    (starts, expires): (Option<SystemTime>, SystemTime),
    leeway: Duration,
    now: SystemTime,
) -> Result<SystemTime, BadGrant> {
    let expires = expires.checked_add(leeway).ok_or(BadToken::Malformed)?;
    if now >= expires {
        return Err(BadGrant::Expired);
    }
    let latest = now.checked_add(leeway).unwrap_or(now);
    if starts.is_some_and(|starts| latest < starts) { Err(BadGrant::NotYetValid) } else { Ok(expires) }
}
