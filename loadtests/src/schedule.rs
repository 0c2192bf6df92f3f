//! When each single session shall start, drawn from a profile before the run. Pure: the same seed gives the same times,
//! however fast or slow the relay is.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::Exp1;

use crate::num::{count, float};
use crate::profile::Profile;
use crate::scenario::Spacing;

/// The start times, in order.
#[derive(Debug)]
pub(crate) struct Schedule {
    profile: Profile,
    spacing: Spacing,
    rng: StdRng,
    /// Arrivals so far on the profile's own scale: whole numbers if evenly spaced, a random walk if not.
    reached: f64,
    given: u64,
}

impl Schedule {
    /// The start times of a profile.
    pub(crate) fn new(profile: Profile, spacing: Spacing, seed: u64) -> Self {
        Self { profile, spacing, rng: StdRng::seed_from_u64(seed), reached: 0.0, given: 0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let at = match self.spacing {
            Spacing::Even => {
                if self.given >= count(self.profile.arrivals()) {
                    return None;
                }
                // In the middle of its share; the last one may lie past the end by what was rounded.
                (float(self.given) + 0.5).min(self.profile.arrivals())
            }
            Spacing::Poisson => {
                // A Poisson process of any rate is one of rate 1 whose time runs as fast as the rate is high.
                self.reached += self.rng.sample::<f64, _>(Exp1);
                self.reached
            }
        };
        self.given = self.given.saturating_add(1);
        self.profile.when(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::{Stage, Time};

    fn time(seconds: f64) -> Time {
        Time(Duration::from_secs_f64(seconds))
    }

    fn stages() -> impl Strategy<Value = Vec<Stage>> {
        let rate = 0.0..200.0_f64;
        let lasting = (0.5..30.0_f64).prop_map(time);
        let stage = prop_oneof![
            (rate.clone(), lasting.clone()).prop_map(|(rate, lasting)| Stage::Constant { rate, lasting }),
            (rate.clone(), rate.clone(), lasting.clone()).prop_map(|(from, to, lasting)| Stage::Ramp {
                from,
                to,
                lasting
            }),
            (rate.clone(), rate.clone(), lasting.clone()).prop_map(|(base, peak, lasting)| Stage::Spike {
                base,
                peak,
                lasting
            }),
            (rate.clone(), rate, 1..9_u32, lasting).prop_map(|(from, to, steps, lasting)| Stage::Step {
                from,
                to,
                steps,
                lasting
            }),
            (1..500_u64, (0.1..5.0_f64).prop_map(time)).prop_map(|(count, within)| Stage::Burst { count, within }),
        ];
        proptest::collection::vec(stage, 1..5)
    }

    /// What a stage promises, from its definition and not from the code under test.
    fn promised(stage: &Stage) -> f64 {
        match *stage {
            Stage::Constant { rate, lasting } => rate * lasting.0.as_secs_f64(),
            Stage::Ramp { from, to, lasting } => (from + to) / 2.0 * lasting.0.as_secs_f64(),
            Stage::Spike { base, peak, lasting } => (base + peak) / 2.0 * lasting.0.as_secs_f64(),
            Stage::Step { from, to, steps, lasting } => {
                let mean = if steps > 1 { (from + to) / 2.0 } else { from };
                mean * lasting.0.as_secs_f64()
            }
            Stage::Burst { count, .. } => float(count),
        }
    }

    fn length(stages: &[Stage]) -> f64 {
        let length = |stage: &Stage| match *stage {
            Stage::Constant { lasting, .. }
            | Stage::Ramp { lasting, .. }
            | Stage::Spike { lasting, .. }
            | Stage::Step { lasting, .. } => lasting.0.as_secs_f64(),
            Stage::Burst { within, .. } => within.0.as_secs_f64(),
        };
        stages.iter().map(length).sum()
    }

    proptest! {
        #[test]
        fn even_arrivals_are_as_many_as_the_stages_promise(stages in stages(), scale in 0.1..3.0_f64) {
            let promised: f64 = stages.iter().map(promised).sum::<f64>() * scale;
            let profile = Profile::new(&stages, scale);
            let times: Vec<Duration> = Schedule::new(profile.clone(), Spacing::Even, 1).collect();
            prop_assert!((float(times.len() as u64) - promised).abs() <= 0.51, "{} of {promised}", times.len());
            prop_assert!(times.is_sorted());
            prop_assert!(times.iter().all(|at| at.as_secs_f64() <= length(&stages) + 0.001));
        }

        #[test]
        fn at_any_moment_as_many_have_arrived_as_the_rate_says(stages in stages(), share in 0.0..1.0_f64) {
            let profile = Profile::new(&stages, 1.0);
            let at = Duration::from_secs_f64(length(&stages) * share);
            let times: Vec<Duration> = Schedule::new(profile.clone(), Spacing::Even, 1).collect();
            let arrived = float(times.iter().filter(|time| **time <= at).count() as u64);
            // The rate, summed up in small steps.
            let steps = 20_000_u32;
            let width = at.as_secs_f64() / f64::from(steps);
            let integral: f64 = (0..steps).map(|step| rate_at(&stages, (f64::from(step) + 0.5) * width) * width).sum();
            prop_assert!((arrived - integral).abs() <= 2.0, "{arrived} instead of {integral}");
        }

        #[test]
        fn the_same_seed_gives_the_same_times(stages in stages(), seed in any::<u64>()) {
            let profile = Profile::new(&stages, 1.0);
            let times = |seed| Schedule::new(profile.clone(), Spacing::Poisson, seed).collect::<Vec<_>>();
            prop_assert_eq!(times(seed), times(seed));
            prop_assert!(times(seed).is_sorted());
        }
    }

    /// The rate at a time, read off the stages.
    fn rate_at(stages: &[Stage], mut at: f64) -> f64 {
        for stage in stages {
            let (length, rate) = match *stage {
                Stage::Constant { rate, lasting } => (lasting, rate),
                Stage::Ramp { from, to, lasting } => (lasting, from + (to - from) * at / lasting.0.as_secs_f64()),
                Stage::Spike { base, peak, lasting } => {
                    let half = lasting.0.as_secs_f64() / 2.0;
                    (lasting, peak - (peak - base) * (at - half).abs() / half)
                }
                Stage::Step { from, to, steps, lasting } => {
                    let step = (at / (lasting.0.as_secs_f64() / f64::from(steps))).floor();
                    let rise = if steps > 1 { (to - from) / f64::from(steps - 1) } else { 0.0 };
                    (lasting, from + rise * step)
                }
                Stage::Burst { count, within } => (within, float(count) / within.0.as_secs_f64()),
            };
            if at < length.0.as_secs_f64() {
                return rate;
            }
            at -= length.0.as_secs_f64();
        }
        0.0
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_scatter_of_a_poisson_process() {
        let profile = Profile::new(&[Stage::Constant { rate: 100.0, lasting: time(200.0) }], 1.0);
        let times: Vec<Duration> = Schedule::new(profile, Spacing::Poisson, 7).collect();
        let mean = 20_000.0_f64;
        assert!((float(times.len() as u64) - mean).abs() < 5.0 * mean.sqrt(), "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let average = gaps.iter().sum::<f64>() / float(gaps.len() as u64);
        let variance = gaps.iter().map(|gap| (gap - average).powi(2)).sum::<f64>() / float(gaps.len() as u64);
        // Exponential gaps: the standard deviation is the mean.
        assert!((variance.sqrt() / average - 1.0).abs() < 0.05, "{}", variance.sqrt() / average);
    }
}
