//! Several nodes on a bench: real sessions, one shared record, and what the nodes tell each other, on its way.
//!
//! Whoever drives it decides what arrives, when, and what is lost. No apps: they are behind connections, and what they
//! hear waits in [`Cluster::heard`].

mod parts;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::rig::{LIFETIME, node as node_id};
use crate::protocol::Role;
use crate::protocol::message::ClientMessage;
use crate::session::network_tag::{NetworkTag, Refuse};
use crate::session::node::{NodeId, PeerEvent};
use crate::session::route::{Outcome, Route, Rules, Transition};
use crate::session::{ConnectionId, Note, Output, Session, Settings};
pub(super) use parts::{Flaw, Gauge, Heard, Letter, Marks, News, Node, Who};
use parts::{merged, with_present_epoch};

#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) route: Option<Route>,
    /// The record before its newest change.
    pub(super) older: Option<Route>,
    pub(super) letters: Vec<Letter>,
    pub(super) heard: VecDeque<(Who, Heard)>,
    pub(super) marks: Marks,
    pub(super) flaw: Option<Flaw>,
    /// Answers of the directory wait until somebody delivers them.
    pub(super) late: bool,
    /// Whether nodes remember records to put them back.
    pub(super) remembers: bool,
    before_join: Option<Route>,
    pub(super) now: Instant,
    start: Instant,
    generations: u8,
}

impl Cluster {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of simulated time")]
    pub(super) fn new(nodes: u8) -> Self {
        let now = Instant::now();
        Self {
            nodes: (1..=nodes).map(|number| Node::new(node_id(number))).collect(),
            route: None,
            older: None,
            letters: Vec::new(),
            heard: VecDeque::new(),
            marks: Marks::default(),
            flaw: None,
            late: false,
            remembers: false,
            before_join: None,
            now,
            start: now,
            generations: nodes,
        }
    }

    fn settings() -> Settings {
        Settings { lifetime: LIFETIME, intervals: vec![LIFETIME], refuse: Refuse::Nothing }
    }

    /// A connection with the smallest free number, and its first message.
    pub(super) fn connect(&mut self, at: usize, who: Who, first: ClientMessage) -> ConnectionId {
        let now = self.now;
        let node = &mut self.nodes[at];
        let session = node.session.get_or_insert_with(|| Session::new(Self::settings(), node.id));
        let is_used = |id: &ConnectionId| {
            session.connections.iter().any(|c| c.id == *id) || node.answers.iter().any(|(answered, _)| answered == id)
        };
        let id = (0..100).map(ConnectionId).find(|id| !is_used(id)).unwrap();
        node.clients.insert(id, who);
        session.handle_connect(id, who.role(), NetworkTag::UNKNOWN, now);
        self.say(at, id, first);
        id
    }

    pub(super) fn say(&mut self, at: usize, id: ConnectionId, message: ClientMessage) {
        let now = self.now;
        self.drive(at, |session| session.handle_message(id, message, now));
    }

    pub(super) fn send(&mut self, at: usize, id: ConnectionId, frame: &[u8]) {
        let now = self.now;
        self.drive(at, |session| session.handle_data(id, Bytes::copy_from_slice(frame), now));
    }

    /// The app is gone, and the node has not noticed.
    pub(super) fn vanish(&mut self, at: usize, id: ConnectionId) {
        if let Some(who) = self.nodes[at].clients.get_mut(&id) {
            *who = Who::Nobody;
        }
    }

    /// The node notices that a connection is gone.
    pub(super) fn hang_up(&mut self, at: usize, id: ConnectionId) {
        self.nodes[at].clients.remove(&id);
        self.drive(at, |session| session.handle_disconnect(id));
    }

    /// What a tick does if the peer is not on this node.
    pub(super) fn look(&mut self, at: usize, id: ConnectionId) {
        self.drive(at, |session| session.look_if_alone(id));
    }

    /// The oldest answer of the directory arrives at its node.
    pub(super) fn answer(&mut self, at: usize) {
        let now = self.now;
        if let Some((id, outcome)) = self.nodes[at].answers.pop_front() {
            self.drive(at, |session| session.handle_outcome(id, outcome, now));
        }
    }

    pub(super) fn deliver(&mut self, index: usize) {
        let Letter { from, to, news } = self.letters.remove(index);
        self.hand(from, to, news);
    }

    /// Delivers everything, and what comes of it.
    pub(super) fn deliver_all(&mut self) {
        while !self.letters.is_empty() {
            self.deliver(0);
        }
    }

    fn hand(&mut self, from: NodeId, to: NodeId, news: News) {
        let now = self.now;
        let Some(at) = self.nodes.iter().position(|node| node.id == to && !node.isolated) else { return };
        let flaw = self.flaw;
        if matches!(news, News::Said(PeerEvent::Ended { .. })) {
            self.nodes[at].heard_the_end = self.nodes[at].session.is_some();
            if flaw == Some(Flaw::GoesOnAfterTheEnd) {
                return;
            }
        }
        self.drive(at, |session| match news {
            News::Said(event) if flaw == Some(Flaw::NoEpochs) => {
                let event = with_present_epoch(session, event);
                session.handle_peer_event(from, event, now);
            }
            News::Said(event) => session.handle_peer_event(from, event, now),
            News::Gone(node) => session.handle_node_gone(node),
        });
    }

    /// The node dies, and another one starts in its place.
    pub(super) fn crash(&mut self, at: usize) {
        self.generations += 1;
        let dead = std::mem::replace(&mut self.nodes[at], Node::new(node_id(self.generations)));
        self.letters.retain(|letter| letter.to != dead.id);
        let lost = dead.clients.into_values().filter(|who| *who != Who::Nobody);
        self.heard.extend(lost.map(|who| (who, Heard::Lost)));
    }

    pub(super) fn isolate(&mut self, at: usize) {
        let id = self.nodes[at].id;
        self.nodes[at].isolated = true;
        self.letters.retain(|letter| letter.to != id);
        self.drive(at, Session::handle_isolated);
    }

    /// The node reaches the others again, puts back what it knows and looks around.
    pub(super) fn put_back(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        (node.isolated, node.owes) = (false, false);
        if node.known.is_some() {
            self.route = merged(self.route.take(), node.known.as_ref());
            node.known = self.route.clone();
        }
        self.drive(at, Session::handle_reconnected);
    }

    /// The record is replaced by what it was before its newest change, or by nothing.
    pub(super) fn lose_record(&mut self, all: bool) {
        self.route = self.older.take().filter(|_| !all);
        self.nodes.iter_mut().for_each(|node| node.owes = node.session.is_some() || node.known.is_some());
    }

    /// Time passes until the session's lifetime is over; all that is on its way arrives after that.
    pub(super) fn reach_the_deadline(&mut self) {
        self.now += LIFETIME;
        let now = self.now;
        for at in 0..self.nodes.len() {
            self.drive(at, |session| session.handle_timeout(now));
        }
        for at in 0..self.nodes.len() {
            while !self.nodes[at].answers.is_empty() {
                self.answer(at);
            }
        }
        self.deliver_all();
        // Whatever is due at once is done at once.
        for at in 0..self.nodes.len() {
            self.drive(at, |session| session.handle_timeout(now));
        }
        let is_open = |node: &Node| node.session.as_ref().is_some_and(Session::is_open);
        self.marks.open_too_long |= self.nodes.iter().any(is_open);
    }

    fn drive(&mut self, at: usize, handle: impl FnOnce(&mut Session)) {
        if let Some(session) = &mut self.nodes[at].session {
            handle(session);
            self.pump(at);
        }
    }

    fn pump(&mut self, at: usize) {
        while let Some(output) = self.nodes[at].session.as_mut().and_then(Session::poll_output) {
            self.carry_out(at, output);
        }
        let node = &mut self.nodes[at];
        if let Some(session) = &mut node.session {
            session.quotas = super::super::PerRole::default();
            // What the registry does: a finished session is replaced by a new one.
            if std::mem::take(&mut node.finished) && session.connections.is_empty() {
                node.session = None;
                node.heard_the_end = false;
            }
        }
        self.marks.miscounted |= node.gauge != node.expected_gauge();
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        match output {
            Output::Send(id, message) => self.hear(at, id, Heard::Message(message)),
            Output::Forward(id, frame) => self.forward(at, id, frame),
            Output::Ping(_) => {}
            Output::Close(id, reason, _) => {
                self.hear(at, id, Heard::Closed(reason));
                self.nodes[at].clients.remove(&id);
                if let Some(session) = &mut self.nodes[at].session {
                    session.handle_disconnect(id);
                }
            }
            Output::Cut(id) => drop(self.nodes[at].clients.remove(&id)),
            Output::Transition(id, transition) => self.transition(at, id, transition),
            Output::Tell(to, event) => self.post(at, to, event),
            Output::Note(note) => self.take_note(at, note),
            Output::Finished => self.nodes[at].finished = true,
        }
    }

    fn hear(&mut self, at: usize, id: ConnectionId, heard: Heard) {
        let who = self.nodes[at].clients.get(&id).copied().filter(|who| *who != Who::Nobody);
        self.heard.extend(who.map(|who| (who, heard)));
    }

    /// The first byte of a frame says who sent it.
    fn forward(&mut self, at: usize, id: ConnectionId, frame: Bytes) {
        let to = self.nodes[at].clients.get(&id).copied().unwrap_or(Who::Nobody);
        let node = &self.nodes[at];
        self.marks.after_the_end |= node.heard_the_end || !node.session.as_ref().is_some_and(Session::is_open);
        let sender = if frame.first() == Some(&0) { Role::Old } else { Role::New };
        let is_stranger = to == Who::Stranger && self.marks.joined_by != Some(Who::Stranger);
        self.marks.to_a_third_party |= is_stranger || (to != Who::Nobody && to.role() == sender);
        self.hear(at, id, Heard::Data(frame));
    }

    fn transition(&mut self, at: usize, id: Option<ConnectionId>, transition: Transition) {
        if self.flaw == Some(Flaw::NoLooks) && matches!(transition, Transition::Look { .. }) {
            return self.take_answer(at, id, Err(Duration::ZERO));
        }
        let is_resume = matches!(transition, Transition::Resume { .. });
        let is_join = matches!(transition, Transition::Join { .. });
        let outcome = self.apply(at, transition);
        if let (true, Ok(Ok(Some(attachment))), Some(id)) = (is_join, &outcome, id)
            && !attachment.again
        {
            self.marks.joins += 1;
            self.marks.joined_by = self.marks.joined_by.or(self.nodes[at].clients.get(&id).copied());
        }
        self.take_answer(at, id, outcome);
        if is_resume
            && self.flaw == Some(Flaw::ResumeProlongs)
            && let Some(Session { state: super::super::State::Open { deadline, .. }, .. }) = &mut self.nodes[at].session
        {
            *deadline += LIFETIME;
        }
    }

    fn take_answer(&mut self, at: usize, id: Option<ConnectionId>, outcome: Result<Outcome, Duration>) {
        let now = self.now;
        match (id, &mut self.nodes[at].session) {
            (Some(id), _) if self.late => self.nodes[at].answers.push_back((id, outcome)),
            (Some(id), Some(session)) => session.handle_outcome(id, outcome, now),
            _ => {}
        }
    }

    /// What the directory does, when it is reached.
    fn apply(&mut self, at: usize, transition: Transition) -> Result<Outcome, Duration> {
        let elapsed = self.now - self.start;
        let is_settling = self.nodes.iter().any(|node| node.owes);
        let node = &mut self.nodes[at];
        let rules = Rules { node: node.id, lifetime: LIFETIME, refuse: Refuse::Nothing };
        if node.isolated {
            if matches!(transition, Transition::Leave { .. } | Transition::End { .. }) && node.known.is_some() {
                drop(Route::apply(&mut node.known, transition, rules, elapsed));
            }
            return Err(Duration::from_secs(1));
        }
        let mut route = merged(self.route.clone(), node.known.as_ref());
        let is_join = matches!(transition, Transition::Join { .. });
        let takes_a_seat = is_join || matches!(transition, Transition::Resume { .. });
        if is_settling && (takes_a_seat || route.is_none()) && !matches!(transition, Transition::Open { .. }) {
            return Err(Duration::from_secs(1));
        }
        let transition = match (self.flaw, transition) {
            (Some(Flaw::AnyTokenResumes), Transition::Resume { role: Role::New, .. }) => {
                let hash = crate::protocol::ids::ResumeHash::of(&super::rig::token(1));
                Transition::Resume { role: Role::New, hash }
            }
            (_, transition) => transition,
        };
        if is_join && self.flaw == Some(Flaw::JoinAgain) {
            match &self.before_join {
                Some(before) => route = Some(before.clone()),
                None => self.before_join = route.clone(),
            }
        }
        let outcome = Route::apply(&mut route, transition, rules, elapsed);
        if self.route != route {
            let older = std::mem::replace(&mut self.route, route);
            if self.remembers {
                self.older = older;
                node.known = self.route.clone();
            }
        }
        Ok(outcome)
    }

    fn post(&mut self, at: usize, to: NodeId, event: PeerEvent) {
        let from = self.nodes[at].id;
        if self.nodes[at].isolated {
            return;
        }
        let is_there = self.nodes.iter().any(|node| node.id == to && !node.isolated);
        let (to, news) = if is_there { (to, News::Said(event)) } else { (from, News::Gone(to)) };
        let letter = Letter { from, to, news };
        // Saying the same twice before it is heard is saying it once: otherwise there is no end of situations.
        if !self.letters.contains(&letter) {
            self.letters.push(letter);
        }
    }

    fn take_note(&mut self, at: usize, note: Note) {
        let gauge = &mut self.nodes[at].gauge;
        match note {
            Note::Opened => gauge.waiting += 1,
            Note::Paired => (gauge.waiting, gauge.joined) = (gauge.waiting - 1, gauge.joined + 1),
            Note::MovedIn { joined } => gauge.add(joined, 1),
            Note::MovedOut { .. } if self.flaw == Some(Flaw::MovedOutUnreported) => {}
            Note::MovedOut { joined } | Note::Ended { joined, .. } => gauge.add(joined, -1),
            Note::Joined(_)
            | Note::JoinRefused(_)
            | Note::Resumed(_)
            | Note::NotResumed(..)
            | Note::Relayed(..)
            | Note::Dropped(_)
            | Note::Closed(..) => {}
        }
    }
}
