//! A circuit breaker: a gateway that fails is left alone for a while, then tried with one message.
//!
//! Pure: outcomes and times in, decisions out. It knows neither what a failure is nor who is behind it.

use std::time::{Duration, Instant};

/// Settings of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open the first time; doubled for each trial that fails.
    pub rest: Duration,
    /// The longest rest.
    pub longest_rest: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, rest: Duration::from_secs(5), longest_rest: Duration::from_mins(2) }
    }
}

/// How the breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Everything passes.
    Closed { failures: u32 },
    /// Nothing passes until then.
    Open { until: Instant, rest: Duration },
    /// One message is on trial; if nothing is heard of it until then, another one is.
    Trial { until: Instant, rest: Duration },
}

/// A breaker in front of one gateway.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
}

impl Breaker {
    /// A closed one: everything passes.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed { failures: 0 } }
    }

    /// Whether a message may be tried now. The caller then reports its end with [`Self::report`].
    ///
    /// # Errors
    /// The time until the next one may be tried.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until, rest } | State::Trial { until, rest } if now >= until => {
                self.state = State::Trial { until: now.checked_add(rest).unwrap_or(now), rest };
                Ok(())
            }
            State::Open { until, .. } | State::Trial { until, .. } => Err(until.saturating_duration_since(now)),
        }
    }

    /// How a message that was admitted ended.
    pub fn report(&mut self, success: bool, now: Instant) {
        self.state = match (success, self.state) {
            (true, _) => State::Closed { failures: 0 },
            (false, State::Closed { failures }) => {
                let failures = failures.saturating_add(1);
                let opens = failures >= self.settings.failures.max(1);
                if opens { self.open(self.settings.rest, now) } else { State::Closed { failures } }
            }
            // What was under way when it opened says nothing new.
            (false, open @ State::Open { .. }) => open,
            (false, State::Trial { rest, .. }) => self.open(rest.saturating_mul(2), now),
        };
    }

    /// Whether it lets everything pass.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    fn open(&self, rest: Duration, now: Instant) -> State {
        let rest = rest.min(self.settings.longest_rest);
        State::Open { until: now.checked_add(rest).unwrap_or(now), rest }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 3, rest: Duration::from_secs(10), longest_rest: Duration::from_secs(40) };

    #[expect(clippy::disallowed_methods, reason = "an instant can be made in no other way")]
    fn start() -> Instant {
        Instant::now()
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..3 {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.report(false, now);
        }
        breaker
    }

    #[test]
    fn three_failures_in_a_row_open_it() {
        let now = start();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now + Duration::from_secs(4)), Err(Duration::from_secs(6)));
        assert!(!breaker.is_closed());
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let (now, mut breaker) = (start(), Breaker::new(SETTINGS));
        for success in [false, false, true, false, false] {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.report(success, now);
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn after_its_rest_one_message_is_on_trial_and_closes_it() {
        let now = start();
        let (mut breaker, later) = (opened(now), now + SETTINGS.rest);
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.admit(later), Err(SETTINGS.rest), "only one at a time");
        breaker.report(true, later);
        assert!(breaker.is_closed());
        assert_eq!(breaker.admit(later), Ok(()));
    }

    #[test]
    fn each_failed_trial_doubles_the_rest_up_to_the_longest() {
        let mut now = start();
        let mut breaker = opened(now);
        now += SETTINGS.rest;
        for rest in [20, 40, 40].map(Duration::from_secs) {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.report(false, now);
            assert_eq!(breaker.admit(now), Err(rest));
            now += rest;
        }
    }

    #[test]
    fn a_trial_of_which_nothing_is_heard_blocks_nothing_for_good() {
        let now = start();
        let (mut breaker, later) = (opened(now), now + SETTINGS.rest);
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.admit(later + SETTINGS.rest), Ok(()));
    }

    #[test]
    fn late_failures_of_what_was_under_way_do_not_prolong_the_rest() {
        let now = start();
        let mut breaker = opened(now);
        breaker.report(false, now + Duration::from_secs(9));
        assert_eq!(breaker.admit(now + SETTINGS.rest), Ok(()));
    }

    proptest! {
        /// Whatever happens, it never refuses for longer than the longest rest.
        #[test]
        fn no_rest_is_longer_than_the_longest(steps in prop::collection::vec((0..60_u64, any::<bool>()), 0..60)) {
            let (mut now, mut breaker) = (start(), Breaker::new(SETTINGS));
            for (seconds, success) in steps {
                now += Duration::from_secs(seconds);
                match breaker.admit(now) {
                    Ok(()) => breaker.report(success, now),
                    Err(wait) => prop_assert!(wait <= SETTINGS.longest_rest && !wait.is_zero()),
                }
            }
            prop_assert_eq!(breaker.admit(now + SETTINGS.longest_rest), Ok(()));
        }
    }
}
