//! A session's end of one connection: where to deliver, how to hang up, and the cord to cut.

use std::net::Shutdown;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Recipient;
use actix::prelude::SendError;

use super::message::{Deliver, Hangup};
use crate::protocol::close::CloseReason;

/// How many messages wait for a socket: the mailbox itself does not tell. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<AtomicU32>);

impl Backlog {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The socket has taken one; the answer is how many there were.
    pub fn take(&self) -> u32 {
        self.0.fetch_sub(1, Ordering::Relaxed)
    }
}

/// One attached connection. Dropping it cuts the socket.
#[derive(Debug)]
pub struct Link {
    deliver: Recipient<Deliver>,
    hangup: Recipient<Hangup>,
    cord: Cord,
    backlog: Backlog,
}

/// The socket's queue is full: its peer does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Congested;

impl Link {
    /// Both recipients must be made for this link alone: each owns one slot in the socket's mailbox.
    #[must_use]
    pub fn new(deliver: Recipient<Deliver>, hangup: Recipient<Hangup>, cord: Cord, backlog: Backlog) -> Self {
        Self { deliver, hangup, cord, backlog }
    }

    /// Queues a frame. A socket that is already gone swallows it: its `Gone` is on the way.
    pub(super) fn deliver(&self, message: Deliver) -> Result<(), Congested> {
        // Counted first: the socket may take it on another thread before this one goes on.
        self.backlog.add();
        match self.deliver.try_send(message) {
            Ok(()) | Err(SendError::Closed(_)) => Ok(()),
            Err(SendError::Full(_)) => {
                self.backlog.take();
                Err(Congested)
            }
        }
    }

    /// Starts the closing handshake; the reserved slot takes it even when the queue is full.
    pub(super) fn hang_up(&self, reason: CloseReason, retry_after: Option<Duration>) {
        if let Err(SendError::Full(_)) = self.hangup.try_send(Hangup { reason, retry_after }) {
            // Only a second hangup can find the slot taken: the socket is stuck, so that words do not reach it.
            self.cord.cut();
        }
    }

    /// Lets go of a connection that ended by itself: it still has words to flush.
    pub(super) fn release(self) {
        self.cord.release();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cord.cut();
    }
}

/// A duplicate of the accepted socket, with which a connection can be ended from outside: a peer that stops reading
/// freezes the socket's actor, timers included. Costs one file descriptor a connection until it is cut.
#[derive(Clone, Debug)]
pub struct Cord(Arc<Mutex<Option<socket2::Socket>>>);

impl Cord {
    /// Takes over a duplicate of the socket.
    #[must_use]
    pub fn new(socket: socket2::Socket) -> Self {
        Self(Arc::new(Mutex::new(Some(socket))))
    }

    /// Ends the connection in both directions. What the kernel has already taken is still sent.
    pub fn cut(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Fails only when the peer was faster, and then there is nothing to end.
            drop(socket.shutdown(Shutdown::Both));
        }
    }

    fn release(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
