//! The relay of the simulation: the real session core and route record, without actors. Every rule that must hold at
//! all times is checked at everything that it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::frame::{FrameKind, Header};
use handoff_relay::protocol::limits;
use handoff_relay::protocol::message::{ClientMessage, ServerMessage};
use handoff_relay::session::network_tag::{NetworkTag, Refuse};
use handoff_relay::session::node::{NodeId, PeerEvent};
use handoff_relay::session::route::{Route, Rules};
use handoff_relay::session::{ConnectionId, Note, Output, Session, Settings};

/// From the relay to an app.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Text(String),
    Data(Bytes),
    Ping,
    Pong,
    /// The close frame.
    Close(u16),
    /// The socket is gone.
    Gone,
}

#[derive(Debug)]
struct Node {
    session: Session,
    finished: bool,
}

#[derive(Debug)]
pub(super) struct Relay {
    settings: Settings,
    start: Instant,
    nodes: Vec<Node>,
    route: Option<Route>,
    /// What the nodes tell each other, oldest first.
    told: VecDeque<(NodeId, NodeId, PeerEvent)>,
    /// Node, role, and whether the app behind it is one that should be in the session.
    connections: BTreeMap<ConnectionId, (usize, Role, bool)>,
    closing: BTreeSet<ConnectionId>,
    opened_at: Option<Instant>,
    pub(super) ended: Option<CloseReason>,
    pub(super) resumes: u32,
    /// Why joins were refused.
    pub(super) refused: Vec<CloseReason>,
    /// Frames and bytes that each role has sent.
    pub(super) used: [(u32, u64); 2],
    /// The person typed the right code.
    pub(super) code_accepted: bool,
    /// What the apps are to hear, oldest first.
    pub(super) said: Vec<(ConnectionId, Down)>,
}

impl Relay {
    pub(super) fn new(now: Instant) -> Self {
        let settings = Settings {
            lifetime: limits::SESSION_LIFETIME,
            intervals: vec![limits::FRAME_INTERVAL],
            refuse: Refuse::Nothing,
        };
        Self {
            settings,
            start: now,
            nodes: Vec::new(),
            route: None,
            told: VecDeque::new(),
            connections: BTreeMap::new(),
            closing: BTreeSet::new(),
            opened_at: None,
            ended: None,
            resumes: 0,
            refused: Vec::new(),
            used: [(0, 0); 2],
            code_accepted: false,
            said: Vec::new(),
        }
    }

    pub(super) fn connect(&mut self, id: ConnectionId, role: Role, is_honest: bool, now: Instant) {
        // What the registry does: a session that is finished is replaced by a new one.
        if self.nodes.last().is_none_or(|node| node.finished) {
            self.add_node();
        }
        let node = self.nodes.len() - 1;
        self.connections.insert(id, (node, role, is_honest));
        self.nodes[node].session.handle_connect(id, role, NetworkTag::UNKNOWN, now);
        self.pump(node, now);
    }

    pub(super) fn text(&mut self, id: ConnectionId, text: &str, now: Instant) {
        let message = ClientMessage::decode(text).expect("an app says only what the protocol has");
        self.drive(id, now, |session| session.handle_message(id, message, now));
    }

    pub(super) fn data(&mut self, id: ConnectionId, frame: Bytes, now: Instant) {
        let Some((_, role, _)) = self.connections.get(&id).copied() else { return };
        let (frames, bytes) = &mut self.used[usize::from(role == Role::New)];
        (*frames, *bytes) = (*frames + 1, *bytes + u64::try_from(frame.len()).unwrap());
        assert!(*frames <= limits::MAX_DIRECTION_FRAMES, "{role} sends too many frames");
        assert!(*bytes <= limits::MAX_DIRECTION_BYTES, "{role} sends too many bytes");
        self.drive(id, now, |session| session.handle_data(id, frame, now));
    }

    pub(super) fn heartbeat(&mut self, id: ConnectionId, now: Instant) {
        self.drive(id, now, |session| session.handle_heartbeat(id, now));
    }

    pub(super) fn disconnect(&mut self, id: ConnectionId, now: Instant) {
        self.drive(id, now, |session| session.handle_disconnect(id));
        self.connections.remove(&id);
    }

    /// The node goes down politely; who connects from now on reaches another one.
    pub(super) fn shut_down(&mut self, now: Instant) {
        let Some(node) = self.nodes.len().checked_sub(1) else { return };
        self.nodes[node].session.handle_shutdown(now);
        self.pump(node, now);
        self.add_node();
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.nodes.iter().filter_map(|node| node.session.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].session.poll_timeout().is_some_and(|due| due <= now) {
                self.nodes[node].session.handle_timeout(now);
                self.pump(node, now);
            }
        }
        self.check_deadline(now);
    }

    fn add_node(&mut self) {
        let session = Session::new(self.settings.clone(), node_id(self.nodes.len()));
        self.nodes.push(Node { session, finished: false });
    }

    fn drive(&mut self, id: ConnectionId, now: Instant, handle: impl FnOnce(&mut Session)) {
        let Some((node, ..)) = self.connections.get(&id).copied() else { return };
        handle(&mut self.nodes[node].session);
        self.pump(node, now);
    }

    fn pump(&mut self, node: usize, now: Instant) {
        while let Some(output) = self.nodes[node].session.poll_output() {
            self.carry_out(node, output, now);
        }
        if let Some((from, to, event)) = self.told.pop_front() {
            let node = (0..self.nodes.len()).find(|node| node_id(*node) == to).expect("only nodes that exist are told");
            // What the registry does: a session that is finished hears nothing any more.
            if !self.nodes[node].finished {
                self.nodes[node].session.handle_peer_event(from, event, now);
            }
            self.pump(node, now);
        }
        self.check_deadline(now);
    }

    fn carry_out(&mut self, node: usize, output: Output, now: Instant) {
        match output {
            Output::Send(id, message) => {
                assert!(!self.closing.contains(&id), "a message after the close frame");
                if let ServerMessage::Opened { .. } = message {
                    self.opened_at.get_or_insert(now);
                }
                self.said.push((id, Down::Text(message.encode())));
            }
            Output::Forward(id, frame) => {
                self.check_forward(id, &frame);
                self.said.push((id, Down::Data(frame)));
            }
            Output::Ping(id) => self.said.push((id, Down::Ping)),
            Output::Close(id, reason, retry_after) => {
                self.closing.insert(id);
                let retry_after_ms = retry_after.map(|delay| u64::try_from(delay.as_millis()).unwrap());
                self.said.push((id, Down::Text(ServerMessage::ended(reason, retry_after_ms).encode())));
                self.said.push((id, Down::Close(reason.code())));
            }
            Output::Cut(id) => self.said.push((id, Down::Gone)),
            Output::Transition(id, transition) => {
                let Settings { lifetime, refuse, .. } = self.settings;
                let rules = Rules { node: node_id(node), lifetime, refuse };
                let outcome = Route::apply(&mut self.route, transition, rules, now - self.start);
                if let Some(id) = id {
                    self.nodes[node].session.handle_outcome(id, Ok(outcome), now);
                }
            }
            Output::Tell(to, event) => self.told.push_back((node_id(node), to, event)),
            Output::Note(Note::Ended { reason, .. }) => {
                assert_ne!(reason, CloseReason::QuotaExceeded, "honest apps stay within their quota");
                assert_eq!(self.ended.replace(reason), None, "one node reports the end");
            }
            Output::Note(Note::Resumed(_)) => self.resumes += 1,
            Output::Note(Note::JoinRefused(reason)) => self.refused.push(reason),
            Output::Note(_) => {}
            Output::Finished => self.nodes[node].finished = true,
        }
    }

    fn check_forward(&self, to: ConnectionId, frame: &Bytes) {
        assert_eq!(self.ended, None, "data after the end");
        assert!(!self.closing.contains(&to), "data after the close frame");
        let (_, role, is_honest) = self.connections[&to];
        assert!(is_honest, "somebody else gets data");
        let (header, _) = Header::decode(frame).expect("apps send frames");
        assert_eq!(header.from.peer(), role, "data goes to the peer");
        assert!(header.kind != FrameKind::Credential || self.code_accepted, "a credential before the code");
    }

    fn check_deadline(&self, now: Instant) {
        let Some(opened_at) = self.opened_at else { return };
        let past = now.saturating_duration_since(opened_at);
        let is_open = self.nodes.iter().any(|node| node.session.is_open());
        assert!(
            past <= limits::SESSION_LIFETIME + Duration::from_millis(1) || !is_open,
            "open {past:?} after `opened`"
        );
    }
}

fn node_id(number: usize) -> NodeId {
    NodeId::from_random([u8::try_from(number).unwrap(); 16])
}
