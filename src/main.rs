//! The `handoff` binary; everything is in the library.

use clap::Parser as _;
use handoff_relay::cli::{Cli, Exit};
use tikv_jemallocator::Jemalloc;

/// Gives memory back after a burst, which the system's allocator does not; its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> Exit {
    Cli::parse().run()
}
