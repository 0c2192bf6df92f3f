//! `[server]`: listeners, certificates, proxies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

use super::Bad;

/// Listeners, certificates, proxies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where apps connect.
    pub listen: SocketAddr,
    /// Where metrics and the version are served; together with apps if not set.
    pub metrics_listen: Option<SocketAddr>,
    /// Threads that serve connections. One does thousands of handoffs a second, many times what the limits allow. With
    /// more, half of the sessions have their two sockets on two threads: each frame wakes both, and while one of them is
    /// overrun, what comes from the other waits longest (docs/performance.md).
    pub workers: usize,
    /// The certificate chain, with [`Self::tls_key`]; without both the relay speaks plain HTTP.
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Proxies whose word about the client's address counts.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they give it.
    pub client_address_header: ClientAddressHeader,
    /// Web pages that may connect. Apps send no origin and need none.
    pub allowed_origins: Vec<String>,
}

/// A header in which proxies give the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddressHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            metrics_listen: None,
            workers: 1,
            tls_certificate: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
            client_address_header: ClientAddressHeader::default(),
            allowed_origins: Vec::new(),
        }
    }
}

impl Server {
    pub(super) fn check(&self) -> Result<(), Bad> {
        let is_apart = self.listen.port() == 0 || self.metrics_listen != Some(self.listen);
        Bad::unless(is_apart, "server.metrics_listen", "must be another address or port than server.listen")?;
        let workers = (1..=1024).contains(&self.workers);
        Bad::unless(workers, "server.workers", "must be from 1 to 1024")?;
        match (&self.tls_certificate, &self.tls_key) {
            (Some(_), None) => return Err(Bad::new("server.tls_certificate", "needs server.tls_key, too")),
            (None, Some(_)) => return Err(Bad::new("server.tls_key", "needs server.tls_certificate, too")),
            (Some(_), Some(_)) | (None, None) => {}
        }
        // Whoever may name any address has no limits, and is next door to everybody.
        let somebody = self.trusted_proxies.iter().all(|network| network.prefix_len() > 0);
        Bad::unless(somebody, "server.trusted_proxies", "must not hold everybody: name the networks of the proxies")?;
        self.allowed_origins.iter().try_for_each(|origin| check_origin(origin))
    }
}

/// An origin is compared byte by byte, so it must be written as browsers write it (RFC 6454 section 6.2).
fn check_origin(text: &str) -> Result<(), Bad> {
    let origin = Url::parse(text).ok().map(|url| url.origin()).filter(url::Origin::is_tuple);
    match origin.map(|origin| origin.ascii_serialization()) {
        Some(right) if right == text => Ok(()),
        Some(right) => Err(Bad::new("server.allowed_origins", format!("{text:?} must be written {right:?}"))),
        None => {
            Err(Bad::new("server.allowed_origins", format!("{text:?} is not an origin such as https://app.example")))
        }
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: &String| {
        let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        text.parse::<IpNet>().map(|network| network.trunc()).or(address).map_err(de::Error::custom)
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(network).collect()
}
