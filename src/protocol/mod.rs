//! What travels: identifiers, the QR payload, control messages, data frames, limits and close reasons.
//!
//! Pure: no I/O, no clock, no randomness, and no knowledge of who sends or receives. `docs/protocol.md` is the
//! normative text; every byte layout here is described there.

pub mod close;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod message;
pub mod network;
pub mod qr;
mod relay_host;
pub mod trace_parent;

use std::fmt;

use serde::{Deserialize, Serialize};

/// The WebSocket subprotocol that both sides must agree on (RFC 6455 section 1.9).
pub const SUBPROTOCOL: &str = "handoff.v1";

/// Which of the two apps a party is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The app that holds the credential and shows the QR code.
    Old,
    /// The app that scans the QR code and receives the credential.
    New,
}

impl Role {
    /// Both roles, for loops over the two parties.
    pub const BOTH: [Self; 2] = [Self::Old, Self::New];

    /// The other party.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }

    /// The name used in paths, messages, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
