//! Text messages with temporary PINs: what they say, and the ways they go out.
//!
//! [`text`] makes the body, [`sender`] gets it to a [`gateway`]: the development [`outbox`], or one over HTTP. A
//! [`breaker`] stands before each, and [`delivery`] reads what a gateway reports afterwards. Whether a message may be sent at all is decided before, by
//! [`super::temporary_pin::send_rules`]. Nothing here logs or counts by number, text or user.

pub mod breaker;
pub mod delivery;
pub mod gateway;
pub mod http;
pub mod outbox;
pub mod sender;
pub mod text;

#[cfg(test)]
pub(super) mod tests;
