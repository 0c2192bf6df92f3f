//! The two devices: what each tells the other about itself, and new's signing key. Not an identity: whoever scanned
//! the QR code can claim any model.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::elliptic_curve::Generate as _;
use rand::CryptoRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::ChannelError;

/// Most bytes of a model name or a version.
const MAX_TEXT_BYTES: usize = 64;

/// Length of an uncompressed P-256 point.
const PUBLIC_KEY_BYTES: usize = 65;

/// Length of a signature: r and s.
pub(super) const SIGNATURE_BYTES: usize = 64;

/// What an app tells the other about the device it runs on, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    model: String,
    version: String,
}

impl DeviceInfo {
    /// Checks both texts: at most 64 bytes each, no control characters.
    ///
    /// # Errors
    /// [`BadDeviceInfo`] if one of them is longer or has a control character.
    pub fn new(model: impl Into<String>, version: impl Into<String>) -> Result<Self, BadDeviceInfo> {
        let info = Self { model: model.into(), version: version.into() };
        let fits = |text: &str| text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control);
        (fits(&info.model) && fits(&info.version)).then_some(info).ok_or(BadDeviceInfo)
    }

    /// The device's model name.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The app's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// A model name or a version that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device's model and app version have at most 64 bytes each and no control characters")]
pub struct BadDeviceInfo;

/// The new device's signing key (ES256: ECDSA with P-256 and SHA-256). Clones are handles to the same key, which is
/// cleared with the last of them: an app keeps one, and signs with it after the handoff.
#[derive(Clone)]
pub struct DeviceKey(Arc<SigningKey>);

// `SigningKey` clears itself.
impl ZeroizeOnDrop for DeviceKey {}

impl DeviceKey {
    /// Makes a key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Arc::new(SigningKey::generate_from_rng(rng)))
    }

    /// A key that [`Self::to_bytes`] gave; `None` if the bytes are no key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(bytes).ok().map(|key| Self(Arc::new(key)))
    }

    /// The secret itself, for an app that keeps its key in a place of its own. A phone's key store gives none away.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// A JSON Web Signature in its compact form (RFC 7515), ES256, over these two JSON objects: what an app says outside
    /// of a handoff. It cannot be taken for what this key signs in one, which begins with `handoff/1 `: the text that a
    /// JWS signs has neither slash nor space.
    #[must_use]
    pub fn jws(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The public key: SEC1, uncompressed.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        self.verifier().encode()
    }

    pub(super) fn verifier(&self) -> DevicePublicKey {
        DevicePublicKey(*self.0.verifying_key())
    }

    /// Signs, deterministically (RFC 6979).
    pub(super) fn sign(&self, statement: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let signature: Signature = self.0.sign(statement);
        signature.to_bytes().into()
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey([redacted])")
    }
}

/// The other side's view of a [`DeviceKey`].
#[derive(Clone)]
pub(super) struct DevicePublicKey(VerifyingKey);

impl DevicePublicKey {
    /// Reads an uncompressed point; the curve has other encodings, this protocol has not.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ChannelError> {
        let uncompressed = bytes.len() == PUBLIC_KEY_BYTES;
        let key = uncompressed.then(|| VerifyingKey::from_sec1_bytes(bytes).ok()).flatten();
        key.map(Self).ok_or(ChannelError::DoesNotOpen)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.0.to_sec1_point(false).as_bytes().to_vec()
    }

    pub(super) fn verify(&self, statement: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), ChannelError> {
        let signature = Signature::from_slice(signature).map_err(|_| ChannelError::DoesNotOpen)?;
        self.0.verify(statement, &signature).map_err(|_| ChannelError::DoesNotOpen)
    }
}
