//! Traces: spans that say how long the parts of a handoff took, on every node, sent to a collector over OTLP.
//!
//! Real with the feature `otlp` and a collector in the settings; otherwise nothing is noted, kept or sent. Without the
//! feature all types here are empty. What a span says is spelt out where it is made: unlike log lines, nothing gets
//! into a trace by a filter, and no session id, token, key, address or person ever may.
//!
//! A span needs its parent when it begins. Which trace a `join` belongs to is known only when the session's record was
//! read, on whatever node. So the steps of a request are noted on a [`Trail`] first, and become spans at its end.

#[cfg(not(feature = "otlp"))]
mod off;
#[cfg(feature = "otlp")]
mod otlp;

use std::borrow::Cow;

#[cfg(not(feature = "otlp"))]
pub use off::{Exporter, Parent, Span, Step, Trail, start, step};
#[cfg(feature = "otlp")]
pub use otlp::{Exporter, Parent, Span, Step, Trail, start, step};

/// Where traces go, and how many of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The collector's address, to which `/v1/traces` is added.
    pub endpoint: String,
    /// How many of the traces that begin here are kept, from 0 to 1.
    pub sample: f64,
    /// Stands for this run of this process.
    pub instance: String,
}

/// Whether this binary can send traces.
#[must_use]
pub const fn is_built_in() -> bool {
    cfg!(feature = "otlp")
}

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// This binary cannot.
    #[error("this binary was built without traces; build it with --features otlp, or leave traces.endpoint unset")]
    NotBuiltIn,
    /// The exporter cannot be set up.
    #[error("traces cannot be sent to the collector")]
    Exporter(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something else sends traces already.
    #[error("the process sends traces already")]
    Running,
}

/// Who does what a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This process, for itself.
    Internal,
    /// This process, for whoever asked.
    Server,
    /// Somebody else, for this process.
    Client,
}

/// What a span says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A word.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
