//! The actors that run sessions.

pub mod open_policy;
