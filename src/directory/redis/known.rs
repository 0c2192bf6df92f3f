//! What this node knows of the records that it has had to do with: the first guess for a transition, and what is put
//! back when Redis has lost it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::Tag;
use crate::protocol::ids::SessionId;
use crate::session::route::Route;

/// One record, as this node saw it last.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) route: Route,
    /// The tag that the record has in Redis, as far as this node knows.
    pub(super) tag: Option<Tag>,
    /// When the session was opened, on this node's clock: never later than Redis has it.
    pub(super) opened_at: Instant,
}

impl Known {
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened_at)
    }

    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        self.route.is_forgotten(self.age(now))
    }

    /// What both know together; the tag is this one's, and the earlier deadline holds.
    pub(super) fn merge(self, other: &Self) -> Self {
        let opened_at = self.opened_at.min(other.opened_at);
        Self { route: self.route.merge(&other.route), tag: self.tag, opened_at }
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
    /// Those of which Redis does not have everything.
    unsaved: HashSet<SessionId>,
}

impl KnownRoutes {
    pub(super) fn new(most: usize) -> Self {
        Self { inner: Mutex::default(), most }
    }

    pub(super) fn get(&self, session: &SessionId, now: Instant) -> Option<Known> {
        self.lock().routes.get(session).filter(|known| !known.is_forgotten(now)).cloned()
    }

    /// Notes what is in Redis now. Two transitions of one session may end in another order than they were made in, so
    /// nothing that was known is given up for it.
    pub(super) fn put(&self, session: SessionId, saved: &Known, now: Instant) {
        let mut inner = self.lock();
        let before = inner.routes.get(&session).filter(|before| !before.is_forgotten(now));
        let known = before.map_or_else(|| saved.clone(), |before| saved.clone().merge(before));
        if known.route == saved.route {
            inner.unsaved.remove(&session);
        }
        inner.put(session, known, self.most);
    }

    /// Notes a change that could not be written. It is written when Redis takes it.
    pub(super) fn put_unsaved(&self, session: SessionId, known: Known) {
        let mut inner = self.lock();
        inner.put(session, Known { tag: None, ..known }, self.most);
        if inner.routes.contains_key(&session) {
            inner.unsaved.insert(session);
        }
    }

    /// Every session of which something is known.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.lock().routes.keys().copied().collect()
    }

    /// Every session of which Redis does not have everything.
    pub(super) fn unsaved(&self) -> Vec<SessionId> {
        self.lock().unsaved.iter().copied().collect()
    }

    /// Drops what is forgotten. To be called every few seconds.
    pub(super) fn sweep(&self, now: Instant) {
        let mut inner = self.lock();
        inner.routes.retain(|_, known| !known.is_forgotten(now));
        let Inner { routes, order, unsaved } = &mut *inner;
        order.retain(|session| routes.contains_key(session));
        unsaved.retain(|session| routes.contains_key(session));
        if routes.is_empty() {
            routes.shrink_to_fit();
            order.shrink_to_fit();
            unsaved.shrink_to_fit();
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
                self.unsaved.remove(&oldest);
            }
        }
    }
}
