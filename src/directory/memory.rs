//! The directory of a single node: route records in memory, and the embedded default.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Answer, Directory};
use crate::protocol::ids::SessionId;
use crate::protocol::limits;
use crate::session::node::{NodeId, PeerEvent};
use crate::session::route::{Outcome, Route, Rules, Transition};
use crate::sharded::Sharded;

/// Route records in memory.
#[derive(Debug)]
pub struct MemoryDirectory {
    shards: Sharded<Shard>,
    rules: Rules,
    started_at: Instant,
    clock: fn() -> Instant,
}

#[derive(Debug, Default)]
struct Shard {
    routes: HashMap<SessionId, Route>,
    /// When each record may be dropped; in order, because all sessions live equally long.
    expiries: VecDeque<(Duration, SessionId)>,
}

impl MemoryDirectory {
    /// An empty directory.
    #[must_use]
    pub fn new(rules: Rules, clock: fn() -> Instant) -> Self {
        Self { shards: Sharded::default(), rules, started_at: clock(), clock }
    }

    /// How many records there are, ended ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.lock_each().map(|shard| shard.routes.len()).sum()
    }

    /// Whether there is no record at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now(&self) -> Duration {
        (self.clock)().saturating_duration_since(self.started_at)
    }

    fn apply_now(&self, session: SessionId, transition: Transition) -> Outcome {
        let now = self.now();
        let mut shard = self.shards.lock(session);
        // One that is forgotten makes room for another with the same id, which has an expiry of its own.
        let mut route = shard.routes.remove(&session).filter(|route| !route.is_forgotten(now));
        let was_known = route.is_some();
        let outcome = Route::apply(&mut route, transition, self.rules, now);
        if let Some(route) = route {
            shard.routes.insert(session, route);
            if !was_known {
                shard.expiries.push_back((forgotten_at(now, self.rules.lifetime), session));
            }
        }
        outcome
    }
}

impl Directory for MemoryDirectory {
    fn apply(&self, session: SessionId, transition: Transition) -> Answer {
        Box::pin(std::future::ready(Ok(self.apply_now(session, transition))))
    }

    /// Nobody else could know of these records.
    fn tell(&self, _: NodeId, _: SessionId, _: PeerEvent) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn sweep(&self) {
        let now = self.now();
        self.shards.lock_each().for_each(|mut shard| shard.sweep(now));
    }
}

impl Shard {
    fn sweep(&mut self, now: Duration) {
        while let Some((at, session)) = self.expiries.front()
            && *at <= now
        {
            // Unless the id was used again meanwhile.
            if self.routes.get(session).is_some_and(|route| route.is_forgotten(now)) {
                self.routes.remove(session);
            }
            self.expiries.pop_front();
        }
        if self.routes.is_empty() {
            self.routes.shrink_to_fit();
            self.expiries.shrink_to_fit();
        }
    }
}

fn forgotten_at(opened_at: Duration, lifetime: Duration) -> Duration {
    opened_at.saturating_add(lifetime).saturating_add(limits::TOMBSTONE_GRACE)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::super::contract::{Bench, Desk, LIFETIME, SPECIFICATION, open, rules, session};
    use super::*;

    thread_local! {
        static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of simulated time")]
    fn clock() -> Instant {
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *ORIGIN.get_or_init(Instant::now) + PASSED.get()
    }

    fn pass(time: Duration) {
        PASSED.set(PASSED.get() + time);
    }

    #[test]
    fn it_does_what_every_directory_must() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (name, test) in SPECIFICATION {
            PASSED.set(Duration::ZERO);
            println!("{name}");
            test(&Bench {
                desks: vec![Desk { directory: Arc::new(MemoryDirectory::new(rules(1), clock)), news: None }],
                runtime: runtime.handle().clone(),
                pass: |_, time| pass(time),
                slack: Duration::ZERO,
                prefix: String::new(),
            });
        }
    }

    #[test]
    fn a_sweep_drops_what_is_forgotten_and_gives_its_memory_back() {
        let directory = MemoryDirectory::new(rules(1), clock);
        let capacity = |directory: &MemoryDirectory| -> usize {
            directory.shards.lock_each().map(|shard| shard.routes.capacity() + shard.expiries.capacity()).sum()
        };
        let remembered = LIFETIME + limits::TOMBSTONE_GRACE;
        for number in 0..200 {
            directory.apply_now(session(number), open(1)).unwrap();
        }
        pass(remembered - Duration::from_millis(1));
        directory.sweep();
        assert_eq!(directory.len(), 200);
        directory.apply_now(session(250), open(1)).unwrap();
        pass(Duration::from_millis(1));
        directory.sweep();
        assert_eq!(directory.len(), 1, "and the younger one stays");
        pass(remembered);
        directory.sweep();
        assert!(directory.is_empty());
        assert_eq!(capacity(&directory), 0);
    }

    #[test]
    fn a_session_whose_id_is_used_again_before_the_sweep_is_not_swept_with_the_first() {
        let directory = MemoryDirectory::new(rules(1), clock);
        directory.apply_now(session(1), open(1)).unwrap();
        pass(LIFETIME + limits::TOMBSTONE_GRACE);
        directory.apply_now(session(1), open(2)).unwrap();
        directory.sweep();
        assert_eq!(directory.len(), 1);
        pass(LIFETIME + limits::TOMBSTONE_GRACE);
        directory.sweep();
        assert!(directory.is_empty());
    }
}
