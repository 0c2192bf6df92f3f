//! One phone of a replayed handoff: its connection, over and over if it breaks, and its prepared frames, sent again
//! until they are acknowledged. Speaks the protocol like the client library, without keys.

use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use handoff_relay::client::{ConnectFailure, RelayUrl, Socket, reconnect_delay};
use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::{CloseReason, Scope};
use handoff_relay::protocol::frame::{FrameKind, Header};
use handoff_relay::protocol::ids::{ResumeToken, SessionId};
use handoff_relay::protocol::message::{ClientMessage, JoinedPeer, ServerMessage};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use tokio::time::{sleep, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use crate::num::index;
use crate::run::labels;
use crate::run::recorder::now;
use crate::run::session::Around;
use crate::stats::Phase;

/// Frames in flight, as in the client library.
const WINDOW: u64 = 4;

/// Time between two pings, as in the client library; what is not acknowledged by then is sent again.
const PING_EVERY: Duration = Duration::from_secs(5);

/// What the relay and the other phone have said so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// When `opened` or `joined` came.
    pub(super) attached: Option<Instant>,
    pub(super) left: Duration,
    pub(super) peer: Option<JoinedPeer>,
    /// Sealed frames that came in order.
    pub(super) frames: u64,
    pub(super) ended: Option<CloseReason>,
}

/// One phone.
pub(super) struct Party<'a> {
    around: &'a Around,
    role: Role,
    session: SessionId,
    token: ResumeToken,
    rng: StdRng,
    socket: Option<Socket>,
    pub(super) heard: Heard,
    frames: &'a [Bytes],
    /// How many of `frames` may go out by now.
    allowed: u64,
    sent: u64,
    acknowledged: u64,
    next_ping: Instant,
    /// `open` or `join`.
    first: Option<ClientMessage>,
    give_up_at: Instant,
    /// When the connection was lost that is not resumed yet.
    lost_at: Option<Instant>,
    /// How long the relay wants to be left alone.
    asked: Duration,
    /// Ends the session instead of what should come.
    failure: Option<String>,
}

/// What happened on a connection.
enum Wake<T> {
    Other(T),
    Ping,
    Received(Option<Message>),
}

impl<'a> Party<'a> {
    pub(super) fn new(
        around: &'a Around,
        role: Role,
        session: SessionId,
        frames: &'a [Bytes],
        mut rng: StdRng,
    ) -> Self {
        let mut token = [0; ResumeToken::LEN];
        rng.fill_bytes(&mut token);
        Self {
            around,
            role,
            session,
            token: ResumeToken::new(token),
            rng,
            socket: None,
            heard: Heard::default(),
            frames,
            allowed: 0,
            sent: 0,
            acknowledged: 0,
            next_ping: now(),
            first: None,
            give_up_at: now().checked_add(around.phone.patience.0).unwrap_or_else(now),
            lost_at: None,
            asked: Duration::ZERO,
            failure: None,
        }
    }

    pub(super) fn token(&self) -> &ResumeToken {
        &self.token
    }

    /// Connects, and says this first; returns when the relay has agreed.
    pub(super) async fn enter(&mut self, first: ClientMessage) -> Result<(), String> {
        self.first = Some(first);
        self.connect(false).await?;
        self.until(|heard| heard.attached.is_some()).await
    }

    /// Lets this many frames go out, in all.
    pub(super) async fn allow(&mut self, frames: u64) {
        self.allowed = self.allowed.max(frames);
        self.send_frames().await;
    }

    /// Listens until something was heard.
    pub(super) async fn until(&mut self, enough: impl Fn(&Heard) -> bool) -> Result<(), String> {
        let mut never = Box::pin(std::future::pending::<()>());
        while !enough(&self.heard) {
            self.listen(&mut never).await?;
        }
        Ok(())
    }

    /// Listens until something else has happened.
    pub(super) async fn meanwhile<T>(&mut self, other: impl Future<Output = T> + Send) -> Result<T, String> {
        let mut other: Pin<Box<_>> = Box::pin(other);
        loop {
            if let Some(done) = self.listen(&mut other).await? {
                return Ok(done);
            }
        }
    }

    /// Sends a control message. If the connection breaks, `listen` finds out.
    pub(super) async fn say(&mut self, message: &ClientMessage) {
        self.send(Message::text(message.encode())).await;
    }

    /// Listens for one thing, or until the other one is done.
    async fn listen<T>(&mut self, other: &mut (impl Future<Output = T> + Unpin)) -> Result<Option<T>, String> {
        if let Some(reason) = self.heard.ended {
            return Err(reason.label().to_owned());
        }
        let wake = match &mut self.socket {
            None => Wake::Received(None),
            // Nothing is lost when one of these is dropped.
            Some(socket) => tokio::select! {
                biased;
                done = other => Wake::Other(done),
                received = socket.next() => Wake::Received(received.and_then(Result::ok)),
                () = sleep_until(self.next_ping.into()) => Wake::Ping,
            },
        };
        match wake {
            Wake::Other(done) => return Ok(Some(done)),
            Wake::Ping => self.ping().await,
            Wake::Received(Some(Message::Text(text))) => self.on_text(&text).await,
            Wake::Received(Some(Message::Binary(frame))) => self.on_frame(&frame).await,
            Wake::Received(Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Wake::Received(Some(Message::Close(_)) | None) if self.heard.ended.is_some() => {}
            Wake::Received(Some(Message::Close(frame))) => {
                let reason = frame.and_then(|frame| CloseReason::from_code(frame.code.into()));
                self.on_lost(reason.map_or("connection_lost", CloseReason::label)).await?;
            }
            Wake::Received(None) => self.on_lost("connection_lost").await?,
        }
        self.failure.take().map_or(Ok(None), Err)
    }

    async fn on_text(&mut self, text: &str) {
        let Ok(message) = ServerMessage::decode(text) else {
            self.failure = Some("protocol_violated".to_owned());
            return;
        };
        match message {
            ServerMessage::Opened { expires_in_ms } | ServerMessage::Joined { expires_in_ms, .. } => {
                self.heard.attached.get_or_insert_with(now);
                self.heard.left = Duration::from_millis(expires_in_ms);
            }
            ServerMessage::Resumed { joined, .. } => {
                // What was said while nobody listened.
                self.heard.attached.get_or_insert_with(now);
                self.heard.peer = self.heard.peer.or(joined);
                if let Some(lost_at) = self.lost_at.take() {
                    self.around.recorder.time(Phase::Resume, now().saturating_duration_since(lost_at));
                }
                self.send_again().await;
            }
            ServerMessage::PeerJoined(peer) => self.heard.peer = Some(peer),
            ServerMessage::PeerOnline {} => self.send_again().await,
            ServerMessage::PeerOffline {} | ServerMessage::Tick { .. } => {}
            ServerMessage::Ended { reason, retry_after_ms, .. }
                if reason.scope() == Scope::Connection && reason.can_retry() =>
            {
                self.around.recorder.setback(reason.label());
                if reason == CloseReason::StaleFrame {
                    self.heard.ended = Some(reason);
                }
                self.asked = Duration::from_millis(retry_after_ms.unwrap_or_default());
                self.socket = None;
            }
            ServerMessage::Ended { reason, .. } => self.heard.ended = Some(reason),
        }
    }

    async fn on_frame(&mut self, frame: &[u8]) {
        let Ok((header, _)) = Header::decode(frame) else {
            self.failure = Some("protocol_violated".to_owned());
            return;
        };
        if header.kind == FrameKind::Ack {
            if header.seq > self.acknowledged {
                self.acknowledged = header.seq.min(self.sent);
                self.send_frames().await;
            }
            return;
        }
        if header.seq == self.heard.frames {
            self.heard.frames = self.heard.frames.saturating_add(1);
        }
        let ack = Header { from: self.role, kind: FrameKind::Ack, seq: self.heard.frames };
        self.send(Message::Binary(ack.frame(&[]).into())).await;
    }

    async fn ping(&mut self) {
        self.next_ping = now().checked_add(PING_EVERY).unwrap_or(self.next_ping);
        self.send(Message::Ping(Bytes::new())).await;
        if self.heard.attached.is_some() && self.acknowledged < self.sent {
            self.send_again().await;
        }
    }

    async fn send_again(&mut self) {
        self.sent = self.acknowledged;
        self.send_frames().await;
    }

    async fn send_frames(&mut self) {
        while self.sent < self.allowed && self.sent.saturating_sub(self.acknowledged) < WINDOW {
            let Some(frame) = self.frames.get(index(self.sent)).cloned() else { return };
            self.sent = self.sent.saturating_add(1);
            self.send(Message::Binary(frame)).await;
        }
    }

    async fn send(&mut self, message: Message) {
        if let Some(socket) = &mut self.socket
            && socket.send(message).await.is_err()
        {
            self.socket = None;
        }
    }

    /// A connection is gone before its time: another one takes its place.
    async fn on_lost(&mut self, how: &str) -> Result<(), String> {
        if self.socket.take().is_some() {
            self.around.recorder.setback(how);
        }
        let is_again = self.heard.attached.is_some();
        if is_again {
            self.lost_at.get_or_insert_with(now);
        }
        self.connect(is_again).await
    }

    /// Connects, as often as it takes, and says the first message.
    async fn connect(&mut self, is_again: bool) -> Result<(), String> {
        let mut failures = 0;
        let asked = std::mem::take(&mut self.asked);
        if is_again || !asked.is_zero() {
            sleep(reconnect_delay(failures, &mut self.rng).max(asked)).await;
        }
        loop {
            let failure = match self.try_connect().await {
                Ok(socket) => {
                    self.socket = Some(socket);
                    self.next_ping = now().checked_add(PING_EVERY).unwrap_or(self.next_ping);
                    return self.greet(is_again).await;
                }
                Err(failure) => failure,
            };
            let asked = match failure {
                ConnectFailure::Busy { retry_after, .. } => retry_after.unwrap_or_default(),
                ConnectFailure::Refused(_) => return Err(labels::connect(failure)),
                ConnectFailure::Name
                | ConnectFailure::Connect
                | ConnectFailure::Timeout
                | ConnectFailure::Tls
                | ConnectFailure::NotARelay => Duration::ZERO,
            };
            self.around.recorder.setback(&labels::connect(failure));
            let wait = reconnect_delay(failures, &mut self.rng).max(asked);
            if now().checked_add(wait).is_none_or(|at| at > self.give_up_at.max(self.deadline())) {
                return Err(format!("unreachable_{}", labels::connect(failure)));
            }
            sleep(wait).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn try_connect(&mut self) -> Result<Socket, ConnectFailure> {
        let url: &RelayUrl = self.around.urls.choose(&mut self.rng).ok_or(ConnectFailure::Name)?;
        self.around.connector.connect(url, self.session, self.role).await
    }

    async fn greet(&mut self, is_again: bool) -> Result<(), String> {
        let resume = ClientMessage::Resume { token: self.token.clone() };
        let first = if is_again { Some(resume) } else { self.first.clone() };
        match first {
            Some(first) => self.say(&first).await,
            None => return Err("internal".to_owned()),
        }
        Ok(())
    }

    fn deadline(&self) -> Instant {
        let attached = self.heard.attached.unwrap_or(self.give_up_at);
        attached.checked_add(self.heard.left).unwrap_or(attached)
    }
}
