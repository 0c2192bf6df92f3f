//! The new app's side: joins with a scanned QR frame, shows the check code, collects the credential and signs its
//! receipt. A pure state machine: no sockets, no clock.

use std::time::Instant;

use rand::CryptoRng;

use super::LAST_WORD_TIMEOUT;
use super::event::NewEvent;
use super::exchange::{Arrived, Exchange};
use super::link::{First, Step};
use super::machine::{Machine, Transmit};
use super::outcome::{ConnectFailure, EndReason, NewOutcome, TransferError};
use super::party::Party;
use super::settings::NewSettings;
use crate::crypto::{
    AwaitingReply, Binding, ChannelError, Complete, Credential, DeviceInfo, DeviceKey, Invitation, OpenedReply,
    Received, Receiver,
};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::frame::FrameKind;
use crate::protocol::ids::{PublishedKey, SessionId};
use crate::protocol::message::{CancelReason, ClientMessage, ServerMessage};
use crate::protocol::qr::QrPayload;

/// How far the transfer has come.
#[derive(Debug)]
enum State {
    /// The relay has not shown old's key yet.
    Joining { invitation: Invitation, device_key: DeviceKey },
    /// The hello is on its way.
    AwaitingReply { channel: AwaitingReply },
    /// The code is on the screen, or the credential is coming.
    Receiving { receiver: Receiver, code_accepted: bool },
    /// The credential is here.
    Complete { credential: Credential, binding: Binding },
    /// Nothing secret is left, except in the outcome.
    Over,
}

/// The new app's side of one transfer.
#[derive(Debug)]
pub struct NewTransfer<R> {
    device: DeviceInfo,
    session: SessionId,
    state: State,
    exchange: Exchange<NewEvent, R>,
    outcome: Option<NewOutcome>,
}

impl<R: CryptoRng> NewTransfer<R> {
    /// A transfer that wants its first connection at once.
    ///
    /// # Errors
    /// [`TransferError`] for demands of the QR code that this app cannot meet.
    pub fn new(settings: NewSettings, payload: QrPayload, now: Instant, rng: R) -> Result<Self, TransferError> {
        let NewSettings { device, device_key, proximity, patience } = settings;
        let invitation = Invitation::new(payload, proximity)?;
        Ok(Self {
            device,
            session: invitation.session(),
            state: State::Joining { invitation, device_key },
            exchange: Exchange::new(Role::New, patience, now, rng),
            outcome: None,
        })
    }

    /// The session, for the path to connect to.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    fn say_hello(&mut self, key: &PublishedKey) -> Result<(), EndReason> {
        let State::Joining { invitation, device_key } = std::mem::replace(&mut self.state, State::Over) else {
            return Ok(());
        };
        let accepted = invitation.accept(key, &self.device, device_key, self.exchange.rng());
        let (channel, hello) = accepted.map_err(|error| {
            let replaced = error == ChannelError::KeyMismatch;
            if replaced { EndReason::KeyReplaced } else { EndReason::Closed(CloseReason::VerificationFailed) }
        })?;
        self.exchange.send(hello);
        self.exchange.push_event(NewEvent::Joined);
        self.state = State::AwaitingReply { channel };
        Ok(())
    }

    fn open(&mut self, kind: FrameKind, frame: &[u8], now: Instant) {
        match (std::mem::replace(&mut self.state, State::Over), kind) {
            (State::AwaitingReply { channel }, FrameKind::Reply) => match channel.open_reply(frame) {
                Ok(reply) => self.on_reply(reply),
                Err(_) => self.fail(now),
            },
            (State::Receiving { receiver, code_accepted }, FrameKind::Credential) => match receiver.open_chunk(frame) {
                Ok(received) => self.on_chunk(received, code_accepted, now),
                Err(_) => self.fail(now),
            },
            // Nothing that an old app would send; the credential is here all the same.
            (complete @ State::Complete { .. }, _) => self.state = complete,
            _ => self.fail(now),
        }
    }

    fn on_reply(&mut self, reply: OpenedReply) {
        self.exchange.accept();
        self.exchange.push_event(NewEvent::PeerIdentified(reply.peer));
        self.exchange.push_event(NewEvent::ShowCode(reply.code));
        self.state = State::Receiving { receiver: reply.channel, code_accepted: false };
    }

    fn on_chunk(&mut self, received: Received, code_accepted: bool, now: Instant) {
        self.exchange.accept();
        if !code_accepted {
            self.exchange.push_event(NewEvent::CodeAccepted);
        }
        match received {
            Received::More(rest, progress) => {
                self.exchange.push_event(NewEvent::Receiving { received: progress.sent, total: progress.total });
                self.state = State::Receiving { receiver: rest, code_accepted: true };
            }
            Received::All(complete) => self.on_complete(complete, now),
        }
    }

    fn on_complete(&mut self, complete: Complete, now: Instant) {
        let binding = complete.binding();
        let Ok((credential, receipt)) = complete.finish() else { return self.fail_with(EndReason::Internal, now) };
        let total = credential.len();
        self.exchange.send(receipt);
        self.exchange.push_event(NewEvent::Receiving { received: total, total });
        self.exchange.push_event(NewEvent::CredentialReceived);
        self.state = State::Complete { credential, binding };
    }

    /// Something did not verify.
    fn fail(&mut self, now: Instant) {
        self.fail_with(EndReason::Closed(CloseReason::VerificationFailed), now);
    }

    /// Ends the transfer and tells the relay why.
    fn fail_with(&mut self, reason: EndReason, now: Instant) {
        let by_person = reason == EndReason::Cancelled;
        let cancel = if by_person { CancelReason::User } else { CancelReason::VerificationFailed };
        self.conclude(reason);
        if !self.exchange.is_parting() {
            self.exchange.break_off(ClientMessage::Cancel { reason: cancel }, LAST_WORD_TIMEOUT, now);
        }
    }

    fn conclude(&mut self, reason: EndReason) {
        let state = std::mem::replace(&mut self.state, State::Over);
        if self.outcome.is_some() {
            return;
        }
        let confirmed = reason == EndReason::Closed(CloseReason::Completed);
        let (event, outcome) = if let State::Complete { credential, binding } = state {
            let event = if confirmed { NewEvent::Confirmed } else { NewEvent::Unconfirmed(reason) };
            (event, NewOutcome::Received { credential, confirmed, binding })
        } else {
            // Who says that all is well while there is no credential breaks the protocol.
            let reason = if confirmed { EndReason::ProtocolViolated } else { reason };
            (NewEvent::Ended(reason), NewOutcome::Ended(reason))
        };
        self.exchange.push_event(event);
        self.outcome = Some(outcome);
    }
}

impl<R: CryptoRng> Party for NewTransfer<R> {
    type Event = NewEvent;
    type Rng = R;

    fn exchange(&mut self) -> &mut Exchange<NewEvent, R> {
        &mut self.exchange
    }

    fn on_message(&mut self, message: ServerMessage, now: Instant) -> Result<(), EndReason> {
        let (first, expires_in_ms, public_key, peer_online) = match message {
            ServerMessage::Joined { expires_in_ms, public_key, peer_online } => {
                (First::Fresh, expires_in_ms, Some(public_key), peer_online)
            }
            ServerMessage::Resumed { expires_in_ms, peer_online, joined: _, public_key } => {
                (First::Resume, expires_in_ms, public_key, peer_online)
            }
            // What is for the other app, and what was taken before.
            ServerMessage::Opened { .. }
            | ServerMessage::PeerJoined(_)
            | ServerMessage::PeerOffline {}
            | ServerMessage::PeerOnline {}
            | ServerMessage::Tick { .. }
            | ServerMessage::Ended { .. } => return Err(EndReason::ProtocolViolated),
        };
        self.exchange.attach(first, expires_in_ms, Some(peer_online), now)?;
        if !matches!(self.state, State::Joining { .. }) {
            return Ok(());
        }
        let key = public_key.ok_or(EndReason::ProtocolViolated)?;
        self.say_hello(&key)
    }

    fn distrust(&mut self, reason: EndReason, now: Instant) {
        self.fail_with(reason, now);
    }

    fn end(&mut self, reason: EndReason) {
        self.conclude(reason);
        self.exchange.finish();
    }

    fn settle(&mut self, now: Instant) {
        self.exchange.settle(now);
    }
}

impl<R: CryptoRng> Machine for NewTransfer<R> {
    type Event = NewEvent;
    type Outcome = NewOutcome;

    fn handle_connected(&mut self, now: Instant) {
        let Self { state, exchange, .. } = self;
        exchange.handle_connected(now, |resume_hash| {
            let State::Joining { invitation, .. } = state else { return None };
            Some(ClientMessage::Join { frame: invitation.frame(), proof: invitation.join_proof(), resume_hash })
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
        // Before `joined` nothing can be opened, and after the end nothing must.
        if matches!(self.state, State::Joining { .. } | State::Over) {
            return;
        }
        match self.exchange.handle_frame(frame, now) {
            Arrived::Nothing | Arrived::Acknowledged(_) => {}
            Arrived::Sealed(kind) => self.open(kind, frame, now),
            Arrived::Forged if matches!(self.state, State::Complete { .. }) => {}
            Arrived::Forged => self.fail(now),
        }
        self.settle(now);
    }

    fn handle_pong(&mut self, now: Instant) {
        self.exchange.handle_pong();
        self.settle(now);
    }

    fn handle_disconnected(&mut self, code: Option<u16>, now: Instant) {
        let completes = matches!(self.state, State::Complete { .. });
        self.disconnected(code, completes, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.timed_out(now);
    }

    fn cancel(&mut self, now: Instant) {
        if self.outcome.is_none() {
            self.fail_with(EndReason::Cancelled, now);
        }
        self.settle(now);
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.exchange.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<NewEvent> {
        self.exchange.poll_event()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.exchange.next_timeout()
    }

    fn step(&self) -> Step {
        self.exchange.step()
    }

    fn into_outcome(mut self) -> NewOutcome {
        self.conclude(EndReason::Cancelled);
        self.outcome.unwrap_or(NewOutcome::Ended(EndReason::Cancelled))
    }
}
