//! Integration tests: one binary, one module a subject.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::format_collect,
    clippy::wildcard_enum_match_arm,
    reason = "a panic in a test is a failed test, tests measure real time"
)]

#[cfg(test)]
mod activation;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod closing;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod fault_proxy;
#[cfg(test)]
mod handoff;
#[cfg(test)]
mod http;
#[cfg(test)]
mod network;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod redis_server;
#[cfg(test)]
mod secrets_in_logs;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod support;
#[cfg(test)]
mod upgrade;
