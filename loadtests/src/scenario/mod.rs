//! What a scenario file says: who arrives when, what each does, and what must hold in the end. Read and checked here;
//! nothing is run.

mod builtin;
mod check;
mod units;

use serde::{Deserialize, Serialize};

pub(crate) use builtin::BUILT_IN;
pub(crate) use units::{Share, Time};

use crate::think::Think;
use crate::threshold::Threshold;

/// One scenario, as its file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// A short name for reports.
    pub(crate) name: String,
    /// One sentence: what it shows.
    pub(crate) about: String,
    /// What all random choices come from.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    /// How long to wait, after the last arrival, until what is on its way has ended.
    pub(crate) drain: Time,
    /// What must hold, such as `"handoffs.total.p99 < 500ms"`.
    #[serde(default)]
    pub(crate) thresholds: Vec<Threshold>,
    /// What the relay is expected to be.
    #[serde(default)]
    pub(crate) relay: RelaySettings,
    /// When the generator itself counts as the bottleneck.
    #[serde(default)]
    pub(crate) generator: GeneratorLimits,
    /// Who arrives.
    #[serde(rename = "group")]
    pub(crate) groups: Vec<Group>,
    /// Moments at which the connections of all phones are cut.
    #[serde(default, rename = "cut")]
    pub(crate) cuts: Vec<Cut>,
}

fn one() -> u64 {
    1
}

/// Settings that the relay and the apps must agree on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RelaySettings {
    /// How long a session lives: `session.lifetime` of the relay.
    pub(crate) lifetime: Time,
    /// How long each QR frame is shown: one of `session.frame_intervals`.
    pub(crate) frame_interval: Time,
}

impl Default for RelaySettings {
    fn default() -> Self {
        use handoff_relay::protocol::limits;
        Self { lifetime: Time(limits::SESSION_LIFETIME), frame_interval: Time(limits::FRAME_INTERVAL) }
    }
}

/// Beyond these the run says more about the generator than about the relay.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GeneratorLimits {
    /// Share of its cores that the generator may use in any ten seconds.
    pub(crate) cpu: Share,
    /// How late its timers may be, at the 99th percentile.
    pub(crate) timer_lag: Time,
    /// How late sessions may start, at the 99th percentile.
    pub(crate) start_lag: Time,
}

impl Default for GeneratorLimits {
    fn default() -> Self {
        let [timer_lag, start_lag] = [50, 100].map(|millis| Time(std::time::Duration::from_millis(millis)));
        Self { cpu: Share(0.9), timer_lag, start_lag }
    }
}

/// Sessions that are alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    /// The name in thresholds and reports.
    pub(crate) name: String,
    /// What each session does.
    pub(crate) kind: Kind,
    /// When they arrive.
    pub(crate) arrivals: Arrivals,
    /// What the phones and people are like.
    #[serde(default)]
    pub(crate) phone: Phone,
    /// For `kind = "abuse"`: how often each kind of attack is drawn.
    #[serde(default)]
    pub(crate) attacks: Attacks,
}

/// What a session of a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A whole handoff, by two phones.
    Handoff,
    /// A session that is opened, and that nobody joins.
    Lurker,
    /// An attack on the relay.
    Abuse,
}

/// When the sessions of a group arrive.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "model", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Arrivals {
    /// By a rate, however fast they complete.
    Open {
        /// How the single arrivals lie.
        #[serde(default)]
        spacing: Spacing,
        /// The rate, stage by stage.
        stages: Vec<Stage>,
        /// Time before the first stage.
        #[serde(default)]
        after: Time,
    },
    /// So many users; each starts another session when the one before has ended.
    Closed {
        /// How many.
        users: u32,
        /// How long they go on starting sessions.
        #[serde(rename = "for")]
        lasting: Time,
        /// Time between two sessions of one user.
        #[serde(default)]
        pause: Think,
    },
}

/// How single arrivals lie around the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Spacing {
    /// As people come: independent of each other.
    #[default]
    Poisson,
    /// As a clock ticks.
    Even,
}

/// A piece of a profile. Rates are sessions a second.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Stage {
    /// One rate.
    Constant {
        /// The rate.
        rate: f64,
        /// For so long.
        #[serde(rename = "for")]
        lasting: Time,
    },
    /// From one rate evenly to another.
    Ramp {
        /// At the beginning.
        from: f64,
        /// At the end.
        to: f64,
        /// For so long.
        #[serde(rename = "for")]
        lasting: Time,
    },
    /// Evenly up to a peak in the middle, and down again.
    Spike {
        /// At the beginning and at the end.
        base: f64,
        /// In the middle.
        peak: f64,
        /// For so long in all.
        #[serde(rename = "for")]
        lasting: Time,
    },
    /// Up or down in equal steps.
    Step {
        /// The first step's rate.
        from: f64,
        /// The last step's.
        to: f64,
        /// How many steps.
        steps: u32,
        /// For so long in all.
        #[serde(rename = "for")]
        lasting: Time,
    },
    /// So many, within so short a time.
    Burst {
        /// How many.
        count: u64,
        /// The time.
        within: Time,
    },
}

/// Phones and the people who hold them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Phone {
    /// Bytes handed over.
    pub(crate) credential: usize,
    /// From seeing the QR code to scanning it.
    pub(crate) scan: Think,
    /// From seeing the check code to having typed it.
    pub(crate) type_code: Think,
    /// How long an app tries until the relay answers for the first time.
    pub(crate) patience: Time,
    /// What lies between the phone and the relay.
    pub(crate) network: Shape,
}

impl Default for Phone {
    fn default() -> Self {
        Self {
            credential: 2048,
            scan: Think::None,
            type_code: Think::None,
            patience: Time(handoff_relay::client::DEFAULT_PATIENCE),
            network: Shape::default(),
        }
    }
}

/// A network that the generator's sockets imitate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Shape {
    /// One way.
    pub(crate) latency: Time,
    /// So much more at random, one way.
    pub(crate) jitter: Time,
    /// Share of pieces that are lost, and arrive a retransmission later.
    pub(crate) loss: Share,
}

impl Shape {
    /// Whether it changes nothing.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// Relative weights of the attacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Attacks {
    /// `resume` with a token that was never given out.
    pub(crate) wrong_token: u32,
    /// `join` with an invented proof, for a session that nobody opened.
    pub(crate) wrong_proof: u32,
    /// A second valid join of a session of its own.
    pub(crate) second_join: u32,
    /// Bytes that are neither HTTP nor WebSocket, and messages that are no messages.
    pub(crate) garbage: u32,
    /// An HTTP request without the upgrade.
    pub(crate) no_upgrade: u32,
    /// Connects, and says nothing.
    pub(crate) hang: u32,
}

/// A moment at which the connections of all phones are cut.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cut {
    /// Since the start of the run.
    pub(crate) at: Time,
}
