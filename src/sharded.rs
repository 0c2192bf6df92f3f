//! State in several parts, each behind a lock of its own: threads that come with different keys rarely meet.
//!
//! Knows nothing of what the parts hold, and never takes two locks at once.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Enough that two cores rarely meet in one.
const SHARDS: usize = 16;

/// Parts of one kind; a key always belongs to the same one.
#[derive(Debug, Default)]
pub(crate) struct Sharded<T> {
    shards: [Mutex<T>; SHARDS],
    hasher: RandomState,
}

impl<T> Sharded<T> {
    /// The part of a key.
    pub(crate) fn lock(&self, key: impl Hash) -> MutexGuard<'_, T> {
        let [byte, ..] = self.hasher.hash_one(key).to_le_bytes();
        #[expect(clippy::indexing_slicing, reason = "the index is a remainder of the number of shards")]
        lock(&self.shards[usize::from(byte) % SHARDS])
    }

    /// Every part, one after the other.
    pub(crate) fn lock_each(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.shards.iter().map(lock)
    }
}

/// Whoever panicked with the lock in hand was about to remove or insert one entry: the others are whole.
fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_where_it_was_put_and_keys_are_spread_over_all_parts() {
        let sharded = Sharded::<Vec<u16>>::default();
        for key in 0..1000 {
            sharded.lock(key).push(key);
        }
        assert!((0..1000).all(|key| sharded.lock(key).contains(&key)));
        assert_eq!(sharded.lock_each().map(|part| part.len()).sum::<usize>(), 1000);
        assert!(sharded.lock_each().all(|part| !part.is_empty()));
    }

    #[test]
    fn a_part_is_usable_after_a_panic_in_it() {
        let sharded = Sharded::<u32>::default();
        let panicked = std::thread::scope(|scope| {
            let panicking = scope.spawn(|| {
                let _part = sharded.lock(1);
                panic!("while it is locked");
            });
            panicking.join().is_err()
        });
        assert!(panicked);
        *sharded.lock(1) += 1;
        assert_eq!(*sharded.lock(1), 1);
    }
}
