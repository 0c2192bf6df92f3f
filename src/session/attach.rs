//! How a connection gets its seat: the request to the directory, and what its answer means here.

use std::time::{Duration, Instant};

use super::connection::{Request, Stage};
use super::network_tag::NetworkTag;
use super::node::PeerEvent;
use super::route::{Attachment, Offer, Outcome, Refusal, Transition};
use super::{ConnectionId, Note, Output, Session, State, after, millis};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::ids::ResumeHash;
use crate::protocol::message::ServerMessage;

impl Session {
    /// The directory answered the transition of a connection. `Err` means that it could not, and says when to try
    /// again.
    pub fn handle_outcome(&mut self, id: ConnectionId, outcome: Result<Outcome, Duration>, now: Instant) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return };
        let role = connection.role;
        let Some(request) = connection.pending.take() else { return };
        if let Some(reason) = refusal(&outcome).filter(|_| request == Request::Resume) {
            self.outputs.push_back(Output::Note(Note::NotResumed(role, reason)));
        }
        match outcome {
            Ok(Ok(Some(attachment))) if request == Request::Look => self.look_around(id, &attachment, now),
            Ok(Ok(Some(attachment))) => self.attach(id, request, &attachment, now),
            Ok(Ok(None)) => self.close(id, CloseReason::InternalError, None, now),
            Ok(Err(Refusal::Closed(reason))) => {
                if request == Request::Join {
                    self.outputs.push_back(Output::Note(Note::JoinRefused(reason)));
                }
                self.close(id, reason, None, now);
            }
            Ok(Err(Refusal::Ended(reason))) => {
                self.finish(reason, now);
                self.close(id, reason, None, now);
            }
            Ok(Err(Refusal::EndedNow(reason, elsewhere))) => {
                self.finish(reason, now);
                self.close(id, reason, None, now);
                for node in elsewhere.into_iter().flatten() {
                    self.outputs.push_back(Output::Tell(node, PeerEvent::Ended { reason }));
                }
            }
            Err(_) if request == Request::Look => {}
            Err(retry_after) => self.close(id, CloseReason::Overloaded, Some(retry_after), now),
        }
        self.forget_gone();
    }

    pub(super) fn request_open(&mut self, id: ConnectionId, offer: Offer, resume_hash: ResumeHash, now: Instant) {
        let allowed = self.settings.intervals.contains(&offer.interval);
        let frames = Offer::frames(self.settings.lifetime, offer.interval);
        if !allowed || frames != Some(offer.join_hashes.len()) {
            return self.close(id, CloseReason::BadOffer, None, now);
        }
        self.request(id, Request::Open, now, |tag| Transition::Open { offer, resume_hash, tag });
    }

    pub(super) fn request(
        &mut self,
        id: ConnectionId,
        request: Request,
        now: Instant,
        transition: impl FnOnce(NetworkTag) -> Transition,
    ) {
        let Some(connection) = self.live(id) else { return };
        connection.stage = Stage::Pending;
        connection.pending = Some(request);
        connection.asked_at = now;
        let transition = transition(connection.tag);
        self.outputs.push_back(Output::Transition(Some(id), transition));
    }

    fn attach(&mut self, id: ConnectionId, request: Request, attachment: &Attachment, now: Instant) {
        if let State::Ended(reason) = self.state {
            return self.close(id, reason, None, now);
        }
        let Some(connection) = self.connections.iter().find(|c| c.id == id) else { return };
        let (role, asked_at) = (connection.role, connection.asked_at);
        if self.epoch(role).is_some_and(|known| known > attachment.epoch) {
            if request == Request::Resume {
                self.outputs.push_back(Output::Note(Note::NotResumed(role, CloseReason::Superseded)));
            }
            return self.close(id, CloseReason::Superseded, None, now);
        }
        let is_opened = request == Request::Open && !attachment.again;
        let counted = if is_opened { Some(false) } else { self.counted() };
        self.note_open(attachment, asked_at);
        if let Some(older) = self.attached(role) {
            self.close(older, CloseReason::Superseded, None, now);
        }
        *self.away.of_mut(role) = None;
        *self.epochs.of_mut(role) = Some(attachment.epoch);
        let first = self.learn_joined(attachment.joined);
        attachment.peer.into_iter().for_each(|place| self.learn_place(role.peer(), place, now));
        self.note_attachment(role, request, attachment, now);
        self.recount(counted);
        self.announce(role, attachment.epoch, attachment.previous);
        self.tell_arrival(role, first);
        let answer = self.answer(role, request, attachment);
        match self.live(id) {
            Some(connection) => {
                connection.attach(attachment.epoch, now);
                self.outputs.push_back(Output::Send(id, answer));
            }
            // It did not wait for the answer: the seat is taken, and empty.
            None => self.leave(role, attachment.epoch),
        }
    }

    /// The time left is counted from the question: however long the answer took, the deadline is not passed.
    fn note_open(&mut self, attachment: &Attachment, asked_at: Instant) {
        if !self.is_open() {
            let age = self.settings.lifetime.saturating_sub(attachment.expires_in);
            let opened_at = asked_at.checked_sub(age).unwrap_or(asked_at);
            self.state = State::Open { opened_at, deadline: after(asked_at, attachment.expires_in) };
        }
    }

    fn note_attachment(&mut self, role: Role, request: Request, attachment: &Attachment, now: Instant) {
        let note = match request {
            _ if attachment.again => Note::Resumed(role),
            Request::Open => Note::Opened,
            Request::Join | Request::Resume | Request::Look => Note::Joined(self.age(now)),
        };
        self.outputs.push_back(Output::Note(note));
    }

    fn answer(&self, role: Role, request: Request, attachment: &Attachment) -> ServerMessage {
        let expires_in_ms = millis(attachment.expires_in);
        let peer_online = self.is_online(role.peer());
        let public_key = attachment.public_key.clone();
        match request {
            Request::Open => ServerMessage::Opened { expires_in_ms },
            Request::Join => ServerMessage::Joined { expires_in_ms, public_key, peer_online },
            Request::Resume | Request::Look => ServerMessage::Resumed {
                expires_in_ms,
                peer_online,
                // Another node may have said it while the directory's answer was on its way.
                joined: self.joined.filter(|_| role == Role::Old),
                public_key: (role == Role::New).then_some(public_key),
            },
        }
    }
}

/// Why a transition was not made.
fn refusal(outcome: &Result<Outcome, Duration>) -> Option<CloseReason> {
    match outcome {
        Ok(Ok(_)) => None,
        Ok(Err(Refusal::Closed(reason) | Refusal::Ended(reason) | Refusal::EndedNow(reason, _))) => Some(*reason),
        Err(_) => Some(CloseReason::Overloaded),
    }
}
