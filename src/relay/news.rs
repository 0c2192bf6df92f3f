//! What comes from other nodes, handed to the sessions that it is about.

use std::sync::Arc;

use actix::Addr;
use metrics::{counter, histogram};
use tokio::sync::mpsc;

use super::Relay;
use super::message::FromOthers;
use super::session_actor::SessionActor;
use crate::directory::{Arrived, News};
use crate::telemetry;

/// Hands out news until there will be no more.
pub async fn follow(relay: Arc<Relay>, mut news: mpsc::Receiver<News>) {
    let queue = histogram!(telemetry::NODE_QUEUE_LENGTH, "queue" => "in");
    while let Some(item) = news.recv().await {
        if let News::Said { arrived: Arrived(Some(_)), .. } = item {
            queue.record(u32::try_from(news.len().saturating_add(1)).unwrap_or(u32::MAX));
        }
        match item {
            News::Said { session, .. } | News::Gone { session, .. } => {
                // A session that nobody here takes part in any more needs no news.
                if let Some(actor) = relay.registry.running(session) {
                    hand(&actor, item);
                }
            }
            News::Isolated | News::Reconnected => {
                for actor in relay.registry.actors() {
                    // Everybody must hear this, and it comes seldom: so it waits where a mailbox is full.
                    actor.send(FromOthers(item.clone())).await.ok();
                }
            }
        }
    }
}

/// A session whose mailbox is full misses this one: apps send again, and sessions look again.
fn hand(actor: &Addr<SessionActor>, news: News) {
    if actor.try_send(FromOthers(news)).is_err() {
        counter!(telemetry::NEWS_DROPPED).increment(1);
    }
}
