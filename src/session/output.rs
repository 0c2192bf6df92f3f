//! What a session wants done, and what it reports. Carried out and counted by whoever drives it.

use std::time::Duration;

use bytes::Bytes;

use super::ConnectionId;
use super::node::{NodeId, PeerEvent};
use super::route::Transition;
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::message::ServerMessage;

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a control message.
    Send(ConnectionId, ServerMessage),
    /// Pass on a data frame.
    Forward(ConnectionId, Bytes),
    /// Send a WebSocket ping.
    Ping(ConnectionId),
    /// Send `ended` and a close frame, and read until the peer's close frame.
    Close(ConnectionId, CloseReason, Option<Duration>),
    /// Cut the socket: the closing handshake had its time.
    Cut(ConnectionId),
    /// Ask the directory; the answer for a connection comes back through [`Session::handle_outcome`](super::Session::handle_outcome).
    Transition(Option<ConnectionId>, Transition),
    /// Tell another node. It may get lost: nothing depends on it for longer than until the next tick.
    Tell(NodeId, PeerEvent),
    /// Something worth counting happened.
    Note(Note),
    /// Nothing is left to do, now or later.
    Finished,
}

/// What happened, for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The session was opened here.
    Opened,
    /// New joined here, this long after `opened`.
    Joined(Duration),
    /// New joined, on whatever node; reported where old is.
    Paired,
    /// Old came from another node, and with it the session's place in the statistics.
    MovedIn {
        /// Whether new had joined.
        joined: bool,
    },
    /// Old went to another node.
    MovedOut {
        /// Whether new had joined.
        joined: bool,
    },
    /// A join was refused.
    JoinRefused(CloseReason),
    /// A party took its seat again.
    Resumed(Role),
    /// A party wanted its seat again, and did not get it.
    NotResumed(Role, CloseReason),
    /// A data frame of this size went to the other party.
    Relayed(Role, usize),
    /// A data frame was dropped: the other party is not connected.
    Dropped(Role),
    /// A connection was closed by the relay.
    Closed(Role, CloseReason),
    /// The session ended, this long after `opened`; past the deadline by this much, if that is why. Reported where old is.
    Ended {
        /// Why.
        reason: CloseReason,
        /// Time since `opened`.
        age: Duration,
        /// Whether new had joined.
        joined: bool,
        /// Time since the deadline.
        overshoot: Option<Duration>,
    },
}
