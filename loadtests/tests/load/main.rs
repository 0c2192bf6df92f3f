//! The load generator against a real relay: what it measures, what it says, and how it exits.

#[cfg(test)]
mod support;

#[cfg(test)]
mod runs;

#[cfg(test)]
mod secured;

#[cfg(test)]
mod usage;
