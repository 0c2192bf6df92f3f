//! The route record of one session, and the transitions that must be atomic across nodes: open, join, resume, look,
//! leave and end.
//!
//! No timers and no connections: a [`Route`] is what a directory keeps, in memory or in Redis, and its methods are
//! what both directories do. `now` is the directory's own clock, as time since any fixed point.

mod merge;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::network_tag::{NetworkTag, Refuse, verdict};
use super::node::{NodeId, Place};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::ids::{JoinHash, PublishedKey, ResumeHash};
use crate::protocol::limits;
use crate::protocol::message::JoinedPeer;
use crate::protocol::trace_parent::{TraceParent, lenient};

/// What old publishes at `open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The key that new encapsulates to.
    pub public_key: PublishedKey,
    /// One hash for each QR frame.
    pub join_hashes: Vec<JoinHash>,
    /// How long each frame is shown; not zero.
    pub interval: Duration,
}

impl Offer {
    /// How many frames a session of this lifetime has.
    #[must_use]
    pub fn frames(lifetime: Duration, interval: Duration) -> Option<usize> {
        let frames = lifetime.as_millis().div_ceil(Some(interval.as_millis()).filter(|ms| *ms > 0)?);
        usize::try_from(frames).ok()
    }

    /// Number of the frame that is shown when this much time has passed since `opened`.
    fn frame_at(&self, elapsed: Duration) -> usize {
        let frame = elapsed.as_millis().checked_div(self.interval.as_millis()).unwrap_or(0);
        usize::try_from(frame).unwrap_or(usize::MAX)
    }
}

/// One side of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seat {
    resume_hash: ResumeHash,
    place: Place,
}

impl Seat {
    fn new(resume_hash: ResumeHash, node: NodeId) -> Self {
        Self { resume_hash, place: Place { node, epoch: 1, online: true } }
    }

    /// Puts the party elsewhere; the answer is the node that it leaves, if that is another one.
    fn attach_again(&mut self, node: NodeId) -> Option<NodeId> {
        let epoch = self.place.epoch.saturating_add(1);
        let previous = std::mem::replace(&mut self.place, Place { node, epoch, online: true }).node;
        (previous != node).then_some(previous)
    }
}

// Only what differs between two situations of one session: the search through all of them compares millions. As in
// `Debug`, not who holds a seat: that doubles the situations, and only decides whose resume is refused.
#[cfg(test)]
impl std::hash::Hash for Route {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let seat = |seat: &Seat| seat.place;
        let new = self.new.as_ref().map(|(new, joined)| (seat(new), joined.frame));
        (self.opened_at, seat(&self.old), new, self.resumes, self.ended).hash(state);
    }
}

/// A request to change a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Old opens the session.
    Open {
        /// What it publishes.
        offer: Offer,
        /// The hash of its resume token.
        resume_hash: ResumeHash,
        /// Where it is.
        tag: NetworkTag,
        /// The trace that begins here, if one is kept.
        trace: Option<TraceParent>,
    },
    /// New joins.
    Join {
        /// Number of the scanned frame.
        frame: u8,
        /// The hash of the join proof that it showed.
        hash: JoinHash,
        /// The hash of its resume token.
        resume_hash: ResumeHash,
        /// Where it is.
        tag: NetworkTag,
    },
    /// Either party takes its seat again.
    Resume {
        /// Which seat.
        role: Role,
        /// The hash of the resume token that it showed.
        hash: ResumeHash,
    },
    /// A party that is attached asks what it may have missed. If its seat is marked as empty, because its node could
    /// not be reached, it takes the seat again.
    Look {
        /// Which seat.
        role: Role,
        /// The attachment that it believes to have.
        epoch: u64,
    },
    /// A party's connection is gone.
    Leave {
        /// Which seat.
        role: Role,
        /// The attachment that is gone.
        epoch: u64,
    },
    /// The session is over.
    End {
        /// Why.
        reason: CloseReason,
    },
}

/// A seat was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Number of this attachment of the seat.
    pub epoch: u64,
    /// Time left.
    pub expires_in: Duration,
    /// Where the other party is, or was last.
    pub peer: Option<Place>,
    /// The other node that this party was attached to before.
    pub previous: Option<NodeId>,
    /// What old hears of new, once it has joined.
    pub joined: Option<JoinedPeer>,
    /// The key that old published.
    pub public_key: PublishedKey,
    /// Whether the seat had been taken before.
    pub again: bool,
    /// The trace that began where the session was opened.
    pub trace: Option<TraceParent>,
}

/// A transition was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The asking connection is closed with this reason; the session is untouched.
    Closed(CloseReason),
    /// The session had ended before.
    Ended(CloseReason),
    /// This request ended the session; the nodes where its parties are, unless it is the asking one, do not know yet.
    EndedNow(CloseReason, [Option<NodeId>; 2]),
}

/// What became of a transition: an attachment for open, join, resume and look, nothing for leave and end.
pub type Outcome = Result<Option<Attachment>, Refusal>;

/// What a transition depends on besides the record.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The asking node.
    pub node: NodeId,
    /// How long a session that is opened now lives.
    pub lifetime: Duration,
    /// Which verdicts end a session instead of joining it.
    pub refuse: Refuse,
}

/// Where a session and its parties are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    offer: Offer,
    /// On the directory's clock; a directory that keeps ages instead leaves it at zero.
    #[serde(skip)]
    opened_at: Duration,
    lifetime: Duration,
    old: Seat,
    old_tag: NetworkTag,
    new: Option<(Seat, JoinedPeer)>,
    resumes: u32,
    ended: Option<CloseReason>,
    /// Nothing depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    trace: Option<TraceParent>,
}

impl Route {
    /// Makes a transition on the record of one session, which may not exist yet.
    ///
    /// # Errors
    /// [`Refusal`] says what the asking connection hears and whether the session is over.
    pub fn apply(route: &mut Option<Self>, transition: Transition, rules: Rules, now: Duration) -> Outcome {
        let Some(known) = route.as_mut().filter(|known| !known.is_forgotten(now)) else {
            let (opened, outcome) = Self::apply_to_none(transition, rules, now);
            *route = opened;
            return outcome;
        };
        known.expire(now);
        match transition {
            Transition::Open { .. } => {
                Err(known.ended.map_or(Refusal::Closed(CloseReason::AlreadyOpen), Refusal::Ended))
            }
            Transition::Join { frame, hash, resume_hash, tag } => {
                known.join(frame, &hash, resume_hash, &tag, rules, now).map(Some)
            }
            Transition::Resume { role, hash } => known.resume(role, &hash, rules.node, now).map(Some),
            Transition::Look { role, epoch } => known.look(role, epoch, rules.node, now).map(Some),
            Transition::Leave { role, epoch } => {
                if let Some(seat) = known.seat_mut(role).filter(|seat| seat.place.epoch == epoch) {
                    seat.place.online = false;
                }
                Ok(None)
            }
            Transition::End { reason } => {
                known.end(reason, rules.node);
                Ok(None)
            }
        }
    }

    /// How long the record is kept: until its deadline, and for the time in which latecomers hear why.
    #[must_use]
    pub fn remembered_for(&self) -> Duration {
        self.lifetime.saturating_add(limits::TOMBSTONE_GRACE)
    }

    /// Whether the record may be dropped: its deadline passed, and so did the time in which latecomers hear why.
    #[must_use]
    pub fn is_forgotten(&self, now: Duration) -> bool {
        now >= self.opened_at.saturating_add(self.remembered_for())
    }

    fn apply_to_none(transition: Transition, rules: Rules, now: Duration) -> (Option<Self>, Outcome) {
        match transition {
            Transition::Open { offer, resume_hash, tag, trace } => {
                let route = Self {
                    offer,
                    opened_at: now,
                    lifetime: rules.lifetime,
                    old: Seat::new(resume_hash, rules.node),
                    old_tag: tag,
                    new: None,
                    resumes: 0,
                    ended: None,
                    trace,
                };
                let attachment = route.attachment(Role::Old, None, false, now);
                (Some(route), attachment.map(Some))
            }
            Transition::Join { .. } => (None, Err(Refusal::Closed(CloseReason::UnknownSession))),
            Transition::Resume { .. } | Transition::Look { .. } => {
                (None, Err(Refusal::Closed(CloseReason::NothingToResume)))
            }
            Transition::Leave { .. } | Transition::End { .. } => (None, Ok(None)),
        }
    }

    fn join(
        &mut self,
        frame: u8,
        hash: &JoinHash,
        resume_hash: ResumeHash,
        tag: &NetworkTag,
        Rules { node, refuse, .. }: Rules,
        now: Duration,
    ) -> Result<Attachment, Refusal> {
        if let Some(reason) = self.ended {
            return Err(Refusal::Ended(reason));
        }
        let registered = self.offer.join_hashes.get(usize::from(frame));
        if !registered.is_some_and(|registered| registered.ct_eq(hash).into()) {
            return Err(Refusal::Closed(CloseReason::BadJoinProof));
        }
        // An app whose answer was lost may ask again; whoever it is, it knows new's resume hash.
        if let Some((seat, _)) = self.new.as_mut().filter(|(seat, _)| seat.resume_hash.ct_eq(&resume_hash).into()) {
            let previous = seat.attach_again(node);
            self.count_resume(node)?;
            return self.attachment(Role::New, previous, true, now);
        }
        let shown = self.offer.frame_at(now.saturating_sub(self.opened_at));
        let oldest = shown.saturating_sub(usize::from(limits::FRAMES_ACCEPTED.saturating_sub(1)));
        if !(oldest..=shown).contains(&usize::from(frame)) {
            return Err(Refusal::Closed(CloseReason::StaleFrame));
        }
        if self.new.is_some() {
            return Err(self.end(CloseReason::ScannedTwice, node));
        }
        let verdict = verdict(&self.old_tag, tag);
        if refuse.refuses(verdict) {
            return Err(self.end(CloseReason::NetworkRefused, node));
        }
        let joined = JoinedPeer { frame, network: verdict.network, country: verdict.country };
        self.new = Some((Seat::new(resume_hash, node), joined));
        self.attachment(Role::New, None, false, now)
    }

    fn resume(&mut self, role: Role, hash: &ResumeHash, node: NodeId, now: Duration) -> Result<Attachment, Refusal> {
        let ended = self.ended;
        let seat = self.seat_mut(role).filter(|seat| seat.resume_hash.ct_eq(hash).into());
        let seat = seat.ok_or(Refusal::Closed(CloseReason::NothingToResume))?;
        if let Some(reason) = ended {
            return Err(Refusal::Ended(reason));
        }
        let previous = seat.attach_again(node);
        self.count_resume(node)?;
        self.attachment(role, previous, true, now)
    }

    fn look(&mut self, role: Role, epoch: u64, node: NodeId, now: Duration) -> Result<Attachment, Refusal> {
        if let Some(reason) = self.ended {
            return Err(Refusal::Ended(reason));
        }
        let seat = self.seat_mut(role).filter(|seat| seat.place.epoch == epoch);
        let seat = seat.ok_or(Refusal::Closed(CloseReason::Superseded))?;
        // A new number, so that everybody can tell that it is newer than its end.
        let previous = if seat.place.online { None } else { seat.attach_again(node) };
        self.attachment(role, previous, true, now)
    }

    fn count_resume(&mut self, node: NodeId) -> Result<(), Refusal> {
        self.resumes = self.resumes.saturating_add(1);
        if self.resumes > limits::MAX_RESUMES { Err(self.end(CloseReason::TooManyResumes, node)) } else { Ok(()) }
    }

    fn attachment(
        &self,
        role: Role,
        previous: Option<NodeId>,
        again: bool,
        now: Duration,
    ) -> Result<Attachment, Refusal> {
        let seat = self.seat(role).ok_or(Refusal::Closed(CloseReason::InternalError))?;
        Ok(Attachment {
            epoch: seat.place.epoch,
            expires_in: self.expires_in(now),
            peer: self.seat(role.peer()).map(|peer| peer.place),
            previous,
            joined: self.new.as_ref().map(|(_, joined)| *joined),
            public_key: self.offer.public_key.clone(),
            again,
            trace: self.trace,
        })
    }

    fn seat(&self, role: Role) -> Option<&Seat> {
        match role {
            Role::Old => Some(&self.old),
            Role::New => self.new.as_ref().map(|(seat, _)| seat),
        }
    }

    fn seat_mut(&mut self, role: Role) -> Option<&mut Seat> {
        match role {
            Role::Old => Some(&mut self.old),
            Role::New => self.new.as_mut().map(|(seat, _)| seat),
        }
    }

    fn expires_in(&self, now: Duration) -> Duration {
        self.opened_at.saturating_add(self.lifetime).saturating_sub(now)
    }

    fn expire(&mut self, now: Duration) {
        if self.expires_in(now).is_zero() {
            self.finish(CloseReason::Expired);
        }
    }

    /// Ends the session at the wish of a node, unless it has ended.
    fn end(&mut self, reason: CloseReason, by: NodeId) -> Refusal {
        if let Some(reason) = self.ended {
            return Refusal::Ended(reason);
        }
        self.finish(reason);
        let elsewhere = |role| self.seat(role).map(|seat| seat.place.node).filter(|node| *node != by);
        Refusal::EndedNow(reason, Role::BOTH.map(elsewhere))
    }

    /// What nobody will ask for again is dropped.
    fn finish(&mut self, reason: CloseReason) {
        self.offer.join_hashes = Vec::new();
        self.ended.get_or_insert(reason);
    }
}
