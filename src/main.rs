//! The `handoff` binary; everything is in the library.

use clap::Parser as _;
use handoff_relay::cli::{Cli, Exit};

fn main() -> Exit {
    Cli::parse().run()
}
