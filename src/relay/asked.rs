//! What was asked of the directory for a connection, for its trace: a span for each open, join and resume, below that of
//! the session. Nothing is decided here.

use crate::directory::Unavailable;
use crate::protocol::Role;
use crate::protocol::trace_parent::TraceParent;
use crate::session::route::{Outcome, Refusal, Transition};
use crate::telemetry::trace::{Parent, Span, Trail};

/// A question on its way.
#[derive(Debug)]
pub(super) struct Asked {
    /// Of those that people wait for; the others are too many to be worth a span.
    span: Option<(&'static str, Role)>,
    trail: Trail,
}

impl Asked {
    pub(super) fn new(transition: &Transition) -> Self {
        let span = match transition {
            Transition::Open { .. } => Some(("handoff.open", Role::Old)),
            Transition::Join { .. } => Some(("handoff.join", Role::New)),
            Transition::Resume { role, .. } => Some(("handoff.resume", *role)),
            Transition::Look { .. } | Transition::Leave { .. } | Transition::End { .. } => None,
        };
        let trail = if span.is_some() { Trail::begin() } else { Trail::default() };
        Self { span, trail }
    }

    /// Runs what asks.
    pub(super) fn follow<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.trail.enter(ask)
    }

    /// The answer is there. A session that this node did not know yet gets its span, in the trace that began where the
    /// session was opened.
    pub(super) fn answered(
        self,
        outcome: &Result<Outcome, Unavailable>,
        session: &mut Span,
        tag: impl FnOnce() -> String,
        handshake: &Parent,
    ) {
        let Some((name, role)) = self.span else { return };
        if let Some(trace) = trace_of(outcome).filter(|_| !session.is_on()) {
            *session = Span::begin_with("handoff.session", &Parent::remote(Some(trace)), &self.trail);
            name_session(session, tag);
        }
        let parent = if session.is_on() { session.as_parent() } else { handshake.clone() };
        let attributes = [("handoff.role", role.as_str()), ("handoff.outcome", label(outcome))];
        self.trail.finish_as(name, &parent, handshake, &attributes);
    }
}

/// The span of a session that is opened here.
pub(super) fn begin_session(handshake: &Parent, tag: impl FnOnce() -> String) -> Span {
    let mut session = Span::begin("handoff.session", crate::telemetry::trace::Kind::Internal, handshake);
    name_session(&mut session, tag);
    session
}

/// The same keyed hash as in the log.
fn name_session(session: &mut Span, tag: impl FnOnce() -> String) {
    if session.is_on() {
        session.set("handoff.session", tag());
    }
}

fn trace_of(outcome: &Result<Outcome, Unavailable>) -> Option<TraceParent> {
    outcome.as_ref().ok()?.as_ref().ok()?.as_ref()?.trace
}

fn label(outcome: &Result<Outcome, Unavailable>) -> &'static str {
    match outcome {
        Ok(Ok(_)) => "accepted",
        Ok(Err(Refusal::Closed(reason) | Refusal::Ended(reason) | Refusal::EndedNow(reason, _))) => reason.label(),
        Err(_) => "unavailable",
    }
}
