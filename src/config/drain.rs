//! `[drain]`: how a node leaves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Bad;

/// Longest time, each; sessions live no longer.
const MOST: Duration = Duration::from_mins(3);

/// How a node leaves after SIGTERM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Time in which sessions may finish by themselves.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// Time over which the remaining ones are sent elsewhere.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(5), window: Duration::from_secs(15) }
    }
}

impl Drain {
    pub(super) fn check(&self) -> Result<(), Bad> {
        Bad::unless(self.grace <= MOST, "drain.grace", "must be at most 180s")?;
        Bad::unless(self.window <= MOST, "drain.window", "must be at most 180s")
    }
}
