//! Where sessions and their parties are: the route records that all nodes of a relay share.
//!
//! Not the place for rules: those are [`crate::session::route`]. A directory makes each transition atomic, drops
//! records when their time is over, and carries what the nodes tell each other; [`memory`] serves one node.

#[cfg(test)]
mod contract;
pub mod memory;
pub mod redis;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::protocol::ids::SessionId;
use crate::session::node::{NodeId, PeerEvent};
use crate::session::route::{Outcome, Transition};

/// The directory cannot answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session directory does not answer; try again in {} ms", retry_after.as_millis())]
pub struct Unavailable {
    /// When to try again.
    pub retry_after: Duration,
}

/// The answer to a transition, when it is there.
pub type Answer = Pin<Box<dyn Future<Output = Result<Outcome, Unavailable>> + Send>>;

/// When news arrived, if its way is measured. Two that differ in nothing else are the same news.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrived(pub Option<Instant>);

impl PartialEq for Arrived {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Arrived {}

/// What a node hears from the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A node said something about a session.
    Said {
        /// The session.
        session: SessionId,
        /// Who said it.
        from: NodeId,
        /// What.
        event: PeerEvent,
        /// When it arrived here.
        arrived: Arrived,
    },
    /// A node that was told something about a session is not there any more.
    Gone {
        /// The session.
        session: SessionId,
        /// The node.
        node: NodeId,
    },
    /// The other nodes cannot be reached.
    Isolated,
    /// The other nodes can be reached again; what they said meanwhile is lost.
    Reconnected,
}

/// The route records of a relay's sessions, and the way from node to node.
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// Makes one transition on one session's record, atomically. Always answers: within seconds, or with
    /// [`Unavailable`]. Dropping the answer does not undo the transition.
    fn apply(&self, session: SessionId, transition: Transition) -> Answer;

    /// Tells another node something, in order and without waiting. It may get lost: when the other nodes cannot be
    /// reached, or when more waits than the queue holds. A node that is gone is reported as [`News::Gone`].
    fn tell(&self, node: NodeId, session: SessionId, event: PeerEvent);

    /// Whether transitions are answered now.
    fn is_ready(&self) -> bool;

    /// Drops what nobody will ask for any more. To be called every few seconds.
    fn sweep(&self);
}
