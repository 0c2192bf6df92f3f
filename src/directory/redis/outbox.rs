//! Messages to other nodes: one queue, one task, one pipeline for each node that is written to. So the order between
//! two nodes is kept, and nobody waits.
//!
//! Redis says whether somebody heard. A node that nobody is may only be about to connect anew; it is gone if it stays
//! away for some seconds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use metrics::{Histogram, counter, histogram};
use redis::{Pipeline, RedisError};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::connection::Connection;
use super::envelope::{Content, Envelope};
use super::{SETTLE, Shared, Trouble, report};
use crate::directory::News;
use crate::protocol::ids::SessionId;
use crate::session::node::{NodeId, PeerEvent};
use crate::telemetry;

/// Messages that may wait for Redis: at 4 KiB a frame some 16 MiB.
const QUEUE: usize = 4096;

/// Messages in one pipeline.
const BATCH: usize = 128;

/// Between two questions to nodes that did not hear.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// A message, ready to be sent.
#[derive(Debug)]
struct Letter {
    to: NodeId,
    session: SessionId,
    event: PeerEvent,
    /// When it was posted, if its way is measured.
    posted: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Outbox {
    letters: mpsc::Sender<Letter>,
    clock: fn() -> Instant,
    /// Of data frames, to measure the way of one in [`telemetry::HOP_SAMPLE`].
    frames: AtomicU64,
}

impl Outbox {
    /// And the work that sends what is posted.
    pub(super) fn new(
        shared: Arc<Shared>,
        news: mpsc::Sender<News>,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (letters, receiver) = mpsc::channel(QUEUE);
        let clock = shared.environment.clock;
        let work = work(Worker::new(shared, news), receiver);
        (Self { letters, clock, frames: AtomicU64::new(0) }, work)
    }

    pub(super) fn post(&self, to: NodeId, session: SessionId, event: PeerEvent) {
        let is_frame = matches!(event, PeerEvent::Data { .. });
        let is_measured = is_frame && self.frames.fetch_add(1, Ordering::Relaxed).is_multiple_of(telemetry::HOP_SAMPLE);
        let posted = is_measured.then(self.clock);
        if self.letters.try_send(Letter { to, session, event, posted }).is_err() {
            counter!(telemetry::NEWS_DROPPED).increment(1);
        }
    }
}

/// What goes to one node in one pipeline.
#[derive(Debug)]
struct Delivery {
    to: NodeId,
    /// Who wants to know if nobody hears it.
    sessions: Vec<SessionId>,
    contents: Vec<(SessionId, Content)>,
    /// When those whose way is measured were posted.
    posted: Vec<Instant>,
}

/// Sessions that told a node something which nobody heard.
#[derive(Debug)]
struct Absence {
    since: Instant,
    sessions: HashSet<SessionId>,
}

struct Worker {
    shared: Arc<Shared>,
    news: mpsc::Sender<News>,
    absent: BTreeMap<NodeId, Absence>,
    queue: Histogram,
    hop: Histogram,
}

async fn work(mut worker: Worker, mut letters: mpsc::Receiver<Letter>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut probe = tokio::time::interval(PROBE_INTERVAL);
    probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            count = letters.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                worker.note_queue(count, letters.len());
                worker.send(batch.drain(..)).await;
            }
            _ = probe.tick(), if !worker.absent.is_empty() => worker.probe().await,
        }
    }
}

impl Worker {
    fn new(shared: Arc<Shared>, news: mpsc::Sender<News>) -> Self {
        let queue = histogram!(telemetry::NODE_QUEUE_LENGTH, "queue" => "out");
        let hop = histogram!(telemetry::HOP, "path" => "to_node");
        Self { shared, news, absent: BTreeMap::new(), queue, hop }
    }

    /// How many letters waited when some were taken.
    fn note_queue(&self, taken: usize, left: usize) {
        self.queue.record(u32::try_from(taken.saturating_add(left)).unwrap_or(u32::MAX));
    }

    async fn send(&mut self, letters: impl Iterator<Item = Letter>) {
        let mut by_node: BTreeMap<NodeId, Vec<Letter>> = BTreeMap::new();
        letters.for_each(|letter| by_node.entry(letter.to).or_default().push(letter));
        let deliveries = by_node.into_iter().map(|(to, letters)| {
            let sessions: Vec<SessionId> = letters.iter().map(|letter| letter.session).collect();
            let posted = letters.iter().filter_map(|letter| letter.posted).collect();
            let contents = letters.into_iter().map(|letter| (letter.session, Content::Event(letter.event))).collect();
            Delivery { to, sessions, contents, posted }
        });
        self.deliver(deliveries.collect()).await;
    }

    /// Asks for those who did not hear, and gives up those who have not been heard of for too long.
    async fn probe(&mut self) {
        let nobody = SessionId::from_random([0; 16]);
        let question = |to: &NodeId| {
            let contents = vec![(nobody, Content::Echo(0))];
            Delivery { to: *to, sessions: Vec::new(), contents, posted: Vec::new() }
        };
        self.deliver(self.absent.keys().map(question).collect()).await;
        let now = self.shared.now();
        let gone = self.absent.extract_if(.., |_, absence| now.saturating_duration_since(absence.since) >= SETTLE);
        for (node, absence) in gone {
            for session in absence.sessions {
                report(&self.news, News::Gone { session, node });
            }
        }
    }

    /// Sends to each node, and notes who heard.
    async fn deliver(&mut self, deliveries: Vec<Delivery>) {
        // Without a connection all is lost, and every session knows that it cannot reach the others.
        let Some(connection) = self.shared.state.connection() else { return self.absent.clear() };
        let shared = &self.shared;
        let answers = join_all(deliveries.into_iter().map(|Delivery { to, sessions, contents, posted }| {
            let connection = connection.clone();
            async move { (to, sessions, posted, publish(shared, connection, to, contents).await) }
        }));
        for (to, sessions, posted, heard) in answers.await {
            if heard.is_some() && !posted.is_empty() {
                let now = self.shared.now();
                posted.into_iter().for_each(|since| self.hop.record(now.saturating_duration_since(since)));
            }
            match heard {
                Some(true) => drop(self.absent.remove(&to)),
                Some(false) => {
                    let since = self.shared.now();
                    let absence = self.absent.entry(to).or_insert_with(|| Absence { since, sessions: HashSet::new() });
                    absence.sessions.extend(sessions);
                }
                None => {}
            }
        }
    }
}

/// Whether the node heard the last of it; nothing if that is not known.
async fn publish(
    shared: &Shared,
    mut connection: Connection,
    to: NodeId,
    contents: Vec<(SessionId, Content)>,
) -> Option<bool> {
    let channel = shared.inbox(to);
    counter!(telemetry::REDIS_COMMANDS).increment(u64::try_from(contents.len()).unwrap_or(0));
    let mut pipeline = Pipeline::with_capacity(contents.len());
    for (session, content) in contents {
        let envelope = Envelope { from: shared.rules.node, session, content };
        pipeline.cmd("SPUBLISH").arg(&channel).arg(envelope.encode());
    }
    let heard: Result<Vec<i64>, RedisError> = pipeline.query_async(&mut connection).await;
    match heard {
        Ok(heard) => heard.last().map(|heard| *heard > 0),
        Err(error) => {
            shared.note_trouble(&Trouble::Redis(error));
            None
        }
    }
}
