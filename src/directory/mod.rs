//! Where sessions and their parties are: the route records that all nodes of a relay share.
//!
//! Not the place for rules: those are [`crate::session::route`]. A directory makes each transition atomic and drops
//! records when their time is over; [`memory`] serves one node.

#[cfg(test)]
mod contract;
pub mod memory;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::protocol::ids::SessionId;
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

/// The route records of a relay's sessions.
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// Makes one transition on one session's record, atomically. Always answers: within seconds, or with
    /// [`Unavailable`]. Dropping the answer does not undo the transition.
    fn apply(&self, session: SessionId, transition: Transition) -> Answer;
}
