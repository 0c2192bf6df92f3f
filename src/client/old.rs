//! The old app's side: shows the rolling QR code, asks for the check code, sends the credential, and knows from a
//! signed receipt that it arrived. A pure state machine: no sockets, no clock.

use std::collections::VecDeque;
use std::time::Instant;

use rand::CryptoRng;

use super::LAST_WORD_TIMEOUT;
use super::event::OldEvent;
use super::exchange::{Arrived, Exchange};
use super::link::{First, Step};
use super::machine::{Machine, Transmit};
use super::outcome::{ConnectFailure, EndReason, OldOutcome, TransferError};
use super::party::Party;
use super::payload::Payload;
use super::picture::Picture;
use super::settings::OldSettings;
use super::time::{after, earlier};
use crate::crypto::{
    AwaitingCode, ChannelError, CheckCode, Confirmed, Offer, OfferSettings, OpenedHello, Sender, WrongCode,
};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::frame::FrameKind;
use crate::protocol::ids::SessionId;
use crate::protocol::limits;
use crate::protocol::message::{CancelReason, ClientMessage, JoinedPeer, ServerMessage};

/// How far the transfer has come.
#[derive(Debug)]
enum State {
    /// Shows the QR code.
    Offering { offer: Offer },
    /// Somebody has joined with this frame.
    AwaitingHello { offer: Offer, frame: u8 },
    /// The reply is on its way; the person types.
    AwaitingCode { channel: AwaitingCode, until: Instant },
    /// The code was right.
    Sending { sender: Sender },
    /// Nothing secret is left.
    Over,
}

/// The old app's side of one transfer.
#[derive(Debug)]
pub struct OldTransfer<R> {
    settings: OldSettings,
    session: SessionId,
    state: State,
    payload: Option<Payload>,
    exchange: Exchange<OldEvent, R>,
    picture: Picture,
    /// The frame that has joined.
    joined: Option<u8>,
    /// Bytes of the credential that each unacknowledged frame completes; none for the reply.
    milestones: VecDeque<Option<usize>>,
    total: usize,
    outcome: Option<OldOutcome>,
}

impl<R: CryptoRng> OldTransfer<R> {
    /// A transfer that wants its first connection at once.
    ///
    /// # Errors
    /// [`TransferError`] for a credential that is too large, and for settings that no relay accepts.
    pub fn new(
        settings: OldSettings,
        payload: impl Into<Payload>,
        now: Instant,
        mut rng: R,
    ) -> Result<Self, TransferError> {
        let payload = payload.into();
        if payload.known_len().is_some_and(|length| length > limits::MAX_CREDENTIAL_BYTES) {
            return Err(ChannelError::CredentialTooLarge.into());
        }
        let frames = settings.frames()?;
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let session = SessionId::from_random(id);
        let offer = Offer::new(
            OfferSettings {
                suite: settings.suite,
                demands: settings.demands,
                session,
                relay: settings.relay.clone(),
                frames,
            },
            &mut rng,
        )?;
        Ok(Self {
            session,
            state: State::Offering { offer },
            total: 0,
            payload: Some(payload),
            exchange: Exchange::new(Role::Old, settings.patience, now, rng),
            picture: Picture::new(settings.interval, frames, settings.lifetime),
            joined: None,
            milestones: VecDeque::new(),
            outcome: None,
            settings,
        })
    }

    /// The session, for the path to connect to.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The person typed a check code. Ignored unless [`OldEvent::AskCode`] was the last word about it.
    pub fn enter_code(&mut self, code: &CheckCode, now: Instant) {
        self.try_code(code, now);
        self.settle(now);
    }

    fn try_code(&mut self, code: &CheckCode, now: Instant) {
        if !matches!(self.state, State::AwaitingCode { .. }) {
            return;
        }
        let State::AwaitingCode { channel, until } = std::mem::replace(&mut self.state, State::Over) else { return };
        if until <= now {
            return self.fail(EndReason::Closed(CloseReason::CodeTimeout), CancelReason::CodeTimeout, now);
        }
        match channel.confirm(code) {
            Ok(confirmed) => {
                self.exchange.push_event(OldEvent::CodeAccepted);
                self.hand_over(confirmed);
            }
            Err(WrongCode) => self.fail(EndReason::Closed(CloseReason::WrongCode), CancelReason::WrongCode, now),
        }
    }

    fn hand_over(&mut self, channel: Confirmed) {
        let Some(payload) = self.payload.take() else { return };
        let credential = payload.make(&channel.binding());
        let sender = channel.hand_over(credential);
        self.total = sender.progress().total;
        self.state = State::Sending { sender };
    }

    fn on_joined(&mut self, joined: JoinedPeer, now: Instant) {
        if !matches!(self.state, State::Offering { .. }) {
            // One join a session, ever; the same one may be told again.
            if self.joined != Some(joined.frame) {
                self.refuse(now);
            }
            return;
        }
        let State::Offering { offer } = std::mem::replace(&mut self.state, State::Over) else { return };
        let verdict = joined.verdict();
        self.joined = Some(joined.frame);
        if !self.picture.is_fresh(joined.frame, self.exchange.deadline()) {
            return self.refuse(now);
        }
        self.exchange.push_event(OldEvent::PeerJoined { frame: joined.frame, verdict });
        if self.settings.policy.refuses(verdict) {
            return self.fail(EndReason::VerdictRefused(verdict), CancelReason::User, now);
        }
        self.state = State::AwaitingHello { offer, frame: joined.frame };
    }

    fn open(&mut self, kind: FrameKind, frame: &[u8], now: Instant) {
        match (std::mem::replace(&mut self.state, State::Over), kind) {
            (State::AwaitingHello { offer, frame: joined }, FrameKind::Hello) => {
                let OldSettings { proximity, device, .. } = &self.settings;
                match offer.open_hello(joined, proximity, frame, device, self.exchange.rng()) {
                    Ok(opened) => self.on_hello(opened, now),
                    Err(_) => self.refuse(now),
                }
            }
            (State::Sending { sender }, FrameKind::Receipt) => match sender.open_receipt(frame) {
                Ok(()) => self.on_receipt(now),
                Err(_) => self.refuse(now),
            },
            _ => self.refuse(now),
        }
    }

    fn on_hello(&mut self, opened: OpenedHello, now: Instant) {
        self.exchange.accept();
        self.exchange.send(opened.reply_frame);
        self.milestones.push_back(None);
        self.exchange.push_event(OldEvent::PeerIdentified(opened.peer));
        self.exchange.push_event(OldEvent::AskCode { within: limits::CHECK_CODE_TIMEOUT });
        self.state = State::AwaitingCode { channel: opened.channel, until: after(now, limits::CHECK_CODE_TIMEOUT) };
    }

    fn on_receipt(&mut self, now: Instant) {
        self.exchange.accept();
        self.outcome = Some(OldOutcome::Delivered);
        self.exchange.push_event(OldEvent::Delivered);
        self.exchange.part(ClientMessage::Complete {}, LAST_WORD_TIMEOUT, now);
    }

    fn on_acknowledged(&mut self, frames: usize) {
        let covered = self.milestones.drain(..frames.min(self.milestones.len()));
        if let Some(sent) = covered.flatten().last() {
            self.exchange.push_event(OldEvent::Sending { sent, total: self.total });
        }
    }

    /// Something did not verify.
    fn refuse(&mut self, now: Instant) {
        self.distrust(EndReason::Closed(CloseReason::VerificationFailed), now);
    }

    /// Ends the transfer and tells the relay why.
    fn fail(&mut self, reason: EndReason, cancel: CancelReason, now: Instant) {
        self.conclude(reason);
        if !self.exchange.is_parting() {
            self.exchange.break_off(ClientMessage::Cancel { reason: cancel }, LAST_WORD_TIMEOUT, now);
        }
    }

    fn conclude(&mut self, reason: EndReason) {
        self.state = State::Over;
        self.payload = None;
        if self.outcome.is_none() {
            self.outcome = Some(OldOutcome::Ended(reason));
            self.exchange.push_event(OldEvent::Ended(reason));
        }
    }

    fn refresh_qr(&mut self, now: Instant) {
        let wanted = if let State::Offering { offer } = &self.state
            && self.exchange.is_attached()
        {
            self.picture.note_proven(self.exchange.proven_at());
            self.picture.due(self.exchange.deadline(), now).and_then(|frame| Some((frame, offer.qr(frame)?)))
        } else {
            None
        };
        if !self.picture.show(wanted.as_ref().map(|(frame, _)| *frame)) {
            return;
        }
        if self.picture.is_unproven(self.exchange.deadline()) {
            self.exchange.hasten_ping(now);
        }
        let until = self.picture.until(self.exchange.deadline()).unwrap_or(now);
        let event = match wanted {
            Some((_, payload)) => OldEvent::QrShown {
                payload,
                next_in: until.saturating_duration_since(now),
                left: self.exchange.time_left(now),
            },
            None => OldEvent::QrHidden,
        };
        self.exchange.push_event(event);
    }
}

impl<R: CryptoRng> Party for OldTransfer<R> {
    type Event = OldEvent;
    type Rng = R;

    fn exchange(&mut self) -> &mut Exchange<OldEvent, R> {
        &mut self.exchange
    }

    fn on_message(&mut self, message: ServerMessage, now: Instant) -> Result<(), EndReason> {
        match message {
            ServerMessage::Opened { expires_in_ms } => {
                self.exchange.attach(First::Fresh, expires_in_ms, None, now)?;
                self.picture.opened(self.exchange.time_left(now));
            }
            ServerMessage::Resumed { expires_in_ms, peer_online, joined, public_key: _ } => {
                if self.joined.is_none() && joined.is_some() && peer_online {
                    self.exchange.meet_peer();
                }
                let online = (self.joined.is_some() || joined.is_some()).then_some(peer_online);
                self.exchange.attach(First::Resume, expires_in_ms, online, now)?;
                if let Some(joined) = joined {
                    self.on_joined(joined, now);
                }
            }
            ServerMessage::PeerJoined(joined) if self.exchange.is_attached() => {
                if self.joined.is_none() {
                    self.exchange.meet_peer();
                }
                self.on_joined(joined, now);
            }
            // What is for the other app, and what was taken before.
            ServerMessage::PeerJoined(_)
            | ServerMessage::Joined { .. }
            | ServerMessage::PeerOffline {}
            | ServerMessage::PeerOnline {}
            | ServerMessage::Tick { .. }
            | ServerMessage::Ended { .. } => return Err(EndReason::ProtocolViolated),
        }
        Ok(())
    }

    fn distrust(&mut self, reason: EndReason, now: Instant) {
        self.fail(reason, CancelReason::VerificationFailed, now);
    }

    fn end(&mut self, reason: EndReason) {
        let claimed = reason == EndReason::Closed(CloseReason::Completed);
        self.conclude(if claimed { EndReason::ProtocolViolated } else { reason });
        self.exchange.finish();
    }

    fn settle(&mut self, now: Instant) {
        self.refresh_qr(now);
        while let State::Sending { sender } = &mut self.state
            && self.exchange.has_room()
        {
            match sender.next_frame() {
                Ok(Some(frame)) => {
                    self.milestones.push_back(Some(sender.progress().sent));
                    self.exchange.send(frame);
                }
                Ok(None) => break,
                Err(_) => self.fail(EndReason::Internal, CancelReason::VerificationFailed, now),
            }
        }
        self.exchange.settle(now);
    }
}

impl<R: CryptoRng> Machine for OldTransfer<R> {
    type Event = OldEvent;
    type Outcome = OldOutcome;

    fn handle_connected(&mut self, now: Instant) {
        let Self { state, settings, exchange, .. } = self;
        exchange.handle_connected(now, |resume_hash| {
            let State::Offering { offer } = state else { return None };
            Some(ClientMessage::Open {
                public_key: offer.public_key().clone(),
                join_hashes: offer.join_hashes(),
                interval_ms: u64::try_from(settings.interval.as_millis()).unwrap_or(u64::MAX),
                resume_hash,
                token: settings.token.clone(),
            })
        });
        self.settle(now);
    }

    fn handle_connect_failed(&mut self, failure: ConnectFailure, now: Instant) {
        self.connect_failed(failure, now);
    }

    fn handle_message(&mut self, text: &str, now: Instant) {
        self.hear(text, now);
    }

    fn handle_frame(&mut self, frame: &[u8], now: Instant) {
        // Before `peer_joined` nothing can be opened, and afterwards nothing must: the peer sends it again.
        if matches!(self.state, State::Offering { .. }) || matches!(self.outcome, Some(OldOutcome::Ended(_))) {
            return;
        }
        match self.exchange.handle_frame(frame, now) {
            Arrived::Acknowledged(frames) => self.on_acknowledged(frames),
            Arrived::Sealed(kind) if self.outcome.is_none() => self.open(kind, frame, now),
            Arrived::Forged if self.outcome.is_none() => self.refuse(now),
            Arrived::Nothing | Arrived::Sealed(_) | Arrived::Forged => {}
        }
        self.settle(now);
    }

    fn handle_pong(&mut self, now: Instant) {
        self.exchange.handle_pong();
        self.settle(now);
    }

    fn handle_disconnected(&mut self, code: Option<u16>, now: Instant) {
        let completes = self.outcome == Some(OldOutcome::Delivered);
        self.disconnected(code, completes, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.state, State::AwaitingCode { until, .. } if until <= now) {
            self.fail(EndReason::Closed(CloseReason::CodeTimeout), CancelReason::CodeTimeout, now);
        }
        self.timed_out(now);
    }

    fn cancel(&mut self, now: Instant) {
        // After the end there may still be a last word on its way, which the new app waits for.
        if self.outcome.is_none() {
            self.fail(EndReason::Cancelled, CancelReason::User, now);
        }
        self.settle(now);
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.exchange.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<OldEvent> {
        self.exchange.poll_event()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let code = if let State::AwaitingCode { until, .. } = &self.state { Some(*until) } else { None };
        let frame = self.picture.until(self.exchange.deadline());
        earlier(earlier(code, frame), self.exchange.next_timeout())
    }

    fn step(&self) -> Step {
        self.exchange.step()
    }

    fn into_outcome(self) -> OldOutcome {
        self.outcome.unwrap_or(OldOutcome::Ended(EndReason::Cancelled))
    }
}
