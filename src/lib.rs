//! handoff-relay

pub mod crypto;
pub mod protocol;
