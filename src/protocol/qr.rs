//! The QR payload: one frame of the rolling picture that the old app shows.
//!
//! ```text
//! u8 version = 1 | u8 suite | u8 flags | u8 frame | 16 sid | 32 frame_secret | 32 pk_hash | relay reference
//! relay reference: u8 id; 0 = a literal host[:port] follows
//! ```
//! As text: Base45 (RFC 9285) behind [`PREFIX`], so that a QR code holds it in alphanumeric mode. Not a URL: a camera
//! app must not be able to start the flow.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::ids::SessionId;
use super::limits;
pub use super::relay_host::RelayHost;

/// What every handoff QR text starts with.
pub const PREFIX: &str = "HO:";

/// The payload's version byte.
pub const VERSION: u8 = 1;

/// Length of the payload up to and with the relay reference's id.
const FIXED_BYTES: usize = 85;

/// The cipher suite of the end-to-end channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// HPKE `mode_psk` with DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM.
    P256,
    /// The same with the hybrid post-quantum KEM MLKEM768-P256.
    MlKem768P256,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 2] = [Self::P256, Self::MlKem768P256];

    /// The payload's suite byte.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::P256 => 1,
            Self::MlKem768P256 => 2,
        }
    }

    /// The suite of a suite byte.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.code() == code)
    }
}

/// What the old app's policy demands of the new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demands {
    /// A proximity nonce (BLE, NFC) must enter the pre-shared key.
    pub proximity: bool,
    /// The old app scans a QR code of the new one instead of asking for the check code.
    pub mutual_scan: bool,
}

impl Demands {
    const PROXIMITY: u8 = 1;
    const MUTUAL_SCAN: u8 = 1 << 1;

    /// The payload's flags byte.
    #[must_use]
    pub fn bits(self) -> u8 {
        let proximity = if self.proximity { Self::PROXIMITY } else { 0 };
        let mutual_scan = if self.mutual_scan { Self::MUTUAL_SCAN } else { 0 };
        proximity | mutual_scan
    }

    fn from_bits(bits: u8) -> Option<Self> {
        let known = Self::PROXIMITY | Self::MUTUAL_SCAN;
        (bits & !known == 0)
            .then_some(Self { proximity: bits & Self::PROXIMITY != 0, mutual_scan: bits & Self::MUTUAL_SCAN != 0 })
    }
}

/// Which relay to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RelayRef {
    /// A number in the app's own list, 1 to 255.
    Listed(std::num::NonZeroU8),
    /// A literal `host[:port]`, accepted only when the app's configuration allows that host.
    Literal(RelayHost),
}

/// The secret of one QR frame; the join proof and the pre-shared key are derived from it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct FrameSecret([u8; 32]);

impl FrameSecret {
    /// Wraps the bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for key derivation.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for FrameSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameSecret([redacted])")
    }
}

/// One frame, as scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QrPayload {
    /// The channel's cipher suite.
    pub suite: Suite,
    /// What the old app demands.
    pub demands: Demands,
    /// Number of the frame, counted from 0.
    pub frame: u8,
    /// The session.
    pub session: SessionId,
    /// The frame's secret.
    pub frame_secret: FrameSecret,
    /// Hash of the old app's public key.
    pub key_hash: [u8; 32],
    /// Where the session is.
    pub relay: RelayRef,
}

impl QrPayload {
    /// The payload's bytes: the root of the transcript.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(FIXED_BYTES + limits::MAX_RELAY_LITERAL_BYTES));
        bytes.extend([VERSION, self.suite.code(), self.demands.bits(), self.frame]);
        bytes.extend(self.session.as_bytes());
        bytes.extend(self.frame_secret.expose());
        bytes.extend(self.key_hash);
        match &self.relay {
            RelayRef::Listed(id) => bytes.push(id.get()),
            RelayRef::Literal(host) => {
                bytes.push(0);
                bytes.extend(host.as_str().bytes());
            }
        }
        bytes
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`QrError`] names what is wrong; an unknown version, suite or flag is never guessed at.
    pub fn decode(bytes: &[u8]) -> Result<Self, QrError> {
        let (&version, rest) = bytes.split_first().ok_or(QrError::Cut)?;
        if version != VERSION {
            return Err(QrError::NewerVersion(version));
        }
        let (&[suite, flags, frame], rest) = rest.split_first_chunk().ok_or(QrError::Cut)?;
        let suite = Suite::from_code(suite).ok_or(QrError::UnknownSuite(suite))?;
        let demands = Demands::from_bits(flags).ok_or(QrError::UnknownFlags(flags))?;
        if usize::from(frame) >= limits::MAX_FRAMES {
            return Err(QrError::BadFrameNumber(frame));
        }
        let (&session, rest) = rest.split_first_chunk::<16>().ok_or(QrError::Cut)?;
        let (&frame_secret, rest) = rest.split_first_chunk::<32>().ok_or(QrError::Cut)?;
        let (&key_hash, rest) = rest.split_first_chunk::<32>().ok_or(QrError::Cut)?;
        let session = SessionId::from_bytes(session).map_err(|_| QrError::BadSessionId)?;
        let relay = decode_relay(rest)?;
        Ok(Self { suite, demands, frame, session, frame_secret: FrameSecret::new(frame_secret), key_hash, relay })
    }

    /// The text inside the QR code.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(base45::encode(self.encode()));
        Zeroizing::new(format!("{PREFIX}{}", encoded.as_str()))
    }

    /// Reads the text inside a QR code; white space around it is ignored.
    ///
    /// # Errors
    /// [`QrError`] names what is wrong and what to do.
    pub fn from_text(text: &str) -> Result<Self, QrError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(QrError::Foreign)?;
        let most = (FIXED_BYTES + limits::MAX_RELAY_LITERAL_BYTES) * 2;
        if encoded.len() > most {
            return Err(QrError::TooLong);
        }
        let bytes = Zeroizing::new(base45::decode(encoded).map_err(|_| QrError::BadText)?);
        // RFC 9285 section 6: a group whose value is too large must be refused, and the decoder cuts it off instead.
        if Zeroizing::new(base45::encode(&*bytes)).as_str() != encoded {
            return Err(QrError::BadText);
        }
        Self::decode(&bytes)
    }
}

fn decode_relay(bytes: &[u8]) -> Result<RelayRef, QrError> {
    let (&id, literal) = bytes.split_first().ok_or(QrError::Cut)?;
    match std::num::NonZeroU8::new(id) {
        Some(id) if literal.is_empty() => Ok(RelayRef::Listed(id)),
        Some(_) => Err(QrError::TooLong),
        None => RelayHost::parse(std::str::from_utf8(literal).map_err(|_| QrError::BadRelay)?).map(RelayRef::Literal),
    }
}

/// Why a QR code is not one of ours, or not one that this app may follow. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QrError {
    /// Another QR code.
    #[error("this QR code is not a handoff code (those start with \"HO:\"): scan the one that the old app shows")]
    Foreign,
    /// Not Base45.
    #[error("the QR text has characters that do not belong there: scan or copy it again")]
    BadText,
    /// The end is missing.
    #[error("the QR text is cut short: scan or copy the whole of it")]
    Cut,
    /// More than a payload can hold.
    #[error("the QR text is too long for a handoff code: scan or copy it again")]
    TooLong,
    /// A later version.
    #[error("the QR code has version {0}, and this app knows only 1: update the app")]
    NewerVersion(u8),
    /// A suite that this app does not have.
    #[error("the QR code asks for cipher suite {0}, which this app does not know: update the app")]
    UnknownSuite(u8),
    /// Reserved flags.
    #[error("the QR code has the unknown flags {0:#04x}: update the app")]
    UnknownFlags(u8),
    /// A frame number that no session has.
    #[error("the QR code has the frame number {0}, which no session has: scan it again")]
    BadFrameNumber(u8),
    /// Not a random UUID.
    #[error("the QR code names no valid session: scan it again")]
    BadSessionId,
    /// Not a `host[:port]`.
    #[error("the QR code names no valid relay host: scan it again")]
    BadRelay,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(relay: RelayRef) -> QrPayload {
        QrPayload {
            suite: Suite::P256,
            demands: Demands::default(),
            frame: 7,
            session: SessionId::from_random([9; 16]),
            frame_secret: FrameSecret::new([8; 32]),
            key_hash: [7; 32],
            relay,
        }
    }

    fn listed() -> RelayRef {
        RelayRef::Listed(std::num::NonZeroU8::MIN)
    }

    fn literal(host: &str) -> RelayRef {
        RelayRef::Literal(RelayHost::parse(host).unwrap())
    }

    #[test]
    fn a_frame_survives_the_picture() {
        for relay in [listed(), literal("127.0.0.1:8080"), literal("[::1]:8443"), literal("relay.example")] {
            let payload = payload(relay);
            let text = payload.to_text();
            assert_eq!(QrPayload::from_text(&format!(" {}\r\n", text.as_str())), Ok(payload));
        }
    }

    #[test]
    fn a_listed_relay_takes_85_bytes_and_a_loopback_literal_fits_a_version_6_code() {
        assert_eq!(payload(listed()).encode().len(), 85);
        // Version 6 with error correction M holds 154 alphanumeric characters (ISO/IEC 18004 table 7).
        assert!(payload(literal("127.0.0.1:8080")).to_text().len() <= 154);
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let good = payload(listed()).encode();
        let with = |index: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[index] = value;
            QrPayload::decode(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 2), QrError::NewerVersion(2));
        assert_eq!(with(1, 3), QrError::UnknownSuite(3));
        assert_eq!(with(2, 0x80), QrError::UnknownFlags(0x80));
        assert_eq!(with(3, 180), QrError::BadFrameNumber(180));
        assert_eq!(with(10, 0x10), QrError::BadSessionId);
        assert_eq!(with(84, 0), QrError::BadRelay);
        for length in 0..good.len() {
            assert_eq!(QrPayload::decode(&good[..length]), Err(QrError::Cut), "{length}");
        }
        assert_eq!(QrPayload::decode(&[good.as_slice(), b"x"].concat()), Err(QrError::TooLong));
        assert_eq!(QrPayload::from_text("https://example.com/"), Err(QrError::Foreign));
        assert_eq!(QrPayload::from_text("HO:abc"), Err(QrError::BadText));
        assert_eq!(QrPayload::from_text("HO:ZZ"), Err(QrError::BadText), "a last group above 255");
        assert_eq!(QrPayload::from_text(&format!("HO:{}", "A".repeat(10_000))), Err(QrError::TooLong));
    }

    #[test]
    fn the_secret_of_a_frame_cannot_be_printed() {
        assert!(format!("{:?}", payload(listed())).contains("FrameSecret([redacted])"));
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(payload) = QrPayload::decode(&bytes) {
                prop_assert_eq!(&*payload.encode(), &bytes);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(HO:)?[ -~]{0,300}") {
            if let Ok(payload) = QrPayload::from_text(&text) {
                prop_assert_eq!(QrPayload::from_text(&payload.to_text()), Ok(payload));
            }
        }
    }
}
