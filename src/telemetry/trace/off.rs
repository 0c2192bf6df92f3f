//! Traces in a binary that has none: empty types, and calls that do nothing. The other half is `otlp`.

use super::{Kind, Settings, TraceError, Value};
use crate::protocol::trace_parent::TraceParent;

/// Sends spans.
#[derive(Debug)]
pub struct Exporter(());

/// Starts sending.
///
/// # Errors
/// [`TraceError::NotBuiltIn`], always.
pub fn start(_: &Settings) -> Result<Exporter, TraceError> {
    Err(TraceError::NotBuiltIn)
}

impl Exporter {
    /// Sends what is left, and ends.
    pub fn shut_down(self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}

/// A span that others can belong to; on this node, or on another.
#[derive(Clone, Debug, Default)]
pub struct Parent(());

impl Parent {
    /// A span of another node or program.
    #[inline]
    #[must_use]
    pub fn remote(_: Option<TraceParent>) -> Self {
        Self(())
    }

    /// For other nodes, if the trace is kept.
    #[inline]
    #[must_use]
    pub fn to_remote(&self) -> Option<TraceParent> {
        None
    }
}

/// A span that is under way, and ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(());

impl Span {
    /// Begins a span.
    #[inline]
    #[must_use]
    pub fn begin(_: &'static str, _: Kind, _: &Parent) -> Self {
        Self(())
    }

    /// Begins a span that is as old as a trail.
    #[inline]
    #[must_use]
    pub fn begin_with(_: &'static str, _: &Parent, _: &Trail) -> Self {
        Self(())
    }

    /// Whether it is kept.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        false
    }

    /// Gives it a better name.
    #[inline]
    pub fn rename(&mut self, _: String) {}

    /// Says something.
    #[inline]
    pub fn set(&mut self, _: &'static str, _: impl Into<Value>) {}

    /// Says that it failed.
    #[inline]
    pub fn fail(&mut self, _: &'static str) {}

    /// What belongs to it.
    #[inline]
    #[must_use]
    pub fn as_parent(&self) -> Parent {
        Parent(())
    }
}

/// The steps of one request, until it is known which trace they belong to.
#[derive(Clone, Debug, Default)]
pub struct Trail(());

impl Trail {
    /// Begins one.
    #[inline]
    #[must_use]
    pub fn begin() -> Self {
        Self(())
    }

    /// The one that is followed now.
    #[inline]
    #[must_use]
    pub fn current() -> Self {
        Self(())
    }

    /// Is current while `work` runs.
    #[inline]
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    /// Is current while `work` is polled: notes its steps.
    #[inline]
    pub fn follow<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        work
    }

    /// Makes spans of the steps.
    #[inline]
    pub fn finish(self, _: &Parent) {}

    /// Makes a span that is as long as the trail, linked to another, and spans of its steps.
    #[inline]
    pub fn finish_as(self, _: &'static str, _: &Parent, _: &Parent, _: &[(&'static str, &'static str)]) {}
}

/// A step that is under way, and ends when it is dropped.
#[derive(Debug)]
pub struct Step(());

/// Begins a step of the request that is being handled.
#[inline]
#[must_use]
pub fn step(_: &'static str, _: Kind) -> Step {
    Step(())
}

impl Step {
    /// Says something.
    #[inline]
    pub fn set(&mut self, _: &'static str, _: impl Into<Value>) {}
}
