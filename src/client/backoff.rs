//! How long to wait before connecting again. No timers: a number of failures and randomness in, a duration out.

use std::time::Duration;

use rand::Rng;

/// First wait: nothing a person notices, and a relay that lost 10,000 phones at once hears them over 100 ms.
const FIRST: Duration = Duration::from_millis(100);

/// Longest wait: a session lives three minutes.
const MOST: Duration = Duration::from_secs(5);

/// The wait after this many failures in a row (0: the first), between half and all of 100 ms, doubled each time, at
/// most 5 s. Random, so that the phones a relay lost together do not come back together.
#[must_use]
pub fn delay(failures: u32, rng: &mut impl Rng) -> Duration {
    let most = FIRST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(MOST);
    let half = most.checked_div(2).unwrap_or(most);
    half.saturating_add(half.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_wait_doubles_up_to_five_seconds_and_is_random_within_its_upper_half() {
        let mut rng = StdRng::seed_from_u64(1);
        for (failures, most) in [(0, 100), (1, 200), (2, 400), (5, 3200), (6, 5000), (31, 5000), (u32::MAX, 5000)] {
            for _ in 0..100 {
                let delay = delay(failures, &mut rng).as_millis();
                assert!((most / 2..=most).contains(&delay), "{failures}: {delay}");
            }
        }
        let delays: std::collections::HashSet<_> = (0..10).map(|_| delay(3, &mut rng)).collect();
        assert!(delays.len() > 5);
    }
}
