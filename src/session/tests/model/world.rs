//! The situation that the checker explores: a cluster, two apps, and what may still go wrong.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::cluster::{Cluster, Flaw, Heard, Letter, News, Node, Who};
use super::super::rig::cancel;
use super::app::{App, Greeting, Reaction, stranger_joins, stranger_resumes};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::message::{CancelReason, ClientMessage};
use crate::session::network_tag::Refuse;
use crate::session::node::PeerEvent;
use crate::session::route::{Outcome, Refusal, Route, Rules, Transition};
use crate::session::{ConnectionId, Session};

/// What may go wrong, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    /// An app loses its connection without the node noticing.
    pub(super) vanish: [u8; 2],
    /// A message between nodes is lost.
    pub(super) lose: u8,
    /// A message between nodes is delivered once more, later.
    pub(super) duplicate: u8,
    /// The directory's answer is on its way for as long as it likes.
    pub(super) late: u8,
    pub(super) crash: u8,
    pub(super) isolate: u8,
    pub(super) lose_newest: u8,
    pub(super) lose_all: u8,
    /// Somebody else who scanned the code joins.
    pub(super) intrude: u8,
    /// Somebody else tries to resume.
    pub(super) pretend: u8,
    pub(super) cancel: u8,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) old: App,
    pub(super) new: App,
    pub(super) left: Faults,
    /// The deadline has passed: nothing else happens.
    pub(super) over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Connect {
        who: Who,
        at: usize,
        late: bool,
    },
    Vanish(Who),
    /// A node notices that nobody is behind a connection.
    Notice {
        at: usize,
        id: ConnectionId,
    },
    Deliver(usize),
    Lose(usize),
    Duplicate(usize),
    Answer(usize),
    Look {
        at: usize,
        id: ConnectionId,
        late: bool,
    },
    Resend(Who),
    Cancel(Who),
    Intrude(usize),
    Pretend(usize),
    Crash(usize),
    Isolate(usize),
    PutBack(usize),
    LoseRecord {
        all: bool,
    },
    Deadline,
}

impl World {
    pub(super) fn new(nodes: u8, left: Faults, flaw: Option<Flaw>) -> Self {
        let mut cluster = Cluster::new(nodes);
        cluster.flaw = flaw;
        cluster.remembers = left.isolate + left.lose_newest + left.lose_all > 0;
        Self { cluster, old: App::new(Who::Old), new: App::new(Who::New), left, over: false }
    }

    pub(super) fn app(&self, who: Who) -> &App {
        if who == Who::Old { &self.old } else { &self.new }
    }

    pub(super) fn app_mut(&mut self, who: Who) -> &mut App {
        if who == Who::Old { &mut self.old } else { &mut self.new }
    }

    /// Whether an app may connect now: new scans what old shows.
    pub(super) fn may_connect(&self, who: Who) -> bool {
        let app = self.app(who);
        let can_scan = who == Who::Old || self.old.greeting == Greeting::Answered;
        app.connection.is_none() && app.over.is_none() && can_scan
    }

    pub(super) fn apply(&mut self, action: Action) {
        let cluster = &mut self.cluster;
        match action {
            Action::Connect { who, at, late } => {
                self.take_late(late);
                self.connect(who, at);
            }
            Action::Vanish(who) => {
                self.left.vanish[usize::from(who == Who::New)] -= 1;
                self.vanish(who);
            }
            Action::Notice { at, id } => cluster.hang_up(at, id),
            Action::Deliver(index) => cluster.deliver(index),
            Action::Lose(index) => {
                self.left.lose -= 1;
                cluster.letters.remove(index);
            }
            Action::Duplicate(index) => {
                self.left.duplicate -= 1;
                let letter = cluster.letters[index].clone();
                cluster.deliver(index);
                cluster.letters.push(letter);
            }
            Action::Answer(at) => cluster.answer(at),
            Action::Look { at, id, late } => {
                self.take_late(late);
                self.cluster.look(at, id);
            }
            Action::Resend(who) => self.resend(who),
            Action::Cancel(who) => {
                self.left.cancel -= 1;
                self.say(who, cancel());
            }
            Action::Intrude(at) => {
                self.left.intrude -= 1;
                cluster.connect(at, Who::Stranger, stranger_joins());
            }
            Action::Pretend(at) => {
                self.left.pretend -= 1;
                cluster.connect(at, Who::Stranger, stranger_resumes());
            }
            Action::Crash(at) => {
                self.left.crash -= 1;
                cluster.crash(at);
            }
            Action::Isolate(at) => {
                self.left.isolate -= 1;
                cluster.isolate(at);
            }
            Action::PutBack(at) => cluster.put_back(at),
            Action::LoseRecord { all } => {
                *(if all { &mut self.left.lose_all } else { &mut self.left.lose_newest }) -= 1;
                cluster.lose_record(all);
            }
            Action::Deadline => {
                cluster.reach_the_deadline();
                self.over = true;
            }
        }
        self.react();
        self.cluster.late = false;
        self.sort_letters();
    }

    fn take_late(&mut self, late: bool) {
        self.left.late -= u8::from(late);
        self.cluster.late = late;
    }

    pub(super) fn connect(&mut self, who: Who, at: usize) {
        let first = self.app_mut(who).greet();
        // Whatever is heard at once is heard on this connection.
        let id = self.cluster.connect(at, who, first);
        self.app_mut(who).connection = Some((at, id));
    }

    fn vanish(&mut self, who: Who) {
        if let Some((at, id)) = self.app(who).connection {
            self.cluster.vanish(at, id);
            self.app_mut(who).lose();
        }
    }

    pub(super) fn resend(&mut self, who: Who) {
        if let (Some(frame), Some((at, id))) = (self.app(who).resend(), self.app(who).connection) {
            self.cluster.send(at, id, &frame);
        }
    }

    fn say(&mut self, who: Who, message: ClientMessage) {
        if let Some((at, id)) = self.app(who).connection {
            self.cluster.say(at, id, message);
        }
    }

    /// The apps hear what was said to them, and answer at once.
    pub(super) fn react(&mut self) {
        while let Some((who, heard)) = self.cluster.heard.pop_front() {
            if who == Who::Stranger {
                continue;
            }
            if matches!(heard, Heard::Data(_)) && self.app(who).over.is_some() {
                self.cluster.marks.after_the_end = true;
            }
            let reaction = self.app_mut(who).hear(&heard);
            let connection = self.app(who).connection;
            match (reaction, connection) {
                (Reaction::Send(frame), Some((at, id))) => self.cluster.send(at, id, &frame),
                (Reaction::Complete, _) => self.say(who, ClientMessage::Complete {}),
                (Reaction::Distrust, _) => {
                    let reason = CancelReason::VerificationFailed;
                    self.say(who, ClientMessage::Cancel { reason });
                }
                (Reaction::Nothing | Reaction::Send(_), _) => {}
            }
        }
    }

    /// Between two nodes the order is kept; between different pairs of nodes there is none.
    fn sort_letters(&mut self) {
        self.cluster.letters.sort_by_key(|letter| (letter.from, letter.to));
    }

    /// Connections: those behind which nobody is any more, or those of the apps that are attached.
    pub(super) fn connections(&self, gone: bool) -> Vec<(usize, ConnectionId)> {
        let of = |(at, node): (usize, &Node)| {
            let wanted = |(_, who): &(&ConnectionId, &Who)| (**who == Who::Nobody) == gone;
            node.clients.iter().filter(wanted).map(|(id, _)| (at, *id)).collect::<Vec<_>>()
        };
        self.cluster.nodes.iter().enumerate().flat_map(of).collect()
    }

    /// Whether an app may send again: what it sent last is not on its way.
    pub(super) fn resends(&self, who: Who) -> bool {
        let is_on_its_way = |frame: [u8; 2]| {
            let is_same = |letter: &Letter| matches!(&letter.news, News::Said(PeerEvent::Data { frame: sent, .. }) if sent[..] == frame);
            self.cluster.letters.iter().any(is_same)
        };
        self.app(who).resend().is_some_and(|frame| !is_on_its_way(frame))
    }

    pub(super) fn has_completed(&self) -> bool {
        [&self.old, &self.new].into_iter().all(|app| app.over == Some(CloseReason::Completed))
    }

    /// How the record says that the session ended.
    pub(super) fn ended(&self) -> Option<CloseReason> {
        let mut route = self.cluster.route.clone();
        let rules =
            Rules { node: self.cluster.nodes[0].id, lifetime: super::super::rig::LIFETIME, refuse: Refuse::Nothing };
        let outcome =
            Route::apply(&mut route, Transition::Look { role: Role::Old, epoch: 0 }, rules, std::time::Duration::ZERO);
        if let Err(Refusal::Ended(reason)) = outcome { Some(reason) } else { None }
    }

    /// What tells two situations apart, whatever may still go wrong.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_all_but_faults(&mut hasher);
        hasher.finish()
    }

    fn hash_all_but_faults<H: Hasher>(&self, state: &mut H) {
        let Cluster { nodes, route, older, letters, marks, .. } = &self.cluster;
        (&self.old, &self.new, self.over, route, older, marks, letters.len()).hash(state);
        nodes.iter().for_each(|node| hash_node(node, state));
        letters.iter().for_each(|letter| hash_letter(letter, state));
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // After the deadline only what went wrong matters.
        if self.over {
            return self.cluster.marks.hash(state);
        }
        self.left.hash(state);
        self.hash_all_but_faults(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        (self.left, self.fingerprint()) == (other.left, other.fingerprint())
    }
}

fn hash_node<H: Hasher>(node: &Node, state: &mut H) {
    let Node { id, session, isolated, owes, known, clients, answers, gauge: _, heard_the_end, .. } = node;
    (id, isolated, owes, known, clients, heard_the_end, answers.len()).hash(state);
    for (id, outcome) in answers {
        id.hash(state);
        match outcome {
            Ok(outcome) => hash_outcome(outcome, state),
            Err(_) => 9_u8.hash(state),
        }
    }
    session.is_some().hash(state);
    if let Some(session) = session {
        hash_session(session, state);
    }
}

fn hash_session<H: Hasher>(session: &Session, hasher: &mut H) {
    let Session { settings: _, node: _, state, joined, connections, away, epochs, quotas: _, outputs } = session;
    assert!(outputs.is_empty());
    (state, joined.is_some(), connections, away, epochs).hash(hasher);
}

fn hash_outcome<H: Hasher>(outcome: &Outcome, state: &mut H) {
    match outcome {
        Ok(Some(at)) => (1_u8, at.epoch, at.peer, at.previous, at.joined.is_some(), at.again).hash(state),
        Ok(None) => 2_u8.hash(state),
        Err(Refusal::Closed(reason)) => (3_u8, reason).hash(state),
        Err(Refusal::Ended(reason)) => (4_u8, reason).hash(state),
        Err(Refusal::EndedNow(reason, elsewhere)) => (5_u8, reason, elsewhere).hash(state),
    }
}

fn hash_letter<H: Hasher>(letter: &Letter, state: &mut H) {
    (letter.from, letter.to).hash(state);
    match &letter.news {
        News::Gone(node) => (1_u8, node).hash(state),
        News::Said(PeerEvent::Attached { role, epoch, joined }) => (2_u8, role, epoch, joined.is_some()).hash(state),
        News::Said(PeerEvent::Left { role, epoch }) => (3_u8, role, epoch).hash(state),
        News::Said(PeerEvent::Data { role, epoch, frame }) => (4_u8, role, epoch, frame).hash(state),
        News::Said(PeerEvent::Ended { reason }) => (5_u8, reason).hash(state),
    }
}
