//! Runs a scenario: starts every session at its time, waits for the ends, and watches the generator itself.

mod abuse;
mod handoff;
mod labels;
mod lurker;
mod network;
mod probe;
mod recorder;
mod replay;
mod session;
mod shaping;

use std::sync::Arc;
use std::time::{Duration, Instant};

use handoff_relay::client::{Connector, Dial, RelayUrl};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

pub(crate) use network::{Network, Usage};
pub(crate) use probe::{Seen, cores};
pub(crate) use recorder::{Recorder, Snapshot, now};
pub(crate) use session::Crypto;

use self::network::Dialer;
use self::probe::Probe;
use self::recorder::GroupRecorder;
use self::replay::Template;
use self::session::{Around, UNFINISHED};
use crate::health::Health;
use crate::profile::Profile;
use crate::scenario::{Arrivals, Kind, Scenario};
use crate::schedule::Schedule;
use crate::think::Think;

/// What a run needs besides its scenario.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The nodes; never empty.
    pub(crate) urls: Vec<RelayUrl>,
    /// Trusts what the relay's certificate needs.
    pub(crate) connector: Connector,
    /// What all rates, counts and users are multiplied by.
    pub(crate) rate_scale: f64,
    /// Loopback source addresses from the start.
    pub(crate) sources: u64,
    /// Files that this process may open.
    pub(crate) files: u64,
    /// What handoffs are made of.
    pub(crate) crypto: Crypto,
}

/// A group with everything that its sessions need.
#[derive(Clone, Debug)]
struct Prepared {
    around: Arc<Around>,
    arrivals: Arrivals,
    seed: u64,
}

/// A run, shared by what drives it and what shows it.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    scenario: Arc<Scenario>,
    options: Options,
    recorder: Arc<Recorder>,
    network: Arc<Network>,
    groups: Vec<Prepared>,
    /// No more arrivals: somebody has interrupted the run.
    pub(crate) stop: CancellationToken,
}

impl Run {
    /// Prepares what can be prepared, and then begins: the clock runs from here on. Inside a tokio runtime.
    pub(crate) fn new(scenario: Arc<Scenario>, options: Options) -> anyhow::Result<Self> {
        let network = Network::new(options.sources);
        let mut rng = StdRng::seed_from_u64(scenario.seed);
        let templates = scenario
            .groups
            .iter()
            .map(|group| Ok(Arc::new(Template::record(scenario.relay, group.phone.credential, &mut rng)?)));
        let templates = templates.collect::<anyhow::Result<Vec<_>>>()?;
        let recorder = Recorder::new(&scenario, now());
        let groups = scenario.groups.iter().zip(templates).enumerate();
        let groups = groups.map(|(number, (group, template))| {
            let seed = scenario.seed ^ u64::try_from(number).unwrap_or_default().rotate_left(32);
            let dialer =
                Arc::new(Dialer::new(Arc::clone(&network), group.phone.network, seed, group.kind != Kind::Abuse));
            let dial: Arc<dyn Dial> = Arc::<Dialer>::clone(&dialer);
            let around = Around {
                recorder: GroupRecorder::new(Arc::clone(&recorder), number),
                kind: group.kind,
                relay: scenario.relay,
                phone: group.phone,
                attacks: group.attacks,
                urls: options.urls.clone().into(),
                connector: options.connector.clone().dialing(dial),
                dialer,
                template,
                crypto: options.crypto,
            };
            Prepared { around: Arc::new(around), arrivals: group.arrivals.clone(), seed }
        });
        let groups = groups.collect();
        Ok(Self { scenario, options, recorder, network, groups, stop: CancellationToken::new() })
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    pub(crate) fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Runs everything to its end, or to the end of the scenario's patience; returns how the generator fared.
    pub(crate) async fn finish(&self) -> Health {
        let probe = Probe::start();
        let mut groups = JoinSet::new();
        for group in &self.groups {
            groups.spawn(self.clone().run_group(group.clone()));
        }
        let cuts = tokio::spawn(self.clone().cut());
        groups.join_all().await;
        cuts.abort();
        let limits = self.scenario.generator;
        let usage = self.network.usage();
        let start_lag = self.recorder.snapshot().start_lag;
        Health::new(limits, probe.finish().await, start_lag, usage, self.options.files, self.stop.is_cancelled())
    }

    async fn cut(self) {
        let mut times: Vec<Duration> = self.scenario.cuts.iter().map(|cut| cut.at.0).collect();
        times.sort_unstable();
        for at in times {
            sleep_until(self.at(at).into()).await;
            self.network.cut_all();
        }
    }

    async fn run_group(self, group: Prepared) {
        let Prepared { around, arrivals, seed } = group;
        let mut sessions = JoinSet::new();
        match &arrivals {
            Arrivals::Open { spacing, stages, after } => {
                let profile = Profile::new(stages, self.options.rate_scale);
                let schedule = Schedule::new(profile, *spacing, seed).map(|at| at.saturating_add(after.0));
                self.start_by(schedule, &around, seed, &mut sessions).await;
            }
            Arrivals::Closed { users, lasting, pause } => {
                let scaled = crate::num::count(f64::from(*users) * self.options.rate_scale).max(1);
                for user in 0..scaled {
                    let (run, around, lasting, pause) = (self.clone(), Arc::clone(&around), lasting.0, *pause);
                    sessions.spawn(async move { run.live(&around, seed.wrapping_add(user), lasting, pause).await });
                }
            }
        }
        self.drain(&around, &mut sessions).await;
    }

    /// The open model: every session starts at its time, whatever has become of the others.
    async fn start_by(
        &self,
        schedule: impl Iterator<Item = Duration>,
        around: &Arc<Around>,
        seed: u64,
        sessions: &mut JoinSet<()>,
    ) {
        for (at, seed) in schedule.zip(seeds(seed)) {
            let due = self.at(at);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = sleep_until(due.into()) => {}
            }
            let around = Arc::clone(around);
            sessions.spawn(async move { around.run(due, seed).await });
            while sessions.try_join_next().is_some() {}
        }
    }

    /// The closed model: one user after another session, until the time is over.
    async fn live(self, around: &Around, seed: u64, lasting: Duration, pause: Think) {
        let mut rng = StdRng::seed_from_u64(seed);
        let end = self.at(lasting);
        for seed in seeds(seed) {
            if now() >= end || self.stop.is_cancelled() {
                return;
            }
            around.run(now(), seed).await;
            tokio::time::sleep(pause.sample(&mut rng)).await;
        }
    }

    /// Waits for what is on its way; what takes too long is given up and counted.
    async fn drain(&self, around: &Around, sessions: &mut JoinSet<()>) {
        let until = self.at(self.scenario.end());
        let all_done = async { while sessions.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            outcome = timeout_at(until.into(), all_done) => if outcome.is_ok() { return },
            () = self.interrupted() => {}
        }
        sessions.abort_all();
        while let Some(ended) = sessions.join_next().await {
            if ended.is_err() {
                around.recorder.end(Err(UNFINISHED));
            }
        }
    }

    /// Some time after the first interruption, so that what is nearly done may finish.
    async fn interrupted(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    fn at(&self, since_start: Duration) -> Instant {
        let started = self.recorder.started();
        started.checked_add(since_start).unwrap_or(started)
    }
}

/// A different seed for each session.
fn seeds(seed: u64) -> impl Iterator<Item = u64> {
    (0_u64..).map(move |number| seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
