//! The proximity nonce: bytes that only a device nearby can have (BLE, NFC), mixed into the pre-shared key. Not made
//! here: how it travels is the app's choice.

use std::fmt;
use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use super::ChannelError;
use crate::protocol::qr::Demands;

/// Lengths in bytes: enough to be unguessable, few enough for the `u8` in front of it.
const BYTES: RangeInclusive<usize> = 16..=255;

/// A proximity nonce, or none.
#[derive(Clone)]
pub struct Proximity(Zeroizing<Vec<u8>>);

impl Proximity {
    /// No nonce.
    #[must_use]
    pub fn none() -> Self {
        Self(Zeroizing::default())
    }

    /// A nonce of 16 to 255 bytes.
    ///
    /// # Errors
    /// [`BadProximity`] for any other length, none included.
    pub fn new(nonce: Vec<u8>) -> Result<Self, BadProximity> {
        let nonce = Zeroizing::new(nonce);
        BYTES.contains(&nonce.len()).then_some(Self(nonce)).ok_or(BadProximity)
    }

    /// A demand is met by a nonce, never by going on without.
    pub(super) fn meets(&self, demands: Demands) -> Result<(), ChannelError> {
        let missing = demands.proximity && self.0.is_empty();
        if missing { Err(ChannelError::ProximityMissing) } else { Ok(()) }
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Proximity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proximity([redacted])")
    }
}

/// A nonce that is too short to protect, or too long to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a proximity nonce has 16 to 255 bytes")]
pub struct BadProximity;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_nonce_is_refused_as_a_long_one_is() {
        for length in [0, 1, 15, 256, 1000] {
            assert_eq!(Proximity::new(vec![1; length]).unwrap_err(), BadProximity, "{length}");
        }
        for length in [16, 255] {
            assert_eq!(Proximity::new(vec![1; length]).unwrap().expose().len(), length);
        }
    }
}
