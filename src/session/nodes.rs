//! The part of a session that deals with other nodes: one of its parties, or both, may be there.
//!
//! What nodes tell each other may get lost. So nothing is kept for a node that does not hear, a party's own frames
//! name its attachment, and whoever seems to have missed something looks at the record, at the latest with a tick.

use std::time::Instant;

use bytes::Bytes;

use super::connection::Request;
use super::node::{NodeId, PeerEvent, Place};
use super::route::{Attachment, Transition};
use super::{ConnectionId, Note, Output, Session};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::message::{JoinedPeer, ServerMessage};

impl Session {
    /// Another node has said something about this session.
    pub fn handle_peer_event(&mut self, from: NodeId, event: PeerEvent, now: Instant) {
        if self.has_ended() {
            return;
        }
        match event {
            PeerEvent::Attached { role, epoch, joined } => {
                self.peer_attached(role, Place { node: from, epoch, online: true }, joined, now);
            }
            PeerEvent::Left { role, epoch } => {
                if self.away.of(role).is_some_and(|place| place.epoch == epoch) {
                    self.lose(role);
                }
            }
            PeerEvent::Data { role, epoch, frame } => self.peer_sent(role, epoch, frame),
            PeerEvent::Ended { reason } => self.finish(reason, now),
        }
        self.forget_gone();
    }

    /// A node was told something, and is not there any more.
    pub fn handle_node_gone(&mut self, node: NodeId) {
        for role in Role::BOTH {
            if let Some(Place { epoch, .. }) = self.away.of(role).filter(|place| place.node == node && place.online) {
                self.outputs.push_back(Output::Transition(None, Transition::Leave { role, epoch }));
                self.lose(role);
            }
        }
    }

    /// Other nodes cannot be reached.
    pub fn handle_isolated(&mut self) {
        Role::BOTH.into_iter().for_each(|role| self.lose(role));
    }

    /// Other nodes can be reached again; what they said meanwhile is lost.
    pub fn handle_reconnected(&mut self) {
        for role in Role::BOTH {
            self.attached(role).into_iter().for_each(|id| self.look(id));
        }
    }

    /// Whether old is here, or was here last: that node reports what becomes of the session.
    #[must_use]
    pub fn is_home(&self) -> bool {
        self.away.old.is_none()
    }

    /// Whether this node counts the session as waiting, as joined, or not at all: old is somewhere else.
    pub(super) fn counted(&self) -> Option<bool> {
        (self.is_open() && self.is_home()).then_some(self.joined.is_some())
    }

    /// Reports what has become of [`Self::counted`].
    pub(super) fn recount(&mut self, before: Option<bool>) {
        let note = match (before, self.counted()) {
            (Some(false), Some(true)) => Note::Paired,
            (None, Some(joined)) => Note::MovedIn { joined },
            (Some(joined), None) => Note::MovedOut { joined },
            (None, None) | (Some(_), Some(_)) => return,
        };
        self.outputs.push_back(Output::Note(note));
    }

    /// Number of a party's newest attachment that this node knows of, even if it has ended.
    pub(super) fn epoch(&self, role: Role) -> Option<u64> {
        *self.epochs.of(role)
    }

    pub(super) fn is_online(&self, role: Role) -> bool {
        self.attached(role).is_some() || self.away.of(role).is_some_and(|place| place.online)
    }

    /// Passes a frame of a party that is attached here on to its peer, or drops it.
    pub(super) fn pass_on(&mut self, from: Role, frame: Bytes) {
        let note = Note::Relayed(from, frame.len());
        let output = match (self.attached(from.peer()), self.away.of(from.peer()), self.epoch(from)) {
            (Some(peer), _, _) => Output::Forward(peer, frame),
            (None, Some(Place { node, online: true, .. }), Some(epoch)) => {
                Output::Tell(*node, PeerEvent::Data { role: from, epoch, frame })
            }
            _ => return self.outputs.push_back(Output::Note(Note::Dropped(from))),
        };
        self.outputs.extend([Output::Note(note), output]);
    }

    /// Tells the nodes that must know of a new attachment here: the peer's, and the one that the party left.
    pub(super) fn announce(&mut self, role: Role, epoch: u64, previous: Option<NodeId>) {
        let peer = self.away.of(role.peer()).map(|place| place.node);
        let joined = self.joined;
        for node in peer.into_iter().chain(previous.filter(|node| peer != Some(*node))) {
            self.outputs.push_back(Output::Tell(node, PeerEvent::Attached { role, epoch, joined }));
        }
    }

    /// Tells a party that is attached here that its peer took its seat.
    pub(super) fn tell_arrival(&mut self, who: Role, first: bool) {
        let Some(peer) = self.attached(who.peer()) else { return };
        let message = match self.joined {
            Some(joined) if who == Role::New && first => ServerMessage::PeerJoined(joined),
            _ => ServerMessage::PeerOnline {},
        };
        self.outputs.push_back(Output::Send(peer, message));
    }

    /// Notes that new joined; `false` if that is not news.
    pub(super) fn learn_joined(&mut self, joined: Option<JoinedPeer>) -> bool {
        if self.joined.is_some() || joined.is_none() {
            return false;
        }
        self.joined = joined;
        true
    }

    /// Notes where the record says that a party is, unless it is here. An older connection of it here is closed: the
    /// party has left it, or nobody is behind it any more.
    pub(super) fn learn_place(&mut self, role: Role, place: Place, now: Instant) {
        if place.node == self.node || self.epoch(role).is_some_and(|known| known > place.epoch) {
            return;
        }
        if let Some(older) = self.attached(role) {
            self.close(older, CloseReason::Superseded, None, now);
        }
        *self.epochs.of_mut(role) = Some(place.epoch);
        *self.away.of_mut(role) = Some(place);
    }

    /// Asks the directory what a party may have missed, if its peer is not here: also that there is a peer now, or that
    /// it has joined and ended everything.
    pub(super) fn look_if_alone(&mut self, id: ConnectionId) {
        if Role::BOTH.into_iter().any(|role| self.attached(role).is_none()) {
            self.look(id);
        }
    }

    /// The directory answered [`Self::look`].
    pub(super) fn look_around(&mut self, id: ConnectionId, attachment: &Attachment, now: Instant) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return };
        let role = connection.role;
        let is_attached = connection.renew(attachment.epoch);
        let is_renewed = self.epoch(role).is_some_and(|known| known < attachment.epoch);
        if is_renewed {
            *self.epochs.of_mut(role) = Some(attachment.epoch);
        }
        if !is_attached {
            // It was gone before it got its seat again.
            if is_renewed {
                self.leave(role, attachment.epoch);
            }
            return;
        }
        let peer = role.peer();
        let Some(place) = attachment.peer.filter(|place| place.node != self.node) else { return };
        let (was_online, known, counted) = (self.is_online(peer), self.epoch(peer), self.counted());
        let first = self.learn_joined(attachment.joined);
        self.learn_place(peer, place, now);
        let is_online = self.is_online(peer);
        let has_come = first || known < self.epoch(peer) || (is_online && !was_online);
        if has_come {
            self.tell_arrival(peer, first);
        }
        if has_come || is_renewed {
            self.announce(role, attachment.epoch, None);
        }
        if !is_online && (first || was_online) {
            self.outputs.push_back(Output::Send(id, ServerMessage::PeerOffline {}));
        }
        self.recount(counted);
    }

    fn peer_attached(&mut self, role: Role, place: Place, joined: Option<JoinedPeer>, now: Instant) {
        if self.epoch(role).is_some_and(|known| known >= place.epoch) {
            // One that this node had given up: the record may have said so when it was asked.
            if self.away.of(role).is_some_and(|known| known.epoch == place.epoch && !known.online) {
                self.attached(role.peer()).into_iter().for_each(|id| self.look(id));
            }
            return;
        }
        let counted = self.counted();
        let first = self.learn_joined(joined);
        self.learn_place(role, place, now);
        self.tell_arrival(role, first);
        self.recount(counted);
    }

    fn peer_sent(&mut self, role: Role, epoch: u64, frame: Bytes) {
        let peer = self.attached(role.peer());
        let is_known = self.away.of(role).is_some_and(|place| place.epoch == epoch && place.online);
        match peer {
            Some(peer) if is_known && self.is_joined() => self.outputs.push_back(Output::Forward(peer, frame)),
            // Sent again by the app, when this node knows who it is.
            Some(peer) if self.epoch(role).is_none_or(|known| known <= epoch) => self.look(peer),
            _ => self.outputs.push_back(Output::Note(Note::Dropped(role))),
        }
    }

    /// A party at another node is not connected there any more, as far as this node can tell.
    fn lose(&mut self, role: Role) {
        let Some(place) = self.away.of_mut(role).as_mut().filter(|place| place.online) else { return };
        place.online = false;
        if let Some(peer) = self.attached(role.peer()) {
            self.outputs.push_back(Output::Send(peer, ServerMessage::PeerOffline {}));
        }
    }

    fn look(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id && c.pending.is_none()) else { return };
        let (role, Some(epoch)) = (connection.role, connection.epoch()) else { return };
        connection.pending = Some(Request::Look);
        self.outputs.push_back(Output::Transition(Some(id), Transition::Look { role, epoch }));
    }
}
