//! Signatures of webhooks, in both directions: what goes to the push service, and delivery reports of adapters.
//!
//! The form of the Standard Webhooks specification, for which there are libraries in most languages: the headers
//! `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature`, which is `v1,` and the base64 of
//! HMAC-SHA256 over id, timestamp and body with full stops between them. A receiver checks the time, and drops an id that
//! it has seen. Not the place where anything is sent.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// How far the clocks of both sides may be apart, transport included.
pub const TOLERANCE: Duration = Duration::from_mins(5);

/// The key that both sides have; zeroized, never printed.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

/// The signature is wrong, or too old, or from the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not valid")]
pub struct BadSignature;

/// The three headers.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp: &'a str,
    /// `webhook-signature`: one or several, with spaces between them.
    pub signature: &'a str,
}

impl SigningKey {
    /// A key of 32 bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The value of `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, at: SystemTime, body: &[u8]) -> String {
        let mac = self.mac(id, &seconds(at).to_string(), body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// Whether one of the signatures is this key's, and fresh.
    ///
    /// # Errors
    /// [`BadSignature`] if not.
    pub fn verify(&self, signed: Signed<'_>, body: &[u8], now: SystemTime) -> Result<(), BadSignature> {
        let at: u64 = signed.timestamp.parse().map_err(|_| BadSignature)?;
        if at.abs_diff(seconds(now)) > TOLERANCE.as_secs() {
            return Err(BadSignature);
        }
        let mac = self.mac(signed.id, signed.timestamp, body);
        let candidates = signed.signature.split(' ').filter_map(|part| STANDARD.decode(part.strip_prefix("v1,")?).ok());
        let mut candidates = candidates.take(4);
        candidates.any(|bytes| mac.clone().verify_slice(&bytes).is_ok()).then_some(()).ok_or(BadSignature)
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| Hmac::new(&[0; 64].into()));
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"test\": 2432232314}";

    fn key() -> SigningKey {
        SigningKey::new(*b"0123456789abcdef0123456789abcdef")
    }

    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_614_265_330)
    }

    #[test]
    fn the_signature_is_hmac_sha256_over_id_time_and_body() {
        // Python: base64.b64encode(hmac.digest(b"0123456789abcdef0123456789abcdef",
        // b'msg_1.1614265330.{"test": 2432232314}', "sha256"))
        assert_eq!(key().sign("msg_1", at(), BODY), "v1,aTF4+pE6A/FmvKM0YSVBBUfRhLIlBiaBUR+EjGls6Mc=");
    }

    #[test]
    fn what_was_signed_is_verified_and_nothing_else() {
        let signature = key().sign("msg_1", at(), BODY);
        let signed = Signed { id: "msg_1", timestamp: "1614265330", signature: &signature };
        assert_eq!(key().verify(signed, BODY, at()), Ok(()));
        assert_eq!(SigningKey::new([0; 32]).verify(signed, BODY, at()), Err(BadSignature));
        assert_eq!(key().verify(signed, b"{}", at()), Err(BadSignature));
        assert_eq!(key().verify(Signed { id: "msg_2", ..signed }, BODY, at()), Err(BadSignature));
        assert_eq!(key().verify(Signed { timestamp: "1614265331", ..signed }, BODY, at()), Err(BadSignature));
        for signature in ["", "v1,", "v1", signature.strip_prefix("v1,").unwrap(), &signature.replace("v1", "v2")] {
            assert_eq!(key().verify(Signed { signature, ..signed }, BODY, at()), Err(BadSignature), "{signature}");
        }
    }

    #[test]
    fn one_of_several_signatures_is_enough_so_that_keys_can_be_replaced() {
        let several = format!("{} {}", SigningKey::new([0; 32]).sign("a", at(), BODY), key().sign("a", at(), BODY));
        let signed = Signed { id: "a", timestamp: "1614265330", signature: &several };
        assert_eq!(key().verify(signed, BODY, at()), Ok(()));
    }

    #[test]
    fn a_signature_is_good_for_five_minutes_on_either_side() {
        let signature = key().sign("a", at(), BODY);
        let signed = Signed { id: "a", timestamp: "1614265330", signature: &signature };
        let second = Duration::from_secs(1);
        assert_eq!(key().verify(signed, BODY, at() + TOLERANCE), Ok(()));
        assert_eq!(key().verify(signed, BODY, at() - TOLERANCE), Ok(()));
        assert_eq!(key().verify(signed, BODY, at() + TOLERANCE + second), Err(BadSignature));
        assert_eq!(key().verify(signed, BODY, at() - TOLERANCE - second), Err(BadSignature));
        assert_eq!(key().verify(Signed { timestamp: "soon", ..signed }, BODY, at()), Err(BadSignature));
    }
}
