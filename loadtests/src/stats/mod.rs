//! What is counted and timed during a run: pure, additive, and complete enough to be written, read and merged.

mod latency;
mod phase;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use latency::{Latency, PERCENTILES};
pub(crate) use phase::Phase;

use crate::num::index;
use crate::scenario::Kind;

/// What happened in one interval of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bucket {
    /// Sessions that were to start.
    pub(crate) started: u64,
    /// Sessions that did what they came for.
    pub(crate) completed: u64,
    /// Sessions that did not.
    pub(crate) failed: u64,
    /// The total time of the completed ones.
    pub(crate) total: Latency,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

/// Everything about one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupStats {
    /// The group's name.
    pub(crate) name: String,
    /// What its sessions do.
    pub(crate) kind: Kind,
    /// Failed sessions by reason.
    pub(crate) failures: BTreeMap<String, u64>,
    /// What went wrong on the way and was overcome, or led to a failure: connections lost, refused, attempts repeated.
    pub(crate) setbacks: BTreeMap<String, u64>,
    /// For attacks: how the relay turned them away.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Times by phase.
    pub(crate) phases: BTreeMap<Phase, Latency>,
    /// Interval by interval since the start.
    pub(crate) series: Vec<Bucket>,
}

impl GroupStats {
    /// Nothing yet.
    pub(crate) fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            failures: BTreeMap::new(),
            setbacks: BTreeMap::new(),
            answers: BTreeMap::new(),
            phases: BTreeMap::new(),
            series: Vec::new(),
        }
    }

    /// A session starts in this interval.
    pub(crate) fn start(&mut self, interval: usize) {
        self.with_bucket(interval, |bucket| bucket.started = bucket.started.saturating_add(1));
    }

    /// A session ends in this interval, after so long (`None`: its time says nothing) or for such a reason.
    pub(crate) fn end(&mut self, interval: usize, ending: Result<Option<Duration>, &str>) {
        match ending {
            Ok(total) => {
                self.with_bucket(interval, |bucket| {
                    bucket.completed = bucket.completed.saturating_add(1);
                    if let Some(total) = total {
                        bucket.total.record(total);
                    }
                });
                if let Some(total) = total {
                    self.time(self.main_phase(), total);
                }
            }
            Err(reason) => {
                self.with_bucket(interval, |bucket| bucket.failed = bucket.failed.saturating_add(1));
                add(&mut self.failures, reason, 1);
            }
        }
    }

    /// The phase that a session's whole time is recorded under.
    pub(crate) fn main_phase(&self) -> Phase {
        match self.kind {
            Kind::Handoff => Phase::Total,
            Kind::Lurker => Phase::Ended,
            Kind::Abuse => Phase::Refusal,
        }
    }

    /// A phase took so long.
    pub(crate) fn time(&mut self, phase: Phase, took: Duration) {
        self.phases.entry(phase).or_default().record(took);
    }

    /// Something went wrong on the way.
    pub(crate) fn setback(&mut self, what: &str) {
        add(&mut self.setbacks, what, 1);
    }

    /// The relay turned an attack away.
    pub(crate) fn answer(&mut self, how: &str) {
        add(&mut self.answers, how, 1);
    }

    pub(crate) fn started(&self) -> u64 {
        self.series.iter().map(|bucket| bucket.started).sum()
    }

    pub(crate) fn completed(&self) -> u64 {
        self.series.iter().map(|bucket| bucket.completed).sum()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.series.iter().map(|bucket| bucket.failed).sum()
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.started().saturating_sub(self.completed()).saturating_sub(self.failed())
    }

    /// How many were on their way at the end of each interval.
    pub(crate) fn in_flight_series(&self) -> Vec<u64> {
        let ends = self.series.iter().scan(0_u64, |in_flight, bucket| {
            *in_flight =
                in_flight.saturating_add(bucket.started).saturating_sub(bucket.completed).saturating_sub(bucket.failed);
            Some(*in_flight)
        });
        ends.collect()
    }

    /// Adds what another generator saw, which began so many intervals later.
    pub(crate) fn merge(&mut self, other: &Self, later: usize) {
        for (mine, theirs) in [
            (&mut self.failures, &other.failures),
            (&mut self.setbacks, &other.setbacks),
            (&mut self.answers, &other.answers),
        ] {
            theirs.iter().for_each(|(name, count)| add(mine, name, *count));
        }
        for (phase, latency) in &other.phases {
            self.phases.entry(*phase).or_default().merge(latency);
        }
        for (interval, theirs) in other.series.iter().enumerate() {
            self.with_bucket(interval.saturating_add(later), |mine| {
                mine.started = mine.started.saturating_add(theirs.started);
                mine.completed = mine.completed.saturating_add(theirs.completed);
                mine.failed = mine.failed.saturating_add(theirs.failed);
                mine.total.merge(&theirs.total);
            });
        }
    }

    /// Delays everything, for a merge with one that began earlier.
    pub(crate) fn delay(&mut self, intervals: usize) {
        self.series.splice(0..0, std::iter::repeat_n(Bucket::default(), intervals));
    }

    fn with_bucket(&mut self, interval: usize, change: impl FnOnce(&mut Bucket)) {
        if self.series.len() <= interval {
            self.series.resize_with(interval.saturating_add(1), Bucket::default);
        }
        if let Some(bucket) = self.series.get_mut(interval) {
            change(bucket);
        }
    }
}

fn add(counts: &mut BTreeMap<String, u64>, name: &str, more: u64) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_add(more);
    } else {
        counts.insert(name.to_owned(), more);
    }
}

/// Which interval a moment is in.
pub(crate) fn interval_of(since_start: Duration, width: Duration) -> usize {
    let width = width.as_millis().max(1);
    index(u64::try_from(since_start.as_millis().checked_div(width).unwrap_or_default()).unwrap_or(u64::MAX))
}

/// The width of intervals for a run of this length: whole seconds, and at most 600 intervals.
pub(crate) fn width_for(run: Duration) -> Duration {
    Duration::from_secs(run.as_secs().div_ceil(600).max(1))
}
