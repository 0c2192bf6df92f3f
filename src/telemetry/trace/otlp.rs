//! Traces in a binary that has them: on the SDK of OpenTelemetry. The other half, with the same words, is `off`.

mod export;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

use super::{Kind, Value};
use crate::protocol::trace_parent::TraceParent;
pub use export::{Exporter, start};

/// There from when traces are sent on.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Steps of one request; more are a mistake, and not kept.
const MOST_STEPS: usize = 64;

tokio::task_local! {
    static TRAIL: Trail;
}

fn now() -> SystemTime {
    opentelemetry::time::now()
}

/// A span that others can belong to; on this node, or on another.
#[derive(Clone, Debug, Default)]
pub struct Parent(Option<SpanContext>);

impl Parent {
    /// A span of another node or program.
    #[must_use]
    pub fn remote(parent: Option<TraceParent>) -> Self {
        Self(parent.map(|parent| {
            let flags = if parent.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
            let (trace, span) = (TraceId::from_bytes(parent.trace()), SpanId::from_bytes(parent.span()));
            SpanContext::new(trace, span, flags, true, TraceState::NONE)
        }))
    }

    /// For other nodes, if the trace is kept.
    #[must_use]
    pub fn to_remote(&self) -> Option<TraceParent> {
        let context = self.0.as_ref().filter(|context| context.is_sampled())?;
        TraceParent::new(context.trace_id().to_bytes(), context.span_id().to_bytes(), true).ok()
    }

    fn context(&self) -> Context {
        self.0.as_ref().map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent.clone()))
    }
}

/// A span that is under way, and ends when it is dropped.
#[derive(Default)]
pub struct Span(Option<SdkSpan>);

impl Span {
    /// Begins a span.
    #[must_use]
    pub fn begin(name: &'static str, kind: Kind, parent: &Parent) -> Self {
        Self(TRACER.get().map(|tracer| builder(name, kind).start_with_context(tracer, &parent.context())))
    }

    /// Begins a span that is as old as a trail.
    #[must_use]
    pub fn begin_with(name: &'static str, parent: &Parent, trail: &Trail) -> Self {
        let Trail(Some(steps)) = trail else { return Self(None) };
        let builder = builder(name, Kind::Internal).with_start_time(steps.begun);
        Self(TRACER.get().map(|tracer| builder.start_with_context(tracer, &parent.context())))
    }

    /// Whether it is kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.as_ref().is_some_and(|span| span.span_context().is_sampled())
    }

    /// Gives it a better name.
    pub fn rename(&mut self, name: String) {
        if let Some(span) = &mut self.0 {
            span.update_name(name);
        }
    }

    /// Says something.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(attribute(key, value.into()));
        }
    }

    /// Says that it failed.
    pub fn fail(&mut self, why: &'static str) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("error.type", why));
            span.set_status(Status::error(""));
        }
    }

    /// What belongs to it.
    #[must_use]
    pub fn as_parent(&self) -> Parent {
        Parent(self.0.as_ref().map(|span| span.span_context().clone()))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Span")
    }
}

fn builder(name: &'static str, kind: Kind) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(match kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
    })
}

fn attribute(key: &'static str, value: Value) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Number(number) => KeyValue::new(key, number),
        Value::Flag(flag) => KeyValue::new(key, flag),
    }
}

/// The steps of one request, until it is known which trace they belong to.
#[derive(Clone, Debug, Default)]
pub struct Trail(Option<Arc<Steps>>);

#[derive(Debug)]
struct Steps {
    begun: SystemTime,
    noted: Mutex<Vec<Noted>>,
}

#[derive(Debug)]
struct Noted {
    name: &'static str,
    kind: Kind,
    begun: SystemTime,
    ended: SystemTime,
    attributes: Vec<KeyValue>,
}

impl Trail {
    /// Begins one.
    #[must_use]
    pub fn begin() -> Self {
        Self(TRACER.get().map(|_| Arc::new(Steps { begun: now(), noted: Mutex::default() })))
    }

    /// The one that is followed now.
    #[must_use]
    pub fn current() -> Self {
        TRAIL.try_with(Self::clone).unwrap_or_default()
    }

    /// Is current while `work` runs.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        TRAIL.sync_scope(self.clone(), work)
    }

    /// Is current while `work` is polled: notes its steps.
    pub fn follow<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        TRAIL.scope(self, work)
    }

    /// Makes spans of the steps.
    pub fn finish(self, parent: &Parent) {
        let (Some(steps), Some(tracer)) = (self.0, TRACER.get()) else { return };
        let noted = std::mem::take(&mut *steps.noted.lock().unwrap_or_else(PoisonError::into_inner));
        for Noted { name, kind, begun, ended, attributes } in noted {
            let builder = builder(name, kind).with_start_time(begun).with_attributes(attributes);
            builder.start_with_context(tracer, &parent.context()).end_with_timestamp(ended);
        }
    }

    /// Makes a span that is as long as the trail, linked to another, and spans of its steps.
    pub fn finish_as(
        self,
        name: &'static str,
        parent: &Parent,
        linked: &Parent,
        attributes: &[(&'static str, &'static str)],
    ) {
        let (Some(steps), Some(tracer)) = (&self.0, TRACER.get()) else { return };
        let is_elsewhere = |to: &SpanContext| parent.0.as_ref().is_none_or(|parent| parent.trace_id() != to.trace_id());
        let links = linked.0.iter().filter(|to| is_elsewhere(to)).map(|to| Link::with_context(to.clone())).collect();
        let attributes = attributes.iter().map(|(key, value)| KeyValue::new(*key, *value));
        let builder = builder(name, Kind::Internal).with_start_time(steps.begun);
        let span = builder.with_attributes(attributes).with_links(links).start_with_context(tracer, &parent.context());
        let span = Span(Some(span));
        self.finish(&span.as_parent());
    }
}

/// A step that is under way, and ends when it is dropped.
#[derive(Debug)]
pub struct Step(Option<(Arc<Steps>, Noted)>);

/// Begins a step of the request that is being handled.
#[must_use]
pub fn step(name: &'static str, kind: Kind) -> Step {
    let Trail(steps) = Trail::current();
    Step(steps.map(|steps| {
        (steps, Noted { name, kind, begun: now(), ended: SystemTime::UNIX_EPOCH, attributes: Vec::new() })
    }))
}

impl Step {
    /// Says something.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some((_, noted)) = &mut self.0 {
            noted.attributes.push(attribute(key, value.into()));
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let Some((steps, noted)) = self.0.take() else { return };
        let mut all = steps.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST_STEPS {
            all.push(Noted { ended: now(), ..noted });
        }
    }
}
