//! `[session]`: how long a session lives, and how fast its QR code may roll.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Bad;
use crate::protocol::limits;

/// What a session is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// Hard lifetime, from opening on.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
    /// The frame intervals that apps may choose from.
    pub frame_intervals: Vec<FrameInterval>,
}

/// How long a QR frame is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameInterval {
    /// This long.
    Every(Duration),
    /// For the whole session: one frame, the plain QR code that a forwarded picture opens, too.
    Static,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            lifetime: limits::SESSION_LIFETIME,
            frame_intervals: vec![FrameInterval::Every(limits::FRAME_INTERVAL), FrameInterval::Static],
        }
    }
}

impl Session {
    pub(super) fn check(&self) -> Result<(), Bad> {
        let lifetime = (Duration::from_secs(1)..=limits::SESSION_LIFETIME).contains(&self.lifetime);
        Bad::unless(lifetime && is_whole(self.lifetime), "session.lifetime", "must be from 1s to 180s")?;
        let key = "session.frame_intervals";
        Bad::unless(!self.frame_intervals.is_empty(), key, "must allow at least one")?;
        let is_good = |interval: &FrameInterval| match *interval {
            FrameInterval::Every(time) => {
                (limits::MIN_FRAME_INTERVAL..=limits::SESSION_LIFETIME).contains(&time) && is_whole(time)
            }
            FrameInterval::Static => true,
        };
        Bad::unless(
            self.frame_intervals.iter().all(is_good),
            key,
            "must be from 1s to 180s, in whole milliseconds, or static",
        )
    }

    /// The intervals as times, each once; a static one is as long as the session.
    #[must_use]
    pub fn intervals(&self) -> Vec<Duration> {
        let mut intervals: Vec<Duration> = self.frame_intervals.iter().map(|it| it.within(self.lifetime)).collect();
        intervals.sort_unstable();
        intervals.dedup();
        intervals
    }
}

/// The protocol speaks milliseconds.
fn is_whole(time: Duration) -> bool {
    time.subsec_nanos().is_multiple_of(1_000_000)
}

impl FrameInterval {
    fn within(self, lifetime: Duration) -> Duration {
        match self {
            Self::Every(interval) => interval,
            Self::Static => lifetime,
        }
    }
}

impl Serialize for FrameInterval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Every(interval) => humantime_serde::serialize(interval, serializer),
            Self::Static => serializer.serialize_str("static"),
        }
    }
}

impl<'de> Deserialize<'de> for FrameInterval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "static" {
            return Ok(Self::Static);
        }
        let text = de::value::StrDeserializer::new(&text);
        humantime_serde::deserialize(text).map(Self::Every)
    }
}
