//! What this node knows of the records that it has had to do with: the first guess for a transition, and what is put
//! back when Redis has lost it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::{Record, Tag};
use crate::protocol::ids::SessionId;
use crate::session::route::Route;

/// One record, as this node saw it last.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) route: Route,
    /// The tag that the record has in Redis, as far as this node knows.
    pub(super) tag: Option<Tag>,
    /// When the session was opened, on this node's clock.
    pub(super) opened_at: Instant,
}

impl Known {
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened_at)
    }
}

/// All of them; the oldest are forgotten when there are too many, and all in time.
#[derive(Debug)]
pub(super) struct KnownRoutes {
    inner: Mutex<Inner>,
    most: usize,
}

#[derive(Debug, Default)]
struct Inner {
    routes: HashMap<SessionId, Known>,
    /// In the order in which this node first heard of them.
    order: VecDeque<SessionId>,
}

impl KnownRoutes {
    pub(super) fn new(most: usize) -> Self {
        Self { inner: Mutex::default(), most }
    }

    pub(super) fn get(&self, session: &SessionId, now: Instant) -> Option<Known> {
        self.lock().routes.get(session).filter(|known| !known.route.is_forgotten(known.age(now))).cloned()
    }

    /// Notes what is in Redis now.
    pub(super) fn put(&self, session: SessionId, record: Record, now: Instant) {
        let Record { tag, route, age } = record;
        let opened_at = now.checked_sub(age).unwrap_or(now);
        self.lock().put(session, Known { route, tag: Some(tag), opened_at }, self.most);
    }

    /// Notes a change that could not be written. It is written when Redis is back.
    pub(super) fn put_unsaved(&self, session: SessionId, route: Route, opened_at: Instant) {
        self.lock().put(session, Known { route, tag: None, opened_at }, self.most);
    }

    /// Every session of which something is known.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.lock().routes.keys().copied().collect()
    }

    /// Drops what is forgotten. To be called every few seconds.
    pub(super) fn sweep(&self, now: Instant) {
        let mut inner = self.lock();
        inner.routes.retain(|_, known| !known.route.is_forgotten(known.age(now)));
        let Inner { routes, order } = &mut *inner;
        order.retain(|session| routes.contains_key(session));
        if routes.is_empty() {
            routes.shrink_to_fit();
            order.shrink_to_fit();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, session: SessionId, known: Known, most: usize) {
        if self.routes.insert(session, known).is_none() {
            self.order.push_back(session);
            if self.order.len() > most
                && let Some(oldest) = self.order.pop_front()
            {
                self.routes.remove(&oldest);
            }
        }
    }
}
