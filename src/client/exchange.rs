//! What both machines share: one link to the relay, frames that arrive although it breaks, and a last word that is
//! said before it is dropped. Knows nothing of keys, codes or credentials.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::CryptoRng;

use super::arq::{Inbox, Outbox};
use super::event::{Events, LinkEvent, OfflineCause};
use super::inbound::{self, Inbound};
use super::link::{Fate, First, Link, Step};
use super::outcome::{ConnectFailure, EndReason};
use super::time::{after, earlier};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::frame::{FrameKind, Header};
use crate::protocol::ids::{ResumeHash, ResumeToken};
use crate::protocol::message::{ClientMessage, ServerMessage};

/// Something for the driver to put on the connection.
#[derive(Clone, PartialEq, Eq)]
pub enum Transmit {
    /// A control message.
    Text(String),
    /// A data frame.
    Binary(Bytes),
    /// Close the connection and forget it; nothing that it still brings matters.
    Close,
}

// Control messages hold tokens and proofs.
impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(frame) => write!(f, "Binary({} bytes)", frame.len()),
            Self::Close => f.write_str("Close"),
        }
    }
}

/// What a text frame means to a machine.
#[derive(Debug)]
pub(super) enum Heard {
    Nothing,
    Message(ServerMessage),
    Ended(EndReason),
}

/// What a data frame means to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    Nothing,
    /// The peer has so many more of the sealed frames.
    Acknowledged(usize),
    /// The next sealed frame; to be opened, and then accepted.
    Sealed(FrameKind),
    /// Nothing that an honest peer sends.
    Forged,
}

/// The last word to the relay: repeated on every connection until the relay has answered or time is up.
#[derive(Debug)]
struct LastWord {
    message: ClientMessage,
    until: Instant,
}

#[derive(Debug)]
pub(super) struct Exchange<E, R> {
    role: Role,
    link: Link<R>,
    resume_token: ResumeToken,
    outbox: Outbox,
    inbox: Inbox,
    peer_online: bool,
    control: VecDeque<Transmit>,
    last_word: Option<LastWord>,
    events: Events<E>,
}

impl<E: From<LinkEvent>, R: CryptoRng> Exchange<E, R> {
    pub(super) fn new(role: Role, patience: Duration, now: Instant, mut rng: R) -> Self {
        let mut token = [0; ResumeToken::LEN];
        rng.fill_bytes(&mut token);
        Self {
            role,
            link: Link::new(patience, now, rng),
            resume_token: ResumeToken::new(token),
            outbox: Outbox::new(),
            inbox: Inbox::default(),
            // New learns from `joined` that old is away; old has no peer until one joins.
            peer_online: role == Role::New,
            control: VecDeque::new(),
            last_word: None,
            events: Events::new(),
        }
    }

    pub(super) fn rng(&mut self) -> &mut R {
        self.link.rng()
    }

    pub(super) fn push_event(&mut self, event: E) {
        self.events.push(event);
    }

    pub(super) fn poll_event(&mut self) -> Option<E> {
        self.events.pop()
    }

    pub(super) fn step(&self) -> Step {
        self.link.step()
    }

    pub(super) fn is_attached(&self) -> bool {
        self.link.is_attached()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.link.deadline()
    }

    pub(super) fn time_left(&self, now: Instant) -> Duration {
        self.link.time_left(now)
    }

    /// A connection is there; `fresh` makes the `open` or `join`.
    pub(super) fn handle_connected(&mut self, now: Instant, fresh: impl FnOnce(ResumeHash) -> Option<ClientMessage>) {
        let message = match self.link.connected(now) {
            None => return,
            Some(First::Fresh) => fresh(ResumeHash::of(&self.resume_token)),
            Some(First::Resume) => Some(ClientMessage::Resume { token: self.resume_token.clone() }),
        };
        self.control.clear();
        self.control.extend(message.map(|message| Transmit::Text(message.encode())));
    }

    pub(super) fn handle_connect_failed(&mut self, failure: ConnectFailure, now: Instant) -> Option<EndReason> {
        match self.link.step() {
            Step::ConnectAt(_) => {
                let fate = self.link.connect_failed(failure, now);
                self.meet(fate)
            }
            Step::Stay | Step::Finished => None,
        }
    }

    /// The connection is gone. `completes` says whether a normal closure can mean that the handoff is complete;
    /// otherwise some proxy said it.
    pub(super) fn handle_disconnected(
        &mut self,
        code: Option<u16>,
        completes: bool,
        now: Instant,
    ) -> Option<EndReason> {
        if !self.link.is_connected() {
            return None;
        }
        self.control.clear();
        let reason = code.and_then(CloseReason::from_code).filter(|r| completes || *r != CloseReason::Completed);
        let fate = match (reason, code) {
            (Some(reason), _) => self.link.judge(reason, None, now),
            (None, Some(code @ 4500..=4999)) => Fate::Ended(EndReason::UnknownClose(code)),
            (None, _) => self.link.reconnect(OfflineCause::Lost, None, now),
        };
        if matches!(fate, Fate::Ended(_)) {
            self.link.finish();
        }
        self.meet(fate)
    }

    pub(super) fn handle_ping(&mut self, now: Instant) {
        self.link.heard(now);
    }

    /// Reads a text frame; what concerns only the link is done here.
    pub(super) fn handle_text(&mut self, text: &str, now: Instant) -> Heard {
        if !self.link.is_connected() {
            return Heard::Nothing;
        }
        self.link.heard(now);
        match inbound::read(text) {
            Inbound::Message(ServerMessage::Tick { expires_in_ms }) => {
                if self.is_attached() {
                    self.link.note_time_left(expires_in_ms, now);
                    self.tell(LinkEvent::Waiting { left: self.time_left(now) });
                }
                Heard::Nothing
            }
            Inbound::Message(ServerMessage::PeerOnline {}) => {
                self.set_peer_online(true);
                self.outbox.send_again();
                Heard::Nothing
            }
            Inbound::Message(ServerMessage::PeerOffline {}) => {
                self.set_peer_online(false);
                Heard::Nothing
            }
            Inbound::Message(ServerMessage::Ended { reason, retry_after_ms, .. }) => {
                let fate = self.link.judge(reason, retry_after_ms.map(Duration::from_millis), now);
                self.leave(fate)
            }
            Inbound::Message(message) => Heard::Message(message),
            Inbound::EndedOtherwise { retry: true, retry_after } => {
                let fate = self.link.reconnect(OfflineCause::Lost, retry_after, now);
                self.leave(fate)
            }
            // The code in the close frame that follows says the rest.
            Inbound::Unknown | Inbound::EndedOtherwise { retry: false, .. } => Heard::Nothing,
            Inbound::Malformed => Heard::Ended(EndReason::ProtocolViolated),
        }
    }

    /// The relay answered the first message of this connection.
    pub(super) fn attach(
        &mut self,
        to: First,
        expires_in_ms: u64,
        peer_online: Option<bool>,
        now: Instant,
    ) -> Result<(), EndReason> {
        if let Some(event) = self.link.attached(to, expires_in_ms, now)? {
            self.tell(event);
        }
        self.tell(LinkEvent::Waiting { left: self.time_left(now) });
        if let Some(online) = peer_online {
            self.set_peer_online(online);
        }
        self.outbox.send_again();
        self.say_last_word(now);
        Ok(())
    }

    /// Notes that the peer is there, before anything was said about it.
    pub(super) fn meet_peer(&mut self) {
        self.peer_online = true;
    }

    /// Sorts a data frame. A sealed one that is returned must open, and is then accepted with [`Self::accept`].
    pub(super) fn handle_frame(&mut self, frame: &[u8], now: Instant) -> Arrived {
        if !self.is_attached() {
            return Arrived::Nothing;
        }
        self.link.heard(now);
        match Header::decode(frame) {
            Ok((Header { from, .. }, _)) if from != self.role.peer() => Arrived::Forged,
            Ok((Header { kind: FrameKind::Ack, seq, .. }, [])) => {
                self.outbox.acknowledge(seq).map_or(Arrived::Forged, Arrived::Acknowledged)
            }
            Ok((Header { kind: FrameKind::Ack, .. }, _)) | Err(_) => Arrived::Forged,
            Ok((Header { kind, seq, .. }, _)) if self.inbox.is_next(seq) => Arrived::Sealed(kind),
            Ok(_) => Arrived::Nothing,
        }
    }

    /// The sealed frame that arrived last has opened.
    pub(super) fn accept(&mut self) {
        self.inbox.accept();
    }

    pub(super) fn has_room(&self) -> bool {
        self.outbox.has_room()
    }

    pub(super) fn send(&mut self, frame: Vec<u8>) {
        self.outbox.push(frame);
    }

    /// Says `message` as the last word, on this or on the next connection, and finishes when the relay has answered,
    /// or when `within` has passed.
    pub(super) fn part(&mut self, message: ClientMessage, within: Duration, now: Instant) {
        if !self.link.has_spoken() {
            return self.finish();
        }
        self.last_word = Some(LastWord { message, until: after(now, within) });
        self.say_last_word(now);
    }

    /// Like [`Self::part`], for an end: whatever else was to be sent no longer matters.
    pub(super) fn break_off(&mut self, message: ClientMessage, within: Duration, now: Instant) {
        self.outbox.clear();
        self.inbox = Inbox::default();
        self.part(message, within, now);
    }

    pub(super) fn is_parting(&self) -> bool {
        self.last_word.is_some()
    }

    /// Nothing more will be said; a connection that is still there is closed.
    pub(super) fn finish(&mut self) {
        if self.link.is_connected() {
            self.control.push_back(Transmit::Close);
        }
        self.outbox.clear();
        self.link.finish();
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<EndReason> {
        if self.last_word.as_ref().is_some_and(|word| word.until <= now) {
            self.finish();
            return None;
        }
        self.outbox.handle_timeout(now);
        let connected = self.link.is_connected();
        let fate = self.link.handle_timeout(now)?;
        if connected && matches!(fate, Fate::Reconnect(_)) {
            self.abandon();
        }
        self.meet(fate)
    }

    /// To be called after everything that was handled: sets the timer for what is on its way.
    pub(super) fn settle(&mut self, now: Instant) {
        let both_online = self.is_attached() && self.peer_online;
        self.outbox.arm(both_online, now);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let own = earlier(self.outbox.next_timeout(), self.last_word.as_ref().map(|word| word.until));
        match self.link.step() {
            Step::Finished => None,
            Step::Stay | Step::ConnectAt(_) => earlier(own, self.link.next_timeout()),
        }
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        if let Some(control) = self.control.pop_front() {
            return Some(control);
        }
        // The relay counts also what it drops because the peer is away.
        if !(self.is_attached() && self.peer_online) {
            return None;
        }
        self.inbox.poll(self.role).or_else(|| self.outbox.poll()).map(Transmit::Binary)
    }

    fn set_peer_online(&mut self, online: bool) {
        if std::mem::replace(&mut self.peer_online, online) != online {
            self.tell(if online { LinkEvent::PeerOnline } else { LinkEvent::PeerOffline });
        }
    }

    /// Once the transfer has ended, its connection is nobody's business any more.
    fn tell(&mut self, event: LinkEvent) {
        if !self.is_parting() {
            self.events.push_link(event);
        }
    }

    fn say_last_word(&mut self, now: Instant) {
        if let (true, Some(word)) = (self.is_attached(), &self.last_word) {
            self.control.push_back(Transmit::Text(word.message.encode()));
            self.link.part(now);
        }
    }

    /// The relay has announced the end of this connection.
    fn leave(&mut self, fate: Fate) -> Heard {
        if matches!(fate, Fate::Reconnect(_)) {
            self.abandon();
        }
        self.meet(fate).map_or(Heard::Nothing, Heard::Ended)
    }

    /// Closes the connection there is; another will follow.
    fn abandon(&mut self) {
        self.control.clear();
        self.control.push_back(Transmit::Close);
    }

    fn meet(&mut self, fate: Fate) -> Option<EndReason> {
        match fate {
            Fate::Ended(reason) => Some(reason),
            // The relay has never heard of this app, so there is nobody to say it to.
            Fate::Reconnect(_) if self.is_parting() && !self.link.has_spoken() => {
                self.finish();
                None
            }
            Fate::Reconnect(event) => {
                self.tell(event);
                None
            }
        }
    }
}
