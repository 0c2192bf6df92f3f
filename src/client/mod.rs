//! The two apps' side of a handoff, as pure state machines: no sockets, no clock, no tasks.

mod arq;
mod backoff;
mod event;
mod exchange;
mod inbound;
mod link;
mod machine;
mod new;
mod old;
mod outcome;
mod policy;
mod time;

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::struct_excessive_bools,
    clippy::unchecked_time_subtraction,
    clippy::wildcard_enum_match_arm,
    reason = "a test that overflows or misses a case fails, as it should"
)]
mod tests;

use std::time::Duration;

pub use event::{LinkEvent, NewEvent, OfflineCause, OldEvent};
pub use exchange::Transmit;
pub use link::Step;
pub use machine::Machine;
pub use new::{NewSettings, NewTransfer};
pub use old::{OldSettings, OldTransfer};
pub use outcome::{ConnectFailure, EndReason, HttpRefusal, NewOutcome, OldOutcome, TransferError};
pub use policy::VerdictPolicy;

/// Time in which a relay must answer for the first time: longer than a phone needs to change from Wi-Fi to mobile
/// data, shorter than a person looks at a screen on which nothing happens.
pub const DEFAULT_PATIENCE: Duration = Duration::from_mins(1);

/// Time for the last word to the relay (`complete` or `cancel`) to get through, also over a new connection.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(8);
