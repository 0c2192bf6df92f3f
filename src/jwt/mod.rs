//! What verifying JSON Web Tokens takes: ES256, and key files. What a token says is its reader's business.

pub mod compact;
mod es256;
pub mod jwks;

use std::time::Duration;

pub use es256::install;

/// A `NumericDate` (RFC 7519 section 2), which may have a fraction, in whole seconds since 1970.
#[must_use]
pub fn whole_seconds(date: &serde_json::Number) -> Option<u64> {
    let fractional = || Duration::try_from_secs_f64(date.as_f64()?).ok();
    date.as_u64().or_else(|| fractional().map(|since_epoch| since_epoch.as_secs()))
}
