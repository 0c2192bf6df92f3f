//! Integration tests: one binary, one module a subject.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a panic in a test is a failed test, and tests measure real time"
)]

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod closing;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod fault_proxy;
#[cfg(test)]
mod http;
#[cfg(test)]
mod network;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod support;
