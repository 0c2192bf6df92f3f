//! Which session actors run on this node: a sharded map, touched when a connection comes and when a session goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};

use actix::{Actor as _, Addr};
use tokio::sync::Notify;

use super::session_actor::SessionActor;
use crate::protocol::ids::SessionId;
use crate::sharded::Sharded;

/// An empty shard keeps this much room; more goes back after a burst.
const SHARD_CAPACITY_KEPT: usize = 64;

/// The running sessions of a node.
#[derive(Debug)]
pub struct Registry {
    sessions: Sharded<HashMap<SessionId, Entry>>,
    generations: AtomicU64,
    running: AtomicUsize,
    emptied: Notify,
    open: AtomicUsize,
    most_open: usize,
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    /// Whether the session was ever open here, and not only connected to.
    is_open: bool,
    actor: Addr<SessionActor>,
}

impl Registry {
    /// An empty registry that lets at most `most_open` sessions be open at once.
    #[must_use]
    pub fn new(most_open: usize) -> Arc<Self> {
        Arc::new(Self {
            sessions: Sharded::default(),
            generations: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            emptied: Notify::new(),
            open: AtomicUsize::new(0),
            most_open,
        })
    }

    /// The actor of a session; if none runs, `make` makes it and it is started on the calling thread's arbiter.
    pub(super) fn actor(
        self: &Arc<Self>,
        session: SessionId,
        make: impl FnOnce(RegistryEntry) -> SessionActor,
    ) -> Addr<SessionActor> {
        let mut shard = self.sessions.lock(session);
        if let Some(entry) = shard.get(&session).filter(|entry| entry.actor.connected()) {
            return entry.actor.clone();
        }
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        let entry = RegistryEntry { registry: Arc::clone(self), session, generation };
        let actor = make(entry).start();
        shard.insert(session, Entry { generation, is_open: false, actor: actor.clone() });
        actor
    }

    /// The actor of a session, if one runs here.
    pub(super) fn running(&self, session: SessionId) -> Option<Addr<SessionActor>> {
        self.sessions.lock(session).get(&session).map(|entry| entry.actor.clone())
    }

    /// Done when no session runs here.
    pub async fn emptied(&self) {
        let emptied = self.emptied.notified();
        if self.running.load(Ordering::Relaxed) > 0 {
            emptied.await;
        }
    }

    /// The actors of all sessions that run here.
    pub(super) fn actors(&self) -> Vec<Addr<SessionActor>> {
        let actors = |shard: MutexGuard<'_, HashMap<SessionId, Entry>>| -> Vec<_> {
            shard.values().map(|entry| entry.actor.clone()).collect()
        };
        self.sessions.lock_each().flat_map(actors).collect()
    }

    /// Whether a session is open here, so that one more connection cannot open it.
    #[must_use]
    pub fn has_open(&self, session: SessionId) -> bool {
        self.sessions.lock(session).get(&session).is_some_and(|entry| entry.is_open)
    }

    /// How many sessions are open here.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether one more session may be opened here.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open_sessions() < self.most_open
    }

    /// Takes a place for a session that comes from another node, also beyond the last one: it is refused nowhere.
    #[must_use]
    pub(super) fn permit_for_live(self: &Arc<Self>) -> Permit {
        self.open.fetch_add(1, Ordering::Relaxed);
        Permit { registry: Arc::clone(self) }
    }

    /// Takes one of the places for open sessions; `None` when all are taken.
    #[must_use]
    pub fn permit(self: &Arc<Self>) -> Option<Permit> {
        let taken = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < self.most_open).then(|| open.saturating_add(1))
        });
        taken.ok().map(|_| Permit { registry: Arc::clone(self) })
    }
}

/// A place among the open sessions; given back on drop.
#[derive(Debug)]
pub struct Permit {
    registry: Arc<Registry>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.registry.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A session's place in the registry; given up on drop, also when its actor panics. A newer actor of the same
/// session is left alone.
#[derive(Debug)]
pub struct RegistryEntry {
    registry: Arc<Registry>,
    session: SessionId,
    generation: u64,
}

impl RegistryEntry {
    /// Notes that the session is open here.
    pub(super) fn mark_open(&self) {
        if let Some(entry) = self.registry.sessions.lock(self.session).get_mut(&self.session) {
            entry.is_open |= entry.generation == self.generation;
        }
    }
}

impl Drop for RegistryEntry {
    fn drop(&mut self) {
        if self.registry.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.registry.emptied.notify_waiters();
        }
        let mut shard = self.registry.sessions.lock(self.session);
        if shard.get(&self.session).is_some_and(|entry| entry.generation == self.generation) {
            shard.remove(&self.session);
        }
        if shard.is_empty() && shard.capacity() > SHARD_CAPACITY_KEPT {
            shard.shrink_to_fit();
        }
    }
}
