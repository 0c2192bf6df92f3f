//! Traces as a collector gets them from real nodes with a real Redis. Only with the feature `otlp`.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a panic in a test is a failed test, tests measure real time"
)]

#[cfg(test)]
mod collector;
#[cfg(test)]
#[expect(dead_code, reason = "the other test binaries use the rest")]
#[path = "../it/support/mod.rs"]
mod support;
#[cfg(test)]
mod traces;
