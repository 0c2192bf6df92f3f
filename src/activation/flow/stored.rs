//! How an activation's parts are stored: times in milliseconds since 1970, bytes in base64url.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::activation::temporary_pin::{PinHash, SentPin};

/// Milliseconds since 1970; 0 before.
pub(crate) fn to_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time that [`to_millis`] was given, to the millisecond.
pub(crate) fn from_millis(millis: i64) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) mod time {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize as _, SystemTime, from_millis, to_millis};

    pub(in super::super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(to_millis(*time))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        i64::deserialize(deserializer).map(from_millis)
    }
}

pub(super) mod bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde::{Deserializer, Serializer, de};

    use super::Deserialize as _;

    pub(in super::super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| de::Error::custom("expected unpadded base64url"))
    }
}

#[derive(Serialize, Deserialize)]
struct StoredPin {
    #[serde(with = "bytes")]
    hash: Vec<u8>,
    #[serde(with = "time")]
    valid_until: SystemTime,
    wrong_tries: u8,
}

pub(in crate::activation) mod pin {
    use serde::{Deserializer, Serializer, de};

    use super::{Deserialize as _, PinHash, SentPin, Serialize as _, StoredPin};

    #[expect(clippy::ref_option, reason = "serde passes the field")]
    pub(in crate::activation) fn serialize<S: Serializer>(
        pin: &Option<SentPin>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let stored = pin.as_ref().map(|pin| StoredPin {
            hash: pin.hash.as_bytes().to_vec(),
            valid_until: pin.valid_until,
            wrong_tries: pin.wrong_tries,
        });
        stored.serialize(serializer)
    }

    pub(in crate::activation) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SentPin>, D::Error> {
        let Some(stored) = Option::<StoredPin>::deserialize(deserializer)? else { return Ok(None) };
        let hash = stored.hash.try_into().map_err(|_| de::Error::custom("expected 32 bytes"))?;
        let (valid_until, wrong_tries) = (stored.valid_until, stored.wrong_tries);
        Ok(Some(SentPin { hash: PinHash::from_bytes(hash), valid_until, wrong_tries }))
    }
}
