//! Messages to other nodes: one queue, one task, one pipeline for each node that is written to. So the order between
//! two nodes is kept, and nobody waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use metrics::counter;
use redis::Pipeline;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::envelope::{Content, Envelope};
use super::{Shared, Trouble};
use crate::directory::News;
use crate::protocol::ids::SessionId;
use crate::session::node::{NodeId, PeerEvent};
use crate::telemetry;

/// Messages that may wait for Redis: at 4 KiB a frame some 16 MiB.
const QUEUE: usize = 4096;

/// Messages in one pipeline.
const BATCH: usize = 128;

/// A message, ready to be sent.
#[derive(Debug)]
struct Letter {
    to: NodeId,
    session: SessionId,
    event: PeerEvent,
}

#[derive(Debug)]
pub(super) struct Outbox(mpsc::Sender<Letter>);

impl Outbox {
    pub(super) fn start(shared: Arc<Shared>, news: mpsc::Sender<News>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        drop(tokio::spawn(work(shared, receiver, news)));
        Self(sender)
    }

    pub(super) fn post(&self, to: NodeId, session: SessionId, event: PeerEvent) {
        if self.0.try_send(Letter { to, session, event }).is_err() {
            counter!(telemetry::NEWS_DROPPED).increment(1);
        }
    }
}

async fn work(shared: Arc<Shared>, mut letters: mpsc::Receiver<Letter>, news: mpsc::Sender<News>) {
    let mut batch = Vec::with_capacity(BATCH);
    while letters.recv_many(&mut batch, BATCH).await > 0 {
        let mut by_node: BTreeMap<NodeId, Vec<Letter>> = BTreeMap::new();
        batch.drain(..).for_each(|letter| by_node.entry(letter.to).or_default().push(letter));
        // Without a connection they are lost, and every session knows that it cannot reach the others.
        if let Some(connection) = shared.state.connection() {
            let deliveries = by_node.into_iter().map(|(to, letters)| {
                let connection = connection.clone();
                deliver(&shared, connection, to, letters, &news)
            });
            join_all(deliveries).await;
        }
    }
}

async fn deliver(
    shared: &Shared,
    mut connection: Connection,
    to: NodeId,
    letters: Vec<Letter>,
    news: &mpsc::Sender<News>,
) {
    let channel = shared.inbox(to);
    let mut pipeline = Pipeline::with_capacity(letters.len());
    let sessions: Vec<SessionId> = letters.iter().map(|letter| letter.session).collect();
    for Letter { session, event, .. } in letters {
        let envelope = Envelope { from: shared.rules.node, session, content: Content::Event(event) };
        pipeline.cmd("SPUBLISH").arg(&channel).arg(envelope.encode());
    }
    counter!(telemetry::REDIS_COMMANDS).increment(u64::try_from(sessions.len()).unwrap_or(0));
    let heard: Vec<i64> = match pipeline.query_async(&mut connection).await {
        Ok(heard) => heard,
        Err(error) => return shared.note_trouble(&Trouble::Redis(error)),
    };
    for (session, heard) in sessions.into_iter().zip(heard) {
        if heard == 0 && news.try_send(News::Gone { session, node: to }).is_err() {
            counter!(telemetry::NEWS_DROPPED).increment(1);
        }
    }
}
