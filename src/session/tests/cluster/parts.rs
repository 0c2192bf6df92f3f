//! What a cluster on the bench is made of, and the ways to break it on purpose. No behaviour.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::message::ServerMessage;
use crate::session::node::{NodeId, PeerEvent};
use crate::session::route::{Outcome, Route};
use crate::session::{ConnectionId, Session};

/// Who is behind a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::session::tests) enum Who {
    Old,
    New,
    Stranger,
    /// Nobody any more, and the node has not noticed.
    Nobody,
}

impl Who {
    pub(in crate::session::tests) fn role(self) -> Role {
        if self == Self::Old { Role::Old } else { Role::New }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session::tests) enum Heard {
    Message(ServerMessage),
    Data(Bytes),
    Closed(CloseReason),
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session::tests) enum News {
    Said(PeerEvent),
    Gone(NodeId),
}

/// News on its way; what a node hears about another one's absence comes from itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session::tests) struct Letter {
    pub(in crate::session::tests) from: NodeId,
    pub(in crate::session::tests) to: NodeId,
    pub(in crate::session::tests) news: News,
}

/// What the node has reported: sessions waiting and joined, which must agree with what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::session::tests) struct Gauge {
    pub(in crate::session::tests) waiting: i8,
    pub(in crate::session::tests) joined: i8,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not independently of the others")]
pub(in crate::session::tests) struct Node {
    pub(in crate::session::tests) id: NodeId,
    pub(in crate::session::tests) session: Option<Session>,
    /// Cut off from the record and from the other nodes.
    pub(in crate::session::tests) isolated: bool,
    /// The record was lost, and this node has not put back yet what it knows.
    pub(in crate::session::tests) owes: bool,
    /// The record as this node saw it last.
    pub(in crate::session::tests) known: Option<Route>,
    pub(in crate::session::tests) clients: BTreeMap<ConnectionId, Who>,
    /// Answers of the directory on their way.
    pub(in crate::session::tests) answers: VecDeque<(ConnectionId, Result<Outcome, Duration>)>,
    pub(in crate::session::tests) gauge: Gauge,
    pub(in crate::session::tests) heard_the_end: bool,
    pub(in crate::session::tests) finished: bool,
}

/// Ways to break the design on purpose: what checks it must notice each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session::tests) enum Flaw {
    /// The directory forgets that new has joined when somebody else does.
    JoinAgain,
    /// The directory lets whoever resumes take new's seat.
    AnyTokenResumes,
    /// A node goes on as if it had not heard of the end.
    GoesOnAfterTheEnd,
    /// A node begins the lifetime anew when a party resumes.
    ResumeProlongs,
    /// No node looks at the record.
    NoLooks,
    /// What is said of any attachment is taken as said of the present one.
    NoEpochs,
    /// Nobody reports that old has left for another node.
    MovedOutUnreported,
}

/// What must never happen and did, and what may happen once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not independently of the others")]
pub(in crate::session::tests) struct Marks {
    pub(in crate::session::tests) joins: u8,
    pub(in crate::session::tests) joined_by: Option<Who>,
    pub(in crate::session::tests) to_a_third_party: bool,
    pub(in crate::session::tests) after_the_end: bool,
    pub(in crate::session::tests) open_too_long: bool,
    pub(in crate::session::tests) miscounted: bool,
}

impl Gauge {
    pub(in crate::session::tests) fn add(&mut self, joined: bool, change: i8) {
        *(if joined { &mut self.joined } else { &mut self.waiting }) += change;
    }
}

impl Node {
    pub(in crate::session::tests) fn new(id: NodeId) -> Self {
        Self {
            id,
            session: None,
            isolated: false,
            owes: false,
            known: None,
            clients: BTreeMap::new(),
            answers: VecDeque::new(),
            gauge: Gauge::default(),
            heard_the_end: false,
            finished: false,
        }
    }

    /// A session is counted where old is, or was last.
    pub(in crate::session::tests) fn expected_gauge(&self) -> Gauge {
        let mut gauge = Gauge::default();
        if let Some(session) = self.session.as_ref().filter(|session| session.is_open() && session.is_home()) {
            gauge.add(session.joined.is_some(), 1);
        }
        gauge
    }
}

pub(in crate::session::tests) fn merged(found: Option<Route>, known: Option<&Route>) -> Option<Route> {
    match (found, known) {
        (Some(found), Some(known)) => Some(found.merge(known)),
        (found, known) => found.or_else(|| known.cloned()),
    }
}

pub(in crate::session::tests) fn with_present_epoch(session: &Session, event: PeerEvent) -> PeerEvent {
    let present = |role, epoch| session.epoch(role).unwrap_or(epoch);
    match event {
        PeerEvent::Attached { role, epoch, joined } => {
            PeerEvent::Attached { role, epoch: session.epoch(role).map_or(epoch, |known| known + 1), joined }
        }
        PeerEvent::Left { role, epoch } => PeerEvent::Left { role, epoch: present(role, epoch) },
        PeerEvent::Data { role, epoch, frame } => PeerEvent::Data { role, epoch: present(role, epoch), frame },
        PeerEvent::Ended { reason } => PeerEvent::Ended { reason },
    }
}
