//! What operators see: log lines on standard error, and the table of metrics with its Prometheus rendering.
//!
//! Knows names and formats, not when anything happens: whoever sees something happen counts it, under a name from
//! [`names`], with the macros of `metrics` or, for every handoff, with
//! [`Meters`].

pub mod logs;
mod meters;
pub mod names;
mod process;
mod recorder;

pub use meters::{HopPath, Meters};
pub use names::*;
pub use process::max_open_files;
pub use recorder::{install_metrics, render};
