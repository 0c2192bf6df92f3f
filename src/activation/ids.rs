//! Names of users, apps, activations and keys, parsed once at the edge.
//!
//! Whatever names a person prints as `[redacted]`. The UUIDs of apps and activations are no secrets: they open nothing
//! without the app's key.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

/// A name that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// Not a random UUID in its usual spelling.
    #[error("an id must be a version 4 UUID in its lower-case, 36-character form")]
    NotUuid,
    /// Not a user ID.
    #[error("a user ID has 3 to 64 printable ASCII characters without spaces")]
    NotUserId,
    /// Not a phone number.
    #[error("a phone number is written with a plus sign and 7 to 15 digits, such as +4512345678")]
    NotPhoneNumber,
    /// Not a key's thumbprint.
    #[error("a thumbprint is 32 bytes in unpadded base64url")]
    NotThumbprint,
    /// Not a public key.
    #[error("a device key is a point on P-256 in two coordinates of 32 bytes")]
    NotKey,
}

macro_rules! random_uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// An id made from 16 random bytes; version and variant bits are set here.
            #[must_use]
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }

            /// The 16 bytes in network order.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let uuid = Uuid::try_parse(text).map_err(|_| BadId::NotUuid)?;
                let is_random = uuid.get_version_num() == 4 && uuid.get_variant() == uuid::Variant::RFC4122;
                // The other spellings of a UUID would let one thing have several paths.
                (is_random && uuid.hyphenated().to_string() == text).then_some(Self(uuid)).ok_or(BadId::NotUuid)
            }
        }

        as_text!($name);
    };
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Zeroizing::new(String::deserialize(deserializer)?);
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

random_uuid! {
    /// A user's row in the registry; what names the user inside, in place of the user ID.
    UserKey
}
random_uuid! {
    /// An app in the registry.
    AppId
}
random_uuid! {
    /// One activation, from its start to its end.
    ActivationId
}

/// The user ID, as a person types it: upper and lower case are the same, and spaces around it do not count.
#[derive(Clone)]
pub struct UserId(Zeroizing<String>);

impl UserId {
    /// The normalised text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let text = text.trim();
        let is_good = (3..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self(Zeroizing::new(text.to_ascii_lowercase()))).ok_or(BadId::NotUserId)
    }
}

impl PartialEq for UserId {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for UserId {}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId([redacted])")
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        text.parse().map_err(de::Error::custom)
    }
}

/// A phone number (E.164): a plus sign and 7 to 15 digits, the first not 0. Spaces and hyphens are tolerated.
#[derive(Clone)]
pub struct PhoneNumber(Zeroizing<String>);

impl PhoneNumber {
    /// The number with its plus sign and nothing but digits.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the person may see of it: the last two digits.
    #[must_use]
    pub fn last_two(&self) -> &str {
        self.0.get(self.0.len().saturating_sub(2)..).unwrap_or_default()
    }
}

impl FromStr for PhoneNumber {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let kept = text.trim().chars().filter(|character| !matches!(character, ' ' | '-'));
        let number = Zeroizing::new(kept.collect::<String>());
        let digits = number.strip_prefix('+').ok_or(BadId::NotPhoneNumber)?;
        let is_good = (7..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        is_good.then_some(Self(number)).ok_or(BadId::NotPhoneNumber)
    }
}

impl PartialEq for PhoneNumber {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for PhoneNumber {}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber([redacted])")
    }
}

impl<'de> Deserialize<'de> for PhoneNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        text.parse().map_err(de::Error::custom)
    }
}

/// What names a device key: the SHA-256 of its JWK's required members (RFC 7638).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// Of a key.
    #[must_use]
    pub fn of(key: &DeviceKey) -> Self {
        let (x, y) = key.coordinates();
        // RFC 7638 section 3.2: the required members in lexicographic order, without spaces.
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Self(Sha256::digest(jwk).into())
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl FromStr for Thumbprint {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadId::NotThumbprint)?;
        Ok(Self(bytes.try_into().map_err(|_| BadId::NotThumbprint)?))
    }
}

as_text!(Thumbprint);

/// A device's public P-256 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceKey(VerifyingKey);

impl DeviceKey {
    /// From the point in SEC 1's form, compressed or not.
    ///
    /// # Errors
    /// [`BadId::NotKey`] if it is not on the curve.
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, BadId> {
        VerifyingKey::from_sec1_bytes(bytes).map(Self).map_err(|_| BadId::NotKey)
    }

    /// From a JWK's coordinates, unpadded base64url.
    ///
    /// # Errors
    /// [`BadId::NotKey`] if they are no point of the curve in 32 bytes each.
    pub fn from_coordinates(x: &str, y: &str) -> Result<Self, BadId> {
        let coordinate = |text: &str| -> Option<[u8; 32]> { URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok() };
        let (x, y) = coordinate(x).zip(coordinate(y)).ok_or(BadId::NotKey)?;
        Self::from_sec1(&[&[4][..], &x, &y].concat())
    }

    /// The point in SEC 1's uncompressed form, 65 bytes.
    #[must_use]
    pub fn to_sec1(&self) -> Vec<u8> {
        self.0.to_sec1_point(false).as_bytes().to_vec()
    }

    /// x and y as a JWK has them.
    #[must_use]
    pub fn coordinates(&self) -> (String, String) {
        let point = self.to_sec1();
        let coordinate = |range| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        (coordinate(1..33), coordinate(33..65))
    }

    /// The key, for whoever verifies with it.
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The public key of RFC 7515 appendix A.3.
    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    #[test]
    fn a_thumbprint_is_the_hash_of_the_required_members_in_order() {
        let key = DeviceKey::from_coordinates(X, Y).unwrap();
        // Python: hashlib.sha256(json.dumps({"crv": "P-256", "kty": "EC", "x": X, "y": Y}, separators=(",", ":")))
        let expected = "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U";
        assert_eq!(Thumbprint::of(&key).to_string(), expected);
        assert_eq!(expected.parse(), Ok(Thumbprint::of(&key)));
        assert_eq!(key.coordinates(), (X.to_owned(), Y.to_owned()));
        assert_eq!(DeviceKey::from_sec1(&key.to_sec1()), Ok(key));
    }

    #[test]
    fn a_point_off_the_curve_is_no_key() {
        assert_eq!(DeviceKey::from_coordinates(X, X), Err(BadId::NotKey));
        assert_eq!(DeviceKey::from_coordinates(X, ""), Err(BadId::NotKey));
        assert_eq!(DeviceKey::from_sec1(&[0]), Err(BadId::NotKey));
    }

    #[test]
    fn a_user_id_is_the_same_in_upper_and_lower_case() {
        let id: UserId = " Maria.H-82 ".parse().unwrap();
        assert_eq!(id.expose(), "maria.h-82");
        assert_eq!(id, "MARIA.H-82".parse().unwrap());
        for bad in ["", "ab", "maria h", "møller", &"a".repeat(65), "a\tbc"] {
            assert_eq!(bad.parse::<UserId>(), Err(BadId::NotUserId), "{bad}");
        }
    }

    #[test]
    fn a_phone_number_is_a_plus_sign_and_digits() {
        let number: PhoneNumber = "+45 12-34 56 78".parse().unwrap();
        assert_eq!(number.expose(), "+4512345678");
        assert_eq!(number.last_two(), "78");
        for bad in
            ["4512345678", "+0512345678", "+45123", "+1234567890123456", "+45 12a45678", "+", "+４５１２３４５６７８"]
        {
            assert_eq!(bad.parse::<PhoneNumber>(), Err(BadId::NotPhoneNumber), "{bad}");
        }
    }

    #[test]
    fn what_names_a_person_does_not_show_in_debug_output() {
        let (user, phone) = ("maria82".parse::<UserId>().unwrap(), "+4512345678".parse::<PhoneNumber>().unwrap());
        assert_eq!(format!("{user:?} {phone:?}"), "UserId([redacted]) PhoneNumber([redacted])");
    }

    #[test]
    fn an_id_has_one_spelling_only() {
        let id = AppId::from_random([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<AppId>(), Err(BadId::NotUuid));
        assert_eq!("c232ab00-9414-11ec-b3c8-9f6bdeced846".parse::<AppId>(), Err(BadId::NotUuid));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_accepted_stays_the_same(text in ".{0,80}") {
            if let Ok(id) = text.parse::<UserId>() {
                prop_assert_eq!(id.expose().parse::<UserId>().unwrap(), id);
            }
            if let Ok(number) = text.parse::<PhoneNumber>() {
                prop_assert_eq!(number.expose().parse::<PhoneNumber>().unwrap(), number);
            }
            prop_assert!(text.parse::<Thumbprint>().is_err());
        }
    }
}
