//! Keeps one connection: connects, checks every second that Redis answers, takes writes and delivers to this node's
//! inbox, connects anew when it does not, and puts back what Redis has lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::{StreamExt as _, stream};
use metrics::{counter, gauge, histogram};
use redis::{RedisError, ServerErrorKind};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, info, warn};

use super::connection::{Connection, Server};
use super::envelope::{Content, Envelope};
use super::push::Push;
use super::settings::Connector;
use super::{Shared, Trouble};
use crate::directory::News;
use crate::protocol::ids::SessionId;
use crate::telemetry;

/// Between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Between two attempts to connect; the other nodes try as often, so that all are back within [`SETTLE`].
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);

/// How long a node that saw records lost waits for the other nodes to put back theirs, before it believes that a
/// session does not exist, or that nobody has joined it.
const SETTLE: Duration = Duration::from_secs(3);

/// Records that are put back at the same time.
const PUT_BACK_AT_ONCE: usize = 64;

/// How Redis is, as far as this node knows.
#[derive(Debug, Default)]
pub(super) struct State {
    connection: ArcSwapOption<Connection>,
    takes_writes: AtomicBool,
    settled_at: ArcSwapOption<Instant>,
    suspicion: Notify,
}

impl State {
    pub(super) fn connection(&self) -> Option<Connection> {
        self.connection.load().as_deref().cloned()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.connection.load().is_some() && self.takes_writes.load(Ordering::Relaxed)
    }

    pub(super) fn is_settling(&self, now: Instant) -> bool {
        self.settled_at.load().as_deref().is_some_and(|at| now < *at)
    }

    /// A command failed in a way that a new connection may mend.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("Redis {0} is too old: 7.0 or newer is needed, for sharded channels")]
    TooOld(String),
    #[error("Redis does not answer in time")]
    Silent,
    #[error("Redis delivers nothing to this node's inbox")]
    Deaf,
    #[error("a command failed")]
    Suspected,
}

/// What tells that records may have been lost: another process answers, or the mark is another one.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    servers: Vec<Server>,
    mark: String,
}

struct Supervisor {
    shared: Arc<Shared>,
    news: mpsc::Sender<News>,
    echoed: watch::Receiver<u64>,
    echoes: u64,
    identity: Option<Identity>,
}

/// Runs as long as somebody listens to the news.
pub(super) async fn supervise(shared: Arc<Shared>, connector: Connector, push: Push, news: mpsc::Sender<News>) {
    let mut supervisor = Supervisor { shared, news, echoed: push.echoed(), echoes: 0, identity: None };
    let mut last_fault = String::new();
    while !supervisor.news.is_closed() {
        let fault = supervisor.serve(&connector, push.clone()).await;
        if supervisor.shared.state.connection.swap(None).is_some() {
            last_fault.clear();
            supervisor.tell(News::Isolated).await;
        }
        gauge!(telemetry::REDIS_UP).set(0.0);
        let fault = fault.to_string();
        // Once for each kind of trouble: it may last.
        if fault != last_fault {
            error!(%fault, "Redis is away; sessions with both apps on this node go on, the others wait");
            last_fault = fault;
        }
        tokio::time::sleep(RECONNECT_INTERVAL).await;
    }
}

impl Supervisor {
    /// Connects, and watches until something is wrong.
    async fn serve(&mut self, connector: &Connector, push: Push) -> Fault {
        let settings = &self.shared.settings;
        let opened =
            tokio::time::timeout(settings.timeout.saturating_mul(2), Connection::open(connector, settings, push));
        let mut connection = match opened.await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return self.note(error),
            Err(_) => return Fault::Silent,
        };
        counter!(telemetry::REDIS_CONNECTS).increment(1);
        if let Err(fault) = self.enter(&mut connection).await {
            return fault;
        }
        self.shared.state.connection.store(Some(Arc::new(connection.clone())));
        gauge!(telemetry::REDIS_UP).set(1.0);
        info!("Redis answers");
        self.tell(News::Reconnected).await;
        loop {
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
                () = shared.state.suspicion.notified() => {}
            }
            if let Err(fault) = self.check(&mut connection).await {
                return fault;
            }
        }
    }

    async fn enter(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        connection.subscribe(&self.shared.inbox(self.shared.rules.node)).await.map_err(|error| self.note(error))?;
        // Whatever was written while the connection was lost may be lost, even if the server is the same.
        self.look_for_loss(connection).await?;
        self.echo(connection).await?;
        self.put_back(connection).await;
        Ok(())
    }

    async fn check(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        if self.look_for_loss(connection).await? {
            self.put_back(connection).await;
            self.tell(News::Reconnected).await;
        }
        self.echo(connection).await
    }

    /// Whether records may have been lost since the last time.
    async fn look_for_loss(&mut self, connection: &mut Connection) -> Result<bool, Fault> {
        let servers = connection.servers().await.map_err(|error| self.note(error))?;
        if let Some(old) = servers.iter().find(|server| !server.is_recent()) {
            return Err(Fault::TooOld(old.version.clone()));
        }
        let fresh = SessionId::from_random((self.shared.environment.random)()).to_path_segment();
        let mut command = redis::cmd("SET");
        command.arg(format!("{}:mark", self.shared.settings.prefix)).arg(&fresh).arg("NX").arg("GET");
        let found: Result<Option<String>, RedisError> = command.query_async(connection).await;
        let (mark, takes_writes) = match found {
            Ok(found) => (found, true),
            // Nothing new can be kept, but what is there stays, and nodes can talk.
            Err(error) if error.code() == Some("OOM") => {
                self.note(error);
                (self.identity.as_ref().map(|identity| identity.mark.clone()), false)
            }
            Err(error) => return Err(self.note(error)),
        };
        if self.shared.state.takes_writes.swap(takes_writes, Ordering::Relaxed) && !takes_writes {
            warn!("Redis is out of memory: no new sessions until it takes writes again");
        }
        let is_empty = mark.is_none();
        let identity = Identity { servers, mark: mark.unwrap_or(fresh) };
        let is_other = self.identity.as_ref().is_some_and(|known| *known != identity);
        if is_empty || is_other {
            let now = (self.shared.environment.clock)();
            self.shared.state.settled_at.store(now.checked_add(SETTLE).map(Arc::new));
            if self.identity.is_some() {
                warn!("Redis has another state than before; this node puts back what it knows");
            }
        }
        self.identity = Some(identity);
        Ok(is_empty || is_other)
    }

    /// Sends a message to this node itself, and waits for it.
    async fn echo(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        self.echoes = self.echoes.wrapping_add(1);
        let (number, node) = (self.echoes, self.shared.rules.node);
        let session = SessionId::from_random([0; 16]);
        let message = Envelope { from: node, session, content: Content::Echo(number) }.encode();
        let started = (self.shared.environment.clock)();
        let mut command = redis::cmd("SPUBLISH");
        command.arg(self.shared.inbox(node)).arg(message);
        let heard: i64 = command.query_async(connection).await.map_err(|error| self.note(error))?;
        if heard == 0 {
            return Err(Fault::Deaf);
        }
        let echoed = self.echoed.wait_for(|echoed| *echoed == number);
        match tokio::time::timeout(self.shared.settings.timeout, echoed).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(Fault::Deaf),
        }
        let lag = (self.shared.environment.clock)().saturating_duration_since(started);
        histogram!(telemetry::REDIS_INBOX_LAG).record(lag);
        Ok(())
    }

    async fn put_back(&self, connection: &Connection) {
        let sessions = self.shared.known.sessions();
        let restored = stream::iter(sessions)
            .map(|session| {
                let mut connection = connection.clone();
                async move { self.shared.put_back(&mut connection, session).await }
            })
            .buffer_unordered(PUT_BACK_AT_ONCE)
            .fold(0_u64, async |restored, outcome| match outcome {
                Ok(was_lost) => restored.saturating_add(u64::from(was_lost)),
                Err(trouble) => {
                    self.shared.note_trouble(&trouble);
                    restored
                }
            })
            .await;
        if restored > 0 {
            counter!(telemetry::REDIS_RESTORED).increment(restored);
            warn!(restored, "session records were put back");
        }
    }

    fn note(&self, error: RedisError) -> Fault {
        let trouble = Trouble::Redis(error);
        counter!(telemetry::REDIS_ERRORS, "reason" => trouble.reason()).increment(1);
        match trouble {
            Trouble::Redis(error) => Fault::Redis(error),
            _ => Fault::Suspected,
        }
    }

    async fn tell(&self, news: News) {
        // Only when the relay is gone nobody listens.
        self.news.send(news).await.ok();
    }
}

/// Whether the server was a master once.
pub(super) fn is_demoted(error: &RedisError) -> bool {
    error.kind() == ServerErrorKind::ReadOnly.into()
}
