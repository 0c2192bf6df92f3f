//! One transfer session as a state machine: events and `now` in, outputs out.
//!
//! No actix, no Redis, no clock, no sockets. Everything that the relay decides about a session is decided here.
//! [`route::Route`] is the record that all nodes share; [`Session`] is one node's view of it, with that node's connections.
//!
//! ```text
//!            open                 join               complete, cancel, second join,
//! (vacant) --------> Waiting ------------> Joined --- quota, deadline ------------> Ended(reason)
//!                       |                                                              ^
//!                       +------------------- cancel, deadline -------------------------+
//! ```
//! Use: call a `handle_*`, then [`Session::poll_output`] until it is empty, then arm one timer for
//! [`Session::poll_timeout`]. Calling [`Session::handle_timeout`] early is harmless.

mod attach;
mod connection;
pub mod network_tag;
pub mod node;
mod nodes;
mod output;
mod per_role;
mod quota;
pub mod route;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use connection::ConnectionId;
use connection::{Connection, Due, Request, Stage};
use network_tag::{NetworkTag, Refuse};
use node::{NodeId, PeerEvent, Place};
pub use output::{Note, Output};
use per_role::PerRole;
use quota::Quota;
use route::{Offer, Transition};

use crate::protocol::Role;
use crate::protocol::close::{CloseReason, Scope};
use crate::protocol::ids::{JoinHash, ResumeHash};
use crate::protocol::limits;
use crate::protocol::message::{CancelReason, ClientMessage, JoinedPeer, ServerMessage};

/// What a deployment decides about its sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Hard lifetime, at most [`limits::SESSION_LIFETIME`].
    pub lifetime: Duration,
    /// The frame intervals that old may choose from.
    pub intervals: Vec<Duration>,
    /// Which verdicts end a session instead of joining it.
    pub refuse: Refuse,
}

/// How far the session has come, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum State {
    /// Nobody is attached here, and nobody was.
    Vacant,
    /// Open until the deadline.
    Open { opened_at: Instant, deadline: Instant },
    /// Over.
    Ended(CloseReason),
}

/// One node's view of one session.
#[derive(Clone, Debug)]
pub struct Session {
    settings: Settings,
    node: NodeId,
    state: State,
    joined: Option<JoinedPeer>,
    connections: Vec<Connection>,
    /// Where a party is, or was last, when that is another node.
    away: PerRole<Option<Place>>,
    /// Number of a party's newest attachment, here or elsewhere: what comes from an older one is out of date.
    epochs: PerRole<Option<u64>>,
    quotas: PerRole<Quota>,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session of which this node knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings, node: NodeId) -> Self {
        Self {
            settings,
            node,
            state: State::Vacant,
            joined: None,
            connections: Vec::with_capacity(2),
            away: PerRole::default(),
            epochs: PerRole::default(),
            quotas: PerRole::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.joined.is_none() {
            // Most of its life a session waits, and there are thousands that do.
            self.outputs = VecDeque::new();
        }
        output
    }

    /// When [`Self::handle_timeout`] must be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = match self.state {
            State::Open { deadline, .. } => Some(deadline),
            State::Vacant | State::Ended(_) => None,
        };
        self.connections.iter().filter_map(Connection::next_due).chain(deadline).min()
    }

    /// Whether the session is open here.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether the session ended here.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// A connection was accepted for this session.
    pub fn handle_connect(&mut self, id: ConnectionId, role: Role, tag: NetworkTag, now: Instant) {
        let waiting = self.connections.iter().filter(|c| c.is_unidentified()).count();
        self.connections.push(Connection::new(id, role, tag, now));
        if let State::Ended(reason) = self.state {
            self.close(id, reason, None, now);
        } else if waiting >= limits::MAX_UNIDENTIFIED {
            self.close(id, CloseReason::Crowded, None, now);
        }
    }

    /// A text frame arrived and was read as a control message.
    pub fn handle_message(&mut self, id: ConnectionId, message: ClientMessage, now: Instant) {
        let Some(connection) = self.live(id) else { return };
        let stage = connection.stage;
        let role = connection.role;
        if !self.hear_control_frame(id, now) {
            return;
        }
        match (stage, role, message) {
            (
                Stage::Unidentified { .. },
                Role::Old,
                ClientMessage::Open { public_key, join_hashes, interval_ms, resume_hash, token: _ },
            ) => {
                let offer = Offer { public_key, join_hashes, interval: Duration::from_millis(interval_ms) };
                self.request_open(id, offer, resume_hash, now);
            }
            (Stage::Unidentified { .. }, Role::New, ClientMessage::Join { frame, proof, resume_hash }) => {
                let hash = JoinHash::of(&proof);
                self.request(id, Request::Join, now, |tag| Transition::Join { frame, hash, resume_hash, tag });
            }
            (Stage::Unidentified { .. }, role, ClientMessage::Resume { token }) => {
                let hash = ResumeHash::of(&token);
                self.request(id, Request::Resume, now, |_| Transition::Resume { role, hash });
            }
            (Stage::Attached { .. }, role, ClientMessage::Cancel { reason }) => {
                self.end(cancelled(role, reason), now);
            }
            (Stage::Attached { .. }, Role::Old, ClientMessage::Complete {}) if self.is_joined() => {
                self.end(CloseReason::Completed, now);
            }
            _ => self.close(id, CloseReason::UnexpectedMessage, None, now),
        }
    }

    /// A binary frame arrived.
    pub fn handle_data(&mut self, id: ConnectionId, frame: Bytes, now: Instant) {
        let Some(connection) = self.live(id) else { return };
        connection.hear(now);
        let role = connection.role;
        if !(connection.is_attached() && self.is_joined()) {
            return self.close(id, CloseReason::UnexpectedData, None, now);
        }
        // An empty message costs as much as a ping, and no app has a use for it.
        if frame.is_empty() && !self.hear_control_frame(id, now) {
            return;
        }
        if !self.quotas.of_mut(role).spend(frame.len()) {
            return self.end(CloseReason::QuotaExceeded, now);
        }
        self.pass_on(role, frame);
    }

    /// A ping or pong arrived.
    pub fn handle_heartbeat(&mut self, id: ConnectionId, now: Instant) {
        if self.live(id).is_some() {
            self.hear_control_frame(id, now);
        }
    }

    /// A connection must be closed for something that was seen outside: it broke a rule of the wire, its queue is
    /// full, or it may not open a session.
    pub fn handle_violation(
        &mut self,
        id: ConnectionId,
        reason: CloseReason,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        if self.live(id).is_some() {
            self.close(id, reason, retry_after, now);
        }
    }

    /// The node shuts down: every connection is told to try elsewhere.
    pub fn handle_shutdown(&mut self, now: Instant) {
        let ids: Vec<ConnectionId> = self.connections.iter().map(|c| c.id).collect();
        for id in ids {
            self.close(id, CloseReason::GoingAway, None, now);
        }
    }

    /// A connection is gone.
    pub fn handle_disconnect(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return };
        let role = connection.role;
        if let Stage::Attached { epoch, .. } = std::mem::replace(&mut connection.stage, Stage::Gone) {
            self.leave(role, epoch);
        }
        self.forget_gone();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Open { deadline, .. } = self.state
            && deadline <= now
        {
            self.end(CloseReason::Expired, now);
        }
        let ids: Vec<ConnectionId> = self.connections.iter().map(|c| c.id).collect();
        for id in ids {
            while let Some(due) = self.connections.iter_mut().find(|c| c.id == id).and_then(|c| c.take_due(now)) {
                self.do_due(id, due, now);
            }
        }
        self.forget_gone();
    }

    fn do_due(&mut self, id: ConnectionId, due: Due, now: Instant) {
        match due {
            Due::FirstMessage => self.close(id, CloseReason::FirstMessageTimeout, None, now),
            Due::Silence => self.close(id, CloseReason::Unresponsive, None, now),
            Due::Ping => self.outputs.push_back(Output::Ping(id)),
            Due::Tick => {
                let expires_in_ms = self.expires_in_ms(now);
                self.outputs.push_back(Output::Send(id, ServerMessage::Tick { expires_in_ms }));
                self.look_if_alone(id);
            }
            Due::Cut => {
                self.outputs.push_back(Output::Cut(id));
                self.handle_disconnect(id);
            }
        }
    }

    /// Ends the session for everybody, here, in the directory and on the other nodes.
    fn end(&mut self, reason: CloseReason, now: Instant) {
        // That its time is over, everybody knows by itself.
        if self.is_open() && reason != CloseReason::Expired {
            self.outputs.push_back(Output::Transition(None, Transition::End { reason }));
            for place in Role::BOTH.into_iter().filter_map(|role| *self.away.of(role)) {
                self.outputs.push_back(Output::Tell(place.node, PeerEvent::Ended { reason }));
            }
        }
        self.finish(reason, now);
    }

    /// Ends the session here. The node where old is, or was last, reports it.
    fn finish(&mut self, reason: CloseReason, now: Instant) {
        if let State::Ended(_) = self.state {
            return;
        }
        if let State::Open { deadline, .. } = self.state
            && self.is_home()
        {
            let overshoot = (reason == CloseReason::Expired).then(|| now.saturating_duration_since(deadline));
            let (age, joined) = (self.age(now), self.joined.is_some());
            self.outputs.push_back(Output::Note(Note::Ended { reason, age, joined, overshoot }));
        }
        self.state = State::Ended(reason);
        let ids: Vec<ConnectionId> = self.connections.iter().map(|c| c.id).collect();
        for id in ids {
            self.close(id, reason, None, now);
        }
    }

    /// Starts the closing handshake of one connection, unless it is under way.
    fn close(&mut self, id: ConnectionId, reason: CloseReason, retry_after: Option<Duration>, now: Instant) {
        let session_goes_on = reason.scope() == Scope::Connection && reason != CloseReason::Superseded;
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id && c.is_live()) else { return };
        let before =
            std::mem::replace(&mut connection.stage, Stage::Closing { cut_at: after(now, limits::CLOSE_GRACE) });
        let role = connection.role;
        self.outputs.push_back(Output::Close(id, reason, retry_after));
        self.outputs.push_back(Output::Note(Note::Closed(role, reason)));
        if let (Stage::Attached { epoch, .. }, true) = (before, session_goes_on) {
            self.leave(role, epoch);
        }
    }

    fn leave(&mut self, role: Role, epoch: u64) {
        self.outputs.push_back(Output::Transition(None, Transition::Leave { role, epoch }));
        if let Some(peer) = self.attached(role.peer()) {
            self.outputs.push_back(Output::Send(peer, ServerMessage::PeerOffline {}));
        } else if let Some(place) = self.away.of(role.peer()) {
            self.outputs.push_back(Output::Tell(place.node, PeerEvent::Left { role, epoch }));
        }
    }

    /// Drops connections that nothing waits for, and says so when the last one was all there is.
    fn forget_gone(&mut self) {
        self.connections.retain(|c| c.stage != Stage::Gone || c.pending.is_some());
        if self.connections.is_empty() && !(self.is_open() && self.is_home()) {
            self.outputs.push_back(Output::Finished);
        }
    }

    /// Counts a control frame and notes the sign of life; `false` if the connection was closed for flooding.
    fn hear_control_frame(&mut self, id: ConnectionId, now: Instant) -> bool {
        let Some(connection) = self.live(id) else { return false };
        connection.hear(now);
        let within = connection.count_control_frame();
        if !within {
            self.close(id, CloseReason::Flooding, None, now);
        }
        within
    }

    fn live(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.id == id && c.is_live())
    }

    fn attached(&self, role: Role) -> Option<ConnectionId> {
        self.connections.iter().find(|c| c.role == role && c.is_attached()).map(|c| c.id)
    }

    fn is_joined(&self) -> bool {
        self.is_open() && self.joined.is_some()
    }

    fn age(&self, now: Instant) -> Duration {
        match self.state {
            State::Open { opened_at, .. } => now.saturating_duration_since(opened_at),
            State::Vacant | State::Ended(_) => Duration::ZERO,
        }
    }

    fn expires_in_ms(&self, now: Instant) -> u64 {
        match self.state {
            State::Open { deadline, .. } => millis(deadline.saturating_duration_since(now)),
            State::Vacant | State::Ended(_) => 0,
        }
    }
}

fn cancelled(by: Role, reason: CancelReason) -> CloseReason {
    match (reason, by) {
        (CancelReason::User, Role::Old) => CloseReason::CancelledByOld,
        (CancelReason::User, Role::New) => CloseReason::CancelledByNew,
        (CancelReason::WrongCode, _) => CloseReason::WrongCode,
        (CancelReason::CodeTimeout, _) => CloseReason::CodeTimeout,
        (CancelReason::VerificationFailed, _) => CloseReason::VerificationFailed,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `now` and so much later; `now` itself where the clock has no such time.
fn after(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay).unwrap_or(now)
}
