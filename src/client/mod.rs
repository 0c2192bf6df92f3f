//! The two apps' side of a handoff: what an app links, what `handoff old` and `handoff new` are made of, and what a
//! load tester starts by the thousand.
//!
//! Not the relay, and not a user interface: an app draws what the events say, and asks the person what they ask.
//!
//! In three layers, and an app needs only the first:
//!
//! 1. [`OldApp`] and [`NewApp`] start a [`Transfer`] in a task of its own: connections, names, TLS, waiting.
//! 2. [`OldTransfer`] and [`NewTransfer`] decide everything: what is said first on each connection, what is sent again,
//!    what every close reason means, when the QR code changes. They are [`Machine`]s without sockets, clock or tasks,
//!    so that a simulator can run them through years of bad networks in a second.
//! 3. The end-to-end channel, [`crate::crypto`], decides what may be said at all: its types let nobody send a
//!    credential before the check code was typed.
//!
//! What a new app does after the handoff, or without one, to become active is in [`activation`].
//!
//! Two phones in one process; in real life a camera and a person stand between them:
//!
//! ```no_run
//! use std::num::NonZeroU8;
//!
//! use handoff_relay::client::{
//!     Connector, NewApp, NewEvent, NewSettings, OldApp, OldEvent, OldSettings, RelayList, RelayUrl,
//! };
//! use handoff_relay::crypto::{Credential, DeviceInfo, DeviceKey};
//! use handoff_relay::protocol::qr::RelayRef;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let relays = RelayList::new().with(NonZeroU8::MIN, RelayUrl::parse("wss://relay.example")?);
//! let connector = Connector::new()?;
//!
//! let settings = OldSettings::new(RelayRef::Listed(NonZeroU8::MIN), DeviceInfo::new("Pixel 3", "1.0")?);
//! let credential = Credential::new(b"what the old phone holds".to_vec());
//! let mut old = OldApp::new(relays.clone(), connector.clone()).start(settings, credential)?;
//! let Some(OldEvent::QrShown { payload, .. }) = old.next_event_where(|e| matches!(e, OldEvent::QrShown { .. })).await
//! else { return Ok(()) };
//!
//! let settings = NewSettings::new(DeviceInfo::new("Pixel 9", "1.0")?, DeviceKey::generate(&mut rand::rng()));
//! let mut new = NewApp::new(relays, connector).start(settings, payload)?;
//! let Some(NewEvent::ShowCode(code)) = new.next_event_where(|e| matches!(e, NewEvent::ShowCode(_))).await
//! else { return Ok(()) };
//!
//! old.enter_code(code).await;
//! let (delivered, received) = tokio::join!(old.join(), new.join());
//! # let _ = (delivered, received);
//! # Ok(())
//! # }
//! ```

pub mod activation;
mod app;
mod arq;
mod backoff;
mod connection;
mod dial;
mod driver;
mod event;
mod exchange;
mod inbound;
mod link;
mod machine;
mod new;
mod old;
mod outcome;
mod party;
mod payload;
pub mod personal_pin;
mod picture;
mod policy;
mod probe;
mod relays;
mod settings;
mod time;

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::result_large_err,
    clippy::struct_excessive_bools,
    clippy::wildcard_enum_match_arm,
    reason = "a test that overflows or misses a case fails, as it should"
)]
mod tests;

use std::time::Duration;

pub use app::{EnterCode, Never, NewApp, NewHandle, OldApp, OldHandle, StartError, Transfer};
pub use backoff::delay as reconnect_delay;
pub use connection::{Connector, Socket, TlsSetupError};
pub use dial::{Dial, Dialing, Transport};
pub use event::{LinkEvent, NewEvent, OfflineCause, OldEvent};
pub use link::Step;
pub use machine::{Machine, Transmit};
pub use new::NewTransfer;
pub use old::OldTransfer;
pub use outcome::{ConnectFailure, EndReason, HttpRefusal, NewOutcome, OldOutcome, TransferError};
pub use payload::Payload;
pub use policy::VerdictPolicy;
pub use relays::{BadRelayUrl, RelayList, RelayNotAllowed, RelayUrl};
pub use settings::{NewSettings, OldSettings};

/// Time in which a relay must answer for the first time: longer than a phone needs to change from Wi-Fi to mobile
/// data, shorter than a person looks at a screen on which nothing happens.
pub const DEFAULT_PATIENCE: Duration = Duration::from_mins(1);

/// Time for the last word to the relay (`complete` or `cancel`) to get through, also over a new connection.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(8);
