//! handoff-relay

pub mod edge;
pub mod keyed_hash;
pub mod protocol;
pub mod relay;
pub mod session;
pub mod telemetry;
