//! The client's address, from the TCP peer and from what trusted proxies say about it.
//!
//! No names are resolved, and nothing is decided about the address. Only one header is read, the one that the
//! deployment's proxies are known to write: a proxy that knows the other one not passes on whatever a client put there.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::HeaderMap;
use ipnet::IpNet;

/// Most hops that are looked at; beyond it the chain is taken for garbage.
const MAX_HOPS: usize = 32;

/// The header that the trusted proxies write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`: addresses separated by commas.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardingHeader {
    /// The header's name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Where a request comes from, as far as that can be known. IPv4-mapped IPv6 addresses are IPv4 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// The client's own public face.
    Known(IpAddr),
    /// A trusted proxy that does not say for whom it speaks, or says it in a way that cannot be read.
    ///
    /// Such clients share the proxy's address and so its limits, and have no place of their own: two phones must not
    /// look like neighbours because one proxy is misconfigured.
    BehindProxy(IpAddr),
}

impl ClientAddress {
    /// The address that limits are counted by.
    #[must_use]
    pub fn for_limits(self) -> IpAddr {
        match self {
            Self::Known(address) | Self::BehindProxy(address) => address,
        }
    }

    /// The address that says where the client is, if that is known.
    #[must_use]
    pub fn for_network(self) -> Option<IpAddr> {
        match self {
            Self::Known(address) => Some(address),
            Self::BehindProxy(_) => None,
        }
    }
}

/// The client's address, given the lines of the forwarding header in the order in which they arrived.
///
/// The chain is walked from its right end, where the nearest proxy wrote, and ends at the first address that is not a
/// trusted proxy; what stands further left came from there and may be invented. When every hop is trusted, the
/// left-most is the client. With a `peer` that is not trusted, the header does not matter.
#[must_use]
pub fn client_address(peer: IpAddr, header: ForwardingHeader, lines: &[&str], trusted: &[IpNet]) -> ClientAddress {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !is_trusted(peer) {
        return ClientAddress::Known(peer);
    }
    let mut client = None;
    // Splitting at every comma is safe in both syntaxes: no address contains one, even between quotes. An open quote
    // further left, from a hostile client, thus cannot swallow what the proxy wrote.
    let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for hop in hops.by_ref().take(MAX_HOPS) {
        match parse_hop(header, hop) {
            None => return ClientAddress::BehindProxy(peer),
            Some(address) if is_trusted(address) => client = Some(address),
            Some(address) => return ClientAddress::Known(address),
        }
    }
    match client {
        Some(address) if hops.next().is_none() => ClientAddress::Known(address),
        Some(_) | None => ClientAddress::BehindProxy(peer),
    }
}

/// [`client_address`] for the headers of a request.
#[must_use]
pub fn from_headers(peer: IpAddr, header: ForwardingHeader, headers: &HeaderMap, trusted: &[IpNet]) -> ClientAddress {
    // A line that is not visible ASCII is not an address: the empty line stands for it, which is not one either.
    let lines: Vec<&str> = headers.get_all(header.name()).map(|value| value.to_str().unwrap_or("")).collect();
    client_address(peer, header, &lines, trusted)
}

fn parse_hop(header: ForwardingHeader, hop: &str) -> Option<IpAddr> {
    let hop = trim(hop);
    let node = match header {
        ForwardingHeader::XForwardedFor => hop,
        ForwardingHeader::Forwarded => forwarded_for(hop)?,
    };
    parse_node(node).map(|address| address.to_canonical())
}

/// The value of the one `for` parameter of a forwarded-element (RFC 7239 section 4), without its quotes.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = trim(pair).split_once('=')?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?;
    value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))
}

/// An address, perhaps with a port; IPv6 with or without brackets. Not `unknown`, not an obfuscated identifier.
fn parse_node(node: &str) -> Option<IpAddr> {
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || node.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    node.parse().ok().or_else(bracketed).or_else(with_port)
}

/// Without optional whitespace (RFC 9110 section 5.6.3): spaces and tabs only.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ForwardingHeader::{Forwarded, XForwardedFor};
    use super::*;

    /// What a deployment with one proxy network makes of a request.
    fn seen(peer: &str, header: ForwardingHeader, lines: &[&str]) -> ClientAddress {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
        client_address(peer.parse().unwrap(), header, lines, &trusted)
    }

    fn known(address: &str) -> ClientAddress {
        ClientAddress::Known(address.parse().unwrap())
    }

    fn behind(proxy: &str) -> ClientAddress {
        ClientAddress::BehindProxy(proxy.parse().unwrap())
    }

    #[test]
    fn without_a_proxy_the_peer_is_the_client_whatever_it_claims() {
        assert_eq!(seen("192.0.2.1", XForwardedFor, &[]), known("192.0.2.1"));
        assert_eq!(seen("192.0.2.1", XForwardedFor, &["10.0.0.1"]), known("192.0.2.1"));
        assert_eq!(seen("192.0.2.1", Forwarded, &["for=10.0.0.1"]), known("192.0.2.1"));
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        assert_eq!(seen("10.0.0.1", XForwardedFor, &["203.0.113.9"]), known("203.0.113.9"));
        assert_eq!(seen("fd00::1", Forwarded, &["for=203.0.113.9;proto=https"]), known("203.0.113.9"));
    }

    #[test]
    fn the_right_most_address_that_is_not_a_trusted_proxy_is_the_client() {
        let chain = "198.51.100.66, 203.0.113.9, 10.1.1.1";
        assert_eq!(seen("10.0.0.1", XForwardedFor, &[chain]), known("203.0.113.9"));
        let chain = r#"for=198.51.100.66, for="[2001:db8::9]:4711", For=10.1.1.1"#;
        assert_eq!(seen("10.0.0.1", Forwarded, &[chain]), known("2001:db8::9"));
    }

    #[test]
    fn several_header_lines_are_one_chain() {
        let lines = ["198.51.100.66", "203.0.113.9, 10.1.1.1", "10.2.2.2"];
        assert_eq!(seen("10.0.0.1", XForwardedFor, &lines), known("203.0.113.9"));
    }

    #[test]
    fn what_a_client_invents_left_of_its_own_address_is_not_even_parsed() {
        for invented in ["garbage", "", "10.0.0.99", "for=\"", "\"", &"1.1.1.1,".repeat(1000)] {
            let line = format!("{invented}, 203.0.113.9");
            assert_eq!(seen("10.0.0.1", XForwardedFor, &[&line]), known("203.0.113.9"), "{invented}");
            let line = format!("{invented}, for=203.0.113.9");
            assert_eq!(seen("10.0.0.1", Forwarded, &[&line]), known("203.0.113.9"), "{invented}");
        }
    }

    #[test]
    fn only_the_header_that_the_proxies_write_is_read() {
        let mut headers = HeaderMap::new();
        let set = |headers: &mut HeaderMap, name: &'static str, value: &'static str| {
            let name = actix_web::http::header::HeaderName::from_static(name);
            headers.append(name, actix_web::http::header::HeaderValue::from_static(value));
        };
        set(&mut headers, "forwarded", "for=198.51.100.66");
        set(&mut headers, "x-forwarded-for", "203.0.113.9");
        set(&mut headers, "x-forwarded-for", "10.1.1.1");
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let seen = |header| from_headers("10.0.0.1".parse().unwrap(), header, &headers, &trusted);
        assert_eq!(seen(XForwardedFor), known("203.0.113.9"));
        assert_eq!(seen(Forwarded), known("198.51.100.66"));
    }

    #[test]
    fn when_every_hop_is_trusted_the_first_of_them_is_the_client() {
        assert_eq!(seen("10.0.0.1", XForwardedFor, &["10.3.3.3, 10.1.1.1"]), known("10.3.3.3"));
    }

    #[test]
    fn a_proxy_that_names_nobody_or_writes_garbage_stands_for_all_its_clients() {
        for line in ["", "unknown", "203.0.113.9,", "203.0.113.256", "203.0.113.9 198.51.100.1", "[203.0.113.9]", "é"]
        {
            assert_eq!(seen("10.0.0.1", XForwardedFor, &[line]), behind("10.0.0.1"), "{line}");
        }
        let elements =
            ["for=unknown", "for=_hidden", "proto=https", "for=1.1.1.1;for=2.2.2.2", "for=\"1.1.1.1", "203.0.113.9"];
        for line in elements {
            assert_eq!(seen("10.0.0.1", Forwarded, &[line]), behind("10.0.0.1"), "{line}");
        }
        assert_eq!(seen("10.0.0.1", XForwardedFor, &[]), behind("10.0.0.1"));
    }

    #[test]
    fn a_chain_of_more_than_32_trusted_hops_is_garbage() {
        let chain = |hops: usize| vec!["10.1.1.1"; hops].join(",");
        assert_eq!(seen("10.0.0.1", XForwardedFor, &[&chain(32)]), known("10.1.1.1"));
        assert_eq!(seen("10.0.0.1", XForwardedFor, &[&chain(33)]), behind("10.0.0.1"));
    }

    #[test]
    fn clients_behind_a_silent_proxy_share_its_limits_and_have_no_place() {
        let client = seen("10.0.0.1", XForwardedFor, &[]);
        assert_eq!(client.for_limits(), "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(client.for_network(), None);
        assert_eq!(known("192.0.2.1").for_network(), Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn ports_and_brackets_are_taken_off() {
        for line in ["203.0.113.9:443", " 203.0.113.9\t"] {
            assert_eq!(seen("10.0.0.1", XForwardedFor, &[line]), known("203.0.113.9"), "{line}");
        }
        for line in ["2001:db8::9", "[2001:db8::9]", "[2001:db8::9]:443"] {
            assert_eq!(seen("10.0.0.1", XForwardedFor, &[line]), known("2001:db8::9"), "{line}");
        }
        for line in [r#"for="203.0.113.9:443""#, "FOR=203.0.113.9", r#"by=10.0.0.1; for="203.0.113.9""#] {
            assert_eq!(seen("10.0.0.1", Forwarded, &[line]), known("203.0.113.9"), "{line}");
        }
    }

    #[test]
    fn an_ipv4_mapped_ipv6_address_is_the_ipv4_address() {
        assert_eq!(seen("::ffff:192.0.2.1", XForwardedFor, &[]), known("192.0.2.1"));
        assert_eq!(seen("::ffff:10.0.0.1", XForwardedFor, &["::ffff:203.0.113.9"]), known("203.0.113.9"));
        assert_eq!(seen("10.0.0.1", XForwardedFor, &["203.0.113.9, ::ffff:10.1.1.1"]), known("203.0.113.9"));
    }

    fn any_header() -> impl Strategy<Value = ForwardingHeader> {
        prop_oneof![Just(XForwardedFor), Just(Forwarded)]
    }

    /// Text that looks enough like the real thing to reach every branch.
    fn any_line() -> impl Strategy<Value = String> {
        let likely = prop::collection::vec(
            prop_oneof![
                Just("for="),
                Just("\""),
                Just(","),
                Just(";"),
                Just("["),
                Just("]"),
                Just(":"),
                Just("10.0.0.1"),
                Just("203.0.113.9"),
                Just("2001:db8::1"),
                Just(" "),
                Just("="),
                Just("unknown"),
                Just("80"),
            ],
            0..20,
        );
        prop_oneof![likely.prop_map(|parts| parts.concat()), any::<String>()]
    }

    proptest! {
        #[test]
        fn no_header_from_a_trusted_proxy_panics_and_the_proxy_is_the_worst_guess(
            header in any_header(), lines in prop::collection::vec(any_line(), 0..4),
        ) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            match seen("10.0.0.1", header, &lines) {
                ClientAddress::Known(address) => prop_assert!(!lines.is_empty() && address == address.to_canonical()),
                unknown @ ClientAddress::BehindProxy(_) => prop_assert_eq!(unknown, behind("10.0.0.1")),
            }
        }

        #[test]
        fn the_headers_of_an_untrusted_peer_never_matter(
            peer: IpAddr, header in any_header(), lines in prop::collection::vec(any_line(), 0..4),
        ) {
            let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
            prop_assume!(!trusted[0].contains(&peer.to_canonical()));
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let with_headers = client_address(peer, header, &lines, &trusted);
            prop_assert_eq!(with_headers, ClientAddress::Known(peer.to_canonical()));
        }

        #[test]
        fn what_stands_left_of_the_client_never_matters(
            header in any_header(), invented in prop::collection::vec(any_line(), 0..3), line in any_line(),
        ) {
            let mut lines: Vec<&str> = invented.iter().map(String::as_str).collect();
            let last = match header {
                XForwardedFor => format!("{line},203.0.113.9"),
                Forwarded => format!("{line},for=203.0.113.9"),
            };
            lines.push(&last);
            prop_assert_eq!(seen("10.0.0.1", header, &lines), known("203.0.113.9"));
        }
    }
}
