//! The actors that run sessions against real time, real connections and the directory. actix, and no actix-web.
//!
//! | who | lives on | owns | mailbox |
//! |---|---|---|---|
//! | [`session_actor::SessionActor`], one a session | a plain `Context`: a peer that stops reading cannot stop its clock | the state machine, the deadline, a [`link::Link`] for each connection | [`SESSION_MAILBOX`]; when it is full, the socket stops reading |
//! | the socket, one a connection (`edge::socket`) | the HTTP response body | the wire | [`OUTBOX`]; when it is full, the connection is closed as `too_slow` |
//!
//! Frames go from socket to session to socket, and never through the [`registry::Registry`], which is touched only
//! when a connection comes and when a session goes. Sessions never wait for sockets, so the two cannot wait for each
//! other.

pub mod link;
pub mod message;
pub mod news;
mod notes;
pub mod open_policy;
pub mod registry;
pub mod session_actor;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use actix::Addr;

use crate::directory::Directory;
use crate::keyed_hash::HashKey;
use crate::protocol::ids::SessionId;
use crate::session::node::NodeId;
use crate::session::{ConnectionId, Settings};
use crate::telemetry::Meters;
use open_policy::OpenPolicy;
use registry::Registry;
use session_actor::SessionActor;

/// Messages that may wait for a session: several full windows from both sides. More makes the sockets wait.
pub const SESSION_MAILBOX: usize = 64;

/// Messages that may wait for a socket: four windows of 4 frames each way, with the control messages in between. A
/// peer that is this far behind does not read.
pub const OUTBOX: usize = 64;

/// When a full node may be asked again.
pub const BUSY_RETRY_AFTER: Duration = Duration::from_secs(2);

/// What stands for a session in logs: 16 hexadecimal digits that only this process can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SessionTag(u64);

impl fmt::Display for SessionTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The clocks of a relay; tests pass others.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// For deadlines.
    pub monotonic: fn() -> Instant,
    /// For the validity of tokens.
    pub wall: fn() -> SystemTime,
}

/// One node: what all its sessions share.
#[derive(Debug)]
pub struct Relay {
    node: NodeId,
    settings: Settings,
    directory: Arc<dyn Directory>,
    open_policy: OpenPolicy,
    registry: Arc<Registry>,
    tag_key: HashKey,
    clocks: Clocks,
    connections: AtomicU64,
    meters: Meters,
}

impl Relay {
    /// A node that lets at most `most_open` sessions be open at once.
    #[must_use]
    pub fn new(
        node: NodeId,
        settings: Settings,
        directory: Arc<dyn Directory>,
        open_policy: OpenPolicy,
        most_open: usize,
        tag_key: HashKey,
        clocks: Clocks,
    ) -> Arc<Self> {
        let registry = Registry::new(most_open);
        Arc::new(Self {
            node,
            settings,
            directory,
            open_policy,
            registry,
            tag_key,
            clocks,
            connections: AtomicU64::new(0),
            meters: Meters::new(),
        })
    }

    /// The actor of a session; started on the calling thread's arbiter if it does not run yet.
    pub fn session(self: &Arc<Self>, session: SessionId) -> Addr<SessionActor> {
        self.registry.actor(session, |entry| SessionActor::new(session, entry, Arc::clone(self)))
    }

    /// The time by the relay's clock.
    pub fn now(&self) -> Instant {
        (self.clocks.monotonic)()
    }

    /// A number for a new connection.
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    fn tag(&self, session: &SessionId) -> SessionTag {
        SessionTag(u64::from_be_bytes(self.tag_key.hash("session", session.as_bytes())))
    }

    /// Lets sessions finish by themselves for the time of `grace`, and then sends the others elsewhere, evenly over
    /// `window`, so that the other nodes are not run over.
    pub async fn drain(&self, grace: Duration, window: Duration) {
        tokio::select! {
            () = tokio::time::sleep(grace) => {}
            () = self.registry.emptied() => return,
        }
        let actors = self.registry.actors();
        let pause = window.checked_div(u32::try_from(actors.len()).unwrap_or(u32::MAX)).unwrap_or_default();
        let mut asked = Vec::with_capacity(actors.len());
        // By the clock, and without waiting for answers: on a busy node, what each step is late would add up to minutes.
        let mut due = Some(tokio::time::Instant::now());
        for actor in actors {
            if let Some(due) = due {
                tokio::time::sleep_until(due).await;
            }
            due = due.and_then(|due| due.checked_add(pause));
            asked.push(actor.send(message::GoAway));
        }
        for answer in asked {
            // A session that is gone has nobody to tell.
            answer.await.ok();
        }
    }

    /// Tells every session that the node shuts down, and waits until each has closed its connections politely.
    pub async fn shut_down(&self) {
        self.drain(Duration::ZERO, Duration::ZERO).await;
    }

    /// Whether sessions can be opened, joined and resumed now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.directory.is_ready()
    }

    /// The sessions of this node.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The metrics that every handoff moves.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Who may open sessions.
    #[must_use]
    pub fn open_policy(&self) -> &OpenPolicy {
        &self.open_policy
    }
}
