//! How long people take: distributions of the time to scan a code or to type one. Pure; randomness is passed in.

use std::time::Duration;

use rand::Rng;
use rand::RngExt as _;
use rand_distr::{Exp1, StandardNormal};
use serde::Deserialize;

use crate::num::seconds;
use crate::scenario::Time;

/// 95 of 100 values of the standard normal distribution lie below this.
const NORMAL_P95: f64 = 1.644_853_626_951_472_7;

/// A distribution of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Think {
    /// No time at all.
    #[default]
    None,
    /// Always the same.
    Constant {
        /// The time.
        time: Time,
    },
    /// Anything between two bounds.
    Uniform {
        /// The shortest.
        from: Time,
        /// The longest.
        to: Time,
    },
    /// Without memory: many short ones, few long ones.
    Exponential {
        /// The mean.
        mean: Time,
        /// What is longer counts as this.
        most: Time,
    },
    /// What people's reactions look like: a steep rise, a long tail.
    Lognormal {
        /// Half of them are faster.
        median: Time,
        /// 95 of 100 are faster.
        p95: Time,
        /// What is longer counts as this.
        most: Time,
    },
}

impl Think {
    /// One duration.
    pub(crate) fn sample(&self, rng: &mut impl Rng) -> Duration {
        match *self {
            Self::None => Duration::ZERO,
            Self::Constant { time } => time.0,
            Self::Uniform { from, to } => {
                let (from, to) = (from.0.as_secs_f64(), to.0.as_secs_f64());
                seconds(from + (to - from) * rng.random::<f64>())
            }
            Self::Exponential { mean, most } => mean.0.mul_f64(rng.sample(Exp1)).min(most.0),
            Self::Lognormal { median, p95, most } => {
                let median = median.0.as_secs_f64();
                let sigma = (p95.0.as_secs_f64() / median).ln() / NORMAL_P95;
                let normal: f64 = rng.sample(StandardNormal);
                seconds(median * (sigma * normal).exp()).min(most.0)
            }
        }
    }

    /// The longest that can come.
    pub(crate) fn most(&self) -> Duration {
        match *self {
            Self::None => Duration::ZERO,
            Self::Constant { time } => time.0,
            Self::Uniform { to, .. } => to.0,
            Self::Exponential { most, .. } | Self::Lognormal { most, .. } => most.0,
        }
    }

    /// What makes no sense about it.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        match *self {
            Self::Uniform { from, to } if from > to => Some("`from` is longer than `to`"),
            Self::Lognormal { median, p95, .. } if median.0.is_zero() || p95 <= median => {
                Some("`median` must be longer than nothing, and `p95` longer than `median`")
            }
            Self::None
            | Self::Constant { .. }
            | Self::Uniform { .. }
            | Self::Exponential { .. }
            | Self::Lognormal { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn samples(think: Think) -> Vec<f64> {
        let mut rng = StdRng::seed_from_u64(3);
        let mut all: Vec<f64> = (0..20_000).map(|_| think.sample(&mut rng).as_secs_f64()).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    fn time(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    fn assert_near(value: f64, wanted: f64) {
        assert!((value / wanted - 1.0).abs() < 0.05, "{value} instead of {wanted}");
    }

    #[test]
    fn a_lognormal_time_has_its_median_and_its_95th_percentile() {
        let all = samples(Think::Lognormal { median: time(4000), p95: time(9000), most: time(60_000) });
        assert_near(all[10_000], 4.0);
        assert_near(all[19_000], 9.0);
    }

    #[test]
    fn nothing_is_longer_than_the_longest() {
        for think in [
            Think::Lognormal { median: time(1000), p95: time(5000), most: time(2000) },
            Think::Exponential { mean: time(1000), most: time(2000) },
            Think::Uniform { from: time(1000), to: time(2000) },
        ] {
            let all = samples(think);
            assert_near(all[19_999], 2.0);
            assert_eq!(think.most(), Duration::from_secs(2));
        }
    }

    #[test]
    fn a_uniform_time_has_its_mean_between_the_bounds() {
        let all = samples(Think::Uniform { from: time(1000), to: time(3000) });
        assert_near(all.iter().sum::<f64>() / 20_000.0, 2.0);
        assert!(all[0] >= 1.0);
    }

    #[test]
    fn bounds_that_contradict_each_other_are_named() {
        assert!(Think::Uniform { from: time(2), to: time(1) }.problem().is_some());
        assert!(Think::Lognormal { median: time(2), p95: time(2), most: time(9) }.problem().is_some());
        assert!(Think::None.problem().is_none());
    }
}
