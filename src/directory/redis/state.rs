//! How Redis is, as far as this node knows: what the supervisor finds out, and what everybody else asks and reports.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use super::connection::Connection;

/// Complaints that are remembered so as not to repeat them.
const MOST_COMPLAINTS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct State {
    connection: ArcSwapOption<Connection>,
    takes_writes: AtomicBool,
    settled_at: ArcSwapOption<Instant>,
    suspicion: Arc<Notify>,
    /// Number of the check that was begun last.
    begun: AtomicU64,
    /// Number of the last check that found nothing wrong.
    passed: watch::Sender<u64>,
    complaints: Mutex<BTreeSet<String>>,
}

impl State {
    /// The connection, while there is one that works.
    pub(super) fn connection(&self) -> Option<Connection> {
        self.connection.load().as_deref().cloned()
    }

    /// Whether transitions are answered, and new sessions taken.
    pub(super) fn is_ready(&self) -> bool {
        self.connection.load().is_some() && self.takes_writes.load(Ordering::Relaxed)
    }

    pub(super) fn connect(&self, connection: Connection) {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.connection.store(Some(Arc::new(connection)));
    }

    /// `true` if there was a connection.
    pub(super) fn disconnect(&self) -> bool {
        self.connection.swap(None).is_some()
    }

    /// Notes whether Redis takes writes; the answer is how it was.
    pub(super) fn set_takes_writes(&self, takes_writes: bool) -> bool {
        self.takes_writes.swap(takes_writes, Ordering::Relaxed)
    }

    /// Records may be missing until then that other nodes are about to put back.
    pub(super) fn settle_until(&self, at: Option<Instant>) {
        self.settled_at.store(at.map(Arc::new));
    }

    pub(super) fn is_settling(&self, now: Instant) -> bool {
        self.settled_at.load().as_deref().is_some_and(|at| now < *at)
    }

    /// Asks for a check: something failed in a way that a new connection may mend.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// What [`Self::suspect`] rings.
    pub(super) fn suspicion(&self) -> Arc<Notify> {
        Arc::clone(&self.suspicion)
    }

    /// A check begins; the answer is its number.
    pub(super) fn begin_check(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst).saturating_add(1)
    }

    pub(super) fn pass_check(&self, number: u64) {
        self.passed.send_replace(number);
    }

    /// Waits until a check that begins after now has found nothing wrong. All who wait share it.
    pub(super) async fn checked(&self) {
        let next = self.begun.load(Ordering::SeqCst).saturating_add(1);
        self.suspect();
        // The sender is this one's own: it does not end.
        self.passed.subscribe().wait_for(|passed| *passed >= next).await.ok();
    }

    /// `false` if this has been complained of since Redis was there last.
    pub(super) fn is_news(&self, complaint: &str) -> bool {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.len() < MOST_COMPLAINTS && complaints.insert(complaint.to_owned())
    }
}
