//! Keeps one connection: connects, checks every second that Redis answers, takes writes and delivers to this node's
//! inbox, connects anew when it does not, and puts back what Redis has lost.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use metrics::{counter, gauge, histogram};
use redis::RedisError;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::connection::{Connection, Server};
use super::envelope::{Content, Envelope};
use super::push::Push;
use super::settings::Connector;
use super::{SETTLE, Shared, Trouble, record};
use crate::directory::News;
use crate::protocol::ids::SessionId;
use crate::telemetry;

/// Between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Between a suspicion and its check: everybody who suspects something meanwhile shares it.
const SUSPICION_DELAY: Duration = Duration::from_millis(50);

/// Between two attempts to connect; the other nodes try as often, so that all are back within [`SETTLE`].
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);

/// Least time for an attempt to connect: a sentinel that is gone takes a second before the next one is believed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Records that are put back at the same time.
const PUT_BACK_AT_ONCE: usize = 64;

/// What tells that records may have been lost: another process answers, or the mark is another one.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    run_ids: Vec<String>,
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
    while !supervisor.news.is_closed() {
        let Err(trouble) = supervisor.serve(&connector, push.clone()).await else { return };
        if supervisor.shared.state.disconnect() {
            supervisor.tell(News::Isolated).await;
        }
        gauge!(telemetry::REDIS_UP).set(0.0);
        counter!(telemetry::REDIS_ERRORS, "reason" => trouble.reason()).increment(1);
        // Once for each kind of trouble: it may last.
        if supervisor.shared.state.is_news(&trouble.to_string()) {
            error!(%trouble, "Redis is away; sessions with both apps on this node go on, the others wait");
        }
        tokio::time::sleep(RECONNECT_INTERVAL).await;
    }
}

impl Supervisor {
    /// Connects, and watches until something is wrong, or nobody listens any more.
    async fn serve(&mut self, connector: &Connector, push: Push) -> Result<(), Trouble> {
        let settings = &self.shared.settings;
        let limit = settings.timeout.saturating_mul(2).max(CONNECT_TIMEOUT);
        let opened = tokio::time::timeout(limit, Connection::open(connector, settings, push));
        let mut connection = opened.await.map_err(|_| Trouble::Silent)??;
        counter!(telemetry::REDIS_CONNECTS).increment(1);
        self.enter(&mut connection).await?;
        self.shared.state.connect(connection.clone());
        gauge!(telemetry::REDIS_UP).set(1.0);
        info!("Redis answers");
        self.tell(News::Reconnected).await;
        let suspicion = self.shared.state.suspicion();
        while !self.news.is_closed() {
            tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
                () = suspicion.notified() => tokio::time::sleep(SUSPICION_DELAY).await,
            }
            self.check(&mut connection).await?;
        }
        Ok(())
    }

    async fn enter(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
        connection.subscribe(&self.shared.inbox(self.shared.rules.node)).await?;
        self.look_for_loss(connection).await?;
        record::rehearse(connection, &self.shared.mark()).await?;
        self.echo(connection).await?;
        // Whatever was written while the connection was lost may be lost, even if the server is the same.
        self.put_back(connection, self.shared.known.sessions()).await
    }

    async fn check(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
        let number = self.shared.state.begin_check();
        if self.look_for_loss(connection).await? {
            self.put_back(connection, self.shared.known.sessions()).await?;
            self.tell(News::Reconnected).await;
        } else if self.shared.state.is_ready() {
            self.put_back(connection, self.shared.known.unsaved()).await?;
        }
        self.shared.state.pass_check(number);
        self.echo(connection).await
    }

    /// Whether records may have been lost, or not been taken, since the last time.
    async fn look_for_loss(&mut self, connection: &mut Connection) -> Result<bool, Trouble> {
        let servers = connection.servers().await?;
        if let Some(old) = servers.iter().find(|server| !server.is_recent()) {
            return Err(Trouble::TooOld(old.version.clone()));
        }
        let (fresh, mark, takes_writes) = self.read_mark(connection).await?;
        let could_write = self.shared.state.set_takes_writes(takes_writes);
        if could_write && !takes_writes {
            warn!("Redis is out of memory: no new sessions until it takes writes again");
        }
        let is_empty = mark.is_none();
        let run_ids = servers.iter().map(|server| server.run_id.clone()).collect();
        let identity = Identity { run_ids, mark: mark.unwrap_or(fresh) };
        let is_first = self.identity.is_none();
        let is_other = is_empty || self.identity.as_ref() != Some(&identity);
        self.identity = Some(identity);
        if is_other && !is_first {
            warn!("Redis has another state than before; this node puts back what it knows");
        }
        if is_other {
            self.settle(is_first, &servers);
        }
        Ok(is_other || (takes_writes && !could_write))
    }

    /// The mark as it was, `None` if there was none; and whether a new one could be written.
    async fn read_mark(&self, connection: &mut Connection) -> Result<(String, Option<String>, bool), Trouble> {
        let fresh = SessionId::from_random((self.shared.environment.random)()).to_path_segment();
        let mut command = redis::cmd("SET");
        command.arg(self.shared.mark()).arg(&fresh).arg("NX").arg("GET");
        let found: Result<Option<String>, RedisError> = command.query_async(connection).await;
        match found.map_err(Trouble::from) {
            Ok(found) => Ok((fresh, found, true)),
            // Nothing new can be kept, but what is there stays, and nodes can talk.
            Err(trouble) if trouble.is_out_of_memory() => {
                self.shared.note_trouble(&trouble);
                let known = self.identity.as_ref().map_or_else(|| fresh.clone(), |identity| identity.mark.clone());
                Ok((fresh, Some(known), false))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Gives other nodes the time to put back what they know. A node that has just started knows of no loss; but a
    /// Redis that has just started may have lost everything, and then the others are about to find out.
    fn settle(&self, is_first: bool, servers: &[Server]) {
        let uptime = servers.iter().map(|server| server.uptime).min().unwrap_or_default();
        let wait = if is_first { SETTLE.saturating_sub(uptime) } else { SETTLE };
        self.shared.state.settle_until(self.shared.now().checked_add(wait));
    }

    /// Sends a message to this node itself, and waits for it.
    async fn echo(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
        self.echoes = self.echoes.wrapping_add(1);
        let (number, node) = (self.echoes, self.shared.rules.node);
        let session = SessionId::from_random([0; 16]);
        let message = Envelope { from: node, session, content: Content::Echo(number) }.encode();
        let started = self.shared.now();
        let mut command = redis::cmd("SPUBLISH");
        command.arg(self.shared.inbox(node)).arg(message);
        let heard: i64 = command.query_async(connection).await?;
        if heard == 0 {
            return Err(Trouble::Deaf);
        }
        let echoed = self.echoed.wait_for(|echoed| *echoed == number);
        match tokio::time::timeout(self.shared.settings.timeout, echoed).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(Trouble::Deaf),
        }
        histogram!(telemetry::REDIS_INBOX_LAG).record(self.shared.now().saturating_duration_since(started));
        Ok(())
    }

    /// Puts back what this node knows of these sessions. What is wrong with one of them does not concern the others;
    /// what is wrong with the connection ends it at once.
    async fn put_back(&self, connection: &Connection, sessions: Vec<SessionId>) -> Result<(), Trouble> {
        let mut outcomes = stream::iter(sessions)
            .map(|session| {
                let mut connection = connection.clone();
                async move { self.shared.put_back(&mut connection, session).await }
            })
            .buffer_unordered(PUT_BACK_AT_ONCE);
        let (mut restored, mut outcome) = (0_u64, Ok(()));
        while let Some(answer) = outcomes.next().await {
            match answer {
                Ok(was_lost) => restored = restored.saturating_add(u64::from(was_lost)),
                Err(trouble) if matches!(trouble, Trouble::Redis(_)) && !trouble.is_out_of_memory() => {
                    outcome = Err(trouble);
                    break;
                }
                Err(trouble) => self.shared.note_trouble(&trouble),
            }
        }
        if restored > 0 {
            counter!(telemetry::REDIS_RESTORED).increment(restored);
            warn!(restored, "session records were put back");
        }
        outcome
    }

    async fn tell(&self, news: News) {
        // Only when the relay is gone nobody listens.
        self.news.send(news).await.ok();
    }
}
