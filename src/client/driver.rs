//! Runs a machine against real time and real connections: one task a transfer. Decides nothing that a machine can
//! decide.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;

use super::connection::{Connector, Socket};
use super::link::Step;
use super::machine::{Machine, Transmit};
use super::outcome::ConnectFailure;
use super::relays::RelayUrl;
use crate::protocol::Role;
use crate::protocol::ids::SessionId;

/// Time to hand a message to the operating system. A window fits any socket buffer, so only a dead path takes longer.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the closing handshake, so that what was said last is not thrown away with the socket.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(250);

/// Where one side of a session can be reached.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) connector: Connector,
    /// Never empty; the next one to use is the first.
    pub(super) urls: Vec<RelayUrl>,
    pub(super) session: SessionId,
    pub(super) role: Role,
}

impl Route {
    /// The next address is for the next attempt.
    fn rotate(&mut self) {
        if !self.urls.is_empty() {
            self.urls.rotate_left(1);
        }
    }

    fn connect_at(&self, due: Instant) -> Connecting {
        let (connector, url) = (self.connector.clone(), self.urls.first().cloned());
        let (session, role) = (self.session, self.role);
        Box::pin(async move {
            sleep_until(due.into()).await;
            match url {
                Some(url) => connector.connect(&url, session, role).await,
                None => Err(ConnectFailure::Name),
            }
        })
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Socket, ConnectFailure>> + Send>>;

/// What an app's handle and its task share.
#[derive(Debug)]
pub(super) struct Wires<C, E> {
    pub(super) commands: mpsc::Receiver<C>,
    pub(super) cancel: Arc<Notify>,
    pub(super) events: mpsc::Sender<E>,
}

/// What happened while the task waited.
enum Wake<C> {
    Command(Option<C>),
    Cancelled,
    EventTaken,
    Connected(Box<Result<Socket, ConnectFailure>>),
    Received(Option<Result<Message, Error>>),
    TimedOut,
}

struct Driver<M: Machine, C> {
    machine: M,
    route: Route,
    wires: Wires<C, M::Event>,
    command: fn(&mut M, C, Instant),
    socket: Option<Box<Socket>>,
    connecting: Option<Connecting>,
    event: Option<M::Event>,
    /// Nobody holds the other end of `wires` any more.
    is_orphan: bool,
}

/// Runs a transfer to its end. `command` is what the person does.
pub(super) async fn drive<M: Machine, C>(
    machine: M,
    route: Route,
    wires: Wires<C, M::Event>,
    command: fn(&mut M, C, Instant),
) -> M::Outcome {
    let driver =
        Driver { machine, route, wires, command, socket: None, connecting: None, event: None, is_orphan: false };
    driver.run().await
}

impl<M: Machine, C> Driver<M, C> {
    async fn run(mut self) -> M::Outcome {
        loop {
            self.transmit().await;
            match self.machine.step() {
                Step::Finished => break,
                Step::ConnectAt(due) if self.connecting.is_none() => {
                    self.connecting = Some(self.route.connect_at(due));
                }
                Step::ConnectAt(_) | Step::Stay => {}
            }
            self.event = self.event.take().or_else(|| self.machine.poll_event());
            let wake = self.wait().await;
            self.handle(wake);
        }
        debug!(role = %self.route.role, "transfer finished");
        self.tell_the_rest().await;
        self.machine.into_outcome()
    }

    async fn wait(&mut self) -> Wake<C> {
        let due = self.machine.poll_timeout();
        tokio::select! {
            biased;
            () = self.wires.cancel.notified() => Wake::Cancelled,
            command = self.wires.commands.recv(), if !self.is_orphan => Wake::Command(command),
            () = at(due) => Wake::TimedOut,
            _permit = self.wires.events.reserve(), if self.event.is_some() && !self.is_orphan => Wake::EventTaken,
            result = established(&mut self.connecting), if self.connecting.is_some() => Wake::Connected(Box::new(result)),
            message = received(&mut self.socket), if self.socket.is_some() => Wake::Received(message),
        }
    }

    fn handle(&mut self, wake: Wake<C>) {
        let now = now();
        match wake {
            Wake::Command(Some(command)) => (self.command)(&mut self.machine, command, now),
            Wake::Command(None) => {
                self.is_orphan = true;
                self.machine.cancel(now);
            }
            Wake::Cancelled => self.machine.cancel(now),
            Wake::TimedOut => self.machine.handle_timeout(now),
            Wake::EventTaken => self.hand_out_event(),
            Wake::Connected(result) => self.on_connected(*result, now),
            Wake::Received(message) => self.on_received(message, now),
        }
    }

    fn hand_out_event(&mut self) {
        if let Some(event) = self.event.take()
            && let Err(mpsc::error::TrySendError::Full(event)) = self.wires.events.try_send(event)
        {
            self.event = Some(event);
        }
    }

    fn on_connected(&mut self, result: Result<Socket, ConnectFailure>, now: Instant) {
        self.connecting = None;
        match result {
            Ok(socket) => {
                debug!(role = %self.route.role, "connected");
                self.socket = Some(Box::new(socket));
                self.machine.handle_connected(now);
            }
            Err(failure) => {
                debug!(role = %self.route.role, %failure, "connection failed");
                self.route.rotate();
                self.machine.handle_connect_failed(failure, now);
            }
        }
    }

    fn on_received(&mut self, message: Option<Result<Message, Error>>, now: Instant) {
        match message {
            Some(Ok(Message::Text(text))) => self.machine.handle_message(&text, now),
            Some(Ok(Message::Binary(frame))) => self.machine.handle_frame(&frame, now),
            Some(Ok(Message::Pong(_))) => self.machine.handle_pong(now),
            // The WebSocket library answers pings by itself.
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(frame))) => self.lose(frame.map(|frame| frame.code.into())),
            Some(Err(_)) | None => self.lose(None),
        }
    }

    /// Puts everything that the machine has to say on the connection.
    async fn transmit(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            let message = match transmit {
                Transmit::Text(text) => Message::text(text),
                Transmit::Binary(frame) => Message::Binary(frame),
                Transmit::Ping => Message::Ping(Bytes::new()),
                Transmit::Close => {
                    self.hang_up().await;
                    continue;
                }
            };
            let Some(socket) = &mut self.socket else { continue };
            if !matches!(timeout(SEND_TIMEOUT, socket.send(message)).await, Ok(Ok(()))) {
                self.lose(None);
            }
        }
    }

    fn lose(&mut self, code: Option<u16>) {
        debug!(role = %self.route.role, code, "connection lost");
        self.socket = None;
        self.machine.handle_disconnected(code, now());
    }

    /// The machine has no more use for this connection.
    async fn hang_up(&mut self) {
        debug!(role = %self.route.role, "connection closed");
        if let Some(mut socket) = self.socket.take().map(|socket| *socket) {
            // Whether the relay hears it makes no difference any more.
            let _answered = timeout(CLOSE_TIMEOUT, async {
                if Socket::close(&mut socket, None).await.is_ok() {
                    while let Some(Ok(_)) = socket.next().await {}
                }
            })
            .await
            .is_ok();
        }
        if self.machine.step() != Step::Finished {
            self.route.rotate();
        }
    }

    /// The last events, for an app that still listens.
    async fn tell_the_rest(&mut self) {
        while let Some(event) = self.event.take().or_else(|| self.machine.poll_event()) {
            if self.wires.events.send(event).await.is_err() {
                return;
            }
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn established(connecting: &mut Option<Connecting>) -> Result<Socket, ConnectFailure> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

async fn received(socket: &mut Option<Box<Socket>>) -> Option<Result<Message, Error>> {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

/// The runtime's clock: the one that its timers run on.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
