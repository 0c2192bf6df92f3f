//! The load generator against a real relay: what it measures, what it says, and how it exits.

#![expect(clippy::arithmetic_side_effects, reason = "a panic in a test is a failed test")]

#[cfg(test)]
mod support;

#[cfg(test)]
mod runs;

#[cfg(test)]
mod usage;
