//! Which relay the two apps use: the flags, and what becomes of them.

use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use url::Url;

use crate::client::{Connector, DEFAULT_PATIENCE, RelayList, RelayUrl};
use crate::protocol::qr::{RelayHost, RelayRef};

/// Where `handoff serve` listens by default.
const DEFAULT_RELAY: &str = "ws://127.0.0.1:8080";

/// The same service as its HTTP side is told.
pub(super) const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// Hosts that a QR code may name without further ado: they lead to this device itself.
const LOOPBACK_HOSTS: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

#[derive(Debug, clap::Args)]
pub(super) struct RelayArgs {
    /// The relay's address; repeat it for further addresses of the same relay [default: `ws://127.0.0.1:8080`]
    #[arg(long = "relay", value_name = "URL")]
    urls: Vec<String>,

    /// Trust the certificate authorities in this PEM file, too
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Give up if no relay has answered by then
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_PATIENCE.as_secs())]
    patience: u64,
}

impl RelayArgs {
    /// Arguments that name one address.
    pub(super) fn one(url: String) -> Self {
        Self { urls: vec![url], ca_file: None, patience: DEFAULT_PATIENCE.as_secs() }
    }

    /// The relays that the app may use: the given ones under number 1, and the hosts that a QR code may name.
    pub(super) fn list(&self) -> anyhow::Result<RelayList> {
        let mut list = RelayList::new();
        for host in LOOPBACK_HOSTS {
            list = list.allowing(RelayHost::parse(host)?);
        }
        for url in self.urls() {
            list = list.with(NonZeroU8::MIN, RelayUrl::parse(url).with_context(|| format!("--relay {url}"))?);
            if let Some(host) = literal(url) {
                list = list.allowing(host);
            }
        }
        Ok(list)
    }

    /// How the QR code names the relay: by its host where that says everything, else by number 1.
    pub(super) fn reference(&self) -> RelayRef {
        match self.urls()[..] {
            [url] => literal(url).map_or(RelayRef::Listed(NonZeroU8::MIN), RelayRef::Literal),
            _ => RelayRef::Listed(NonZeroU8::MIN),
        }
    }

    pub(super) fn connector(&self) -> anyhow::Result<Connector> {
        let needs_tls = self.urls().iter().any(|url| url.starts_with("wss:"));
        Ok(match &self.ca_file {
            Some(file) => Connector::with_extra_roots(file)?,
            None if needs_tls => Connector::new()?,
            None => Connector::plain(),
        })
    }

    /// The HTTP side of the first address: activation is served by the same service.
    pub(super) fn server(&self) -> String {
        let first = self.urls().first().copied().unwrap_or(DEFAULT_RELAY);
        let server = first.strip_prefix("ws").map(|rest| format!("http{rest}"));
        server.and_then(|url| Some(Url::parse(&url).ok()?.origin().ascii_serialization())).unwrap_or_default()
    }

    /// The file of certificate authorities.
    pub(super) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// How long to try until a relay answers for the first time.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    fn urls(&self) -> Vec<&str> {
        let given = self.urls.iter().map(String::as_str);
        if self.urls.is_empty() { vec![DEFAULT_RELAY] } else { given.collect() }
    }
}

/// The `host[:port]` from which a scanner gets the same address back.
fn literal(url: &str) -> Option<RelayHost> {
    let url = Url::parse(url).ok().filter(|url| url.path() == "/")?;
    let host = url.host_str()?;
    let is_loopback = LOOPBACK_HOSTS.contains(&host);
    let names_itself = url.scheme() == if is_loopback { "ws" } else { "wss" };
    let text = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    RelayHost::parse(&text).ok().filter(|_| names_itself)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(urls: &[&str]) -> RelayRef {
        let urls = urls.iter().map(|&url| url.to_owned()).collect();
        RelayArgs { urls, ca_file: None, patience: 1 }.reference()
    }

    #[test]
    fn one_plain_address_is_named_literally_and_everything_else_by_number() {
        for (url, host) in [
            ("ws://127.0.0.1:8080", "127.0.0.1:8080"),
            ("ws://[::1]:99", "[::1]:99"),
            ("wss://relay.example", "relay.example"),
        ] {
            assert_eq!(reference(&[url]), RelayRef::Literal(RelayHost::parse(host).unwrap()));
        }
        for urls in
            [&["wss://relay.example/base"][..], &["wss://127.0.0.1:8443"], &["wss://a.example", "wss://b.example"]]
        {
            assert_eq!(reference(urls), RelayRef::Listed(NonZeroU8::MIN), "{urls:?}");
        }
        assert_eq!(reference(&[]), reference(&[DEFAULT_RELAY]));
    }
}
