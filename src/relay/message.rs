//! Every message between actors.

use std::time::{Duration, Instant};

use actix::Message;
use bytes::Bytes;
use bytestring::ByteString;

use super::link::Link;
use crate::directory::News;
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::session::ConnectionId;
use crate::session::network_tag::NetworkTag;
use crate::telemetry::HopPath;

/// Socket to session: a connection is there.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Attach {
    /// The connection.
    pub connection: ConnectionId,
    /// Which app it says it is, by its path.
    pub role: Role,
    /// Where it comes from.
    pub tag: NetworkTag,
    /// The way back.
    pub link: Link,
}

/// Socket to session: something arrived.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Inbound {
    /// On this connection.
    pub connection: ConnectionId,
    /// What.
    pub event: WireEvent,
}

/// What a socket can report.
#[derive(Debug)]
pub enum WireEvent {
    /// A text frame.
    Text(ByteString),
    /// A binary frame, and when it was read, if it is measured.
    Data(Bytes, Option<Instant>),
    /// A ping or a pong.
    Heartbeat,
    /// The peer broke a rule of the wire.
    Violation(CloseReason),
}

/// Socket to session: the connection is gone. Sent on a recipient of its own, whose reserved slot is always free.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Gone {
    /// The connection.
    pub connection: ConnectionId,
}

/// Node to session: something came from the other nodes.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct FromOthers(pub News);

/// Node to session: the node shuts down.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GoAway;

/// The way of a data frame that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Which part of the way this node sees.
    pub path: HopPath,
    /// When it began.
    pub since: Instant,
}

/// Session to socket: send this.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Deliver {
    /// A text frame.
    Text(String),
    /// A binary frame, and where its way began, if it is measured.
    Data(Bytes, Option<Hop>),
    /// A ping.
    Ping,
}

/// Session to socket: say why, and start the closing handshake. On a recipient of its own, like [`Gone`].
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Hangup {
    /// Why.
    pub reason: CloseReason,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}
