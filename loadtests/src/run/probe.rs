//! Watches the generator itself while it runs: its CPU time and how late its timers fire. Measures; what it means is
//! `health`'s to say.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::num::float;
use crate::stats::Latency;

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(10);

/// CPU time is looked at once in so many ticks.
const CPU_TICKS: u32 = 100;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// How late timers fired.
    pub(crate) timer_lag: Latency,
    /// Cores used, second by second.
    pub(crate) cores_used: Vec<f64>,
}

/// A running probe.
#[derive(Debug)]
pub(crate) struct Probe {
    task: JoinHandle<Seen>,
    stop: CancellationToken,
}

impl Probe {
    pub(crate) fn start() -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(watch(stop.clone())), stop }
    }

    pub(crate) async fn finish(self) -> Seen {
        self.stop.cancel();
        self.task.await.unwrap_or_default()
    }
}

async fn watch(stop: CancellationToken) -> Seen {
    let mut seen = Seen::default();
    let (mut due, mut ticks) = (Instant::now(), 0_u32);
    let (mut cpu, mut at) = (cpu_time(), Instant::now());
    loop {
        due = due.checked_add(TICK).unwrap_or(due);
        tokio::select! {
            () = stop.cancelled() => return seen,
            () = sleep_until(due) => {}
        }
        let now = Instant::now();
        seen.timer_lag.record(now.saturating_duration_since(due));
        // A late tick is late once; the ticks that it swallowed are not made up for.
        due = due.max(now.checked_sub(TICK).unwrap_or(due));
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(CPU_TICKS) {
            let (used, took) = (cpu_time().saturating_sub(cpu), now.saturating_duration_since(at));
            seen.cores_used.push(used.as_secs_f64() / took.as_secs_f64().max(0.001));
            (cpu, at) = (cpu_time(), now);
        }
    }
}

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    seconds.saturating_add(Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default()))
}

/// Cores that this process may use, as a number to divide by.
pub(crate) fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| float(crate::num::length(cores.get())))
}
