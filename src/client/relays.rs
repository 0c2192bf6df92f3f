//! Which relays an app may talk to, and where they are. No sockets.
//!
//! A QR code only ever *chooses* among what the app's own configuration allows: whoever draws one must not be able to
//! send a phone anywhere.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use url::{Host, Url};

use crate::protocol::Role;
use crate::protocol::ids::SessionId;
use crate::protocol::qr::{RelayHost, RelayRef};

/// The address of a relay: `wss://host[:port][/base]`, or `ws://` where nothing leaves the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayUrl(Url);

impl RelayUrl {
    /// Reads an address; `ws://` only for this device itself.
    ///
    /// # Errors
    /// [`BadRelayUrl`] names what is wrong.
    pub fn parse(text: &str) -> Result<Self, BadRelayUrl> {
        let url = Self::parse_insecure(text)?;
        if url.is_secure() || url.is_loopback() { Ok(url) } else { Err(BadRelayUrl::Unencrypted) }
    }

    /// Reads an address, with `ws://` for any host: for test networks only. The credential stays encrypted end to
    /// end; what the relay is told, tokens included, does not.
    ///
    /// # Errors
    /// [`BadRelayUrl`] names what is wrong.
    pub fn parse_insecure(text: &str) -> Result<Self, BadRelayUrl> {
        let url = Url::parse(text).map_err(|_| BadRelayUrl::Malformed)?;
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(BadRelayUrl::Scheme);
        }
        let plain = url.username().is_empty() && url.password().is_none();
        if !plain || url.query().is_some() || url.fragment().is_some() || url.host().is_none() {
            return Err(BadRelayUrl::Malformed);
        }
        Ok(Self(url))
    }

    fn of_literal(host: &RelayHost) -> Result<Self, RelayNotAllowed> {
        let secure = Self::parse(&format!("wss://{}", host.as_str())).map_err(|_| RelayNotAllowed::Literal)?;
        if !secure.is_loopback() {
            return Ok(secure);
        }
        Self::parse(&format!("ws://{}", host.as_str())).map_err(|_| RelayNotAllowed::Literal)
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "wss"
    }

    fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// The host as it is resolved, and the port.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        let host = match self.0.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        Some((host, self.0.port_or_known_default()?))
    }

    /// The full address of one side of a session. Not for any log.
    #[must_use]
    pub fn endpoint(&self, session: SessionId, role: Role) -> String {
        let base = self.0.as_str().trim_end_matches('/');
        format!("{base}/v1/sessions/{}/{role}", session.to_path_segment())
    }
}

/// Why a text is not a relay's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRelayUrl {
    /// Not a URL of a host, with a port and a path at most.
    #[error("a relay's address is wss://host[:port][/path], without user, query or fragment")]
    Malformed,
    /// Neither `wss` nor `ws`.
    #[error("a relay's address starts with wss://")]
    Scheme,
    /// `ws` to another device.
    #[error("an unencrypted relay (ws://) is allowed on this device only; use wss://")]
    Unencrypted,
}

/// The relays that an app may talk to.
#[derive(Clone, Debug, Default)]
pub struct RelayList {
    listed: BTreeMap<NonZeroU8, Vec<RelayUrl>>,
    allowed: Vec<RelayHost>,
}

impl RelayList {
    /// Talks to nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an address under the number that QR codes name it by. Several under one number lead to the same sessions;
    /// they are tried in this order.
    #[must_use]
    pub fn with(mut self, id: NonZeroU8, url: RelayUrl) -> Self {
        self.listed.entry(id).or_default().push(url);
        self
    }

    /// Allows QR codes that name this host literally. Without a port: on any port.
    #[must_use]
    pub fn allowing(mut self, host: RelayHost) -> Self {
        self.allowed.push(host);
        self
    }

    /// Where the relay that a QR code names is; never empty.
    ///
    /// # Errors
    /// [`RelayNotAllowed`] if this app may not talk to it.
    pub fn resolve(&self, relay: &RelayRef) -> Result<Vec<RelayUrl>, RelayNotAllowed> {
        match relay {
            RelayRef::Listed(id) => self.listed.get(id).cloned().ok_or(RelayNotAllowed::Unlisted(*id)),
            RelayRef::Literal(host) => {
                let url = RelayUrl::of_literal(host)?;
                let allowed = self.allowed.iter().any(|allowed| covers(allowed, &url));
                if allowed { Ok(vec![url]) } else { Err(RelayNotAllowed::Literal) }
            }
        }
    }
}

/// Whether an allowed host stands for this address.
fn covers(allowed: &RelayHost, url: &RelayUrl) -> bool {
    let Ok(allowed_url) = RelayUrl::of_literal(allowed) else { return false };
    let any_port = match allowed.as_str().rsplit_once(']') {
        Some((_, port)) => port.is_empty(),
        None => !allowed.as_str().contains(':'),
    };
    allowed_url.0.host() == url.0.host()
        && (any_port || allowed_url.0.port_or_known_default() == url.0.port_or_known_default())
}

/// A QR code names a relay that this app may not talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayNotAllowed {
    /// A number that the app's list does not have.
    #[error("the QR code names relay number {0}, which this app does not know: update the app")]
    Unlisted(NonZeroU8),
    /// A literal host that the app's configuration does not allow.
    #[error("the QR code names a relay host that this app's configuration does not allow")]
    Literal,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> RelayHost {
        RelayHost::parse(text).unwrap()
    }

    fn literal(list: &RelayList, text: &str) -> Result<String, RelayNotAllowed> {
        list.resolve(&RelayRef::Literal(host(text))).map(|urls| urls[0].0.to_string())
    }

    #[test]
    fn a_relay_is_reached_encrypted_or_on_this_device() {
        for good in [
            "wss://relay.example",
            "wss://relay.example:8443/base/",
            "ws://127.0.0.1:8080",
            "ws://[::1]:8080",
            "ws://localhost",
        ] {
            assert!(RelayUrl::parse(good).is_ok(), "{good}");
        }
        assert_eq!(RelayUrl::parse("ws://relay.example"), Err(BadRelayUrl::Unencrypted));
        assert!(RelayUrl::parse_insecure("ws://relay.example").is_ok());
        assert_eq!(RelayUrl::parse("https://relay.example"), Err(BadRelayUrl::Scheme));
        for bad in ["", "relay.example", "wss://", "wss://u@h", "wss://h/?q", "wss://h/#f"] {
            assert!(matches!(RelayUrl::parse(bad), Err(BadRelayUrl::Malformed | BadRelayUrl::Scheme)), "{bad}");
        }
    }

    #[test]
    fn each_side_of_a_session_has_its_path() {
        let session = SessionId::from_random([0; 16]);
        for (url, start) in
            [("wss://relay.example", "wss://relay.example/v1"), ("ws://[::1]:80/a/b/", "ws://[::1]/a/b/v1")]
        {
            let url = RelayUrl::parse(url).unwrap();
            let end = format!("/sessions/{}/", session.to_path_segment());
            assert_eq!(url.endpoint(session, Role::Old), format!("{start}{end}old"));
            assert_eq!(url.endpoint(session, Role::New), format!("{start}{end}new"));
        }
    }

    #[test]
    fn a_number_stands_for_the_apps_own_addresses_in_order() {
        let [one, two] = [1, 2].map(|id| NonZeroU8::new(id).unwrap());
        let [a, b] = ["wss://a.example", "wss://b.example"].map(|url| RelayUrl::parse(url).unwrap());
        let list = RelayList::new().with(one, a.clone()).with(one, b.clone());
        assert_eq!(list.resolve(&RelayRef::Listed(one)), Ok(vec![a, b]));
        assert_eq!(list.resolve(&RelayRef::Listed(two)), Err(RelayNotAllowed::Unlisted(two)));
    }

    #[test]
    fn a_literal_host_is_followed_only_where_it_is_allowed() {
        let list = RelayList::new()
            .allowing(host("relay.example"))
            .allowing(host("other.example:8443"))
            .allowing(host("127.0.0.1"))
            .allowing(host("[::1]:9000"));
        assert_eq!(literal(&list, "relay.example").unwrap(), "wss://relay.example/");
        assert_eq!(literal(&list, "RELAY.example:8443").unwrap(), "wss://relay.example:8443/");
        assert_eq!(literal(&list, "other.example:8443").unwrap(), "wss://other.example:8443/");
        assert_eq!(literal(&list, "127.0.0.1:8080").unwrap(), "ws://127.0.0.1:8080/");
        assert_eq!(literal(&list, "[::1]:9000").unwrap(), "ws://[::1]:9000/");
        for refused in
            ["other.example", "evil.example", "relay.example.evil.example", "localhost", "[::1]:9001", "10.0.0.1"]
        {
            assert_eq!(literal(&list, refused), Err(RelayNotAllowed::Literal), "{refused}");
        }
    }
}
