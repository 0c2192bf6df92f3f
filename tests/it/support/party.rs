//! An honest app without cryptography: one side of a session, over a raw socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Instant;

use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use serde_json::Value;

use super::messages::{Transfer, complete};
use super::socket::{BINARY, CLOSE, Ending, Handshake, PING, PONG, Socket, TEXT, binary, frame, text};

/// One connection of an honest app.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) role: Role,
    pub(crate) socket: Socket,
}

impl Party {
    /// Connects and sends a first message.
    pub(crate) async fn connect(address: SocketAddr, session: &str, role: Role, first: &Value) -> Self {
        Self::greet(Socket::open(address, session, role).await, role, first).await
    }

    /// [`Self::connect`] with a handshake that was changed, but will be accepted.
    pub(crate) async fn connect_with(address: SocketAddr, role: Role, handshake: &Handshake, first: &Value) -> Self {
        Self::greet(Socket::connect(address).await.shake_hands(handshake).await, role, first).await
    }

    async fn greet(socket: Socket, role: Role, first: &Value) -> Self {
        let mut party = Self { role, socket };
        party.say(first).await;
        party
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.socket.send(&text(&message.to_string())).await;
    }

    pub(crate) async fn send_data(&mut self, payload: &[u8]) {
        self.socket.send(&binary(payload)).await;
    }

    /// The next message of this type; what else the relay tells meanwhile is passed over, but not an end.
    pub(crate) async fn hear(&mut self, wanted: &str) -> Value {
        loop {
            let frame = self.socket.frame().await.unwrap_or_else(|| panic!("{}: lost, no {wanted}", self.role));
            match frame.opcode {
                TEXT => {
                    let message: Value = serde_json::from_slice(&frame.payload).unwrap();
                    if message["type"] == wanted {
                        return message;
                    }
                    assert_ne!(message["type"], "ended", "{} waits for {wanted}: {message}", self.role);
                }
                PING => self.pong(&frame.payload).await,
                CLOSE => panic!("{}: closed, no {wanted}", self.role),
                _ => {}
            }
        }
    }

    /// The next data frame.
    pub(crate) async fn hear_data(&mut self) -> Vec<u8> {
        loop {
            let frame = self.socket.frame().await.unwrap_or_else(|| panic!("{}: lost, no data", self.role));
            match frame.opcode {
                BINARY => return frame.payload,
                PING => self.pong(&frame.payload).await,
                CLOSE => panic!("{}: closed, no data", self.role),
                _ => {}
            }
        }
    }

    /// Answers pings, and expects nothing else to happen, for as long as it is polled.
    async fn stay(&mut self) -> Infallible {
        loop {
            let frame = self.socket.frame().await.unwrap_or_else(|| panic!("{}: lost while it waits", self.role));
            match frame.opcode {
                PING => self.pong(&frame.payload).await,
                _ => assert!(frame.payload.starts_with(b"{\"type\":\"tick\""), "{} heard {frame:?}", self.role),
            }
        }
    }

    async fn pong(&mut self, payload: &[u8]) {
        self.socket.send(&frame(0x80 | PONG, payload)).await;
    }

    /// Reads to the end of the connection, which must be for this reason.
    pub(crate) async fn hear_end(&mut self, reason: CloseReason) {
        let ending: Ending = self.socket.until_end().await;
        assert!(ending.is(reason), "{} heard {ending:?} and not {reason}", self.role);
    }
}

/// Two honest apps in a session, as far as they have come.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) address: SocketAddr,
    pub(crate) transfer: Transfer,
    pub(crate) old: Option<Party>,
    pub(crate) new: Option<Party>,
    /// When `opened` arrived.
    pub(crate) opened_at: Instant,
}

impl Pair {
    /// Old has opened.
    pub(crate) async fn waiting(address: SocketAddr, transfer: Transfer) -> Self {
        let mut old = Party::connect(address, &transfer.session, Role::Old, &transfer.open()).await;
        old.hear("opened").await;
        Self { address, transfer, old: Some(old), new: None, opened_at: Instant::now() }
    }

    /// New has joined, too.
    pub(crate) async fn joined(address: SocketAddr, transfer: Transfer) -> Self {
        let mut pair = Self::waiting(address, transfer).await;
        pair.join().await;
        pair
    }

    /// New joins with the frame shown now; its clock starts later than the relay's, so that it is never ahead.
    pub(crate) async fn join(&mut self) {
        let elapsed = u64::try_from(self.opened_at.elapsed().as_millis()).unwrap();
        let frame = usize::try_from(elapsed / self.transfer.interval_ms).unwrap();
        let mut new = self.party(Role::New, &self.transfer.join(frame)).await;
        new.hear("joined").await;
        self.new = Some(new);
        if let Some(old) = &mut self.old {
            old.hear("peer_joined").await;
        }
    }

    /// Connects as one of the two.
    pub(crate) async fn party(&self, role: Role, first: &Value) -> Party {
        Party::connect(self.address, &self.transfer.session, role, first).await
    }

    /// The connection of one of the two, if it has one.
    pub(crate) fn side(&mut self, role: Role) -> &mut Option<Party> {
        match role {
            Role::Old => &mut self.old,
            Role::New => &mut self.new,
        }
    }

    /// Both wait for as long as it is polled, and nothing must happen to them.
    pub(crate) async fn stay(&mut self) -> Infallible {
        tokio::select! {
            never = self.old.as_mut().unwrap().stay() => never,
            never = self.new.as_mut().unwrap().stay() => never,
        }
    }

    /// Proves that the session is in good health: who is gone resumes, data goes both ways, and it completes.
    pub(crate) async fn finish(mut self) {
        let mut old = match self.old.take() {
            Some(old) => old,
            None => self.resumed(Role::Old).await,
        };
        if self.new.is_none() {
            self.old = Some(old);
            let resume = self.transfer.resume(Role::New);
            let mut new = self.party(Role::New, &resume).await;
            let has_joined =
                new.socket.frame().await.is_some_and(|frame| frame.payload.starts_with(b"{\"type\":\"resumed\""));
            if has_joined {
                self.new = Some(new);
            } else {
                new.socket.until_end().await;
                self.join().await;
            }
            old = self.old.take().unwrap();
        }
        let mut new = self.new.take().unwrap();
        // What was sent before is still on its way.
        old.send_data(b"to new").await;
        while new.hear_data().await != b"to new" {}
        new.send_data(b"to old").await;
        while old.hear_data().await != b"to old" {}
        old.say(&complete()).await;
        new.hear_end(CloseReason::Completed).await;
        old.hear_end(CloseReason::Completed).await;
    }

    async fn resumed(&self, role: Role) -> Party {
        let mut party = self.party(role, &self.transfer.resume(role)).await;
        party.hear("resumed").await;
        party
    }
}
