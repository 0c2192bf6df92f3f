//! A thousand activations at once against the real binary, with a file and with a real PostgreSQL, beside a session whose
//! frames are relayed. A binary of its own, because it measures; it prints its figures and checks that nothing is lost or
//! doubled.
//!
//! `HANDOFF_BIN` names another binary than the one that was built with the tests: a release build, for the figures.
//! `HANDOFF_TEST_ACTIVATIONS` is how many there are at once. What a phone computes for itself is prepared before: the
//! phones share the machine with the service.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a panic in a test is a failed test, tests measure real time"
)]

#[cfg(test)]
mod at_once;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod phone;
#[cfg(test)]
#[expect(dead_code, reason = "the other test binaries use the rest")]
#[path = "../support/postgres.rs"]
mod postgres;
#[cfg(test)]
#[expect(dead_code, reason = "the other test binaries use the rest")]
#[path = "../it/support/mod.rs"]
mod support;
