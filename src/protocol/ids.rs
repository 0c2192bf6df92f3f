//! Identifiers and tokens, parsed once at the edge and never validated later.
//!
//! Everything that could name or open a session prints as `[redacted]`. Comparisons of secrets and of their hashes
//! take constant time.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::limits;

/// A session's id: a random UUID (RFC 9562 version 4). It routes, and opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Uuid);

impl SessionId {
    /// An id made from 16 random bytes; version and variant bits are set here.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The id as it stands in a QR payload.
    ///
    /// # Errors
    /// [`BadSessionId`] if the bytes are not a version 4 UUID.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, BadSessionId> {
        Self::checked(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes in network order.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The lower-case hyphenated form used in paths. The only way to print an id: never in a log.
    #[must_use]
    pub fn to_path_segment(&self) -> String {
        self.0.hyphenated().to_string()
    }

    fn checked(uuid: Uuid) -> Result<Self, BadSessionId> {
        let is_random = uuid.get_version_num() == 4 && uuid.get_variant() == uuid::Variant::RFC4122;
        is_random.then_some(Self(uuid)).ok_or(BadSessionId)
    }
}

/// The text or bytes are not a random UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session id must be a version 4 UUID in its lower-case, 36-character hyphenated form")]
pub struct BadSessionId;

impl FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Self::checked(Uuid::try_parse(text).map_err(|_| BadSessionId)?)?;
        // The other spellings of a UUID would let one session have several paths.
        if id.to_path_segment() == text { Ok(id) } else { Err(BadSessionId) }
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId([redacted])")
    }
}

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal $(, $derive:ident)*) => {
        $(#[$doc])*
        #[derive(Clone $(, $derive)*)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps the bytes.
            #[must_use]
            pub fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl ConstantTimeEq for $name {
            fn ct_eq(&self, other: &Self) -> Choice {
                self.0.ct_eq(&other.0)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.ct_eq(other).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let expected = concat!(stringify!($len), " bytes in unpadded base64url");
                deserializer.deserialize_str(Text { expected, decode: decode_fixed }).map(Self)
            }
        }
    };
}

fixed_bytes!(
    /// Shown to the relay once, to join: proves that the QR frame was scanned.
    JoinProof, 32, Zeroize, ZeroizeOnDrop
);
fixed_bytes!(
    /// What the relay knows of a frame's join proof: the first 16 bytes of its SHA-256.
    JoinHash, 16
);
fixed_bytes!(
    /// Made by each app for itself; whoever shows it takes over that app's side of the session.
    ResumeToken, 32, Zeroize, ZeroizeOnDrop
);
fixed_bytes!(
    /// What the relay knows of a resume token: its SHA-256.
    ResumeHash, 32
);

impl JoinHash {
    /// The hash under which a join proof is registered at `open`.
    #[must_use]
    pub fn of(proof: &JoinProof) -> Self {
        let digest: [u8; 32] = Sha256::digest(proof.0).into();
        let mut hash = [0; Self::LEN];
        hash.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(hash)
    }
}

impl ResumeHash {
    /// The hash under which a resume token is registered.
    #[must_use]
    pub fn of(token: &ResumeToken) -> Self {
        Self(Sha256::digest(token.0).into())
    }
}

/// The old app's public key as it travels through the relay: opaque, of any size up to
/// [`limits::MAX_PUBLIC_KEY_BYTES`].
#[derive(Clone, PartialEq, Eq)]
pub struct PublishedKey(Vec<u8>);

impl PublishedKey {
    /// Wraps a serialized key; `None` if it is empty or too long.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (1..=limits::MAX_PUBLIC_KEY_BYTES).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The serialized key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PublishedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishedKey({} bytes)", self.0.len())
    }
}

impl Serialize for PublishedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for PublishedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text { expected: "1 to 2048 bytes in unpadded base64url", decode: decode_key })
    }
}

/// The token that the app's backend issued for opening one session (a JWT); passed on unread.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize)]
#[serde(transparent)]
pub struct OpenToken(String);

impl OpenToken {
    /// Wraps a token; `None` if it is empty or longer than [`limits::MAX_TOKEN_BYTES`].
    #[must_use]
    pub fn new(token: String) -> Option<Self> {
        (1..=limits::MAX_TOKEN_BYTES).contains(&token.len()).then_some(Self(token))
    }

    /// The token's text, for the verifier.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OpenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenToken([redacted])")
    }
}

impl<'de> Deserialize<'de> for OpenToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?)
            .ok_or_else(|| de::Error::custom("expected a token of 1 to 4096 bytes"))
    }
}

/// Room for the longest of the fixed lengths, in whole groups of three.
const LONGEST_FIXED: usize = 36;

fn decode_fixed<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    const { assert!(LEN.div_ceil(3) * 3 <= LONGEST_FIXED, "the decoder wants room for whole groups") };
    let mut bytes = Zeroizing::new([0; LONGEST_FIXED]);
    let length = URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    bytes.get(..length)?.try_into().ok()
}

fn decode_key(text: &str) -> Option<PublishedKey> {
    if text.len() > limits::MAX_PUBLIC_KEY_BYTES.div_ceil(3).saturating_mul(4) {
        return None;
    }
    PublishedKey::new(URL_SAFE_NO_PAD.decode(text).ok()?)
}

/// Reads a text where it lies. It may be a secret: no copy is left behind, and the error never repeats it.
struct Text<F> {
    expected: &'static str,
    decode: F,
}

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.decode)(text).ok_or_else(|| E::custom(format_args!("expected {}", self.expected)))
    }

    fn visit_string<E: de::Error>(self, mut text: String) -> Result<T, E> {
        let decoded = self.visit_str(&text);
        text.zeroize();
        decoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";

    #[test]
    fn a_session_id_has_one_spelling() {
        let id: SessionId = PATH.parse().unwrap();
        assert_eq!(id.to_path_segment(), PATH);
        for other in [
            "0f0e0d0c0b0a49088706050403020100",
            "0F0E0D0C-0B0A-4908-8706-050403020100",
            "{0f0e0d0c-0b0a-4908-8706-050403020100}",
            "urn:uuid:0f0e0d0c-0b0a-4908-8706-050403020100",
            "0f0e0d0c-0b0a-1908-8706-050403020100",
            "0f0e0d0c-0b0a-4908-0706-050403020100",
            "00000000-0000-0000-0000-000000000000",
            "",
            "é",
        ] {
            assert_eq!(other.parse::<SessionId>(), Err(BadSessionId), "{other:?}");
        }
    }

    #[test]
    fn nothing_that_opens_a_session_can_be_printed() {
        let printed = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            PATH.parse::<SessionId>().unwrap(),
            JoinProof::new([1; 32]),
            JoinHash::new([2; 16]),
            ResumeToken::new([3; 32]),
            ResumeHash::new([4; 32]),
            OpenToken::new("eyJ.eyJ.sig".to_owned()).unwrap(),
        );
        assert_eq!(
            printed,
            "SessionId([redacted]) JoinProof([redacted]) JoinHash([redacted]) ResumeToken([redacted]) \
             ResumeHash([redacted]) OpenToken([redacted])"
        );
    }

    #[test]
    fn tokens_travel_as_unpadded_base64url_of_exactly_their_length() {
        let token = ResumeToken::new([0xfb; 32]);
        let text = serde_json::to_string(&token).unwrap();
        assert_eq!(text, format!("\"{}\"", URL_SAFE_NO_PAD.encode([0xfb; 32])));
        assert_eq!(serde_json::from_str::<ResumeToken>(&text).unwrap(), token);
        for bad in ["\"\"", "\"AA\"", "\"AAAA====\"", "1", "null", "\"++++\""] {
            let error = serde_json::from_str::<ResumeToken>(bad).unwrap_err().to_string();
            assert!(!error.contains("++++"), "{error}");
        }
        let long = format!("\"{}\"", "A".repeat(4096));
        assert!(serde_json::from_str::<ResumeToken>(&long).is_err());
    }

    #[test]
    fn a_published_key_is_bounded() {
        assert!(PublishedKey::new(vec![]).is_none());
        assert!(PublishedKey::new(vec![0; limits::MAX_PUBLIC_KEY_BYTES]).is_some());
        assert!(PublishedKey::new(vec![0; limits::MAX_PUBLIC_KEY_BYTES + 1]).is_none());
    }
}
