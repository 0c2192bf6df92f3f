//! What the nodes of one relay say to each other about a session, and who they are.
//!
//! Not how it travels: that is the directory's. Pure.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::message::JoinedPeer;

/// One run of one relay process: a random UUID, new at every start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Uuid);

impl NodeId {
    /// An id made from 16 random bytes; version and variant bits are set here.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a party is, or was last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The node that it connected to.
    pub node: NodeId,
    /// Number of the attachment of its seat.
    pub epoch: u64,
    /// Whether it is connected.
    pub online: bool,
}

/// What one node tells another about a session in which both have, or had, a party. Each names the attachment that it
/// comes from, so that what an old one says late changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A party is attached at the sending node now.
    Attached {
        /// Which.
        role: Role,
        /// Number of the attachment.
        epoch: u64,
        /// What old hears of new, once it has joined.
        joined: Option<JoinedPeer>,
    },
    /// A party's connection to the sending node is gone.
    Left {
        /// Which.
        role: Role,
        /// The attachment that is gone.
        epoch: u64,
    },
    /// A data frame of a party that is attached at the sending node.
    Data {
        /// Who sent it.
        role: Role,
        /// Its attachment.
        epoch: u64,
        /// The frame, opaque.
        frame: Bytes,
    },
    /// The session is over, and its record says so.
    Ended {
        /// Why.
        reason: CloseReason,
    },
}
