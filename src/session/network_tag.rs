//! Where a party is, reduced to keyed hashes, and the verdict on two of them.
//!
//! Not the place where addresses are looked up or hashed: `edge::network` makes the tags. Pure.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::protocol::network::{Country, Network, Verdict};

/// A truncated keyed hash: 64 bits, so that two different networks practically never look alike.
pub type ShortHash = [u8; 8];

/// Which IP version a party's address has, after unwrapping IPv4-mapped IPv6 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What is known about the network that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum System {
    /// A loopback, private, link-local or carrier-grade NAT address: it belongs to no autonomous system.
    Private,
    /// A public address, and no database knows its autonomous system.
    Unlisted,
    /// A public address in this autonomous system.
    Listed(ShortHash),
}

/// Where a party is, as keyed hashes only: no address can be read from it.
///
/// It may be stored in the session's route and sent to other nodes. `Debug` does not show the hashes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkTag {
    /// Names the key. Hashes under two keys cannot be compared, and [`Self::UNKNOWN`] with nothing.
    pub key_id: [u8; 4],
    /// The IP version.
    pub family: Family,
    /// Hash of what one subscriber has: an IPv4 address, an IPv6 /64.
    pub address: ShortHash,
    /// Hash of the surrounding prefix: an IPv4 /24, an IPv6 /48.
    pub prefix: ShortHash,
    /// The autonomous system.
    pub system: System,
    /// Hash of the country that the address is registered in; `None` when no database knows.
    pub country: Option<ShortHash>,
}

/// How near two parties are to each other.
#[must_use]
pub fn verdict(a: &NetworkTag, b: &NetworkTag) -> Verdict {
    if a.key_id == b.key_id && a.key_id != NetworkTag::UNKNOWN.key_id {
        Verdict { network: network(a, b), country: country(a, b) }
    } else {
        Verdict::default()
    }
}

fn network(a: &NetworkTag, b: &NetworkTag) -> Network {
    if a.family != b.family {
        // A phone with IPv4 and IPv6 may use either: neither nearness nor distance follows.
        return Network::Unknown;
    }
    if a.address == b.address {
        return Network::SameAddress;
    }
    if a.prefix == b.prefix {
        return Network::SameNetwork;
    }
    match (a.system, b.system) {
        (System::Listed(a), System::Listed(b)) if a == b => Network::SameNetwork,
        // One provider may have listed and unlisted prefixes.
        (System::Listed(_), System::Unlisted) | (System::Unlisted, System::Listed(_)) => Network::Unknown,
        (System::Private | System::Unlisted | System::Listed(_), _) => Network::Different,
    }
}

fn country(a: &NetworkTag, b: &NetworkTag) -> Country {
    match (a.country, b.country) {
        (Some(a), Some(b)) if a == b => Country::Same,
        (Some(_), Some(_)) => Country::Different,
        (None, _) | (_, None) => Country::Unknown,
    }
}

/// Which verdicts the relay's policy refuses.
///
/// What the relay cannot tell is never refused: half of all homes mix IPv4 and IPv6, and a database has gaps. So this
/// makes a remote accomplice's work harder and does not prevent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refuse {
    /// No verdict: the old app is told, and its person decides.
    #[default]
    Nothing,
    /// Two countries.
    DifferentCountry,
    /// Two networks, or two countries.
    Different,
}

impl Refuse {
    /// Whether a join with this verdict ends the session.
    #[must_use]
    pub fn refuses(self, verdict: Verdict) -> bool {
        let two_countries = verdict.country == Country::Different;
        match self {
            Self::Nothing => false,
            Self::DifferentCountry => two_countries,
            Self::Different => two_countries || verdict.network == Network::Different,
        }
    }
}

/// version || key id || family || address || prefix || kind of system || system || has country || country
const ENCODED_LEN: usize = 1 + 4 + 1 + 8 + 8 + 1 + 8 + 1 + 8;
const VERSION: u8 = 1;
const NOTHING: ShortHash = [0; 8];

impl NetworkTag {
    /// A party of which nobody knows where it is: the verdict on it is always unknown, also against itself.
    pub const UNKNOWN: Self = Self {
        key_id: [0; 4],
        family: Family::V4,
        address: NOTHING,
        prefix: NOTHING,
        system: System::Private,
        country: None,
    };

    fn to_bytes(self) -> Vec<u8> {
        let family = match self.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        let (kind, system) = match self.system {
            System::Private => (0, NOTHING),
            System::Unlisted => (1, NOTHING),
            System::Listed(hash) => (2, hash),
        };
        let mut bytes = Vec::with_capacity(ENCODED_LEN);
        bytes.push(VERSION);
        bytes.extend(self.key_id);
        bytes.push(family);
        bytes.extend(self.address);
        bytes.extend(self.prefix);
        bytes.push(kind);
        bytes.extend(system);
        bytes.push(u8::from(self.country.is_some()));
        bytes.extend(self.country.unwrap_or(NOTHING));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = bytes.split_first_chunk()? else { return None };
        let (&key_id, rest) = rest.split_first_chunk()?;
        let (&[family], rest) = rest.split_first_chunk()?;
        let (&address, rest) = rest.split_first_chunk()?;
        let (&prefix, rest) = rest.split_first_chunk()?;
        let (&[kind], rest) = rest.split_first_chunk()?;
        let (&system, rest) = rest.split_first_chunk()?;
        let (&[has_country], rest) = rest.split_first_chunk()?;
        let country: ShortHash = rest.try_into().ok()?;
        Some(Self {
            key_id,
            family: match family {
                4 => Family::V4,
                6 => Family::V6,
                _ => return None,
            },
            address,
            prefix,
            system: match (kind, system) {
                (0, NOTHING) => System::Private,
                (1, NOTHING) => System::Unlisted,
                (2, hash) => System::Listed(hash),
                _ => return None,
            },
            country: match (has_country, country) {
                (0, NOTHING) => None,
                (1, hash) => Some(hash),
                _ => return None,
            },
        })
    }
}

impl From<NetworkTag> for String {
    /// 54 characters of base64url, for a store or a message between nodes.
    fn from(tag: NetworkTag) -> Self {
        URL_SAFE_NO_PAD.encode(tag.to_bytes())
    }
}

/// The text is not a network tag of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network tag")]
pub struct BadNetworkTag;

impl TryFrom<String> for NetworkTag {
    type Error = BadNetworkTag;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl std::str::FromStr for NetworkTag {
    type Err = BadNetworkTag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadNetworkTag)?;
        Self::from_bytes(&bytes).ok_or(BadNetworkTag)
    }
}

impl fmt::Debug for NetworkTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkTag([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOME: NetworkTag = NetworkTag {
        key_id: [9; 4],
        family: Family::V4,
        address: [1; 8],
        prefix: [2; 8],
        system: System::Listed([3; 8]),
        country: Some([4; 8]),
    };

    fn nearness(a: NetworkTag, b: NetworkTag) -> Network {
        assert_eq!(verdict(&a, &b), verdict(&b, &a), "a verdict does not depend on who joined whom");
        verdict(&a, &b).network
    }

    #[test]
    fn one_address_is_the_same_address() {
        assert_eq!(nearness(HOME, HOME), Network::SameAddress);
    }

    #[test]
    fn neighbours_in_one_prefix_or_one_autonomous_system_are_on_the_same_network() {
        let same_prefix = NetworkTag { address: [7; 8], system: System::Unlisted, ..HOME };
        let same_system = NetworkTag { address: [7; 8], prefix: [7; 8], ..HOME };
        assert_eq!(nearness(HOME, same_prefix), Network::SameNetwork);
        assert_eq!(nearness(HOME, same_system), Network::SameNetwork);
    }

    #[test]
    fn another_prefix_and_another_autonomous_system_is_different() {
        let elsewhere = NetworkTag { address: [7; 8], prefix: [7; 8], system: System::Listed([7; 8]), ..HOME };
        assert_eq!(nearness(HOME, elsewhere), Network::Different);
    }

    #[test]
    fn without_a_database_the_prefix_decides() {
        let unlisted = NetworkTag { system: System::Unlisted, ..HOME };
        let other = NetworkTag { address: [7; 8], prefix: [7; 8], ..unlisted };
        assert_eq!(nearness(unlisted, NetworkTag { address: [7; 8], ..unlisted }), Network::SameNetwork);
        assert_eq!(nearness(unlisted, other), Network::Different);
    }

    #[test]
    fn a_database_that_knows_only_one_of_the_two_cannot_tell() {
        let unlisted = NetworkTag { address: [7; 8], prefix: [7; 8], system: System::Unlisted, ..HOME };
        assert_eq!(nearness(HOME, unlisted), Network::Unknown);
    }

    #[test]
    fn a_private_address_is_different_from_every_public_one_and_from_other_private_prefixes() {
        let private = NetworkTag { address: [7; 8], prefix: [7; 8], system: System::Private, country: None, ..HOME };
        assert_eq!(nearness(HOME, private), Network::Different);
        assert_eq!(nearness(NetworkTag { system: System::Unlisted, ..HOME }, private), Network::Different);
        assert_eq!(nearness(private, NetworkTag { address: [8; 8], ..private }), Network::SameNetwork);
        let other = NetworkTag { address: [8; 8], prefix: [8; 8], ..private };
        assert_eq!(nearness(private, other), Network::Different);
    }

    #[test]
    fn with_ipv4_on_one_side_and_ipv6_on_the_other_the_network_is_unknown_and_the_country_still_compared() {
        let six = NetworkTag { family: Family::V6, ..HOME };
        assert_eq!(verdict(&HOME, &six), Verdict { network: Network::Unknown, country: Country::Same });
    }

    #[test]
    fn tags_under_two_keys_say_nothing() {
        let foreign = NetworkTag { key_id: [8; 4], ..HOME };
        assert_eq!(verdict(&HOME, &foreign), Verdict { network: Network::Unknown, country: Country::Unknown });
    }

    #[test]
    fn two_parties_of_unknown_place_are_not_neighbours() {
        assert_eq!(verdict(&NetworkTag::UNKNOWN, &NetworkTag::UNKNOWN), Verdict::default());
        assert_eq!(verdict(&HOME, &NetworkTag::UNKNOWN), Verdict::default());
    }

    #[test]
    fn countries_are_the_same_different_or_unknown() {
        let with = |country| verdict(&HOME, &NetworkTag { country, ..HOME }).country;
        assert_eq!(with(Some([4; 8])), Country::Same);
        assert_eq!(with(Some([5; 8])), Country::Different);
        assert_eq!(with(None), Country::Unknown);
    }

    #[test]
    fn each_policy_refuses_what_the_one_before_refuses_and_more_but_never_the_unknown() {
        let refused_by = |refuse: Refuse| -> Vec<(Network, Country)> {
            let networks = [Network::SameAddress, Network::SameNetwork, Network::Different, Network::Unknown];
            let countries = [Country::Same, Country::Different, Country::Unknown];
            let pairs = networks.into_iter().flat_map(|network| countries.map(|country| (network, country)));
            pairs.filter(|&(network, country)| refuse.refuses(Verdict { network, country })).collect()
        };
        assert_eq!(refused_by(Refuse::Nothing), []);
        let abroad = refused_by(Refuse::DifferentCountry);
        assert!(abroad.len() == 4 && abroad.iter().all(|(_, country)| *country == Country::Different));
        let different = refused_by(Refuse::Different);
        assert!(abroad.iter().all(|pair| different.contains(pair)));
        assert!(different.contains(&(Network::Different, Country::Unknown)));
        assert!(!different.contains(&(Network::Unknown, Country::Unknown)));
    }

    #[test]
    fn a_tag_travels_as_54_characters_and_debug_output_hides_it() {
        let text = String::from(HOME);
        assert_eq!(text.len(), 54);
        assert_eq!(text.parse::<NetworkTag>(), Ok(HOME));
        assert_eq!(format!("{HOME:?}"), "NetworkTag([redacted])");
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(
            key_id: [u8; 4], six: bool, address: ShortHash, prefix: ShortHash, kind in 0..3, hash: ShortHash,
            country: Option<ShortHash>,
        ) {
            let family = if six { Family::V6 } else { Family::V4 };
            let system = match kind { 0 => System::Private, 1 => System::Unlisted, _ => System::Listed(hash) };
            let tag = NetworkTag { key_id, family, address, prefix, system, country };
            let json = serde_json::to_string(&tag).unwrap();
            prop_assert_eq!(serde_json::from_str::<NetworkTag>(&json).unwrap(), tag);
        }

        #[test]
        fn any_bytes_decode_to_a_tag_that_encodes_to_them_or_not_at_all(bytes in prop::collection::vec(0u8..7, 38..42)) {
            if let Some(tag) = NetworkTag::from_bytes(&bytes) {
                prop_assert_eq!(tag.to_bytes(), bytes);
            }
        }
    }
}
