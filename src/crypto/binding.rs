//! What ties a statement to one handoff, for apps whose credential is a signed statement. Not the statement itself.

use super::device::DevicePublicKey;
use super::opaque;
use super::schedule::Digest;

/// One handoff and the device that takes part in it, the same on both phones. Nothing here is secret, but it is nobody
/// else's business.
#[derive(Clone, PartialEq, Eq)]
pub struct Binding {
    transcript: Digest,
    device_key: Vec<u8>,
}

impl Binding {
    pub(super) fn new(transcript: Digest, device_key: &DevicePublicKey) -> Self {
        Self { transcript, device_key: device_key.encode() }
    }

    /// The hash of all that was said before the check code, th2 in docs/protocol.md: 32 bytes.
    #[must_use]
    pub fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }

    /// The new device's signing key: SEC1, uncompressed, 65 bytes.
    #[must_use]
    pub fn device_key(&self) -> &[u8] {
        &self.device_key
    }
}

opaque!(Binding);
