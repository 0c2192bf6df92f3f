//! The literal `host[:port]` that a QR code can name a relay by: its grammar, and nothing that a URL parser would add.
//! Resolves nothing, and says nothing about whether an app may go there.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::limits;
use super::qr::QrError;

/// Longest name in the DNS, in text form without the dot of the root.
const MAX_NAME_BYTES: usize = 253;

/// Longest label of a name.
const MAX_LABEL_BYTES: usize = 63;

/// A syntactically valid `host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayHost(String);

impl RelayHost {
    /// Checks a `host[:port]`: a DNS name, an IPv4 address, or an IPv6 address in brackets.
    ///
    /// # Errors
    /// [`QrError::BadRelay`] for anything else, a URL's other parts included.
    pub fn parse(text: &str) -> Result<Self, QrError> {
        let (host, port) = split_port(text);
        let fits = text.len() <= limits::MAX_RELAY_LITERAL_BYTES;
        if fits && is_host(host) && port.is_none_or(is_port) {
            Ok(Self(text.to_owned()))
        } else {
            Err(QrError::BadRelay)
        }
    }

    /// The `host[:port]`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The port is behind the last colon, unless that is one inside the brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok() || is_name(host),
    }
}

fn is_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label) && !is_number(last)
}

fn is_label(label: &str) -> bool {
    let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let bounded = (1..=MAX_LABEL_BYTES).contains(&label.len());
    // The one kind of label that a URL parser looks into.
    let readable = !has_prefix(label, "xn--") || url::Host::parse(label).is_ok();
    plain && bounded && !label.starts_with('-') && !label.ends_with('-') && readable
}

/// Whether a URL parser takes a name that ends in this label for an IPv4 address, as `127.1` and `0x7f000001`.
fn is_number(label: &str) -> bool {
    let hexadecimal = has_prefix(label, "0x") && label.bytes().skip(2).all(|byte| byte.is_ascii_hexdigit());
    hexadecimal || label.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_prefix(label: &str, prefix: &str) -> bool {
    label.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_port(port: &str) -> bool {
    let plain = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    plain && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_relay_is_a_host_and_a_port_and_nothing_else() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
        for good in [
            "relay.example",
            "RELAY.Example:8443",
            "a",
            "1a.2b",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[2001:db8::1]:65535",
            "[::ffff:192.0.2.1]:80",
            "xn--bcher-kva.example",
            &longest,
            &format!("{longest}:65535"),
        ] {
            assert_eq!(RelayHost::parse(good).map(|host| host.0), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "a b",
            "user@host",
            "host/path",
            "host?x",
            "host#f",
            "høst",
            "a%41",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[::1]x",
            "[127.0.0.1]",
            "[fe80::1%25eth0]",
            "[v1.a]",
            ":80",
            "host:",
            "host:0",
            "host:080",
            "host:+80",
            "host:65536",
            "host:99999",
            "host:80:80",
            "host.",
            ".host",
            "a..b",
            "-a",
            "a-.b",
            "a_b",
            "127.1",
            "1",
            "127.0.0.01",
            "256.0.0.1",
            "1.2.3.4.5",
            "a.1",
            "0x7f000001",
            "a.0X",
            "0x.0xA",
            "xn--a",
            "xn--",
        ] {
            assert_eq!(RelayHost::parse(bad), Err(QrError::BadRelay), "{bad:?}");
        }
        for long in ["a".repeat(64), format!("{longest}a"), format!("{longest}:065535")] {
            assert_eq!(RelayHost::parse(&long), Err(QrError::BadRelay));
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_the_same_host_to_a_url_parser(text in "[a-zA-Z0-9.:x-]{1,12}|\\[[0-9a-f:.]{2,12}\\](:[0-9]{0,6})?") {
            if RelayHost::parse(&text).is_ok() {
                let url = url::Url::parse(&format!("wss://{text}/")).unwrap();
                let (host, port) = split_port(&text);
                match url.host().unwrap() {
                    url::Host::Domain(name) => prop_assert_eq!(name, host.to_ascii_lowercase()),
                    url::Host::Ipv4(address) => prop_assert_eq!(address.to_string(), host),
                    url::Host::Ipv6(address) => prop_assert_eq!(Ok(address), host[1..host.len() - 1].parse()),
                }
                prop_assert_eq!(url.port_or_known_default(), Some(port.map_or(443, |port| port.parse().unwrap())));
            }
        }
    }
}
