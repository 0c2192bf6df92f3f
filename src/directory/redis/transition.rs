//! Transitions on one record: read it, or guess it from what this node knows; apply; write on condition that nobody wrote
//! meanwhile. And the same without a transition, to put back what Redis has lost.

use std::time::{Duration, Instant};

use metrics::{counter, histogram};

use super::connection::Connection;
use super::known::Known;
use super::record::{self, Record, Tag};
use super::{Shared, Trouble};
use crate::directory::Unavailable;
use crate::protocol::ids::SessionId;
use crate::session::route::{Outcome, Route, Transition};
use crate::telemetry;
use crate::telemetry::trace::{Kind, Step, step};

/// When a node that lost Redis may be asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Nodes that change one record at the same moment begin anew; more often than this is no coincidence.
const MOST_TRIES: usize = 32;

/// Two copies of one record may be so far apart only because time passed on the way to Redis.
const TOLERANCE: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) async fn apply(&self, session: SessionId, transition: Transition) -> Result<Outcome, Unavailable> {
        let started = self.now();
        // Must not be forgotten even if nobody can be told now.
        let unsaved =
            matches!(transition, Transition::Leave { .. } | Transition::End { .. }).then(|| transition.clone());
        let limit = self.settings.timeout.saturating_mul(2);
        let outcome = match tokio::time::timeout(limit, self.try_apply(session, transition)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Trouble::Silent),
        };
        histogram!(telemetry::REDIS_COMMAND_DURATION).record(self.now().saturating_duration_since(started));
        outcome.map_err(|trouble| {
            self.note_trouble(&trouble);
            if let Some(transition) = unsaved {
                self.apply_unsaved(session, transition);
            }
            Unavailable { retry_after: RETRY_AFTER }
        })
    }

    async fn try_apply(&self, session: SessionId, transition: Transition) -> Result<Outcome, Trouble> {
        let mut connection = self.state.connection().ok_or(Trouble::Away)?;
        let key = self.key(&session);
        let mut found = self.known.get(&session, self.now()).filter(|known| known.tag.is_some());
        // A new id is free, as far as anybody can know before asking.
        let mut is_guess = found.is_some() || matches!(transition, Transition::Open { .. });
        let mut is_checked = matches!(transition, Transition::Leave { .. } | Transition::End { .. });
        for _ in 0..MOST_TRIES {
            if !is_guess {
                found = self.read(&mut connection, &key).await?;
            }
            let now = self.now();
            let base = self.restored(&session, found.as_ref(), &transition, now)?;
            let opened_at = base.as_ref().map_or(now, |known| known.opened_at);
            let mut route = base.map(|known| known.route);
            let is_there = route.is_some();
            let outcome =
                Route::apply(&mut route, transition.clone(), self.rules, now.saturating_duration_since(opened_at));
            let is_same = route.as_ref() == found.as_ref().map(|found| &found.route);
            match route {
                // Only what was read now is a reason to refuse.
                _ if is_same && !is_guess && (is_there || is_checked) => {
                    self.refresh(session, found.as_ref());
                    return Ok(outcome);
                }
                // And only of a Redis that is known to have lost nothing since.
                _ if is_same && !is_guess => {
                    self.state.checked().await;
                    is_checked = true;
                }
                Some(route) if !is_same => {
                    let next = Known { route, tag: None, opened_at };
                    if self.write(&mut connection, session, &key, found.as_ref(), next).await? {
                        return Ok(outcome);
                    }
                }
                _ => {}
            }
            is_guess = false;
        }
        Err(Trouble::Contention)
    }

    /// The record as it should be: what Redis has, with what this node knows and Redis has lost.
    fn restored(
        &self,
        session: &SessionId,
        found: Option<&Known>,
        transition: &Transition,
        now: Instant,
    ) -> Result<Option<Known>, Trouble> {
        let known = self.known.get(session, now);
        // Who takes a seat by a record that lacks the newest change takes one that is taken, or finds none.
        let takes_a_seat = matches!(transition, Transition::Join { .. } | Transition::Resume { .. });
        let must_wait = self.state.is_settling(now)
            && (takes_a_seat || (found.is_none() && known.is_none()))
            && !matches!(transition, Transition::Open { .. });
        if must_wait {
            return Err(Trouble::Settling);
        }
        Ok(merge(found, known))
    }

    async fn read(&self, connection: &mut Connection, key: &str) -> Result<Option<Known>, Trouble> {
        counter!(telemetry::REDIS_COMMANDS).increment(2);
        let mut step = redis_step("PIPELINE");
        step.set("db.operation.batch.size", 2);
        // Of the way there and back, the way there counts: so a session is never thought younger than it is.
        let asked_at = self.now();
        let record = record::read(connection, key).await?.transpose()?;
        Ok(record.map(|Record { tag, route, age }| Known {
            route,
            tag: Some(tag),
            opened_at: asked_at.checked_sub(age).unwrap_or(asked_at),
        }))
    }

    /// Writes a record over the one that was found; `false` if that is not there any more.
    async fn write(
        &self,
        connection: &mut Connection,
        session: SessionId,
        key: &str,
        found: Option<&Known>,
        next: Known,
    ) -> Result<bool, Trouble> {
        let tag: Tag = (self.environment.random)();
        let keep = next.route.remembered_for().saturating_sub(next.age(self.now()));
        counter!(telemetry::REDIS_COMMANDS).increment(1);
        let known = found.and_then(|found| Some((found.tag?, found.opened_at)));
        let is_written = {
            let _step = redis_step(if known.is_none() { "SET" } else { "EVAL" });
            match known {
                None => record::create(connection, key, &tag, &next.route, keep).await?,
                Some((known_tag, opened_at)) => {
                    // Redis keeps it too long only if it was opened anew elsewhere; the earlier deadline holds.
                    let keep = (opened_at.saturating_duration_since(next.opened_at) > TOLERANCE).then_some(keep);
                    record::replace(connection, key, &known_tag, &tag, &next.route, keep).await?
                }
            }
        };
        if is_written {
            self.known.put(session, &Known { tag: Some(tag), ..next }, self.now());
        }
        Ok(is_written)
    }

    /// What was read is the better guess next time, if this node has to do with the session at all.
    fn refresh(&self, session: SessionId, found: Option<&Known>) {
        let now = self.now();
        if let Some(found) = found.filter(|_| self.known.get(&session, now).is_some()) {
            self.known.put(session, found, now);
        }
    }

    /// Puts back what this node knows of one session; `true` if Redis did not have it.
    pub(super) async fn put_back(&self, connection: &mut Connection, session: SessionId) -> Result<bool, Trouble> {
        let key = self.key(&session);
        for _ in 0..MOST_TRIES {
            if self.known.get(&session, self.now()).is_none() {
                return Ok(false);
            }
            let found = self.read(connection, &key).await?;
            // Asked again: it may have changed on the way.
            let Some(known) = self.known.get(&session, self.now()) else { return Ok(false) };
            let Some(merged) = merge(found.as_ref(), Some(known)) else { return Ok(false) };
            if found.as_ref().is_some_and(|found| found.route == merged.route) {
                self.refresh(session, found.as_ref());
                return Ok(false);
            }
            if self.write(connection, session, &key, found.as_ref(), merged).await? {
                return Ok(true);
            }
        }
        Err(Trouble::Contention)
    }

    /// Makes a transition on what this node knows, to be written when Redis takes it.
    fn apply_unsaved(&self, session: SessionId, transition: Transition) {
        let now = self.now();
        let Some(known) = self.known.get(&session, now) else { return };
        let age = known.age(now);
        let mut route = Some(known.route);
        drop(Route::apply(&mut route, transition, self.rules, age));
        let Some(route) = route else { return };
        self.known.put_unsaved(session, Known { route, tag: None, opened_at: known.opened_at });
    }
}

/// A step in the trace of a request.
fn redis_step(operation: &'static str) -> Step {
    let mut step = step(operation, Kind::Client);
    step.set("db.system.name", "redis");
    step.set("db.operation.name", operation);
    step
}

/// What was found and what is known, in one.
fn merge(found: Option<&Known>, known: Option<Known>) -> Option<Known> {
    match (found.cloned(), known) {
        (Some(found), Some(known)) => Some(found.merge(&known)),
        (found, known) => found.or(known),
    }
}
