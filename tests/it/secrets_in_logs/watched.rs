//! A relay that logs at debug level, behind a tap: whatever goes over the wire must not be in its log.

use std::net::SocketAddr;
use std::ops::Deref;

use rustix::process::Signal;

use super::search::Secrets;
use super::wire;
use crate::support::relay::Relay;
use crate::support::tap::Tap;

/// How log lines look; both hold the same, but escape it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Text,
}

/// A relay and the wire in front of it; otherwise a [`Relay`].
#[derive(Debug)]
pub(crate) struct Watched {
    relay: Relay,
    tap: Tap,
}

impl Deref for Watched {
    type Target = Relay;

    fn deref(&self) -> &Relay {
        &self.relay
    }
}

impl Watched {
    /// Starts a relay with further settings.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::start_with(Format::Json, settings)
    }

    pub(crate) fn start_with(format: Format, settings: &[&str]) -> Self {
        let format = match format {
            Format::Json => "log.format=json",
            Format::Text => "log.format=text",
        };
        let relay = Relay::start(&[&["log.filter=debug", format], settings].concat());
        let tap = Tap::before(relay.address());
        Self { relay, tap }
    }

    /// Where apps connect: the tap, not the relay.
    pub(crate) fn address(&self) -> SocketAddr {
        self.tap.address()
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// Ends the relay. Its whole log, and what was secret on the wire.
    pub(crate) async fn end(mut self) -> (String, Secrets) {
        self.relay.signal(Signal::TERM);
        let status = self.relay.until_exit().await;
        assert_eq!(status.code(), Some(0), "{}", self.relay.log());
        let mut secrets = Secrets::default();
        secrets.add_address(self.tap.source());
        self.tap.recordings().iter().for_each(|recording| wire::tell(recording, &mut secrets));
        (self.relay.log(), secrets)
    }

    /// Ends the relay, and searches its log.
    pub(crate) async fn expect_no_secret_in_the_log(self) {
        let (log, secrets) = self.end().await;
        assert!(secrets.len() > 1 && log.contains("DEBUG"), "nothing was looked for or logged: {log}");
        assert_eq!(secrets.found_in(&log), [""; 0]);
    }
}
