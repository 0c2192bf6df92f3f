//! Handles of the metrics that every handoff moves, looked up once: by name and labels it takes longer than counting.
//!
//! What happens seldom is counted with the macros of `metrics`, where it happens.

use std::fmt;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::names;
use crate::protocol::Role;
use crate::protocol::close::{CloseReason, Scope};

/// One for each role.
struct ByRole<T> {
    old: T,
    new: T,
}

impl<T> ByRole<T> {
    fn new(make: impl Fn(Role) -> T) -> Self {
        Self { old: make(Role::Old), new: make(Role::New) }
    }

    fn of(&self, role: Role) -> &T {
        match role {
            Role::Old => &self.old,
            Role::New => &self.new,
        }
    }
}

/// One counter for each reason. A dozen comparisons find it sooner than a hash.
struct ByReason(Vec<(CloseReason, Counter)>);

impl ByReason {
    fn new(reasons: impl Fn(CloseReason) -> bool, make: impl Fn(CloseReason) -> Counter) -> Self {
        let reasons = CloseReason::ALL.iter().filter(|reason| reasons(**reason));
        Self(reasons.map(|reason| (*reason, make(*reason))).collect())
    }

    fn count(&self, reason: CloseReason) {
        self.0.iter().filter(|(known, _)| *known == reason).for_each(|(_, counter)| counter.increment(1));
    }
}

/// Which part of a frame's way was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HopPath {
    /// From one socket to the other.
    Here,
    /// From Redis to a socket.
    FromNode,
}

/// The handles of one relay. To be made after the recorder was installed: what is counted before goes nowhere.
pub struct Meters {
    /// [`names::SESSIONS_OPENED`].
    pub opened: Counter,
    /// [`names::SESSIONS_JOINED`].
    pub joined: Counter,
    /// [`names::SESSION_JOIN_WAIT`].
    pub join_wait: Histogram,
    /// [`names::SESSION_DURATION`].
    pub duration: Histogram,
    /// [`names::SESSION_REPLY`].
    pub reply: Histogram,
    /// [`names::SESSION_TRANSFER`].
    pub transfer: Histogram,
    /// [`names::SESSION_QUEUE_FULL`].
    pub session_queue_full: Counter,
    /// [`names::CONNECTION_QUEUE`].
    pub connection_queue: Histogram,
    hop_here: Histogram,
    hop_from_node: Histogram,
    sessions_waiting: Gauge,
    sessions_joined: Gauge,
    ended: ByReason,
    joined_ended: ByReason,
    closed: ByRole<ByReason>,
    frames: ByRole<Counter>,
    bytes: ByRole<Counter>,
    connections: ByRole<Gauge>,
    connections_opened: ByRole<Counter>,
}

impl Meters {
    /// Looks them up.
    #[must_use]
    pub fn new() -> Self {
        let ends_a_session = |reason: CloseReason| reason.scope() == Scope::Session;
        let closed = |role: Role| {
            let all = |_| true;
            ByReason::new(
                all,
                |reason| counter!(names::CONNECTIONS_CLOSED, "role" => role.as_str(), "reason" => reason.label()),
            )
        };
        Self {
            opened: counter!(names::SESSIONS_OPENED),
            joined: counter!(names::SESSIONS_JOINED),
            join_wait: histogram!(names::SESSION_JOIN_WAIT),
            duration: histogram!(names::SESSION_DURATION),
            reply: histogram!(names::SESSION_REPLY),
            transfer: histogram!(names::SESSION_TRANSFER),
            session_queue_full: counter!(names::SESSION_QUEUE_FULL),
            connection_queue: histogram!(names::CONNECTION_QUEUE),
            hop_here: histogram!(names::HOP, "path" => "here"),
            hop_from_node: histogram!(names::HOP, "path" => "from_node"),
            sessions_waiting: gauge!(names::SESSIONS, "state" => "waiting"),
            sessions_joined: gauge!(names::SESSIONS, "state" => "joined"),
            ended: ByReason::new(ends_a_session, |reason| counter!(names::SESSIONS_ENDED, "reason" => reason.label())),
            joined_ended: ByReason::new(
                ends_a_session,
                |reason| counter!(names::JOINED_ENDED, "reason" => reason.label()),
            ),
            closed: ByRole::new(closed),
            frames: ByRole::new(|role| counter!(names::FRAMES_RELAYED, "from" => role.as_str())),
            bytes: ByRole::new(|role| counter!(names::FRAME_BYTES_RELAYED, "from" => role.as_str())),
            connections: ByRole::new(|role| gauge!(names::CONNECTIONS, "role" => role.as_str())),
            connections_opened: ByRole::new(|role| counter!(names::CONNECTIONS_OPENED, "role" => role.as_str())),
        }
    }

    /// [`names::SESSIONS`] that are waiting or joined.
    pub fn sessions(&self, joined: bool) -> &Gauge {
        if joined { &self.sessions_joined } else { &self.sessions_waiting }
    }

    /// [`names::HOP`] on this path.
    pub fn hop(&self, path: HopPath) -> &Histogram {
        match path {
            HopPath::Here => &self.hop_here,
            HopPath::FromNode => &self.hop_from_node,
        }
    }

    /// A session ended, after the new app had joined or before.
    pub fn count_end(&self, reason: CloseReason, joined: bool) {
        self.ended.count(reason);
        if joined {
            self.joined_ended.count(reason);
        }
    }

    /// The relay closed a connection.
    pub fn count_close(&self, role: Role, reason: CloseReason) {
        self.closed.of(role).count(reason);
    }

    /// A data frame was passed on.
    pub fn count_frame(&self, from: Role, bytes: u64) {
        self.frames.of(from).increment(1);
        self.bytes.of(from).increment(bytes);
    }

    /// A WebSocket connection was opened.
    pub fn count_connection(&self, role: Role) {
        self.connections_opened.of(role).increment(1);
        self.connections.of(role).increment(1.0);
    }

    /// One that was opened is gone.
    pub fn count_disconnection(&self, role: Role) {
        self.connections.of(role).decrement(1.0);
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meters")
    }
}
