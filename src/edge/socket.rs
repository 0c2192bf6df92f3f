//! One WebSocket connection as an actor: frames in, frames out, no policy.
//!
//! The only file that names `actix_web_actors`, so that the WebSocket crate can be exchanged here alone. The actor is
//! the HTTP response body: when its peer stops reading it is not polled, and then nothing here runs, timers included.
//! So nothing here decides anything; deadlines, limits and the last word are the session's.

use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, HandshakeError, Message, ProtocolError, WebsocketContext, WsResponseBuilder};
use futures_util::StreamExt as _;
use tracing::{Span, debug};

use super::admission::ConnectionGuard;
use super::frame_guard::{Guarded, Inbox, Violation};
use super::upgrade::Incoming;
use crate::protocol::close::CloseReason;
use crate::protocol::ids::SessionId;
use crate::protocol::message::ServerMessage;
use crate::protocol::{Role, SUBPROTOCOL, limits};
use crate::relay::link::{Backlog, Cord, Link};
use crate::relay::message::{Attach, Deliver, Gone, Hangup, Hop, Inbound, WireEvent};
use crate::relay::{OUTBOX, Relay};
use crate::session::ConnectionId;
use crate::session::network_tag::NetworkTag;
use crate::telemetry;
use crate::telemetry::trace::Parent;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) session: SessionId,
    pub(super) role: Role,
    pub(super) tag: NetworkTag,
    /// The span of the handshake.
    pub(super) trace: Parent,
}

/// Answers the handshake and starts the connection's actor.
pub(super) fn accept(
    request: &HttpRequest,
    party: Party,
    relay: Arc<Relay>,
    cord: Cord,
    guard: ConnectionGuard,
) -> Result<HttpResponse, actix_web::Error> {
    let incoming = request.extensions_mut().remove::<Incoming>().ok_or(HandshakeError::NoConnectionUpgrade)?;
    let inbox = Rc::new(Inbox::default());
    let connection = relay.next_connection();
    let span = tracing::debug_span!("connection", connection = connection.0, role = %party.role);
    let guarded = Guarded::new(incoming, Rc::clone(&inbox));
    let socket = Socket {
        connection,
        party,
        relay,
        cord: Some(cord),
        inbox,
        session: None,
        backlog: Backlog::default(),
        // So that of short sessions, too, one frame in so many is measured, and not the same of each.
        frames: connection.0,
        is_closing: false,
        span,
        _guard: guard,
    };
    WsResponseBuilder::new(socket, request, guarded)
        .protocols(&[SUBPROTOCOL])
        .frame_size(limits::MAX_FRAME_BYTES)
        .start()
}

struct Socket {
    connection: ConnectionId,
    party: Party,
    relay: Arc<Relay>,
    /// Given to the session with the link.
    cord: Option<Cord>,
    /// What is known of the incoming stream beside its messages.
    inbox: Rc<Inbox<Incoming>>,
    session: Option<SessionEnd>,
    backlog: Backlog,
    /// Counts data frames, to measure the way of one in [`telemetry::HOP_SAMPLE`].
    frames: u64,
    /// A close frame went out.
    is_closing: bool,
    span: Span,
    _guard: ConnectionGuard,
}

/// The way to the session: long-lived senders, each with its own slot in the session's mailbox.
#[derive(Debug)]
struct SessionEnd {
    inbound: Recipient<Inbound>,
    gone: Recipient<Gone>,
}

impl Socket {
    fn report(&self, event: WireEvent, ctx: &mut WebsocketContext<Self>) {
        let Some(session) = self.session.as_ref().filter(|_| !self.is_closing) else { return };
        let inbound = Inbound { connection: self.connection, event };
        match session.inbound.try_send(inbound) {
            Ok(()) => {}
            // The session is busy: read nothing more until it has taken this. It never waits for sockets.
            Err(SendError::Full(inbound)) => {
                self.relay.meters().session_queue_full.increment(1);
                ctx.wait(session.inbound.send(inbound).into_actor(self).map(|_, _, _| ()));
            }
            Err(SendError::Closed(_)) => ctx.stop(),
        }
    }
}

impl Actor for Socket {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(OUTBOX);
        let Some(cord) = self.cord.take() else { return ctx.stop() };
        let link = Link::new(ctx.address().recipient(), ctx.address().recipient(), cord, self.backlog.clone());
        let link = link.traced(std::mem::take(&mut self.party.trace));
        let session = self.relay.session(self.party.session);
        let attach = Attach { connection: self.connection, role: self.party.role, tag: self.party.tag, link };
        // A session that ends at this very moment drops the link, and that cuts the socket.
        if session.try_send(attach).is_err() {
            return ctx.stop();
        }
        self.session = Some(SessionEnd { inbound: session.clone().recipient(), gone: session.recipient() });
        self.relay.meters().count_connection(self.party.role);
        self.span.in_scope(|| debug!("connected"));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.span.in_scope(|| debug!("disconnected"));
        if let Some(session) = &self.session {
            self.relay.meters().count_disconnection(self.party.role);
            // Its slot is reserved: only a session that is gone itself does not take it.
            drop(session.gone.try_send(Gone { connection: self.connection }));
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Socket {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        self.inbox.take_frame();
        match message {
            Ok(Message::Text(text)) => self.report(WireEvent::Text(text), ctx),
            Ok(Message::Binary(frame)) => {
                self.frames = self.frames.wrapping_add(1);
                let is_measured = self.frames.is_multiple_of(telemetry::HOP_SAMPLE);
                self.report(WireEvent::Data(frame, is_measured.then(|| self.relay.now())), ctx);
            }
            Ok(Message::Ping(payload)) => {
                // Nothing may follow a close frame (RFC 6455 section 5.5.1).
                if !self.is_closing {
                    ctx.pong(&payload);
                }
                self.report(WireEvent::Heartbeat, ctx);
            }
            Ok(Message::Pong(_)) => self.report(WireEvent::Heartbeat, ctx),
            // The body ends here: what is queued is sent, and then the relay closes TCP first, and at once (RFC 6455
            // section 7.1.1).
            Ok(Message::Close(_)) if self.is_closing => ctx.stop(),
            Ok(Message::Close(reason)) => {
                ctx.close(reason);
                ctx.stop();
            }
            Ok(Message::Continuation(_)) => self.report(WireEvent::Violation(CloseReason::Fragmented), ctx),
            Ok(Message::Nop) => {}
            // Framing was checked before: what is left is text that is not UTF-8, or a bad close payload.
            Err(_) => self.report(WireEvent::Violation(CloseReason::ProtocolError), ctx),
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        let Some(Violation { reason, rest }) = self.inbox.take_violation() else { return ctx.stop() };
        // What still comes is thrown away: bytes that nobody reads would turn the end of TCP into a reset, and that
        // takes the last words with it. It ends when the peer does, or when the session cuts.
        let ended = rest.take_while(|chunk| ready(chunk.is_ok())).for_each(|_| ready(()));
        ctx.spawn(ended.into_actor(self).map(|(), _, ctx| ctx.stop()));
        self.report(WireEvent::Violation(reason), ctx);
    }
}

impl Handler<Deliver> for Socket {
    type Result = ();

    fn handle(&mut self, message: Deliver, ctx: &mut Self::Context) {
        let waiting = self.backlog.take();
        match message {
            Deliver::Text(text) => ctx.text(text),
            Deliver::Data(frame, hop) => {
                ctx.binary(frame);
                if let Some(Hop { path, since }) = hop {
                    let meters = self.relay.meters();
                    meters.hop(path).record(self.relay.now().saturating_duration_since(since));
                    meters.connection_queue.record(waiting);
                }
            }
            Deliver::Ping => ctx.ping(b""),
        }
    }
}

impl Handler<Hangup> for Socket {
    type Result = ();

    fn handle(&mut self, Hangup { reason, retry_after }: Hangup, ctx: &mut Self::Context) {
        let retry_after_ms = retry_after.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        ctx.text(ServerMessage::ended(reason, retry_after_ms).encode());
        ctx.close(Some(ws::CloseReason { code: reason.code().into(), description: Some(reason.label().to_owned()) }));
        self.is_closing = true;
    }
}
