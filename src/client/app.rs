//! What an app uses: starts a transfer, hears its events, hands in the check code, waits for its end. The work is
//! done in a task of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::connection::Connector;
use super::driver::{Route, Wires, drive};
use super::event::{NewEvent, OldEvent};
use super::machine::Machine;
use super::new::NewTransfer;
use super::old::OldTransfer;
use super::outcome::{EndReason, NewOutcome, OldOutcome, TransferError};
use super::payload::Payload;
use super::relays::{RelayList, RelayNotAllowed};
use super::settings::{NewSettings, OldSettings};
use crate::crypto::CheckCode;
use crate::protocol::Role;
use crate::protocol::qr::QrPayload;

/// Events that wait for an app that is busy drawing; the rest waits in the machine.
const EVENT_QUEUE: usize = 64;

/// A person types one code.
const COMMAND_QUEUE: usize = 4;

/// The app that has a credential to hand over.
#[derive(Clone, Debug)]
pub struct OldApp {
    relays: RelayList,
    connector: Connector,
}

impl OldApp {
    /// An app that may use these relays.
    #[must_use]
    pub fn new(relays: RelayList, connector: Connector) -> Self {
        Self { relays, connector }
    }

    /// Starts handing over a credential, inside a tokio runtime. Show what [`OldEvent::QrShown`] says.
    ///
    /// # Errors
    /// [`StartError`]; nothing was sent.
    pub fn start(&self, settings: OldSettings, payload: impl Into<Payload>) -> Result<OldHandle, StartError> {
        let urls = self.relays.resolve(&settings.relay)?;
        let (runtime, rng) = surroundings()?;
        let machine = OldTransfer::new(settings, payload, tokio::time::Instant::now().into_std(), rng)?;
        let route = Route { connector: self.connector.clone(), urls, session: machine.session(), role: Role::Old };
        Ok(Transfer::spawn(&runtime, machine, route, OldTransfer::on_command))
    }
}

/// The app that receives a credential.
#[derive(Clone, Debug)]
pub struct NewApp {
    relays: RelayList,
    connector: Connector,
}

impl NewApp {
    /// An app that may use these relays.
    #[must_use]
    pub fn new(relays: RelayList, connector: Connector) -> Self {
        Self { relays, connector }
    }

    /// Starts receiving what the scanned QR code offers, inside a tokio runtime. Show what [`NewEvent::ShowCode`] says.
    ///
    /// # Errors
    /// [`StartError`]; nothing was sent.
    pub fn start(&self, settings: NewSettings, payload: QrPayload) -> Result<NewHandle, StartError> {
        let urls = self.relays.resolve(&payload.relay)?;
        let (runtime, rng) = surroundings()?;
        let machine = NewTransfer::new(settings, payload, tokio::time::Instant::now().into_std(), rng)?;
        let route = Route { connector: self.connector.clone(), urls, session: machine.session(), role: Role::New };
        Ok(Transfer::spawn(&runtime, machine, route, |_, command: Never, _| match command {}))
    }
}

/// Why a transfer did not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The relay may not be used.
    #[error(transparent)]
    Relay(#[from] RelayNotAllowed),
    /// The settings, the credential or the QR code cannot be used.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Called outside a tokio runtime.
    #[error("a transfer starts inside a tokio runtime")]
    NoRuntime,
    /// The operating system has no randomness.
    #[error("the operating system gave no random numbers")]
    NoRandomness,
}

fn surroundings() -> Result<(Handle, StdRng), StartError> {
    let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
    let rng = StdRng::try_from_rng(&mut SysRng).map_err(|_| StartError::NoRandomness)?;
    Ok((runtime, rng))
}

/// The person typed a check code.
#[derive(Debug)]
pub struct EnterCode(CheckCode);

/// Nothing: the person at the new app types nothing.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

impl OldTransfer<StdRng> {
    fn on_command(&mut self, EnterCode(code): EnterCode, now: Instant) {
        self.enter_code(&code, now);
    }
}

/// A running transfer. Dropping it cancels.
pub struct Transfer<C, E, O> {
    commands: mpsc::Sender<C>,
    cancel: Arc<Notify>,
    events: mpsc::Receiver<E>,
    task: JoinHandle<O>,
}

/// The old app's running transfer.
pub type OldHandle = Transfer<EnterCode, OldEvent, OldOutcome>;

/// The new app's running transfer.
pub type NewHandle = Transfer<Never, NewEvent, NewOutcome>;

impl<C, E, O> fmt::Debug for Transfer<C, E, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("is_finished", &self.task.is_finished()).finish_non_exhaustive()
    }
}

impl<C, E, O> Transfer<C, E, O>
where
    C: Send + 'static,
    E: Send + 'static,
    O: Send + From<EndReason> + 'static,
{
    fn spawn<M>(runtime: &Handle, machine: M, route: Route, command: fn(&mut M, C, Instant)) -> Self
    where
        M: Machine<Event = E, Outcome = O> + Send + 'static,
    {
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (event_queue, events) = mpsc::channel(EVENT_QUEUE);
        let cancel = Arc::new(Notify::new());
        let wires = Wires { commands: command_queue, cancel: Arc::clone(&cancel), events: event_queue };
        let task = runtime.spawn(drive(machine, route, wires, command));
        Self { commands, cancel, events, task }
    }

    /// The next thing that happened; `None` once the transfer is over and everything was told.
    pub async fn next_event(&mut self) -> Option<E> {
        self.events.recv().await
    }

    /// The next event that `wanted` is true of; the ones before it are dropped.
    pub async fn next_event_where(&mut self, wanted: impl Fn(&E) -> bool) -> Option<E> {
        loop {
            let event = self.next_event().await?;
            if wanted(&event) {
                return Some(event);
            }
        }
    }

    /// Ends the transfer and tells the other app. Too late once it has ended by itself.
    pub fn cancel(&self) {
        self.cancel.notify_one();
    }

    /// Waits for the end. Events that were not taken are dropped.
    pub async fn join(mut self) -> O {
        while self.events.recv().await.is_some() {}
        self.task.await.unwrap_or_else(|_| EndReason::Internal.into())
    }
}

impl OldHandle {
    /// Hands in what the person typed. There is one try; without [`OldEvent::AskCode`] it is ignored.
    pub async fn enter_code(&self, code: CheckCode) {
        // A transfer that is over takes no code, and says so by its outcome.
        let _over = self.commands.send(EnterCode(code)).await.is_err();
    }
}
