//! Where running sessions report to: the counts of one run behind a lock, and the clock that places them. Waits for
//! nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::scenario::Scenario;
use crate::stats::{GroupStats, Latency, Phase, interval_of, width_for};

/// The runtime's clock: the one that its timers run on.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The counts of one run.
#[derive(Debug)]
pub(crate) struct Recorder {
    started: Instant,
    width: Duration,
    groups: Mutex<Vec<GroupStats>>,
    start_lag: Mutex<Latency>,
}

/// A copy of the counts at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) since_start: Duration,
    pub(crate) groups: Vec<GroupStats>,
    pub(crate) start_lag: Latency,
}

impl Recorder {
    pub(crate) fn new(scenario: &Scenario, started: Instant) -> Arc<Self> {
        let groups = scenario.groups.iter().map(|group| GroupStats::new(&group.name, group.kind));
        Arc::new(Self {
            started,
            width: width_for(scenario.end()),
            groups: Mutex::new(groups.collect()),
            start_lag: Mutex::new(Latency::new()),
        })
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn width(&self) -> Duration {
        self.width
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            since_start: now().saturating_duration_since(self.started),
            groups: self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            start_lag: self.start_lag.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Changes the counts of one group.
    pub(crate) fn with<T: Default>(&self, group: usize, change: impl FnOnce(&mut GroupStats) -> T) -> T {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.get_mut(group).map(change).unwrap_or_default()
    }

    fn interval(&self, at: Instant) -> usize {
        interval_of(at.saturating_duration_since(self.started), self.width)
    }
}

/// Where the sessions of one group report to.
#[derive(Clone, Debug)]
pub(crate) struct GroupRecorder {
    recorder: Arc<Recorder>,
    group: usize,
}

impl GroupRecorder {
    pub(crate) fn new(recorder: Arc<Recorder>, group: usize) -> Self {
        Self { recorder, group }
    }

    /// A session that was to start at `due` starts now.
    pub(crate) fn start(&self, due: Instant) {
        let lag = now().saturating_duration_since(due);
        self.recorder.start_lag.lock().unwrap_or_else(PoisonError::into_inner).record(lag);
        let interval = self.recorder.interval(due);
        self.recorder.with(self.group, |stats| stats.start(interval));
    }

    /// A session has ended; `Ok(None)` if its time says nothing.
    pub(crate) fn end(&self, ending: Result<Option<Duration>, &str>) {
        let interval = self.recorder.interval(now());
        self.recorder.with(self.group, |stats| stats.end(interval, ending));
    }

    pub(crate) fn time(&self, phase: Phase, took: Duration) {
        self.recorder.with(self.group, |stats| stats.time(phase, took));
    }

    pub(crate) fn setback(&self, what: &str) {
        self.recorder.with(self.group, |stats| stats.setback(what));
    }

    pub(crate) fn answer(&self, how: &str) {
        self.recorder.with(self.group, |stats| stats.answer(how));
    }
}
