//! `handoff-load`: the load generator of handoff-relay. Whole handoffs by the thousand, in an open model.

#![cfg_attr(
    test,
    expect(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::items_after_statements,
        clippy::manual_midpoint,
        clippy::type_complexity,
        clippy::unchecked_time_subtraction,
        reason = "a test that overflows is a failed test"
    )
)]

mod cli;
mod health;
mod num;
mod profile;
mod report;
mod results;
mod run;
mod scenario;
mod schedule;
mod stats;
mod think;
mod threshold;

use std::process::ExitCode;

use clap::Parser as _;
use tikv_jemallocator::Jemalloc;

/// As in the relay: its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
