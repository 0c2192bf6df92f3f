//! What a driver and a simulator need of either machine. Not what an app needs: that is `app`.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use super::link::Step;
use super::outcome::ConnectFailure;

/// One side of a transfer without sockets, clock or tasks.
///
/// After every `handle_*` and every command, a driver first takes everything from [`poll_transmit`] and
/// [`poll_event`], then does what [`step`] says, and calls [`handle_timeout`] at [`poll_timeout`]. Calls that come
/// too early, too often or for a connection that was already given up are harmless. There is at most one connection
/// at a time; after [`Transmit::Close`] it is no longer the machine's.
///
/// [`poll_transmit`]: Self::poll_transmit
/// [`poll_event`]: Self::poll_event
/// [`step`]: Self::step
/// [`handle_timeout`]: Self::handle_timeout
/// [`poll_timeout`]: Self::poll_timeout
pub trait Machine {
    /// What it tells a user interface.
    type Event;
    /// How it ends.
    type Outcome;

    /// The connection that [`Step::ConnectAt`] asked for is there.
    fn handle_connected(&mut self, now: Instant);

    /// It did not come about.
    fn handle_connect_failed(&mut self, failure: ConnectFailure, now: Instant);

    /// A text frame arrived.
    fn handle_message(&mut self, text: &str, now: Instant);

    /// A binary frame arrived.
    fn handle_frame(&mut self, frame: &[u8], now: Instant);

    /// A pong arrived. (To answer the relay's pings is the driver's business.)
    fn handle_pong(&mut self, now: Instant);

    /// The connection is gone, with this close code if the relay gave one.
    fn handle_disconnected(&mut self, code: Option<u16>, now: Instant);

    /// Time has passed.
    fn handle_timeout(&mut self, now: Instant);

    /// The person cancels, or nobody listens any more.
    fn cancel(&mut self, now: Instant);

    /// What to put on the connection next.
    fn poll_transmit(&mut self) -> Option<Transmit>;

    /// What to tell the user interface next.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// What to do about the connection.
    fn step(&self) -> Step;

    /// How it ended. Before [`Step::Finished`]: as if it were cancelled now.
    fn into_outcome(self) -> Self::Outcome;
}

/// Something for the driver to put on the connection.
#[derive(Clone, PartialEq, Eq)]
pub enum Transmit {
    /// A control message.
    Text(String),
    /// A data frame.
    Binary(Bytes),
    /// A ping without payload.
    Ping,
    /// Close the connection and forget it; nothing that it still brings matters.
    Close,
}

// Control messages hold tokens and proofs.
impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(frame) => write!(f, "Binary({} bytes)", frame.len()),
            Self::Ping => f.write_str("Ping"),
            Self::Close => f.write_str("Close"),
        }
    }
}
