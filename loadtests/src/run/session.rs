//! What every session of a group shares, and the choice of what a session does. Does nothing by itself.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handoff_relay::client::{Connector, LinkEvent, RelayList, RelayUrl};
use handoff_relay::protocol::ids::SessionId;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::network::Dialer;
use super::recorder::{GroupRecorder, now};
use super::replay::{self, Template};
use super::{abuse, handoff, labels, lurker};
use crate::scenario::{Attacks, Kind, Phone, RelaySettings};
use crate::stats::Phase;

/// The number of the relay in the phones' lists.
pub(super) const RELAY: NonZeroU8 = NonZeroU8::MIN;

/// What is around a session.
#[derive(Clone, Debug)]
pub(super) struct Around {
    pub(super) recorder: GroupRecorder,
    pub(super) kind: Kind,
    pub(super) relay: RelaySettings,
    pub(super) phone: Phone,
    pub(super) attacks: Attacks,
    pub(super) urls: Arc<[RelayUrl]>,
    pub(super) connector: Connector,
    pub(super) dialer: Arc<Dialer>,
    /// What is said without cryptography, by attackers and in replayed handoffs.
    pub(super) template: Arc<Template>,
    pub(super) crypto: Crypto,
}

/// Whose cryptography the phones of handoffs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Crypto {
    /// The client library's, in every session
    Real,
    /// None during the run: all sessions send the frames of a channel that was prepared before it
    Replay,
}

impl Crypto {
    /// Its name in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Replay => "replay",
        }
    }
}

impl Around {
    /// Runs one session that was to start at `due`, and reports its end.
    pub(super) async fn run(&self, due: Instant, seed: u64) {
        self.recorder.start(due);
        let rng = StdRng::seed_from_u64(seed);
        let ending = match (self.kind, self.crypto) {
            (Kind::Handoff, Crypto::Real) => Box::pin(handoff::run(self, due, rng)).await.map(Some),
            (Kind::Handoff, Crypto::Replay) => Box::pin(replay::run(self, &self.template, due, rng)).await.map(Some),
            (Kind::Lurker, _) => Box::pin(lurker::run(self, due, rng)).await.map(Some),
            (Kind::Abuse, _) => Box::pin(abuse::run(self, due, rng)).await,
        };
        self.recorder.end(ending.as_ref().map(|took| *took).map_err(String::as_str));
    }

    /// The nodes in an order of its own for each phone.
    pub(super) fn relays(&self, rng: &mut StdRng) -> RelayList {
        let mut urls: Vec<&RelayUrl> = self.urls.iter().collect();
        urls.shuffle(rng);
        urls.into_iter().fold(RelayList::new(), |list, url| list.with(RELAY, url.clone()))
    }

    /// Reports what happened to one app's connection.
    pub(super) fn on_link(&self, offline_since: &mut Option<Instant>, event: LinkEvent) {
        match event {
            LinkEvent::Offline { cause, .. } => {
                self.recorder.setback(&labels::offline(cause));
                offline_since.get_or_insert_with(now);
            }
            LinkEvent::Online => {
                if let Some(since) = offline_since.take() {
                    self.recorder.time(Phase::Resume, now().saturating_duration_since(since));
                }
            }
            LinkEvent::Waiting { .. } | LinkEvent::PeerOffline | LinkEvent::PeerOnline => {}
        }
    }
}

/// A session that there never was. Not by the seed: a relay remembers the sessions of the run before.
pub(super) fn fresh() -> SessionId {
    SessionId::from_random(rand::random())
}

/// The end of a session that is given up at the end of a run.
pub(super) const UNFINISHED: &str = "unfinished";

/// The longest that a relay may take to say that a session is over before the app says it by itself.
pub(super) const APP_GRACE: Duration = Duration::from_secs(2);
