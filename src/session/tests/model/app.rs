//! The two apps, as small as they can be while they behave as the client library does: hello, reply, receipt,
//! `complete`; each is sent again until the next one answers it, and every lost connection is resumed.

use super::super::cluster::{Heard, Who};
use super::super::rig::{join, open_with, resume, token};
use crate::protocol::close::{CloseReason, Scope};
use crate::protocol::message::{ClientMessage, ServerMessage};
use crate::session::ConnectionId;
use crate::session::tests::rig::LIFETIME;

/// What an app does because of what it heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    Nothing,
    Send([u8; 2]),
    Complete,
    /// The old app heard what no honest peer could have sent.
    Distrust,
}

/// How much an app knows the relay to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Greeting {
    Unsent,
    Sent,
    Answered,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct App {
    pub(super) who: Who,
    pub(super) connection: Option<(usize, ConnectionId)>,
    pub(super) over: Option<CloseReason>,
    pub(super) greeting: Greeting,
    attached: bool,
    peer_online: bool,
    /// Old: new has joined.
    joined: bool,
    /// How many frames of the exchange are known to have arrived: hello, reply, receipt.
    progress: u8,
}

impl App {
    pub(super) fn new(who: Who) -> Self {
        Self {
            who,
            connection: None,
            over: None,
            greeting: Greeting::Unsent,
            attached: false,
            peer_online: who == Who::New,
            joined: false,
            progress: 0,
        }
    }

    pub(super) fn is_old(&self) -> bool {
        self.who == Who::Old
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached
    }

    pub(super) fn has_receipt(&self) -> bool {
        self.is_old() && self.progress == 3
    }

    /// What is said first on a new connection.
    pub(super) fn greet(&mut self) -> ClientMessage {
        let app = u8::from(!self.is_old());
        if self.greeting != Greeting::Unsent {
            return resume(app);
        }
        self.greeting = Greeting::Sent;
        if self.is_old() { open_with(LIFETIME, 1) } else { join(0, app) }
    }

    /// The connection is gone, by whomever.
    pub(super) fn lose(&mut self) {
        self.connection = None;
        self.attached = false;
    }

    pub(super) fn hear(&mut self, heard: &Heard) -> Reaction {
        match heard {
            Heard::Message(message) => self.hear_message(message),
            Heard::Data(frame) if self.attached => self.hear_data(frame.get(1).copied().unwrap_or_default()),
            Heard::Data(_) => Reaction::Nothing,
            Heard::Closed(reason) => {
                self.judge(*reason);
                Reaction::Nothing
            }
            Heard::Lost => {
                self.lose();
                Reaction::Nothing
            }
        }
    }

    fn hear_message(&mut self, message: &ServerMessage) -> Reaction {
        match *message {
            ServerMessage::Opened { .. } => self.attach(),
            ServerMessage::Joined { peer_online, .. } => {
                self.peer_online = peer_online;
                self.attach()
            }
            ServerMessage::Resumed { peer_online, joined, .. } => {
                self.joined |= joined.is_some();
                self.peer_online = peer_online;
                self.attach()
            }
            ServerMessage::PeerJoined(_) => {
                (self.joined, self.peer_online) = (true, true);
                Reaction::Nothing
            }
            ServerMessage::PeerOnline {} => {
                self.peer_online = true;
                self.unacknowledged().map_or(Reaction::Nothing, Reaction::Send)
            }
            ServerMessage::PeerOffline {} => {
                self.peer_online = false;
                Reaction::Nothing
            }
            ServerMessage::Tick { .. } | ServerMessage::Ended { .. } => Reaction::Nothing,
        }
    }

    fn attach(&mut self) -> Reaction {
        (self.attached, self.greeting) = (true, Greeting::Answered);
        if self.is_old() && self.progress == 3 {
            return Reaction::Complete;
        }
        self.unacknowledged().map_or(Reaction::Nothing, Reaction::Send)
    }

    fn hear_data(&mut self, number: u8) -> Reaction {
        if self.is_old() && !self.joined {
            return Reaction::Distrust;
        }
        // A repeat is answered again.
        self.progress = self.progress.max(number);
        if self.is_old() && self.progress == 3 {
            return Reaction::Complete;
        }
        self.unacknowledged().map_or(Reaction::Nothing, Reaction::Send)
    }

    /// The frame that waits for its answer: sender, number.
    fn unacknowledged(&self) -> Option<[u8; 2]> {
        match (self.who, self.progress) {
            (Who::New, 0) if self.greeting == Greeting::Answered => Some([1, 1]),
            (Who::Old, 1) => Some([0, 2]),
            (Who::New, 2) => Some([1, 3]),
            _ => None,
        }
    }

    /// What the app's timer sends again.
    pub(super) fn resend(&self) -> Option<[u8; 2]> {
        self.unacknowledged().filter(|_| self.attached && self.peer_online)
    }

    /// As the client library does.
    fn judge(&mut self, reason: CloseReason) {
        self.lose();
        if reason == CloseReason::NothingToResume && self.greeting != Greeting::Answered {
            self.greeting = Greeting::Unsent;
            return;
        }
        let own = reason == CloseReason::AlreadyOpen && self.greeting == Greeting::Sent;
        let is_final = matches!(reason, CloseReason::NothingToResume | CloseReason::StaleFrame);
        let retry = reason.scope() == Scope::Connection && reason.can_retry() && !is_final;
        if !own && !retry {
            self.over = Some(reason);
        }
    }
}

/// Somebody who has scanned the QR code too.
pub(super) fn stranger_joins() -> ClientMessage {
    join(0, 2)
}

/// Somebody who only knows the session.
pub(super) fn stranger_resumes() -> ClientMessage {
    ClientMessage::Resume { token: token(3) }
}
