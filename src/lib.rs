//! A relay that hands an app's credential over to a new phone, and the client library for both phones.
//!
//! Reading order, bottom up; a lower module never imports a higher one: [`protocol`] (what travels), [`crypto`] (the
//! end-to-end channel, which the relay never sees), [`session`] (one transfer as a state machine), [`directory`]
//! (where sessions are), [`relay`] (the actors that run them), [`edge`] (HTTP and WebSocket), [`client`] (both apps),
//! [`activation`] (from a new app to an active one), [`app`] (the wiring), [`cli`] (the commands). Beside them, known to
//! all: [`config`] and [`telemetry`].

#![cfg_attr(
    test,
    expect(
        clippy::arithmetic_side_effects,
        clippy::unchecked_time_subtraction,
        reason = "a panic in a test is a failed test"
    )
)]

pub mod activation;
pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod crypto;
pub mod directory;
pub mod edge;
pub mod jwt;
pub mod keyed_hash;
pub mod opaque;
pub mod protocol;
pub mod relay;
pub mod session;
mod sharded;
pub mod telemetry;

/// The example in README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
