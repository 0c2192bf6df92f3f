//! The actor of one session: drives [`Session`] against real time, its links and the directory.
//!
//! Decides nothing itself. It hands every event to the state machine, carries out what comes back, and keeps one
//! timer for the next deadline.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use actix::prelude::*;
use tracing::{Span, debug, info, warn};

use super::link::{Congested, Link};
use super::message::{Attach, Deliver, FromOthers, GoAway, Gone, Hop, Inbound, WireEvent};
use super::registry::{Permit, RegistryEntry};
use super::{BUSY_RETRY_AFTER, Relay, SESSION_MAILBOX, SessionTag, notes};
use crate::directory::{Answer, Arrived, News, Unavailable};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::ids::{OpenToken, SessionId};
use crate::protocol::message::ClientMessage;
use crate::session::route::{Outcome, Transition};
use crate::session::{ConnectionId, Note, Output, Session};
use crate::telemetry::HopPath;

/// The actor of one session.
#[derive(Debug)]
pub struct SessionActor {
    id: SessionId,
    session: Session,
    /// Mostly two: a map takes more room, and finds nothing sooner.
    links: Vec<(ConnectionId, Link)>,
    relay: Arc<Relay>,
    /// When the timer fires; it may fire too early, never too late.
    armed: Option<(Instant, SpawnHandle)>,
    /// Since when both apps are in the session, as far as this node saw it.
    paired_at: Option<Instant>,
    /// Whether old has sent a data frame since.
    has_replied: bool,
    /// Of the data frame that is being handled, if its way is measured.
    hop: Option<Hop>,
    permit: Option<Permit>,
    entry: Option<RegistryEntry>,
    tag: SessionTag,
    span: Span,
}

impl SessionActor {
    pub(super) fn new(id: SessionId, entry: RegistryEntry, relay: Arc<Relay>) -> Self {
        let tag = relay.tag(&id);
        // Only for whoever debugs: the registry of spans never gives back the memory of the most it has held, and the
        // few lines at info name the session themselves.
        let span = tracing::debug_span!("session", session = %tag);
        let session = Session::new(relay.settings.clone(), relay.node);
        Self {
            id,
            session,
            links: Vec::with_capacity(2),
            relay,
            armed: None,
            paired_at: None,
            has_replied: false,
            hop: None,
            permit: None,
            entry: Some(entry),
            tag,
            span,
        }
    }

    fn now(&self) -> Instant {
        self.relay.now()
    }

    /// Runs `handle` on the state machine and carries out what it asks for.
    fn drive(&mut self, ctx: &mut Context<Self>, handle: impl FnOnce(&mut Self, Instant)) {
        let span = self.span.clone();
        let _entered = span.enter();
        let now = self.now();
        handle(self, now);
        while let Some(output) = self.session.poll_output() {
            self.carry_out(output, ctx);
        }
        self.arm(ctx);
    }

    fn carry_out(&mut self, output: Output, ctx: &mut Context<Self>) {
        match output {
            Output::Send(to, message) => self.deliver(to, Deliver::Text(message.encode())),
            Output::Forward(to, frame) => {
                let hop = self.hop.take();
                self.deliver(to, Deliver::Data(frame, hop));
            }
            Output::Ping(to) => self.deliver(to, Deliver::Ping),
            Output::Close(connection, reason, retry_after) => {
                debug!(connection = connection.0, %reason, "closing connection");
                if let Some(link) = self.link(connection) {
                    link.hang_up(reason, retry_after);
                }
            }
            Output::Cut(connection) => drop(self.take_link(connection)),
            Output::Transition(connection, transition) => self.ask_directory(connection, transition, ctx),
            Output::Tell(node, event) => self.relay.directory.tell(node, self.id, event),
            Output::Note(note) => {
                if let Note::MovedIn { .. } = note {
                    self.permit = Some(self.relay.registry.permit_for_live());
                }
                self.time_of_pair(note);
                let paired = || self.paired_at.map(|since| self.now().saturating_duration_since(since));
                notes::take(note, self.tag, &self.relay.meters, paired);
            }
            Output::Finished => self.finish(ctx),
        }
    }

    /// Measures how far the two apps have come, as far as the relay can see it.
    fn time_of_pair(&mut self, note: Note) {
        match note {
            Note::Paired => self.paired_at = Some(self.now()),
            Note::Relayed(Role::Old, _) if !self.has_replied => {
                self.has_replied = true;
                if let Some(since) = self.paired_at {
                    self.relay.meters.reply.record(self.now().saturating_duration_since(since));
                }
            }
            _ => {}
        }
    }

    fn link(&self, of: ConnectionId) -> Option<&Link> {
        self.links.iter().find(|(connection, _)| *connection == of).map(|(_, link)| link)
    }

    fn take_link(&mut self, of: ConnectionId) -> Option<Link> {
        let at = self.links.iter().position(|(connection, _)| *connection == of)?;
        Some(self.links.swap_remove(at).1)
    }

    fn deliver(&mut self, to: ConnectionId, message: Deliver) {
        let Some(link) = self.link(to) else { return };
        if link.deliver(message) == Err(Congested) {
            let now = self.now();
            self.session.handle_violation(to, CloseReason::TooSlow, None, now);
        }
    }

    fn ask_directory(&mut self, connection: Option<ConnectionId>, transition: Transition, ctx: &mut Context<Self>) {
        let mut answer = self.relay.directory.apply(self.id, transition);
        // A directory in memory answers at once, and then no task is needed.
        let ready = answer.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()));
        match (connection, ready) {
            (Some(connection), Poll::Ready(outcome)) => self.take_outcome(connection, outcome),
            (Some(connection), Poll::Pending) => {
                let answered = answer.into_actor(self).map(move |outcome, actor, ctx| {
                    actor.drive(ctx, |actor, _| actor.take_outcome(connection, outcome));
                });
                ctx.spawn(answered);
            }
            (None, Poll::Ready(outcome)) => warn_if_lost(&outcome),
            // Must reach the directory even if this actor has nothing left to do.
            (None, Poll::Pending) => drop(actix::spawn(tell(answer))),
        }
    }

    fn take_outcome(&mut self, connection: ConnectionId, outcome: Result<Outcome, Unavailable>) {
        let now = self.now();
        warn_if_lost(&outcome);
        self.session.handle_outcome(connection, outcome.map_err(|unavailable| unavailable.retry_after), now);
        match (&self.entry, self.session.is_open()) {
            (Some(entry), true) => entry.mark_open(),
            _ => self.permit = None,
        }
    }

    fn take_news(&mut self, news: News, now: Instant) {
        match news {
            News::Said { session: _, from, event, arrived: Arrived(arrived) } => {
                self.hop = arrived.map(|since| Hop { path: HopPath::FromNode, since });
                self.session.handle_peer_event(from, event, now);
            }
            News::Gone { session: _, node } => self.session.handle_node_gone(node),
            News::Isolated => self.session.handle_isolated(),
            News::Reconnected => self.session.handle_reconnected(),
        }
        if !self.session.is_home() {
            self.permit = None;
        }
    }

    fn take_text(&mut self, connection: ConnectionId, text: &str, now: Instant) {
        let refused = match ClientMessage::decode(text) {
            Ok(ClientMessage::Open { token, .. }) if !self.session.is_open() && !self.may_open(token.as_ref()) => {
                (CloseReason::Unauthorized, None)
            }
            Ok(ClientMessage::Open { .. }) if !self.has_place() => (CloseReason::Overloaded, Some(BUSY_RETRY_AFTER)),
            Ok(message) => return self.session.handle_message(connection, message, now),
            Err(error) => (error.close_reason(), None),
        };
        let (reason, retry_after) = refused;
        self.session.handle_violation(connection, reason, retry_after, now);
    }

    fn may_open(&self, token: Option<&OpenToken>) -> bool {
        let since_epoch = (self.relay.clocks.wall)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::MAX);
        match self.relay.open_policy.authorize(token, since_epoch.as_secs()) {
            Ok(()) => true,
            Err(refused) => {
                info!(session = %self.tag, %refused, "open refused");
                false
            }
        }
    }

    fn has_place(&mut self) -> bool {
        if self.permit.is_none() {
            self.permit = self.relay.registry.permit();
        }
        self.permit.is_some()
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(due) = self.session.poll_timeout() else { return };
        if let Some((armed, timer)) = self.armed {
            if armed <= due {
                return;
            }
            ctx.cancel_future(timer);
        }
        let timer = ctx.run_later(due.saturating_duration_since(self.now()), |actor, ctx| {
            actor.armed = None;
            actor.drive(ctx, |actor, now| actor.session.handle_timeout(now));
        });
        self.armed = Some((due, timer));
    }

    fn finish(&mut self, ctx: &mut Context<Self>) {
        // A connection that comes now gets a new actor. One that has found this one already still gets its answer, so
        // that nothing stops here: the actor ends when nobody can reach it any more.
        self.entry = None;
        self.permit = None;
        if let Some((_, timer)) = self.armed.take() {
            ctx.cancel_future(timer);
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(SESSION_MAILBOX);
    }
}

impl Handler<Attach> for SessionActor {
    type Result = ();

    fn handle(&mut self, attach: Attach, ctx: &mut Self::Context) {
        let Attach { connection, role, tag, link } = attach;
        // A newer actor may run the session: only the end of one can be told from here. Whoever is cut comes back.
        if self.entry.is_none() && !self.session.has_ended() {
            return;
        }
        self.links.push((connection, link));
        self.drive(ctx, |actor, now| actor.session.handle_connect(connection, role, tag, now));
    }
}

impl Handler<Inbound> for SessionActor {
    type Result = ();

    fn handle(&mut self, Inbound { connection, event }: Inbound, ctx: &mut Self::Context) {
        self.drive(ctx, |actor, now| match event {
            WireEvent::Text(text) => actor.take_text(connection, &text, now),
            WireEvent::Data(frame, read) => {
                actor.hop = read.map(|since| Hop { path: HopPath::Here, since });
                actor.session.handle_data(connection, frame, now);
            }
            WireEvent::Heartbeat => actor.session.handle_heartbeat(connection, now),
            WireEvent::Violation(reason) => actor.session.handle_violation(connection, reason, None, now),
        });
    }
}

impl Handler<Gone> for SessionActor {
    type Result = ();

    fn handle(&mut self, Gone { connection }: Gone, ctx: &mut Self::Context) {
        if let Some(link) = self.take_link(connection) {
            link.release();
        }
        self.drive(ctx, |actor, _| actor.session.handle_disconnect(connection));
    }
}

impl Handler<FromOthers> for SessionActor {
    type Result = ();

    fn handle(&mut self, FromOthers(news): FromOthers, ctx: &mut Self::Context) {
        self.drive(ctx, |actor, now| actor.take_news(news, now));
    }
}

impl Handler<GoAway> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: GoAway, ctx: &mut Self::Context) {
        self.drive(ctx, |actor, now| actor.session.handle_shutdown(now));
    }
}

async fn tell(answer: Answer) {
    warn_if_lost(&answer.await);
}

fn warn_if_lost(outcome: &Result<Outcome, Unavailable>) {
    if let Err(unavailable) = outcome {
        warn!(%unavailable, "directory does not answer");
    }
}
