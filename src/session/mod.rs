//! One transfer session as a state machine.

pub mod network_tag;
