//! The directory of many nodes: route records in Redis, and an inbox for each node.
//!
//! The rules stay in [`Route`]: a node reads a record, applies the transition, and writes the result on condition that
//! nobody wrote meanwhile; else it begins anew. What a node knows already spares it the reading.
//!
//! ```text
//! mod         transitions: read, apply, write on condition       record      a record's bytes and commands
//! supervisor  connects, watches, reconnects, puts back           known       what this node has seen of the records
//! outbox      sends to other nodes' inboxes                      push        receives from this node's inbox
//! connection  one server, Sentinel or Cluster alike              envelope    what nodes say, as bytes
//! ```

mod connection;
mod envelope;
mod known;
mod outbox;
mod push;
mod record;
mod settings;
mod supervisor;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use redis::{RedisError, ServerErrorKind};
use tokio::sync::mpsc;

use super::{Answer, Directory, News, Unavailable};
use crate::protocol::ids::SessionId;
use crate::session::node::{NodeId, PeerEvent};
use crate::session::route::{Outcome, Route, Rules, Transition};
use crate::telemetry;
use connection::Connection;
use known::{Known, KnownRoutes};
use outbox::Outbox;
use record::{BadRecord, Record, Tag};
pub use settings::{BadRedisSettings, Settings, Topology};
use supervisor::State;

/// When a node that lost Redis may be asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Nodes that change one record at the same moment begin anew; more often than this is no coincidence.
const MOST_TRIES: usize = 32;

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

/// What transitions and the supervisor share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    rules: Rules,
    environment: Environment,
    known: KnownRoutes,
    state: State,
}

/// Why a transition was not made.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Record(#[from] BadRecord),
    #[error("Redis is not reached")]
    Away,
    #[error("Redis has lost records, and other nodes may not have put theirs back yet")]
    Settling,
    #[error("too many nodes change one record at once")]
    Contention,
}

impl RedisDirectory {
    /// A directory that connects by itself, now and whenever it has to. What the other nodes say comes out of the
    /// channel.
    ///
    /// # Errors
    /// [`BadRedisSettings`] if the settings cannot be right, whatever Redis says.
    pub fn start(
        settings: Settings,
        rules: Rules,
        environment: Environment,
    ) -> Result<(Arc<Self>, mpsc::Receiver<News>), BadRedisSettings> {
        let (news, receiver) = mpsc::channel(NEWS_QUEUE);
        let push = push::Push::new(rules.node, news.clone());
        let connector = settings.connector(push.clone())?;
        let known = KnownRoutes::new(environment.most_known);
        let shared = Arc::new(Shared { settings, rules, environment, known, state: State::default() });
        let outbox = Outbox::start(Arc::clone(&shared), news.clone());
        drop(tokio::spawn(supervisor::supervise(Arc::clone(&shared), connector, push, news)));
        Ok((Arc::new(Self { shared, outbox }), receiver))
    }
}

impl Directory for RedisDirectory {
    fn apply(&self, session: SessionId, transition: Transition) -> Answer {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.apply(session, transition).await })
    }

    fn tell(&self, node: NodeId, session: SessionId, event: PeerEvent) {
        self.outbox.post(node, session, event);
    }

    fn is_ready(&self) -> bool {
        self.shared.state.is_ready()
    }

    fn sweep(&self) {
        self.shared.known.sweep((self.shared.environment.clock)());
    }
}

impl Shared {
    async fn apply(&self, session: SessionId, transition: Transition) -> Result<Outcome, Unavailable> {
        let started = (self.environment.clock)();
        // Must not be forgotten even if nobody can be told now.
        let unsaved =
            matches!(transition, Transition::Leave { .. } | Transition::End { .. }).then(|| transition.clone());
        let limit = self.settings.timeout.saturating_mul(2);
        let outcome = match tokio::time::timeout(limit, self.try_apply(session, transition)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Trouble::Away),
        };
        histogram!(telemetry::REDIS_COMMAND_DURATION)
            .record((self.environment.clock)().saturating_duration_since(started));
        outcome.map_err(|trouble| {
            self.note_trouble(&trouble);
            if let Some(transition) = unsaved {
                self.apply_unsaved(session, transition);
            }
            Unavailable { retry_after: RETRY_AFTER }
        })
    }

    async fn try_apply(&self, session: SessionId, transition: Transition) -> Result<Outcome, Trouble> {
        let mut connection = self.state.connection().ok_or(Trouble::Away)?;
        let key = self.key(&session);
        let is_open = matches!(transition, Transition::Open { .. });
        let now = (self.environment.clock)();
        let guess = self.known.get(&session, now).filter(|known| known.tag.is_some());
        // A new id is free, as far as anybody can know before asking.
        let mut is_guess = is_open || guess.is_some();
        let mut before = guess.map(|known| known.record(now));
        for _ in 0..MOST_TRIES {
            if !is_guess {
                before = read(&mut connection, &key).await?;
            }
            let base = self.restored(&session, before.as_ref(), &transition)?;
            let age = base.as_ref().map_or(Duration::ZERO, |known| known.age((self.environment.clock)()));
            let mut route = base.as_ref().map(|known| known.route.clone());
            let outcome = Route::apply(&mut route, transition.clone(), self.rules, age);
            let is_same = route.as_ref() == before.as_ref().map(|record| &record.route);
            match route {
                // Only what was read now is a reason to refuse.
                _ if is_same && !is_guess => return Ok(outcome),
                Some(route) if !is_same => {
                    if self.write(&mut connection, session, &key, before.as_ref(), route, age).await? {
                        return Ok(outcome);
                    }
                }
                _ => {}
            }
            is_guess = false;
        }
        Err(Trouble::Contention)
    }

    /// The record as it should be: what Redis has, with what this node knows and Redis has lost.
    fn restored(
        &self,
        session: &SessionId,
        found: Option<&Record>,
        transition: &Transition,
    ) -> Result<Option<Known>, Trouble> {
        let now = (self.environment.clock)();
        let known = self.known.get(session, now);
        // Who takes a seat by a record that lacks the newest change takes one that is taken, or finds none.
        let takes_a_seat = matches!(transition, Transition::Join { .. } | Transition::Resume { .. });
        let must_wait = self.state.is_settling(now)
            && (takes_a_seat || (found.is_none() && known.is_none()))
            && !matches!(transition, Transition::Open { .. });
        if must_wait {
            return Err(Trouble::Settling);
        }
        Ok(merge(found, known, now))
    }

    /// Writes a record over the one that was found; `false` if that is not there any more.
    async fn write(
        &self,
        connection: &mut Connection,
        session: SessionId,
        key: &str,
        found: Option<&Record>,
        route: Route,
        age: Duration,
    ) -> Result<bool, Trouble> {
        let tag: Tag = (self.environment.random)();
        let keep = route.remembered_for().saturating_sub(age);
        counter!(telemetry::REDIS_COMMANDS).increment(1);
        let is_written = match found {
            None => record::create(connection, key, &tag, &route, keep).await?,
            Some(found) => {
                // Redis keeps it too long only if it was opened anew elsewhere; the earlier deadline holds.
                let keep = (age > found.age.saturating_add(Duration::from_secs(1))).then_some(keep);
                record::replace(connection, key, &found.tag, &tag, &route, keep).await?
            }
        };
        if is_written {
            self.known.put(session, Record { tag, route, age }, (self.environment.clock)());
        }
        Ok(is_written)
    }

    /// Puts back what this node knows of one session; `true` if Redis did not have it.
    async fn put_back(&self, connection: &mut Connection, session: SessionId) -> Result<bool, Trouble> {
        let key = self.key(&session);
        for _ in 0..MOST_TRIES {
            let now = (self.environment.clock)();
            let Some(known) = self.known.get(&session, now) else { return Ok(false) };
            let found = read(connection, &key).await?;
            let Some(merged) = merge(found.as_ref(), Some(known), now) else { return Ok(false) };
            let age = merged.age(now);
            if let Some(found) = &found
                && found.route == merged.route
            {
                self.known.put(session, found.clone(), now);
                return Ok(false);
            }
            if self.write(connection, session, &key, found.as_ref(), merged.route, age).await? {
                return Ok(true);
            }
        }
        Err(Trouble::Contention)
    }

    /// Makes a transition on what this node knows, to be written when Redis is back.
    fn apply_unsaved(&self, session: SessionId, transition: Transition) {
        let now = (self.environment.clock)();
        let Some(Known { route, opened_at, .. }) = self.known.get(&session, now) else { return };
        let mut route = Some(route);
        drop(Route::apply(&mut route, transition, self.rules, now.saturating_duration_since(opened_at)));
        route.into_iter().for_each(|route| self.known.put_unsaved(session, route, opened_at));
    }

    fn note_trouble(&self, trouble: &Trouble) {
        counter!(telemetry::REDIS_ERRORS, "reason" => trouble.reason()).increment(1);
        match trouble {
            Trouble::Redis(error) if error.is_unrecoverable_error() || supervisor::is_demoted(error) => {
                self.state.suspect();
            }
            Trouble::Record(_) => tracing::error!(%trouble, "a session cannot be served"),
            Trouble::Redis(_) | Trouble::Away | Trouble::Settling | Trouble::Contention => {}
        }
    }

    fn key(&self, session: &SessionId) -> String {
        format!("{}:session:{}", self.settings.prefix, session.to_path_segment())
    }

    fn inbox(&self, node: NodeId) -> String {
        format!("{}:inbox:{node}", self.settings.prefix)
    }
}

impl Known {
    fn record(self, now: Instant) -> Record {
        let age = self.age(now);
        Record { tag: self.tag.unwrap_or_default(), route: self.route, age }
    }
}

impl Trouble {
    /// The label of the metric.
    fn reason(&self) -> &'static str {
        match self {
            Self::Redis(error) if error.is_timeout() => "timeout",
            Self::Redis(error) if error.code() == Some("OOM") => "out_of_memory",
            Self::Redis(error) if error.kind() == ServerErrorKind::ReadOnly.into() => "read_only",
            Self::Redis(error) if error.is_io_error() || error.is_connection_dropped() => "unreachable",
            Self::Redis(_) | Self::Contention => "refused",
            Self::Record(_) => "bad_record",
            Self::Away | Self::Settling => "unreachable",
        }
    }
}

async fn read(connection: &mut Connection, key: &str) -> Result<Option<Record>, Trouble> {
    counter!(telemetry::REDIS_COMMANDS).increment(2);
    Ok(record::read(connection, key).await?.transpose()?)
}

/// What was found and what is known, in one; the earlier deadline holds.
fn merge(found: Option<&Record>, known: Option<Known>, now: Instant) -> Option<Known> {
    let found = found.map(|found| {
        let opened_at = now.checked_sub(found.age).unwrap_or(now);
        Known { route: found.route.clone(), tag: Some(found.tag), opened_at }
    });
    match (found, known) {
        (Some(found), Some(known)) => Some(Known {
            route: found.route.merge(&known.route),
            tag: found.tag,
            // A little apart only because time passed on the way.
            opened_at: found.opened_at.min(known.opened_at),
        }),
        (found, known) => found.or(known),
    }
}
