//! What can go wrong in the channel. None of it says why something did not open: that would help only an attacker.

/// Why the channel refuses to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The one error for everything received that does not open or verify: corruption, a replay, another order, the
    /// wrong key, bad padding, a malformed message and a bad signature look the same.
    #[error("what the other app sent does not verify")]
    DoesNotOpen,
    /// The key that the relay handed out is not the one that the QR code names.
    #[error("the old app's public key is not the one in the QR code")]
    KeyMismatch,
    /// The key is the one that the QR code names, and not a valid key of its suite.
    #[error("the old app's public key is not a valid key of its cipher suite")]
    BadKey,
    /// The QR code demands a proximity nonce.
    #[error("the old app demands a proximity nonce, and there is none")]
    ProximityMissing,
    /// The QR code demands that old scans new as well, which this version cannot do.
    #[error("the old app demands a mutual scan, which this version does not support")]
    MutualScanUnsupported,
    /// A session shows 1 to [`crate::protocol::limits::MAX_FRAMES`] QR frames.
    #[error("a session has 1 to 180 QR frames")]
    BadFrameCount,
    /// More than [`crate::protocol::limits::MAX_CREDENTIAL_BYTES`].
    #[error("the credential is larger than 256 KiB")]
    CredentialTooLarge,
    /// The cipher refused to seal: a defect, never the peer's doing.
    #[error("a frame could not be sealed")]
    DoesNotSeal,
}
