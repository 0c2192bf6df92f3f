//! How many sessions shall arrive when: a rate over time, made of straight pieces. Pure; the single arrivals are drawn
//! from it by `schedule`.

use std::time::Duration;

use crate::num::{float, seconds};
use crate::scenario::Stage;

/// A piece in which the rate changes evenly from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    seconds: f64,
    from: f64,
    to: f64,
}

impl Piece {
    fn arrivals(self) -> f64 {
        self.seconds * self.from.midpoint(self.to)
    }

    /// When so many have arrived, in seconds since the piece began.
    fn when(self, arrivals: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        // The root of slope/2 t^2 + from t = arrivals that is not negative, in the form that does not cancel.
        let root = (self.from * self.from + 2.0 * slope * arrivals).max(0.0).sqrt();
        let divisor = self.from + root;
        let at = if divisor > 0.0 { 2.0 * arrivals / divisor } else { 0.0 };
        at.clamp(0.0, self.seconds)
    }
}

/// A rate over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Profile(Vec<Piece>);

impl Profile {
    /// The stages one after the other, with all rates multiplied by `scale`.
    pub(crate) fn new(stages: &[Stage], scale: f64) -> Self {
        let mut profile = Self::default();
        stages.iter().for_each(|stage| profile.push(stage, scale));
        profile
    }

    fn push(&mut self, stage: &Stage, scale: f64) {
        let mut piece = |seconds: f64, from: f64, to: f64| {
            if seconds > 0.0 {
                self.0.push(Piece { seconds, from: from * scale, to: to * scale });
            }
        };
        match *stage {
            Stage::Constant { rate, lasting } => piece(lasting.0.as_secs_f64(), rate, rate),
            Stage::Ramp { from, to, lasting } => piece(lasting.0.as_secs_f64(), from, to),
            Stage::Spike { base, peak, lasting } => {
                let half = lasting.0.as_secs_f64() / 2.0;
                piece(half, base, peak);
                piece(half, peak, base);
            }
            Stage::Step { from, to, steps, lasting } => {
                let each = lasting.0.as_secs_f64() / f64::from(steps);
                let rise = if steps > 1 { (to - from) / f64::from(steps.saturating_sub(1)) } else { 0.0 };
                (0..steps).map(|step| from + rise * f64::from(step)).for_each(|rate| piece(each, rate, rate));
            }
            Stage::Burst { count, within } => {
                let seconds = within.0.as_secs_f64();
                piece(seconds, float(count) / seconds, float(count) / seconds);
            }
        }
    }

    /// How many arrive in all, on average.
    pub(crate) fn arrivals(&self) -> f64 {
        self.0.iter().map(|piece| piece.arrivals()).sum()
    }

    /// When so many have arrived; `None` if never.
    pub(crate) fn when(&self, mut arrivals: f64) -> Option<Duration> {
        let mut start = 0.0;
        for piece in &self.0 {
            if arrivals <= piece.arrivals() {
                return Some(seconds(start + piece.when(arrivals)));
            }
            arrivals -= piece.arrivals();
            start += piece.seconds;
        }
        None
    }
}
