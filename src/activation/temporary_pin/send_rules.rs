//! Whether another SMS may go out: limits for the number, for the address that asks, and in all, and the rest of a
//! number that was changed.
//!
//! Pure functions over what is known of earlier sends; counting and storing them is the registry's. A send counts
//! when it is decided, whether the gateway takes it or not.

use std::time::{Duration, SystemTime};

/// At most so many within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub most: u32,
    /// Within this time before now.
    pub window: Duration,
}

/// What was sent within the window of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// How many.
    pub count: u32,
    /// When the oldest of them went out.
    pub oldest: Option<SystemTime>,
}

impl Earlier {
    /// Counts what of a list is within the window. A send in the future, by a clock that was ahead, counts.
    #[must_use]
    pub fn of(sends: &[SystemTime], limit: Limit, now: SystemTime) -> Self {
        let counts = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age >= limit.window);
        let mut within = sends.iter().filter(|at| !counts(at)).copied();
        let oldest = within.clone().min();
        Self { count: within.by_ref().count().try_into().unwrap_or(u32::MAX), oldest }
    }
}

/// All limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRules {
    /// To one number; for a user ID that does not exist, for that ID, so that the answers are the same.
    pub per_number: Limit,
    /// From one address (an IPv4 address, an IPv6 /64), whatever the number.
    pub per_address: Limit,
    /// From all addresses to all numbers: bounds what an attack can cost.
    pub in_all: Limit,
    /// No SMS to a number that was changed so recently: whoever took the account over must not get the PIN.
    pub number_rest: Duration,
}

impl Default for SendRules {
    fn default() -> Self {
        let quarter = Duration::from_mins(15);
        Self {
            per_number: Limit { most: 3, window: quarter },
            // A family, an office or a phone operator's gateway may share one.
            per_address: Limit { most: 30, window: quarter },
            in_all: Limit { most: 5000, window: quarter },
            number_rest: Duration::from_hours(5 * 24),
        }
    }
}

/// What is known when somebody wants an SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Sends to this number.
    pub to_number: Earlier,
    /// Sends that this address asked for.
    pub from_address: Earlier,
    /// All sends.
    pub in_all: Earlier,
    /// When the number on file was last changed, if it ever was.
    pub number_changed: Option<SystemTime>,
}

/// Why no SMS goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendRefused {
    /// Of all users together too many.
    #[error("too many SMS in all; try again in {} s", retry_after.as_secs())]
    TooManyInAll {
        /// When one more is allowed.
        retry_after: Duration,
    },
    /// Of this address too many.
    #[error("this address asked for too many SMS; try again in {} s", retry_after.as_secs())]
    TooManyFromAddress {
        /// When one more is allowed.
        retry_after: Duration,
    },
    /// To this number too many.
    #[error("too many SMS to this number; try again in {} s", retry_after.as_secs())]
    TooManyToNumber {
        /// When one more is allowed.
        retry_after: Duration,
    },
    /// The number was changed within the last days. Nobody may be told: it shows that the user exists.
    #[error("the number was changed too recently")]
    NumberTooNew,
}

impl SendRefused {
    /// Every value of [`Self::label`].
    pub const LABELS: [&'static str; 4] = ["in_all", "per_address", "per_number", "number_too_new"];

    /// For metrics: which limit it was.
    #[must_use]
    pub fn label(self) -> &'static str {
        let [in_all, per_address, per_number, number_too_new] = Self::LABELS;
        match self {
            Self::TooManyInAll { .. } => in_all,
            Self::TooManyFromAddress { .. } => per_address,
            Self::TooManyToNumber { .. } => per_number,
            Self::NumberTooNew => number_too_new,
        }
    }

    /// The time to wait, where the person may be told that nothing was sent. `None`: answer as if it had been sent.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::TooManyInAll { retry_after }
            | Self::TooManyFromAddress { retry_after }
            | Self::TooManyToNumber { retry_after } => Some(retry_after),
            Self::NumberTooNew => None,
        }
    }
}

impl SendRules {
    /// Whether one more SMS may go out now.
    ///
    /// What does not depend on the user comes first, so that the order of refusals tells nothing about one.
    ///
    /// # Errors
    /// [`SendRefused`] with the first rule that forbids it.
    pub fn check(&self, request: &Request, now: SystemTime) -> Result<(), SendRefused> {
        if let Some(retry_after) = self.in_all.wait(request.in_all, now) {
            return Err(SendRefused::TooManyInAll { retry_after });
        }
        if let Some(retry_after) = self.per_address.wait(request.from_address, now) {
            return Err(SendRefused::TooManyFromAddress { retry_after });
        }
        if let Some(retry_after) = self.per_number.wait(request.to_number, now) {
            return Err(SendRefused::TooManyToNumber { retry_after });
        }
        // A change in the future, by a clock that was ahead, is recent.
        let has_rested = |changed: SystemTime| now.duration_since(changed).is_ok_and(|age| age >= self.number_rest);
        if request.number_changed.is_none_or(has_rested) { Ok(()) } else { Err(SendRefused::NumberTooNew) }
    }
}

impl Limit {
    /// How long until one more fits; `None`: now.
    fn wait(self, earlier: Earlier, now: SystemTime) -> Option<Duration> {
        if earlier.count < self.most {
            return None;
        }
        let age = earlier.oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default();
        // At least a second: a retry at once would hit the same limit.
        Some(self.window.saturating_sub(age).max(Duration::from_secs(1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const DAY: Duration = Duration::from_hours(24);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 1000
    }

    fn nothing() -> Request {
        let none = Earlier::default();
        Request { to_number: none, from_address: none, in_all: none, number_changed: None }
    }

    fn earlier(count: u32, age: Duration) -> Earlier {
        Earlier { count, oldest: Some(now() - age) }
    }

    #[test]
    fn the_fourth_sms_to_a_number_waits_until_the_first_is_fifteen_minutes_old() {
        let rules = SendRules::default();
        let request = Request { to_number: earlier(2, MINUTE), ..nothing() };
        assert_eq!(rules.check(&request, now()), Ok(()));
        let request = Request { to_number: earlier(3, MINUTE * 4), ..nothing() };
        let refused = SendRefused::TooManyToNumber { retry_after: MINUTE * 11 };
        assert_eq!(rules.check(&request, now()), Err(refused));
    }

    #[test]
    fn addresses_and_the_whole_have_limits_of_their_own() {
        let rules = SendRules::default();
        let request = Request { from_address: earlier(30, MINUTE * 14), ..nothing() };
        assert_eq!(rules.check(&request, now()), Err(SendRefused::TooManyFromAddress { retry_after: MINUTE }));
        let request = Request { in_all: earlier(5000, MINUTE * 14), ..nothing() };
        assert_eq!(rules.check(&request, now()), Err(SendRefused::TooManyInAll { retry_after: MINUTE }));
    }

    #[test]
    fn no_sms_goes_to_a_number_that_was_changed_within_five_days() {
        let rules = SendRules::default();
        let changed = |ago: Duration| Request { number_changed: Some(now() - ago), ..nothing() };
        assert_eq!(rules.check(&changed(DAY * 5), now()), Ok(()));
        assert_eq!(rules.check(&changed(DAY * 5 - MINUTE), now()), Err(SendRefused::NumberTooNew));
        assert_eq!(SendRefused::NumberTooNew.retry_after(), None, "telling it would show that the user exists");
        let future = Request { number_changed: Some(now() + DAY), ..nothing() };
        assert_eq!(rules.check(&future, now()), Err(SendRefused::NumberTooNew));
    }

    #[test]
    fn what_concerns_all_is_told_before_what_concerns_the_user() {
        let full = earlier(u32::MAX, MINUTE);
        let request = Request { to_number: full, from_address: full, in_all: full, number_changed: Some(now()) };
        let label = |request: &Request| SendRules::default().check(request, now()).unwrap_err().label();
        assert_eq!(label(&request), "in_all");
        assert_eq!(label(&Request { in_all: Earlier::default(), ..request }), "per_address");
        let request = Request { in_all: Earlier::default(), from_address: Earlier::default(), ..request };
        assert_eq!(label(&request), "per_number");
        assert_eq!(label(&Request { to_number: Earlier::default(), ..request }), "number_too_new");
    }

    #[test]
    fn a_clock_that_was_ahead_opens_no_limit() {
        let limit = SendRules::default().per_number;
        let sends = [now() + DAY; 3];
        let request = Request { to_number: Earlier::of(&sends, limit, now()), ..nothing() };
        let refused = SendRefused::TooManyToNumber { retry_after: limit.window };
        assert_eq!(SendRules::default().check(&request, now()), Err(refused));
    }

    #[test]
    fn every_rule_is_a_value_of_its_label() {
        assert_eq!(SendRefused::LABELS, crate::telemetry::SMS_RULES);
    }

    proptest! {
        /// Whoever always asks, and always waits as told, never gets more than the limit in any window.
        #[test]
        fn in_no_window_more_goes_out_than_allowed(most in 1..5_u32, gaps in prop::collection::vec(0..1000_u64, 1..60)) {
            let limit = Limit { most, window: Duration::from_mins(15) };
            let rules = SendRules { per_number: limit, ..SendRules::default() };
            let (mut sends, mut now) = (Vec::<SystemTime>::new(), now());
            for gap in gaps {
                now += Duration::from_secs(gap);
                let request = Request { to_number: Earlier::of(&sends, limit, now), ..nothing() };
                if let Err(refused) = rules.check(&request, now) {
                    now += refused.retry_after().unwrap();
                    let request = Request { to_number: Earlier::of(&sends, limit, now), ..nothing() };
                    prop_assert_eq!(rules.check(&request, now), Ok(()), "the time that was told was too short");
                }
                sends.push(now);
            }
            for (at, first) in sends.iter().enumerate() {
                let within = sends[at..].iter().filter(|send| send.duration_since(*first).unwrap() < limit.window);
                prop_assert!(within.count() <= usize::try_from(most).unwrap());
            }
        }
    }
}
