//! The load generator of handoff-relay.
fn main() {}
