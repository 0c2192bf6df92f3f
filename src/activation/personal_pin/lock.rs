//! How often a personal PIN may be tried: pure arithmetic over what is stored with an app.
//!
//! A try counts when KE2 goes out, because each KE2 lets the app test one guess by itself. Whoever then proves the PIN
//! with a valid KE3 has all tries again. Five tries without proof, and the next ones must wait, longer each time; ten,
//! and the app is locked for good: it must be activated again. A lock is the app's; the user's other apps do not notice.

use std::time::{Duration, SystemTime};

/// Tries without proof that are free of waiting.
pub const FREE_TRIES: u8 = 5;

/// Tries without proof after which the app is locked for good.
pub const MOST_TRIES: u8 = 10;

/// The wait before the sixth try, the seventh, and so on to the tenth. Together more than a day: guessing takes
/// patience, and a person who finds the right PIN loses minutes.
const WAITS: [Duration; 5] = [
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(3),
    Duration::from_hours(24),
];

/// What is stored with an app. The default is that of a new app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// KE2s that went out since the last proof.
    pub unproven: u8,
    /// When the last of them went out.
    pub last: Option<SystemTime>,
}

/// Why there is no KE2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Locked {
    /// For a while.
    #[error("too many wrong PINs; try again in {} s", retry_after.as_secs())]
    Waiting {
        /// For so long.
        retry_after: Duration,
    },
    /// For good.
    #[error("too many wrong PINs; the app must be activated again")]
    ForGood,
}

impl Tries {
    /// Counts a try. The caller stores the result before KE2 goes out, in the transaction in which it read the old one;
    /// otherwise tries at the same moment count as one.
    ///
    /// # Errors
    /// [`Locked`] if no try is allowed now; then there is nothing to store.
    pub fn begin(self, now: SystemTime) -> Result<Self, Locked> {
        self.allowed(now)?;
        Ok(Self { unproven: self.unproven.saturating_add(1), last: Some(now) })
    }

    /// Whether a try would be allowed now, without counting one.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn allowed(self, now: SystemTime) -> Result<(), Locked> {
        if self.is_locked_for_good() {
            return Err(Locked::ForGood);
        }
        let Some(wait) = self.unproven.checked_sub(FREE_TRIES).and_then(|at| WAITS.get(usize::from(at))) else {
            return Ok(());
        };
        // A clock that was set back makes nobody wait longer than the whole time.
        let waited = self.last.and_then(|last| now.duration_since(last).ok()).unwrap_or_default();
        match wait.saturating_sub(waited) {
            Duration::ZERO => Ok(()),
            retry_after => Err(Locked::Waiting { retry_after }),
        }
    }

    /// After a valid KE3: all tries are free again.
    #[must_use]
    pub fn proven(self) -> Self {
        Self::default()
    }

    /// Whether the app must be activated again.
    #[must_use]
    pub fn is_locked_for_good(self) -> bool {
        self.unproven >= MOST_TRIES
    }

    /// Whether this try is the one after which the user's other apps should hear of it: the last one without a wait, and
    /// each one after.
    #[must_use]
    pub fn is_alarming(self) -> bool {
        self.unproven >= FREE_TRIES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn five_tries_are_free_then_each_waits_longer_and_ten_lock_for_good() {
        let (mut tries, mut now) = (Tries::default(), NOW);
        for _ in 0..5 {
            tries = tries.begin(now).unwrap();
        }
        for retry_after in WAITS {
            assert_eq!(tries.begin(now), Err(Locked::Waiting { retry_after }));
            let second = Duration::from_secs(1);
            assert_eq!(tries.begin(now + retry_after - second), Err(Locked::Waiting { retry_after: second }));
            now += retry_after;
            tries = tries.begin(now).unwrap();
        }
        assert_eq!(tries.unproven, MOST_TRIES);
        assert_eq!(tries.begin(now + Duration::from_hours(24 * 365)), Err(Locked::ForGood));
        assert!(WAITS.is_sorted() && WAITS.len() == usize::from(MOST_TRIES - FREE_TRIES));
    }

    #[test]
    fn a_proof_gives_all_tries_back() {
        let tries = Tries { unproven: 9, last: Some(NOW) };
        assert_eq!(tries.proven(), Tries::default());
        assert!(tries.is_alarming() && !tries.proven().is_alarming());
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait_longer_than_the_whole_time() {
        let tries = Tries { unproven: 5, last: Some(NOW + Duration::from_hours(1000)) };
        assert_eq!(tries.begin(NOW), Err(Locked::Waiting { retry_after: WAITS[0] }));
    }

    proptest! {
        /// Whatever the times and proofs: no more than ten KE2s go out without a proof between them, from the sixth on
        /// never two within a minute, and who is told to wait may try when that time is over.
        #[test]
        fn no_order_of_events_gives_more_guesses(steps in prop::collection::vec((0..100_000_u64, prop::bool::weighted(0.1)), 0..80)) {
            let (mut tries, mut now, mut unproven) = (Tries::default(), NOW, 0);
            let mut last = NOW;
            for (seconds, proves) in steps {
                now += Duration::from_secs(seconds);
                match tries.begin(now) {
                    Ok(counted) => {
                        prop_assert_eq!(counted.unproven, tries.unproven + 1);
                        prop_assert!(unproven < 5 || now.duration_since(last).unwrap() >= WAITS[0]);
                        (tries, last, unproven) = (counted, now, unproven + 1);
                    }
                    Err(Locked::Waiting { retry_after }) => {
                        prop_assert!(unproven >= 5 && retry_after <= WAITS[4]);
                        prop_assert!(tries.begin(now + retry_after).is_ok());
                    }
                    Err(Locked::ForGood) => prop_assert_eq!(unproven, 10),
                }
                prop_assert!(unproven <= 10);
                if proves && unproven < 10 {
                    (tries, unproven) = (tries.proven(), 0);
                }
            }
        }
    }
}
