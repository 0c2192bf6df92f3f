//! A relay small enough to be read at a glance, for these tests only: it keeps to the protocol, and counts. The real
//! one is tested with these machines elsewhere.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::ids::{JoinHash, PublishedKey, ResumeHash};
use crate::protocol::limits;
use crate::protocol::message::{CancelReason, ClientMessage, JoinedPeer, ServerMessage};
use crate::protocol::network::{Country, Network};

/// Something on its way from the relay to an app.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Down {
    Text(String),
    Binary(Bytes),
    Pong,
    Close(u16),
}

#[derive(Debug, Default)]
struct Seat {
    resume_hash: Option<ResumeHash>,
    attached: bool,
    /// The close frame went out; what still comes over this connection is nobody's.
    closing: bool,
    /// Of the newest connection.
    pings: u32,
    frames: u32,
    bytes: u64,
}

#[derive(Debug)]
struct Opened {
    at: Instant,
    public_key: PublishedKey,
    join_hashes: Vec<JoinHash>,
    interval: Duration,
}

#[derive(Debug)]
pub(super) struct Relay {
    opened: Option<Opened>,
    pub(super) joined: Option<JoinedPeer>,
    pub(super) network: Network,
    seats: [Seat; 2],
    pub(super) resumes: u32,
    pub(super) ended: Option<CloseReason>,
    pub(super) down: [VecDeque<Down>; 2],
}

pub(super) fn at(role: Role) -> usize {
    usize::from(role == Role::New)
}

impl Relay {
    pub(super) fn new() -> Self {
        Self {
            opened: None,
            joined: None,
            network: Network::SameAddress,
            seats: Default::default(),
            resumes: 0,
            ended: None,
            down: Default::default(),
        }
    }

    /// Frames and bytes that a party has sent.
    pub(super) fn used(&self, role: Role) -> (u32, u64) {
        (self.seats[at(role)].frames, self.seats[at(role)].bytes)
    }

    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.opened.as_ref().filter(|_| self.ended.is_none()).map(|opened| opened.at + limits::SESSION_LIFETIME)
    }

    pub(super) fn say(&mut self, to: Role, message: &ServerMessage) {
        self.down[at(to)].push_back(Down::Text(message.encode()));
    }

    /// A party has a new connection.
    pub(super) fn connect(&mut self, role: Role) {
        self.seats[at(role)].closing = false;
        self.seats[at(role)].pings = 0;
    }

    /// Pings on a party's newest connection.
    pub(super) fn pings(&self, role: Role) -> u32 {
        self.seats[at(role)].pings
    }

    /// A ping of a party arrived.
    pub(super) fn ping(&mut self, from: Role) {
        let seat = &mut self.seats[at(from)];
        if !seat.closing {
            assert!(seat.attached, "{from} may not ping before its first message is answered");
            seat.pings += 1;
            self.down[at(from)].push_back(Down::Pong);
        }
    }

    pub(super) fn close(&mut self, role: Role, reason: CloseReason) {
        let message = ServerMessage::ended(reason, None).encode();
        self.close_with(role, [Down::Text(message), Down::Close(reason.code())]);
    }

    /// Closes a connection, saying this.
    pub(super) fn close_with(&mut self, role: Role, last: impl IntoIterator<Item = Down>) {
        self.seats[at(role)].closing = true;
        self.down[at(role)].extend(last);
        self.leave(role);
    }

    pub(super) fn end(&mut self, reason: CloseReason) {
        self.ended.get_or_insert(reason);
        for role in Role::BOTH {
            if std::mem::take(&mut self.seats[at(role)].attached) {
                self.close(role, reason);
            }
        }
    }

    /// A party's connection is gone.
    pub(super) fn leave(&mut self, role: Role) {
        if std::mem::take(&mut self.seats[at(role)].attached) && self.seats[at(role.peer())].attached {
            self.say(role.peer(), &ServerMessage::PeerOffline {});
        }
    }

    pub(super) fn text(&mut self, from: Role, text: &str, now: Instant) {
        let message = ClientMessage::decode(text).expect("an app says only what the protocol has");
        if self.seats[at(from)].closing {
            return;
        }
        if let Some(reason) = self.ended {
            return self.close(from, reason);
        }
        let attached = self.seats[at(from)].attached;
        match (attached, message) {
            (false, ClientMessage::Open { public_key, join_hashes, interval_ms, resume_hash, .. }) => {
                if self.opened.is_some() {
                    return self.close(from, CloseReason::AlreadyOpen);
                }
                let interval = Duration::from_millis(interval_ms);
                self.opened = Some(Opened { at: now, public_key, join_hashes, interval });
                self.attach(from, Some(resume_hash));
                self.say(from, &ServerMessage::Opened { expires_in_ms: self.left(now) });
            }
            (false, ClientMessage::Join { frame, proof, resume_hash }) => {
                self.join(frame, &JoinHash::of(&proof), resume_hash, now);
            }
            (false, ClientMessage::Resume { token }) => self.resume(from, &ResumeHash::of(&token), now),
            (true, ClientMessage::Cancel { reason }) => self.end(match (reason, from) {
                (CancelReason::User, Role::Old) => CloseReason::CancelledByOld,
                (CancelReason::User, Role::New) => CloseReason::CancelledByNew,
                (CancelReason::WrongCode, _) => CloseReason::WrongCode,
                (CancelReason::CodeTimeout, _) => CloseReason::CodeTimeout,
                (CancelReason::VerificationFailed, _) => CloseReason::VerificationFailed,
            }),
            (true, ClientMessage::Complete {}) if from == Role::Old => self.end(CloseReason::Completed),
            (_, message) => panic!("{from} may not say {message:?} now"),
        }
    }

    /// Forwards a data frame; `None` if the peer is away.
    pub(super) fn binary(&mut self, from: Role, frame: Bytes) -> Option<Bytes> {
        if self.seats[at(from)].closing {
            return None;
        }
        assert!(self.seats[at(from)].attached && self.joined.is_some(), "{from} may not send data now");
        let seat = &mut self.seats[at(from)];
        seat.frames += 1;
        seat.bytes += u64::try_from(frame.len()).unwrap();
        assert!(seat.frames <= limits::MAX_DIRECTION_FRAMES, "{from} has sent too many frames");
        assert!(seat.bytes <= limits::MAX_DIRECTION_BYTES, "{from} has sent too many bytes");
        self.seats[at(from.peer())].attached.then_some(frame)
    }

    fn join(&mut self, frame: u8, hash: &JoinHash, resume_hash: ResumeHash, now: Instant) {
        let Some(opened) = &self.opened else { return self.close(Role::New, CloseReason::UnknownSession) };
        if opened.join_hashes.get(usize::from(frame)) != Some(hash) {
            return self.close(Role::New, CloseReason::BadJoinProof);
        }
        let public_key = opened.public_key.clone();
        let again = self.seats[at(Role::New)].resume_hash.as_ref() == Some(&resume_hash);
        let shown = (now - opened.at).as_millis() / opened.interval.as_millis();
        if !again && !(shown.saturating_sub(1)..=shown).contains(&u128::from(frame)) {
            return self.close(Role::New, CloseReason::StaleFrame);
        }
        if !again && self.joined.is_some() {
            return self.end(CloseReason::ScannedTwice);
        }
        let joined = JoinedPeer { frame, network: self.network, country: Country::Unknown };
        self.joined = Some(joined);
        self.attach(Role::New, Some(resume_hash));
        if self.seats[at(Role::Old)].attached {
            let online = ServerMessage::PeerOnline {};
            self.say(Role::Old, &if again { online } else { ServerMessage::PeerJoined(joined) });
        }
        let peer_online = self.seats[at(Role::Old)].attached;
        self.say(Role::New, &ServerMessage::Joined { expires_in_ms: self.left(now), public_key, peer_online });
    }

    fn resume(&mut self, role: Role, hash: &ResumeHash, now: Instant) {
        if self.seats[at(role)].resume_hash.as_ref() != Some(hash) {
            return self.close(role, CloseReason::NothingToResume);
        }
        self.resumes += 1;
        if self.resumes > limits::MAX_RESUMES {
            self.seats[at(role)].attached = true;
            return self.end(CloseReason::TooManyResumes);
        }
        self.attach(role, None);
        if self.seats[at(role.peer())].attached {
            self.say(role.peer(), &ServerMessage::PeerOnline {});
        }
        let message = ServerMessage::Resumed {
            expires_in_ms: self.left(now),
            peer_online: self.seats[at(role.peer())].attached,
            joined: self.joined.filter(|_| role == Role::Old),
            public_key: self.opened.as_ref().map(|opened| opened.public_key.clone()).filter(|_| role == Role::New),
        };
        self.say(role, &message);
    }

    fn attach(&mut self, role: Role, resume_hash: Option<ResumeHash>) {
        let seat = &mut self.seats[at(role)];
        seat.attached = true;
        seat.resume_hash = resume_hash.or(seat.resume_hash.take());
    }

    fn left(&self, now: Instant) -> u64 {
        let expires_at = self.expires_at().unwrap_or(now);
        u64::try_from(expires_at.saturating_duration_since(now).as_millis()).unwrap()
    }
}
