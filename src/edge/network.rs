//! Turns a client's address into a [`NetworkTag`]: keyed hashes of the address, its network and its country.
//!
//! Addresses enter here and do not leave; what two tags mean for a join is decided in
//! [`session::network_tag`](crate::session::network_tag).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader, path};

use super::client_addr::ClientAddress;
use crate::keyed_hash::HashKey;
use crate::session::network_tag::{Family, NetworkTag, System};

/// The part of an address that one subscriber has: an IPv4 address as it is, the /64 of an IPv6 address, since
/// every household has at least that much and every phone changes the rest at will.
#[must_use]
pub fn subscriber(address: IpAddr) -> IpAddr {
    truncate(address, 32, 64)
}

fn truncate(address: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(v4_bits)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(v6_bits)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

/// Whether no database can know the address: it is used inside one site or one provider.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // RFC 6598: behind a carrier's NAT.
            let is_shared = matches!(v4.octets(), [100, 64..=127, _, _]);
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || is_shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

/// Makes the tags of one key; holds the databases in memory.
pub struct NetworkTagger {
    key: HashKey,
    databases: Databases,
}

/// The databases that the tagger asks; either may be missing.
#[derive(Default)]
pub struct Databases {
    asn: Option<Reader<Vec<u8>>>,
    country: Option<Reader<Vec<u8>>>,
}

/// A database file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadDatabase {
    /// It cannot be read, or is not a `MaxMind` database.
    #[error("{} is not a readable database in MaxMind's format", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: MaxMindDbError,
    },
    /// It is a database of something else.
    #[error("{} is a database of type {found:?}, which does not hold {wanted}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The type in the file.
        found: String,
        /// What was looked for.
        wanted: &'static str,
    },
}

impl Databases {
    /// Reads the files into memory.
    ///
    /// # Errors
    /// [`BadDatabase`] if a file cannot be read or holds something else.
    pub fn open(asn: Option<&Path>, country: Option<&Path>) -> Result<Self, BadDatabase> {
        let asn = asn.map(|path| open(path, "autonomous systems", &["ASN", "ISP", "Enterprise"]));
        let country = country.map(|path| open(path, "countries", &["Country", "City", "Enterprise"]));
        Ok(Self { asn: asn.transpose()?, country: country.transpose()? })
    }

    fn asn(&self, address: IpAddr) -> Option<u32> {
        // A gap or a damaged record in the database is not worth refusing a person for.
        let found = self.asn.as_ref()?.lookup(address).ok()?;
        found.decode_path(&path!["autonomous_system_number"]).ok()?
    }

    fn country(&self, address: IpAddr) -> Option<String> {
        let found = self.country.as_ref()?.lookup(address).ok()?;
        let code = |field| found.decode_path::<String>(&path![field, "iso_code"]).ok().flatten();
        code("country").or_else(|| code("registered_country"))
    }
}

/// `types` are parts of the names that `MaxMind` and compatible vendors give such databases.
fn open(path: &Path, wanted: &'static str, types: &[&str]) -> Result<Reader<Vec<u8>>, BadDatabase> {
    let reader =
        Reader::open_readfile(path).map_err(|source| BadDatabase::Unreadable { path: path.to_owned(), source })?;
    let found = &reader.metadata().database_type;
    if types.iter().any(|part| found.contains(part)) {
        Ok(reader)
    } else {
        Err(BadDatabase::WrongType { path: path.to_owned(), found: found.clone(), wanted })
    }
}

impl NetworkTagger {
    /// A tagger under `key`. Only tags made under one key can be compared: nodes that serve one session need the same.
    #[must_use]
    pub fn new(key: HashKey, databases: Databases) -> Self {
        Self { key, databases }
    }

    /// The tag of a client.
    #[must_use]
    pub fn tag_client(&self, client: ClientAddress) -> NetworkTag {
        client.for_network().map_or(NetworkTag::UNKNOWN, |address| self.tag(address))
    }

    /// The tag of an address.
    #[must_use]
    pub fn tag(&self, address: IpAddr) -> NetworkTag {
        let address = address.to_canonical();
        let private = is_private(address);
        let asn = if private { None } else { self.databases.asn(address) };
        let country = if private { None } else { self.databases.country(address) };
        NetworkTag {
            key_id: self.key.hash("network key id", b""),
            family: if address.is_ipv4() { Family::V4 } else { Family::V6 },
            address: self.key.hash("network address", &octets(subscriber(address))),
            prefix: self.key.hash("network prefix", &octets(truncate(address, 24, 48))),
            system: match asn {
                Some(number) => System::Listed(self.key.hash("network system", &number.to_be_bytes())),
                None if private => System::Private,
                None => System::Unlisted,
            },
            country: country.map(|code| self.key.hash("network country", code.as_bytes())),
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |reader: &Option<Reader<Vec<u8>>>| reader.as_ref().map(|r| r.metadata().database_type.clone());
        f.debug_struct("Databases").field("asn", &name(&self.asn)).field("country", &name(&self.country)).finish()
    }
}

impl fmt::Debug for NetworkTagger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkTagger").field("databases", &self.databases).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::network::{Country, Network, Verdict};
    use crate::session::network_tag::verdict;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/geo").join(name)
    }

    fn with_databases() -> NetworkTagger {
        let databases = Databases::open(Some(&fixture("asn.mmdb")), Some(&fixture("country.mmdb"))).unwrap();
        NetworkTagger::new(HashKey::new([7; 32]), databases)
    }

    fn without_databases() -> NetworkTagger {
        NetworkTagger::new(HashKey::new([7; 32]), Databases::default())
    }

    fn between(tagger: &NetworkTagger, a: &str, b: &str) -> Verdict {
        verdict(&tagger.tag(a.parse().unwrap()), &tagger.tag(b.parse().unwrap()))
    }

    fn network(tagger: &NetworkTagger, a: &str, b: &str) -> Network {
        between(tagger, a, b).network
    }

    #[test]
    fn two_phones_behind_one_address_are_at_the_same_address() {
        for tagger in [with_databases(), without_databases()] {
            assert_eq!(network(&tagger, "192.0.2.7", "192.0.2.7"), Network::SameAddress);
            assert_eq!(network(&tagger, "2001:db8:1:2::a", "2001:db8:1:2:ffff::b"), Network::SameAddress);
            assert_eq!(network(&tagger, "::ffff:192.0.2.7", "192.0.2.7"), Network::SameAddress);
            assert_eq!(network(&tagger, "127.0.0.1", "127.0.0.1"), Network::SameAddress);
        }
    }

    #[test]
    fn one_autonomous_system_is_one_network_however_far_apart_its_prefixes_are() {
        let tagger = with_databases();
        assert_eq!(network(&tagger, "192.0.2.7", "198.51.100.9"), Network::SameNetwork);
        assert_eq!(network(&tagger, "2001:db8:1::1", "2001:db8:2::1"), Network::SameNetwork);
        assert_eq!(network(&tagger, "192.0.2.7", "203.0.113.9"), Network::Different);
        assert_eq!(network(&tagger, "2001:db8:1::1", "2001:db8:3::1"), Network::Different);
    }

    #[test]
    fn without_a_database_the_network_is_the_ipv4_24_or_the_ipv6_48() {
        let tagger = without_databases();
        assert_eq!(network(&tagger, "192.0.2.7", "192.0.2.9"), Network::SameNetwork);
        assert_eq!(network(&tagger, "192.0.2.7", "192.0.3.7"), Network::Different);
        assert_eq!(network(&tagger, "2001:db8:1:2::1", "2001:db8:1:3::1"), Network::SameNetwork);
        assert_eq!(network(&tagger, "2001:db8:1::1", "2001:db8:2::1"), Network::Different);
    }

    #[test]
    fn an_address_that_the_database_does_not_know_leaves_the_verdict_open() {
        let tagger = with_databases();
        assert_eq!(network(&tagger, "192.0.2.7", "198.18.0.1"), Network::Unknown);
        assert_eq!(network(&tagger, "198.18.0.1", "198.18.0.2"), Network::SameNetwork);
        assert_eq!(network(&tagger, "198.18.0.1", "198.18.1.1"), Network::Different);
    }

    #[test]
    fn ipv4_against_ipv6_is_unknown() {
        assert_eq!(network(&with_databases(), "192.0.2.7", "2001:db8:1::1"), Network::Unknown);
        assert_eq!(network(&without_databases(), "127.0.0.1", "::1"), Network::Unknown);
    }

    #[test]
    fn private_addresses_are_compared_by_prefix_and_differ_from_public_ones() {
        let tagger = with_databases();
        assert_eq!(network(&tagger, "192.168.1.2", "192.168.1.3"), Network::SameNetwork);
        assert_eq!(network(&tagger, "192.168.1.2", "192.168.2.3"), Network::Different);
        assert_eq!(network(&tagger, "fd00:1:2:3::1", "fd00:1:2:4::1"), Network::SameNetwork);
        for private in ["10.0.0.1", "100.64.0.1", "169.254.0.1"] {
            assert_eq!(network(&tagger, private, "192.0.2.7"), Network::Different, "{private}");
            assert_eq!(between(&tagger, private, "192.0.2.7").country, Country::Unknown);
        }
        assert_eq!(network(&tagger, "fe80::1", "2001:db8:1::1"), Network::Different);
    }

    #[test]
    fn countries_come_from_the_database_and_are_unknown_without() {
        let country = |tagger: &NetworkTagger, a, b| between(tagger, a, b).country;
        assert_eq!(country(&with_databases(), "192.0.2.7", "203.0.113.9"), Country::Same);
        assert_eq!(country(&with_databases(), "192.0.2.7", "198.51.100.9"), Country::Different);
        assert_eq!(country(&with_databases(), "192.0.2.7", "2001:db8:1::1"), Country::Same);
        assert_eq!(country(&with_databases(), "192.0.2.7", "198.18.0.1"), Country::Unknown);
        assert_eq!(country(&without_databases(), "192.0.2.7", "192.0.2.7"), Country::Unknown);
    }

    #[test]
    fn the_country_of_registration_is_used_where_no_other_is_known() {
        assert_eq!(between(&with_databases(), "2001:db8:2::1", "2001:db8:2::2").country, Country::Same);
        assert_eq!(between(&with_databases(), "2001:db8:2::1", "2001:db8:1::1").country, Country::Different);
    }

    #[test]
    fn clients_behind_one_silent_proxy_are_not_taken_for_neighbours() {
        let tag = |client| without_databases().tag_client(client);
        let address = "10.0.0.1".parse().unwrap();
        let silent = ClientAddress::BehindProxy(address);
        assert_eq!(verdict(&tag(silent), &tag(silent)), Verdict::default());
        assert_eq!(tag(ClientAddress::Known(address)), without_databases().tag(address));
    }

    #[test]
    fn a_tag_under_another_key_shares_no_hash() {
        let here = without_databases().tag("192.0.2.7".parse().unwrap());
        let there = NetworkTagger::new(HashKey::new([8; 32]), Databases::default()).tag("192.0.2.7".parse().unwrap());
        assert!(here.key_id != there.key_id && here.address != there.address && here.prefix != there.prefix);
        assert_eq!(verdict(&here, &there), Verdict::default());
    }

    #[test]
    fn a_database_that_is_missing_damaged_or_of_something_else_is_named_in_the_error() {
        let error = |asn: &Path| Databases::open(Some(asn), None).unwrap_err().to_string();
        assert!(error(Path::new("/nowhere/asn.mmdb")).contains("/nowhere/asn.mmdb"));
        assert!(error(&fixture("make.py")).contains("MaxMind's format"));
        let swapped = error(&fixture("country.mmdb"));
        assert!(swapped.contains("\"GeoLite2-Country\", which does not hold autonomous systems"), "{swapped}");
    }

    #[test]
    fn a_subscriber_is_an_ipv4_address_or_an_ipv6_64() {
        let of = |text: &str| subscriber(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
