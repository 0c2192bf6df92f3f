//! One connection of a session, as the state machine sees it: its stage, its deadlines, what it may still send.

use std::time::Instant;

use super::after;
use super::network_tag::NetworkTag;
use crate::protocol::Role;
use crate::protocol::limits;

/// Number of a connection, unique on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Stage {
    /// Nothing valid was said yet.
    Unidentified { first_message_by: Instant },
    /// The first message waits for the directory.
    Pending,
    /// Speaks for its role.
    Attached { epoch: u64, next_ping: Instant, next_tick: Instant },
    /// The close frame went out.
    Closing { cut_at: Instant },
    /// The socket is gone; kept only until the directory has answered.
    Gone,
}

/// What a pending connection asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Request {
    Open,
    Join,
    Resume,
    Look,
}

/// What a connection's clock says is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    FirstMessage,
    Silence,
    Ping,
    Tick,
    Cut,
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) role: Role,
    pub(super) tag: NetworkTag,
    pub(super) stage: Stage,
    /// What the directory still has to answer, also when the connection did not wait for it.
    pub(super) pending: Option<Request>,
    /// When it was asked last.
    pub(super) asked_at: Instant,
    heard_at: Instant,
    control_frames: u32,
}

// All but the tag, which the search through all situations never changes.
#[cfg(test)]
impl std::hash::Hash for Connection {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Self { id, role, tag: _, stage, pending, asked_at, heard_at, control_frames } = self;
        (id, role, stage, pending, asked_at, heard_at, control_frames).hash(state);
    }
}

impl Connection {
    pub(super) fn new(id: ConnectionId, role: Role, tag: NetworkTag, now: Instant) -> Self {
        let stage = Stage::Unidentified { first_message_by: after(now, limits::FIRST_MESSAGE_TIMEOUT) };
        Self { id, role, tag, stage, pending: None, asked_at: now, heard_at: now, control_frames: 0 }
    }

    pub(super) fn attach(&mut self, epoch: u64, now: Instant) {
        self.stage = Stage::Attached {
            epoch,
            next_ping: after(now, limits::PING_INTERVAL),
            next_tick: after(now, limits::TICK_INTERVAL),
        };
    }

    /// Gives the attachment another number; `false` if there is none.
    pub(super) fn renew(&mut self, number: u64) -> bool {
        if let Stage::Attached { epoch, .. } = &mut self.stage {
            *epoch = number;
            return true;
        }
        false
    }

    /// Number of the attachment, if there is one.
    pub(super) fn epoch(&self) -> Option<u64> {
        if let Stage::Attached { epoch, .. } = self.stage { Some(epoch) } else { None }
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(self.stage, Stage::Attached { .. })
    }

    /// Whether it may still be heard and closed.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.stage, Stage::Closing { .. } | Stage::Gone)
    }

    /// Whether it counts among those that could crowd others out.
    pub(super) fn is_unidentified(&self) -> bool {
        matches!(self.stage, Stage::Unidentified { .. } | Stage::Pending)
    }

    /// Notes that the peer is alive.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Counts a ping, pong or text message; `false` once there were too many.
    pub(super) fn count_control_frame(&mut self) -> bool {
        self.control_frames = self.control_frames.saturating_add(1);
        self.control_frames <= limits::MAX_CONTROL_FRAMES
    }

    /// When [`Self::take_due`] next has something to say.
    pub(super) fn next_due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Unidentified { first_message_by } => Some(first_message_by),
            // The directory always answers, in time or with an error.
            Stage::Pending | Stage::Gone => None,
            Stage::Attached { next_ping, next_tick, .. } => Some(next_ping.min(next_tick).min(self.silent_at())),
            Stage::Closing { cut_at } => Some(cut_at),
        }
    }

    /// What is due now, one thing a call; periodic ones are set anew from `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let silent_at = self.silent_at();
        match &mut self.stage {
            Stage::Unidentified { first_message_by } => (*first_message_by <= now).then_some(Due::FirstMessage),
            Stage::Attached { .. } if silent_at <= now => Some(Due::Silence),
            Stage::Attached { next_ping, .. } if *next_ping <= now => {
                *next_ping = after(now, limits::PING_INTERVAL);
                Some(Due::Ping)
            }
            Stage::Attached { next_tick, .. } if *next_tick <= now => {
                *next_tick = after(now, limits::TICK_INTERVAL);
                Some(Due::Tick)
            }
            Stage::Attached { .. } | Stage::Pending | Stage::Gone => None,
            Stage::Closing { cut_at } => (*cut_at <= now).then_some(Due::Cut),
        }
    }

    fn silent_at(&self) -> Instant {
        after(self.heard_at, limits::SILENCE_TIMEOUT)
    }
}
