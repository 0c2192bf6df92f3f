//! A session and its route record on a bench: connections are numbers, time is a variable, and every rule that must
//! hold at all times is checked after every event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::protocol::Role;
use crate::protocol::close::{CloseReason, Scope};
use crate::protocol::ids::{JoinHash, JoinProof, PublishedKey, ResumeHash, ResumeToken};
use crate::protocol::limits;
use crate::protocol::message::{CancelReason, ClientMessage, ServerMessage};
use crate::session::network_tag::{Family, NetworkTag, Refuse, System};
use crate::session::node::NodeId;
use crate::session::route::{Route, Rules};
use crate::session::{ConnectionId, Note, Output, Session, Settings};

pub(super) const LIFETIME: Duration = Duration::from_secs(20);
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// What a connection of the bench has seen, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Message(ServerMessage),
    Data(Bytes),
    Ping,
    Close(CloseReason),
    Cut,
}

#[derive(Clone, Debug)]
pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) route: Option<Route>,
    pub(super) now: Instant,
    pub(super) notes: Vec<Note>,
    pub(super) finished: bool,
    start: Instant,
    opened_at: Option<Instant>,
    ended: Option<CloseReason>,
    roles: BTreeMap<ConnectionId, Role>,
    seen: BTreeMap<ConnectionId, Vec<Seen>>,
    closing_since: BTreeMap<ConnectionId, Instant>,
    fresh_joins: u32,
    forwarded: [u32; 2],
    settings: Settings,
}

pub(super) fn settings() -> Settings {
    Settings { lifetime: LIFETIME, intervals: vec![INTERVAL, LIFETIME], refuse: Refuse::Nothing }
}

pub(super) fn node(number: u8) -> NodeId {
    NodeId::from_random([number; 16])
}

pub(super) fn tag(address: u8) -> NetworkTag {
    NetworkTag {
        key_id: [1; 4],
        family: Family::V4,
        address: [address; 8],
        prefix: [address; 8],
        system: System::Unlisted,
        country: None,
    }
}

pub(super) fn proof(frame: u8) -> JoinProof {
    JoinProof::new([frame; 32])
}

/// The resume token of an app; 0 is old, 1 the first new app, others are strangers.
pub(super) fn token(app: u8) -> ResumeToken {
    ResumeToken::new([0x80 | app; 32])
}

pub(super) fn open() -> ClientMessage {
    open_with(INTERVAL, 4)
}

pub(super) fn open_with(interval: Duration, frames: u8) -> ClientMessage {
    ClientMessage::Open {
        public_key: PublishedKey::new(vec![4; 65]).unwrap(),
        join_hashes: (0..frames).map(|frame| JoinHash::of(&proof(frame))).collect(),
        interval_ms: u64::try_from(interval.as_millis()).unwrap(),
        resume_hash: ResumeHash::of(&token(0)),
        token: None,
    }
}

pub(super) fn join(frame: u8, app: u8) -> ClientMessage {
    ClientMessage::Join { frame, proof: proof(frame), resume_hash: ResumeHash::of(&token(app)) }
}

pub(super) fn resume(app: u8) -> ClientMessage {
    ClientMessage::Resume { token: token(app) }
}

pub(super) fn cancel() -> ClientMessage {
    ClientMessage::Cancel { reason: CancelReason::User }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(settings())
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of simulated time")]
    pub(super) fn with(settings: Settings) -> Self {
        let start = Instant::now();
        Self {
            session: Session::new(settings.clone(), node(1)),
            route: None,
            now: start,
            notes: Vec::new(),
            finished: false,
            start,
            opened_at: None,
            ended: None,
            roles: BTreeMap::new(),
            seen: BTreeMap::new(),
            closing_since: BTreeMap::new(),
            fresh_joins: 0,
            forwarded: [0; 2],
            settings,
        }
    }

    /// Connects with the smallest free number, so that equal situations look equal.
    pub(super) fn connect(&mut self, role: Role) -> ConnectionId {
        self.connect_from(role, 1)
    }

    pub(super) fn connect_from(&mut self, role: Role, address: u8) -> ConnectionId {
        let id = (0..100).map(ConnectionId).find(|id| !self.roles.contains_key(id)).unwrap();
        if std::mem::take(&mut self.finished) {
            // What the registry does: a finished actor is replaced by a new one.
            self.session = Session::new(self.settings.clone(), node(1));
        }
        self.roles.insert(id, role);
        self.seen.insert(id, Vec::new());
        self.session.handle_connect(id, role, tag(address), self.now);
        self.pump();
        id
    }

    pub(super) fn say(&mut self, id: ConnectionId, message: ClientMessage) {
        self.session.handle_message(id, message, self.now);
        self.pump();
    }

    /// Like [`Self::say`], but the directory's answer is held back until [`Self::pump`].
    pub(super) fn say_unanswered(&mut self, id: ConnectionId, message: ClientMessage) {
        self.session.handle_message(id, message, self.now);
    }

    pub(super) fn send(&mut self, id: ConnectionId, frame: &[u8]) {
        self.session.handle_data(id, Bytes::copy_from_slice(frame), self.now);
        self.pump();
    }

    pub(super) fn heartbeat(&mut self, id: ConnectionId) {
        self.session.handle_heartbeat(id, self.now);
        self.pump();
    }

    pub(super) fn violate(&mut self, id: ConnectionId, reason: CloseReason) {
        self.session.handle_violation(id, reason, None, self.now);
        self.pump();
    }

    pub(super) fn hang_up(&mut self, id: ConnectionId) {
        self.forget(id);
        self.session.handle_disconnect(id);
        self.pump();
    }

    /// Lets time pass; the timer fires exactly when the session asked for it.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= until) {
            assert!(due >= self.now, "a deadline lies in the past");
            self.now = due;
            self.session.handle_timeout(due);
            self.pump();
        }
        self.now = until;
        self.check();
    }

    /// A connection with its role's first message said.
    pub(super) fn old(&mut self) -> ConnectionId {
        let id = self.connect(Role::Old);
        self.say(id, open());
        id
    }

    pub(super) fn new_app(&mut self) -> ConnectionId {
        let id = self.connect(Role::New);
        self.say(id, join(0, 1));
        id
    }

    /// Takes what a connection has seen so far.
    pub(super) fn take(&mut self, id: ConnectionId) -> Vec<Seen> {
        self.seen.get_mut(&id).map(std::mem::take).unwrap_or_default()
    }

    /// Drops what was seen and noted: nothing that follows depends on it.
    pub(super) fn forget_the_past(&mut self) {
        self.notes.clear();
        self.seen.retain(|id, _| self.roles.contains_key(id));
        self.seen.values_mut().for_each(Vec::clear);
    }

    /// The reason with which a connection was closed, if it was.
    pub(super) fn closed(&self, id: ConnectionId) -> Option<CloseReason> {
        self.seen.get(&id)?.iter().find_map(|seen| match seen {
            Seen::Close(reason) => Some(*reason),
            Seen::Message(_) | Seen::Data(_) | Seen::Ping | Seen::Cut => None,
        })
    }

    pub(super) fn connections(&self, role: Role) -> Vec<ConnectionId> {
        let open = |id: &&ConnectionId| !self.closing_since.contains_key(id);
        self.roles.iter().filter(|(_, r)| **r == role).map(|(id, _)| id).filter(open).copied().collect()
    }

    pub(super) fn ended(&self) -> Option<CloseReason> {
        self.ended
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn pump(&mut self) {
        while let Some(output) = self.session.poll_output() {
            self.carry_out(output);
        }
        self.check();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send(id, message) => {
                assert!(!self.closing_since.contains_key(&id), "{message:?} after the close frame");
                if let ServerMessage::Opened { .. } = message {
                    self.opened_at = Some(self.now);
                }
                self.see(id, Seen::Message(message));
            }
            Output::Forward(id, frame) => {
                assert_eq!(self.ended, None, "data after the end");
                assert!(!self.closing_since.contains_key(&id), "data after the close frame");
                let role = self.roles[&id];
                self.forwarded[usize::from(role == Role::New)] += 1;
                self.see(id, Seen::Data(frame));
            }
            Output::Ping(id) => self.see(id, Seen::Ping),
            Output::Close(id, reason, _) => {
                self.closing_since.insert(id, self.now);
                self.see(id, Seen::Close(reason));
            }
            Output::Cut(id) => {
                self.see(id, Seen::Cut);
                self.forget(id);
            }
            Output::Transition(id, transition) => {
                let now = self.elapsed();
                let Settings { lifetime, refuse, .. } = self.settings;
                let rules = Rules { node: node(1), lifetime, refuse };
                let outcome = Route::apply(&mut self.route, transition, rules, now);
                if let Some(id) = id {
                    self.session.handle_outcome(id, Ok(outcome), self.now);
                }
            }
            Output::Tell(node, event) => panic!("there is no node {node} to be told {event:?}"),
            Output::Note(note) => self.take_note(note),
            Output::Finished => self.finished = true,
        }
    }

    fn take_note(&mut self, note: Note) {
        match note {
            Note::Joined(_) => self.fresh_joins += 1,
            Note::Ended { reason, overshoot, .. } => {
                assert_eq!(self.ended.replace(reason), None, "it ends once");
                assert_eq!(overshoot.is_some(), reason == CloseReason::Expired);
                assert_eq!(reason.scope(), Scope::Session);
            }
            // The id of a forgotten session is free again.
            Note::Opened => (self.ended, self.fresh_joins, self.forwarded) = (None, 0, [0; 2]),
            Note::MovedIn { .. } | Note::MovedOut { .. } => panic!("there is no other node"),
            Note::Paired
            | Note::JoinRefused(_)
            | Note::Resumed(_)
            | Note::NotResumed(..)
            | Note::Relayed(..)
            | Note::Dropped(_)
            | Note::Closed(..) => {}
        }
        self.notes.push(note);
    }

    fn see(&mut self, id: ConnectionId, seen: Seen) {
        self.seen.get_mut(&id).expect("only connections that exist are addressed").push(seen);
    }

    fn forget(&mut self, id: ConnectionId) {
        self.roles.remove(&id);
        self.closing_since.remove(&id);
    }

    /// DESIGN.md section 5, "rules that never bend".
    fn check(&self) {
        assert!(self.fresh_joins <= 1, "one join");
        assert!(self.forwarded.iter().all(|frames| *frames <= limits::MAX_DIRECTION_FRAMES), "the quota");
        for role in Role::BOTH {
            let attached = self.session.connections.iter().filter(|c| c.role == role && c.is_attached());
            assert!(attached.count() <= 1, "one connection speaks for a role");
        }
        if let Some(opened_at) = self.opened_at {
            assert!(self.now <= opened_at + self.settings.lifetime || !self.session.is_open(), "the hard lifetime");
            if self.session.is_open() {
                let due = self.session.poll_timeout().expect("an open session has a deadline");
                assert!(due <= opened_at + self.settings.lifetime, "nothing extends the deadline");
            }
        }
        if self.ended.is_some() {
            assert!(!self.session.is_open(), "an ended session is not open");
        }
        for since in self.closing_since.values() {
            assert!(self.now <= *since + limits::CLOSE_GRACE, "a closing socket is cut in time");
        }
        let known: BTreeSet<_> = self.session.connections.iter().map(|c| c.id).collect();
        assert!(self.roles.keys().all(|id| known.contains(id)), "no connection is forgotten");
    }
}

/// A session that both apps are in, and what they have heard so far is taken.
pub(super) fn joined() -> (Rig, ConnectionId, ConnectionId) {
    let mut rig = Rig::new();
    let old = rig.old();
    let new = rig.new_app();
    rig.take(old);
    rig.take(new);
    (rig, old, new)
}

pub(super) fn messages(seen: Vec<Seen>) -> Vec<ServerMessage> {
    let message = |seen| match seen {
        Seen::Message(message) => Some(message),
        Seen::Data(_) | Seen::Ping | Seen::Close(_) | Seen::Cut => None,
    };
    seen.into_iter().filter_map(message).collect()
}
