//! What a transfer tells a user interface. No texts for people beyond [`EndReason::advice`]; apps translate.

use std::collections::VecDeque;
use std::time::Duration;

use super::outcome::{ConnectFailure, EndReason};
use crate::crypto::{CheckCode, DeviceInfo};
use crate::protocol::close::CloseReason;
use crate::protocol::network::Verdict;
use crate::protocol::qr::QrPayload;

/// What happens to a connection, on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The session goes on; so much time is left.
    Waiting {
        /// Until the session expires.
        left: Duration,
    },
    /// This app is not connected, and will try again.
    Offline {
        /// Attempts since the last connection that lasted, this one included.
        attempt: u32,
        /// Time until it.
        retry_in: Duration,
        /// Why.
        cause: OfflineCause,
    },
    /// This app is connected again.
    Online,
    /// The other app is not connected; it may come back.
    PeerOffline,
    /// The other app is connected again.
    PeerOnline,
}

/// Why an app is offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineCause {
    /// The connection broke.
    Lost,
    /// Nothing was heard from the relay for too long.
    Silent,
    /// The relay closed the connection with this reason.
    Closed(CloseReason),
    /// No connection came about.
    Failed(ConnectFailure),
}

/// What the old app's transfer tells.
#[derive(Clone, Debug, PartialEq)]
pub enum OldEvent {
    /// Show this QR frame instead of the one before.
    QrShown {
        /// The frame; [`QrPayload::to_text`] is what goes into the picture.
        payload: QrPayload,
        /// Until the next frame.
        next_in: Duration,
        /// Until the session expires.
        left: Duration,
    },
    /// Show no QR code.
    QrHidden,
    /// The new app has joined.
    PeerJoined {
        /// Number of the frame that it scanned.
        frame: u8,
        /// Where it is.
        verdict: Verdict,
    },
    /// The new app's hello opened: this is who it says it is.
    PeerIdentified(DeviceInfo),
    /// Ask for the check code that the new app shows. There is one try.
    AskCode {
        /// Time for typing it.
        within: Duration,
    },
    /// The code was right; the credential is on its way.
    CodeAccepted,
    /// So much of the credential has arrived.
    Sending {
        /// Bytes that the new app has acknowledged.
        sent: usize,
        /// Bytes in all.
        total: usize,
    },
    /// The new app's receipt verified.
    Delivered,
    /// Something happened to a connection.
    Link(LinkEvent),
    /// Nothing was delivered.
    Ended(EndReason),
}

/// What the new app's transfer tells.
#[derive(Clone, Debug, PartialEq)]
pub enum NewEvent {
    /// The relay accepted the scanned frame, and the old app's key is the one that the QR code names.
    Joined,
    /// The old app's answer opened: this is who it says it is.
    PeerIdentified(DeviceInfo),
    /// Show this code; the person types it into the old app.
    ShowCode(CheckCode),
    /// The code was typed, and the credential is coming.
    CodeAccepted,
    /// So much of the credential is here.
    Receiving {
        /// Bytes received.
        received: usize,
        /// Bytes in all.
        total: usize,
    },
    /// The credential is here, complete and verified; the receipt is on its way.
    CredentialReceived,
    /// The old app has confirmed the receipt.
    Confirmed,
    /// The credential is here, but the confirmation will not come.
    Unconfirmed(EndReason),
    /// Something happened to a connection.
    Link(LinkEvent),
    /// No credential came.
    Ended(EndReason),
}

impl From<LinkEvent> for OldEvent {
    fn from(event: LinkEvent) -> Self {
        Self::Link(event)
    }
}

impl From<LinkEvent> for NewEvent {
    fn from(event: LinkEvent) -> Self {
        Self::Link(event)
    }
}

/// Events that wait for an app that does not listen at the moment.
#[derive(Debug)]
pub(super) struct Events<E>(VecDeque<E>);

impl<E: From<LinkEvent>> Events<E> {
    /// More than a whole session has, so that only a relay that misbehaves can reach it.
    const MOST_LINK_EVENTS: usize = 1024;

    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn push(&mut self, event: E) {
        self.0.push_back(event);
    }

    /// Adds an event that a relay can bring about at will: beyond the bound it is dropped.
    pub(super) fn push_link(&mut self, event: LinkEvent) {
        if self.0.len() < Self::MOST_LINK_EVENTS {
            self.0.push_back(event.into());
        }
    }

    pub(super) fn pop(&mut self) -> Option<E> {
        self.0.pop_front()
    }
}
