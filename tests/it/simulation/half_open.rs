//! Connections that die without a word: a phone out of coverage, a NAT that forgot. Nobody is told, and nothing passes.

use std::collections::BTreeMap;

use handoff_relay::session::ConnectionId;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// What a dead connection still swallows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swallows {
    Up,
    Down,
    Both,
}

/// The connections that are dead, and the chance that dealt it.
#[derive(Debug)]
pub(super) struct HalfOpen {
    /// How many more may die.
    left: usize,
    rng: StdRng,
    dead: BTreeMap<ConnectionId, Swallows>,
}

impl HalfOpen {
    /// At most so many connections of one world die; which, the seed decides.
    pub(super) fn at_most(left: usize, seed: u64) -> Self {
        Self { left, rng: StdRng::seed_from_u64(seed ^ 3), dead: BTreeMap::new() }
    }

    /// How many died.
    pub(super) fn count(&self) -> usize {
        self.dead.len()
    }

    /// Something has arrived over this connection; it may have been the last.
    pub(super) fn maybe_kill(&mut self, id: ConnectionId) {
        if self.left > 0 && !self.dead.contains_key(&id) && self.rng.random_range(0..8) == 0 {
            self.left -= 1;
            let swallows = [Swallows::Up, Swallows::Down, Swallows::Both][self.rng.random_range(0..3)];
            self.dead.insert(id, swallows);
        }
    }

    /// Whether what an app sends is lost.
    pub(super) fn swallows_up(&self, id: ConnectionId) -> bool {
        matches!(self.dead.get(&id), Some(Swallows::Up | Swallows::Both))
    }

    /// Whether what the relay sends is lost, the end of the connection included.
    pub(super) fn swallows_down(&self, id: ConnectionId) -> bool {
        matches!(self.dead.get(&id), Some(Swallows::Down | Swallows::Both))
    }
}
