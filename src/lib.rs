//! handoff-relay

pub mod protocol;
