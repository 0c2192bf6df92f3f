//! What the old app is told about where the new one is: a coarse verdict, never an address.

use serde::{Deserialize, Serialize};

/// How near the two apps' addresses are to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The same public IPv4 address, or the same IPv6 /64: usually one household or one phone's hotspot.
    SameAddress,
    /// The same provider network: one autonomous system where that is known, else one IPv4 /24 or IPv6 /48.
    SameNetwork,
    /// Neither.
    Different,
    /// The relay cannot tell, for example with IPv4 on one side and IPv6 on the other.
    #[default]
    Unknown,
}

/// Whether the two apps' addresses belong to one country.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Country {
    /// Both addresses are registered in one country.
    Same,
    /// They are registered in two.
    Different,
    /// The relay has no country database, or it does not know one of the addresses.
    #[default]
    Unknown,
}

/// The relay's verdict on a join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// How near the addresses are.
    pub network: Network,
    /// Whether the countries match.
    pub country: Country,
}
