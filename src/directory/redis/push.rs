//! What Redis sends by itself: messages in this node's inbox, and the end of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc, watch};

use super::envelope::{Content, Envelope};
use super::report;
use crate::directory::{Arrived, News};
use crate::session::node::{NodeId, PeerEvent};
use crate::telemetry;

/// Runs where the connection is read: it decodes, hands on, and never waits.
#[derive(Clone, Debug)]
pub(super) struct Push {
    node: NodeId,
    clock: fn() -> Instant,
    /// Of data frames, to measure the way of one in [`telemetry::HOP_SAMPLE`].
    frames: Arc<AtomicU64>,
    news: mpsc::Sender<News>,
    /// Number of the newest message to itself that came back.
    echoed: watch::Sender<u64>,
    suspicion: Arc<Notify>,
    has_complained: Arc<AtomicBool>,
}

impl Push {
    pub(super) fn new(node: NodeId, clock: fn() -> Instant, news: mpsc::Sender<News>, suspicion: Arc<Notify>) -> Self {
        Self {
            node,
            clock,
            frames: Arc::default(),
            news,
            echoed: watch::Sender::new(0),
            suspicion,
            has_complained: Arc::default(),
        }
    }

    pub(super) fn echoed(&self) -> watch::Receiver<u64> {
        self.echoed.subscribe()
    }

    fn arrival(&self, event: &PeerEvent) -> Arrived {
        let is_frame = matches!(event, PeerEvent::Data { .. });
        let is_measured = is_frame && self.frames.fetch_add(1, Ordering::Relaxed).is_multiple_of(telemetry::HOP_SAMPLE);
        Arrived(is_measured.then(self.clock))
    }

    fn take(&self, message: &[u8]) {
        let Some(Envelope { from, session, content }) = Envelope::decode(message) else {
            if !self.has_complained.swap(true, Ordering::Relaxed) {
                tracing::warn!("a message in this node's inbox cannot be read; does another version of the relay run?");
            }
            return;
        };
        match content {
            Content::Echo(number) if from == self.node => drop(self.echoed.send_replace(number)),
            Content::Echo(_) => {}
            Content::Event(event) => {
                let arrived = self.arrival(&event);
                report(&self.news, News::Said { session, from, event, arrived });
            }
        }
    }
}

impl AsyncPushSender for Push {
    fn send(&self, PushInfo { kind, data }: PushInfo) -> Result<(), SendError> {
        match (kind, data.as_slice()) {
            (PushKind::SMessage, [_, Value::BulkString(message)]) => self.take(message),
            // The subscription moves to another server of a cluster, or is gone with its connection.
            (PushKind::Disconnection | PushKind::SUnsubscribe, _) => self.suspicion.notify_one(),
            _ => {}
        }
        Ok(())
    }
}
