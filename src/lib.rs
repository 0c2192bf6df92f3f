//! handoff-relay

pub mod client;
pub mod crypto;
pub mod protocol;
