//! Many nodes, one relay: real processes that share a Redis, killed, frozen, restarted and cut off in the middle of
//! handoffs. A binary of its own, because it measures; each test prints its figures.
//!
//! `HANDOFF_BIN` names another binary than the one that was built with the tests: a release build, for the costs.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a panic in a test is a failed test, tests measure real time"
)]

#[cfg(test)]
mod cost;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod frozen;
#[cfg(test)]
mod group;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod many;
#[cfg(test)]
mod phones;
#[cfg(test)]
mod redis_away;
#[cfg(test)]
mod redis_lost;
#[cfg(test)]
mod rolling;
#[cfg(test)]
#[expect(dead_code, reason = "the other test binary uses the rest")]
#[path = "../it/support/mod.rs"]
mod support;
