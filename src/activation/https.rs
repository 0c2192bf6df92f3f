//! The HTTP client of the activation: for SMS gateways and the push service's webhook. Knows neither.
//!
//! TLS with ring and the operating system's authorities; no redirects, because a body with a PIN goes where it was
//! configured to go and nowhere else. A proxy is taken from the environment as everywhere (`HTTPS_PROXY`, `NO_PROXY`), but
//! for HTTPS only: what goes to this very computer stays on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{ClientBuilder, NoProxy, Proxy, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that nobody used for so long is closed: shorter than what proxies on the way close at.
const IDLE: Duration = Duration::from_secs(50);

/// More than any answer that is needed; a server that goes on is not listened to.
const MOST_ANSWER_BYTES: usize = 64 * 1024;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum BadClient {
    /// The file of further authorities.
    #[error("the file of certificate authorities cannot be read, or has no valid certificate")]
    Authorities,
    /// The TLS settings.
    #[error("the HTTP client cannot be built")]
    Build(#[source] reqwest::Error),
    /// The TLS library.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The address cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address must begin with https://, or with http:// to a loopback address, and hold no user or password")]
pub struct BadAddress;

/// An address to which secrets may be sent: HTTPS, or this very computer.
///
/// # Errors
/// [`BadAddress`] for every other one.
pub fn secure(text: &str) -> Result<Url, BadAddress> {
    let url = Url::parse(text).map_err(|_| BadAddress)?;
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_here);
    let is_bare = url.username().is_empty() && url.password().is_none() && url.has_host();
    (is_safe && is_bare).then_some(url).ok_or(BadAddress)
}

/// A client that trusts what the operating system trusts, and the certificates of a PEM file if one is given.
///
/// # Errors
/// [`BadClient`] if the file is not usable.
pub fn client(more_authorities: Option<&Path>) -> Result<reqwest::Client, BadClient> {
    let mut builder = direct(more_authorities)?;
    let proxy = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().find_map(set);
    if let Some(proxy) = proxy {
        builder = builder.proxy(Proxy::https(proxy).map_err(BadClient::Build)?.no_proxy(NoProxy::from_env()));
    }
    builder.build().map_err(BadClient::Build)
}

fn set(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// [`client`] that is not built yet, and takes no proxy.
///
/// # Errors
/// [`BadClient`] if the file is not usable.
pub fn direct(more_authorities: Option<&Path>) -> Result<ClientBuilder, BadClient> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = more_authorities {
        let known = roots.len();
        for certificate in CertificateDer::pem_file_iter(file).map_err(|_| BadClient::Authorities)? {
            let certificate = certificate.map_err(|_| BadClient::Authorities)?;
            roots.add(certificate).map_err(|_| BadClient::Authorities)?;
        }
        if roots.len() == known {
            return Err(BadClient::Authorities);
        }
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(BadClient::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("handoff/", env!("CARGO_PKG_VERSION")));
    Ok(builder)
}

/// The body of an answer; `None` if it is longer than any that makes sense.
///
/// # Errors
/// When the connection breaks before its end.
pub(super) async fn body(mut answer: reqwest::Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await? {
        if body.len().saturating_add(part.len()) > MOST_ANSWER_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&part);
    }
    Ok(Some(body))
}

/// The seconds of `Retry-After`; the form with a date needs a clock that is right, and is not used.
pub(super) fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let seconds = answer.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_https_or_stay_on_this_computer() {
        for good in ["https://api.example/send", "http://127.0.0.1:8080/", "http://[::1]/", "http://localhost:1/a?b=c"]
        {
            assert!(secure(good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.example",
            "ftp://127.0.0.1",
            "api.example",
            "https://user:pass@api.example",
            "http://10.0.0.1",
            "",
        ] {
            assert_eq!(secure(bad), Err(BadAddress), "{bad}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(client(Some(file.path())), Err(BadClient::Authorities)));
        assert!(matches!(client(Some(Path::new("/does/not/exist"))), Err(BadClient::Authorities)));
        assert!(client(None).is_ok());
    }
}
