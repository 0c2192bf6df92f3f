//! `[network]`: what the relay knows about where the two phones are, and what it refuses.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Bad, Redis, SecretKey};
use crate::session::network_tag::Refuse;

/// Where the two phones are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Which autonomous system an address is in.
    pub asn_database: Option<PathBuf>,
    /// Which country an address is in.
    pub country_database: Option<PathBuf>,
    /// Which verdicts end a session.
    pub refuse: Refuse,
    /// Addresses are hashed with it. Nodes that serve the same sessions need the same, or their verdicts are unknown;
    /// without one, each process makes its own.
    pub tag_key: Option<SecretKey>,
}

impl Network {
    pub(super) fn check(&self, redis: &Redis) -> Result<(), Bad> {
        let can_tell = self.refuse != Refuse::DifferentCountry || self.country_database.is_some();
        Bad::unless(can_tell, "network.refuse", "needs network.country_database: no country would ever be known")?;
        let can_compare = self.refuse == Refuse::Nothing || redis.url.is_empty() || self.tag_key.is_some();
        Bad::unless(
            can_compare,
            "network.refuse",
            "needs network.tag_key, the same on all nodes: they could not compare",
        )
    }

    pub(super) fn warning(&self, redis: &Redis) -> Option<String> {
        let text = "network.tag_key is not set: when the two apps are on different nodes, old hears that the network is \
                    unknown";
        (!redis.url.is_empty() && self.tag_key.is_none()).then(|| text.to_owned())
    }
}
