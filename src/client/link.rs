//! One app's connection to the relay, over and over: what to say first on each, when to give up, what each way of
//! losing it means. No sockets and no frames.

use std::time::{Duration, Instant};

use rand::CryptoRng;

use super::backoff;
use super::event::{LinkEvent, OfflineCause};
use super::outcome::{ConnectFailure, EndReason};
use super::time::{after, earlier};
use crate::protocol::close::{CloseReason, Scope};
use crate::protocol::limits;

/// Time for the answer to the first message. The relay's directory may be slow; a person waits no longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the answer to the last word, before it is said again elsewhere: twice within the time that there is for it.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Silence after which a connection is dead. The relay pings every 15 s and itself gives up after 38 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(40);

/// A connection that lasted so long was a success: the next wait is short again. Less would let a proxy that cuts
/// everything at once use up the session's 30 resumes within seconds.
const STABLE_AFTER: Duration = Duration::from_secs(2);

/// Time past the deadline in which the relay may say `expired` itself.
const DEADLINE_GRACE: Duration = Duration::from_secs(2);

/// What the driver has to do about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: begin a new one at this time.
    ConnectAt(Instant),
    /// Keep the one there is.
    Stay,
    /// Drop it; the transfer is over and [`into_outcome`](super::Machine::into_outcome) says how.
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until: Instant },
    Greeting { fresh: bool, until: Instant },
    Attached { since: Instant },
    Finished,
}

/// What has become of `open` or `join`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    Unsent,
    Sent,
    Answered,
}

/// The first message of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// `open` or `join`.
    Fresh,
    /// `resume`.
    Resume,
}

/// What the loss of a connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Reconnect(LinkEvent),
    Ended(EndReason),
}

#[derive(Debug)]
pub(super) struct Link<R> {
    phase: Phase,
    greeting: Greeting,
    /// How often `open` or `join` was said.
    openings: u32,
    /// Connections in a row that did not last.
    failures: u32,
    is_back: bool,
    started_at: Instant,
    heard_at: Instant,
    /// When the relay must have answered the last word that was said on this connection.
    parted_by: Option<Instant>,
    give_up_at: Instant,
    deadline: Option<Instant>,
    last_failure: ConnectFailure,
    rng: R,
}

impl<R: CryptoRng> Link<R> {
    /// A link that gives up if no relay has answered within `patience`.
    pub(super) fn new(patience: Duration, now: Instant, rng: R) -> Self {
        Self {
            phase: Phase::Waiting { until: now },
            greeting: Greeting::Unsent,
            openings: 0,
            failures: 0,
            is_back: true,
            started_at: now,
            heard_at: now,
            parted_by: None,
            give_up_at: after(now, patience),
            deadline: None,
            last_failure: ConnectFailure::Timeout,
            rng,
        }
    }

    pub(super) fn rng(&mut self) -> &mut R {
        &mut self.rng
    }

    pub(super) fn step(&self) -> Step {
        match self.phase {
            Phase::Waiting { until } => Step::ConnectAt(until),
            Phase::Greeting { .. } | Phase::Attached { .. } => Step::Stay,
            Phase::Finished => Step::Finished,
        }
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Attached { .. })
    }

    /// Whether there is a connection, attached or not.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Attached { .. })
    }

    /// Whether the relay may know of this app at all.
    pub(super) fn has_spoken(&self) -> bool {
        self.greeting != Greeting::Unsent
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn time_left(&self, now: Instant) -> Duration {
        self.deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(now))
    }

    /// A connection is there; what to say first. `None` if none was asked for.
    pub(super) fn connected(&mut self, now: Instant) -> Option<First> {
        if !matches!(self.phase, Phase::Waiting { .. }) {
            return None;
        }
        let fresh = self.greeting == Greeting::Unsent;
        if fresh {
            self.greeting = Greeting::Sent;
            self.openings = self.openings.saturating_add(1);
        }
        self.phase = Phase::Greeting { fresh, until: after(now, ANSWER_TIMEOUT) };
        self.heard_at = now;
        self.parted_by = None;
        Some(if fresh { First::Fresh } else { First::Resume })
    }

    /// The relay answered the first message. `Err` if that message was another one.
    pub(super) fn attached(
        &mut self,
        to: First,
        expires_in_ms: u64,
        now: Instant,
    ) -> Result<Option<LinkEvent>, EndReason> {
        match self.phase {
            Phase::Greeting { fresh, .. } if fresh == (to == First::Fresh) => {}
            Phase::Greeting { .. } | Phase::Attached { .. } | Phase::Waiting { .. } | Phase::Finished => {
                return Err(EndReason::ProtocolViolated);
            }
        }
        self.phase = Phase::Attached { since: now };
        self.greeting = Greeting::Answered;
        self.note_time_left(expires_in_ms, now);
        Ok((!std::mem::replace(&mut self.is_back, true)).then_some(LinkEvent::Online))
    }

    /// The relay said how much time is left. The deadline only ever moves nearer: a relay cannot prolong a session,
    /// and the message that was fastest on its way is the one that is nearest to the truth.
    pub(super) fn note_time_left(&mut self, expires_in_ms: u64, now: Instant) {
        let left = Duration::from_millis(expires_in_ms).min(limits::SESSION_LIFETIME);
        self.deadline = earlier(self.deadline, Some(after(now, left)));
    }

    /// Anything arrived.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// The last word was said; the relay answers it at once, and with the end.
    pub(super) fn part(&mut self, now: Instant) {
        self.parted_by = Some(after(now, LAST_ANSWER_TIMEOUT));
    }

    /// What a close reason means for this app.
    pub(super) fn judge(&mut self, reason: CloseReason, retry_after: Option<Duration>, now: Instant) -> Fate {
        let cause = OfflineCause::Closed(reason);
        if reason == CloseReason::NothingToResume {
            return self.nothing_to_resume(retry_after, now);
        }
        // An `open` that was believed lost has arrived after all: the session is this app's own.
        let own = reason == CloseReason::AlreadyOpen && self.openings > 1 && self.greeting == Greeting::Sent;
        // A stale frame's proof will never be good again: only another scan helps.
        let retry = reason.scope() == Scope::Connection && reason.can_retry() && reason != CloseReason::StaleFrame;
        if own || retry { self.reconnect(cause, retry_after, now) } else { Fate::Ended(EndReason::Closed(reason)) }
    }

    fn nothing_to_resume(&mut self, retry_after: Option<Duration>, now: Instant) -> Fate {
        if self.greeting == Greeting::Answered {
            return Fate::Ended(EndReason::SessionLost);
        }
        self.greeting = Greeting::Unsent;
        self.deadline = None;
        self.reconnect(OfflineCause::Closed(CloseReason::NothingToResume), retry_after, now)
    }

    /// What a connection that never came about means.
    pub(super) fn connect_failed(&mut self, failure: ConnectFailure, now: Instant) -> Fate {
        self.last_failure = failure;
        match failure {
            ConnectFailure::Refused(refusal) => Fate::Ended(EndReason::Refused(refusal)),
            ConnectFailure::Busy { retry_after, .. } => self.reconnect(OfflineCause::Failed(failure), retry_after, now),
            ConnectFailure::Name
            | ConnectFailure::Connect
            | ConnectFailure::Timeout
            | ConnectFailure::Tls
            | ConnectFailure::NotARelay => self.reconnect(OfflineCause::Failed(failure), None, now),
        }
    }

    /// Waits, then connects again.
    pub(super) fn reconnect(&mut self, cause: OfflineCause, retry_after: Option<Duration>, now: Instant) -> Fate {
        if let Phase::Attached { since } = self.phase
            && now.saturating_duration_since(since) >= STABLE_AFTER
        {
            self.failures = 0;
        }
        let asked = retry_after.unwrap_or_default().min(limits::SESSION_LIFETIME);
        let retry_in = backoff::delay(self.failures, &mut self.rng).max(asked);
        self.failures = self.failures.saturating_add(1);
        let until = after(now, retry_in);
        self.phase = Phase::Waiting { until };
        self.is_back = false;
        if !asked.is_zero() {
            // A relay that asks for patience gets it, within a session's life.
            let latest = after(self.started_at, limits::SESSION_LIFETIME);
            self.give_up_at = self.give_up_at.max(after(until, ANSWER_TIMEOUT).min(latest));
        }
        Fate::Reconnect(LinkEvent::Offline { attempt: self.failures, retry_in, cause })
    }

    pub(super) fn finish(&mut self) {
        self.phase = Phase::Finished;
    }

    /// What the time means for the connection, if anything.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Fate> {
        if self.phase == Phase::Finished {
            return None;
        }
        if self.ends_at().is_some_and(|at| at <= now) {
            let expired = self.greeting == Greeting::Answered;
            let reason = if expired { EndReason::Closed(CloseReason::Expired) } else { self.unreachable() };
            return Some(Fate::Ended(reason));
        }
        match self.phase {
            Phase::Greeting { until, .. } if until <= now => {
                self.last_failure = ConnectFailure::Timeout;
                Some(self.reconnect(OfflineCause::Silent, None, now))
            }
            Phase::Attached { .. } if self.silent_at() <= now => Some(self.reconnect(OfflineCause::Silent, None, now)),
            Phase::Waiting { .. } | Phase::Greeting { .. } | Phase::Attached { .. } | Phase::Finished => None,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Waiting { .. } => None,
            Phase::Greeting { until, .. } => Some(until),
            Phase::Attached { .. } => Some(self.silent_at()),
            Phase::Finished => return None,
        };
        earlier(phase, self.ends_at())
    }

    fn ends_at(&self) -> Option<Instant> {
        match self.greeting {
            Greeting::Answered => self.deadline.map(|deadline| after(deadline, DEADLINE_GRACE)),
            Greeting::Unsent | Greeting::Sent => Some(self.give_up_at),
        }
    }

    fn silent_at(&self) -> Instant {
        let silent_at = after(self.heard_at, SILENCE_TIMEOUT);
        self.parted_by.map_or(silent_at, |parted_by| parted_by.min(silent_at))
    }

    fn unreachable(&self) -> EndReason {
        EndReason::Unreachable(self.last_failure)
    }
}
