//! The directory of many nodes: route records in Redis, and an inbox for each node.
//!
//! The rules stay in [`Route`]: a node reads a record, applies the transition, and writes the result on condition that
//! nobody wrote meanwhile; else it begins anew. What a node knows already spares it the reading.
//!
//! [`Route`]: crate::session::route::Route
//!
//! ```text
//! transition  read, apply, write on condition; put back          record      a record's bytes and commands
//! supervisor  connects, watches, reconnects                      known       what this node has seen of the records
//! outbox      sends to other nodes' inboxes                      push        receives from this node's inbox
//! connection  one server, Sentinel or Cluster alike              envelope    what nodes say, as bytes
//! state       how Redis is, as all of the above see it           trouble     what can go wrong
//! ```

mod connection;
mod envelope;
mod known;
mod outbox;
mod push;
mod record;
mod settings;
mod state;
mod supervisor;
#[cfg(test)]
mod tests;
mod transition;
mod trouble;

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use tokio::sync::mpsc;
use tracing::error;

use super::{Answer, Directory, News};
use crate::protocol::ids::SessionId;
use crate::session::node::{NodeId, PeerEvent};
use crate::session::route::{Rules, Transition};
use crate::telemetry;
use crate::telemetry::trace::Trail;
use known::KnownRoutes;
use outbox::Outbox;
pub use settings::{BadRedisSettings, Settings, Topology};
use state::State;
use trouble::Trouble;

/// How long a node waits for what others may be about to do that lost Redis too: to put back their records, and to
/// listen again.
const SETTLE: Duration = Duration::from_secs(3);

/// Messages from other nodes that may wait for this one's sessions.
const NEWS_QUEUE: usize = 4096;

/// What a Redis directory needs from outside.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// Not affected by anybody who sets the clock.
    pub clock: fn() -> Instant,
    /// 16 random bytes.
    pub random: fn() -> [u8; 16],
    /// How many records this node remembers at most.
    pub most_known: usize,
}

/// Route records in Redis.
#[derive(Debug)]
pub struct RedisDirectory {
    shared: Arc<Shared>,
    outbox: Outbox,
}

/// What transitions, the outbox and the supervisor share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    rules: Rules,
    environment: Environment,
    known: KnownRoutes,
    state: State,
}

impl RedisDirectory {
    /// A directory, and its work: while that runs, it connects by itself, at once and whenever it has to. What the
    /// other nodes say comes out of the channel.
    ///
    /// # Errors
    /// [`BadRedisSettings`] if the settings cannot be right, whatever Redis says.
    pub fn new(
        settings: Settings,
        rules: Rules,
        environment: Environment,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + use<>, mpsc::Receiver<News>), BadRedisSettings> {
        let (news, receiver) = mpsc::channel(NEWS_QUEUE);
        let state = State::default();
        let push = push::Push::new(rules.node, environment.clock, news.clone(), state.suspicion());
        let connector = settings.connector(push.clone())?;
        let known = KnownRoutes::new(environment.most_known);
        let shared = Arc::new(Shared { settings, rules, environment, known, state });
        let (outbox, sending) = Outbox::new(Arc::clone(&shared), news.clone());
        let supervising = supervisor::supervise(Arc::clone(&shared), connector, push, news);
        let work = async {
            // Two tasks: neither is polled when only the other has something to do.
            drop(tokio::spawn(sending));
            supervising.await;
        };
        Ok((Arc::new(Self { shared, outbox }), work, receiver))
    }
}

impl Directory for RedisDirectory {
    fn apply(&self, session: SessionId, transition: Transition) -> Answer {
        let shared = Arc::clone(&self.shared);
        // The steps belong to whoever asks now, although they are taken later.
        Box::pin(Trail::current().follow(async move { shared.apply(session, transition).await }))
    }

    fn tell(&self, node: NodeId, session: SessionId, event: PeerEvent) {
        self.outbox.post(node, session, event);
    }

    fn is_ready(&self) -> bool {
        self.shared.state.is_ready()
    }

    fn sweep(&self) {
        self.shared.known.sweep(self.shared.now());
    }
}

/// Hands over what the relay should hear, or counts it as lost where too much waits already.
fn report(news: &mpsc::Sender<News>, item: News) {
    if news.try_send(item).is_err() {
        counter!(telemetry::NEWS_DROPPED).increment(1);
    }
}

impl Shared {
    fn now(&self) -> Instant {
        (self.environment.clock)()
    }

    fn note_trouble(&self, trouble: &Trouble) {
        counter!(telemetry::REDIS_ERRORS, "reason" => trouble.reason()).increment(1);
        if trouble.is_suspicious() {
            self.state.suspect();
        }
        if trouble.is_unseen() && self.state.is_news(&trouble.to_string()) {
            error!(%trouble, "a session cannot be served");
        }
    }

    fn mark(&self) -> String {
        format!("{}:mark", self.settings.prefix)
    }

    fn key(&self, session: &SessionId) -> String {
        format!("{}:session:{}", self.settings.prefix, session.to_path_segment())
    }

    fn inbox(&self, node: NodeId) -> String {
        format!("{}:inbox:{node}", self.settings.prefix)
    }
}
