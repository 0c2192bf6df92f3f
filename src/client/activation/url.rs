//! Where an activation's server is. No sockets.

use std::fmt;

use url::{Host, Url};

/// The address of a server: `https://host[:port]`, or `http://` where nothing leaves the device.
///
/// An app has it in its configuration. It never comes from a QR code or from the other phone: whoever could choose it
/// would be told user ID and temporary PIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl(Url);

/// Why a text is not a server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadServerUrl {
    /// Not a URL of a host and a port.
    #[error("a server's address is https://host[:port], without path, user, query or fragment")]
    Malformed,
    /// `http` to another device.
    #[error("an unencrypted server (http://) is allowed on this device only; use https://")]
    Unencrypted,
}

impl ServerUrl {
    /// Reads an address; `http://` only for this device itself.
    ///
    /// # Errors
    /// [`BadServerUrl`] names what is wrong.
    pub fn parse(text: &str) -> Result<Self, BadServerUrl> {
        let url = Url::parse(text).map_err(|_| BadServerUrl::Malformed)?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
        let is_web = matches!(url.scheme(), "http" | "https") && url.host().is_some();
        if !is_web || !is_plain || url.query().is_some() || url.fragment().is_some() {
            return Err(BadServerUrl::Malformed);
        }
        let server = Self(url);
        if server.is_secure() || server.is_loopback() { Ok(server) } else { Err(BadServerUrl::Unencrypted) }
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it is this device itself.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// The address of a path, which begins with a slash.
    pub(super) fn with(&self, path: &str) -> String {
        format!("{self}{path}")
    }
}

/// Without a slash at its end.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_over_https_or_is_this_device() {
        for (text, path) in [
            ("https://activation.example", "https://activation.example/v1/apps"),
            ("https://activation.example:8443/", "https://activation.example:8443/v1/apps"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/apps"),
            ("http://[::1]:1", "http://[::1]:1/v1/apps"),
            ("http://localhost", "http://localhost/v1/apps"),
        ] {
            assert_eq!(ServerUrl::parse(text).unwrap().with("/v1/apps"), path);
        }
        for text in ["http://activation.example", "http://10.0.0.1"] {
            assert_eq!(ServerUrl::parse(text), Err(BadServerUrl::Unencrypted), "{text}");
        }
        for text in
            ["", "activation.example", "ws://127.0.0.1", "https://a@b", "https://a/b", "https://a?b", "https://a#b"]
        {
            assert_eq!(ServerUrl::parse(text), Err(BadServerUrl::Malformed), "{text}");
        }
    }
}
