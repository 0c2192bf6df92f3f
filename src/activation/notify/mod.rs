//! Tells a person's other apps what happened, through the webhook of whatever pushes to phones (FCM, APNs).
//!
//! One request for each event and app, signed as [`super::signature`] describes:
//!
//! ```text
//! POST …   webhook-id: 9f0c…   webhook-timestamp: 1795485600   webhook-signature: v1,…
//! {"type":"app_activated","app":"7b0e2f6c-…","push_token":"…"}
//! ```
//!
//! `app` is the app to be told. There is nothing personal in it: no user ID, no name, no number, no device; the app asks
//! for the rest itself, over its own connection. Answer 2xx within five seconds; 4xx but 408 and 429 ends the attempts;
//! everything else is tried again, six times within about ten minutes. The same event may come twice, with the same
//! `webhook-id`.
//!
//! Not durable: what was not delivered when the process dies is lost, and so is what does not fit the queue. Apps
//! therefore also ask for their events when they are opened.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::counter;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use url::Url;
use zeroize::Zeroizing;

use super::https::{self, BadAddress};
use super::ids::AppId;
use super::signature::{SigningKey, seconds};
use super::sms::gateway::IdempotencyKey;
use crate::telemetry;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Another app of the same person became active.
    AppActivated,
    /// Another app of the same person was deleted.
    AppDeleted,
    /// A copy was asked for and waits; it can be cancelled.
    CopyWaiting,
    /// The PIN of another app of the same person was wrong too often.
    TooManyTries,
}

/// An event for one app.
#[derive(Clone)]
pub struct Event {
    /// The same for every attempt: `webhook-id`.
    pub id: IdempotencyKey,
    /// What happened.
    pub kind: EventKind,
    /// The app to be told.
    pub app: AppId,
    /// What the push service knows that app by.
    pub push_token: Zeroizing<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: EventKind,
    app: AppId,
    push_token: &'a str,
}

/// Settings of the webhook.
#[derive(Clone, Debug)]
pub struct NotifySettings {
    /// Where events are posted: HTTPS, or loopback.
    pub address: String,
    /// What they are signed with.
    pub key: SigningKey,
    /// When an attempt that has no answer is given up.
    pub timeout: Duration,
    /// The pauses between attempts, one less than there are attempts.
    pub pauses: Vec<Duration>,
    /// Attempts at the same time.
    pub at_once: u32,
    /// Events that are under way or wait for their next attempt; beyond, new ones are dropped.
    pub under_way: u32,
}

impl NotifySettings {
    /// With the usual times and bounds.
    #[must_use]
    pub fn new(address: String, key: SigningKey) -> Self {
        let pauses = [1, 5, 30, 120, 420].map(Duration::from_secs).to_vec();
        Self { address, key, timeout: Duration::from_secs(5), pauses, at_once: 16, under_way: 10_000 }
    }
}

/// How telling one app ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The push service has it.
    Delivered,
    /// The push service does not want it.
    Refused,
    /// It failed every time.
    GivenUp,
}

impl Told {
    fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::GivenUp => "given_up",
        }
    }
}

/// Too many events are under way, or the notifier is shutting down; this one is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many notifications are under way")]
pub struct QueueFull;

/// Sends events to the webhook.
pub struct Notifier {
    client: reqwest::Client,
    address: Url,
    settings: NotifySettings,
    clock: fn() -> SystemTime,
    at_once: Semaphore,
    under_way: Arc<Semaphore>,
}

impl Notifier {
    /// A notifier over the client that [`https::client`] makes.
    ///
    /// # Errors
    /// [`BadAddress`] if the address is not safe.
    pub fn new(
        settings: NotifySettings,
        client: reqwest::Client,
        clock: fn() -> SystemTime,
    ) -> Result<Self, BadAddress> {
        let address = https::secure(&settings.address)?;
        let permits = |count: u32| usize::try_from(count).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let (at_once, under_way) = (Semaphore::new(permits(settings.at_once)), permits(settings.under_way));
        Ok(Self { client, address, settings, clock, at_once, under_way: Arc::new(Semaphore::new(under_way)) })
    }

    /// Tells in the background and returns at once. `done` hears how it ended.
    ///
    /// # Errors
    /// [`QueueFull`] if too many are under way; then `done` is not called.
    pub fn dispatch(self: &Arc<Self>, event: Event, done: impl FnOnce(Told) + Send + 'static) -> Result<(), QueueFull> {
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else {
            counter!(telemetry::NOTIFICATIONS, "outcome" => "queue_full").increment(1);
            return Err(QueueFull);
        };
        let notifier = Arc::clone(self);
        tokio::spawn(async move {
            done(notifier.tell(&event).await);
            drop(permit);
        });
        Ok(())
    }

    /// Takes no more, and waits for what is under way, as long as the caller has patience: dropping the future leaves
    /// the rest to its fate.
    pub async fn drain(&self) {
        // With all permits here, no task holds one. It fails only when drained already.
        if let Ok(all) = self.under_way.acquire_many(self.settings.under_way).await {
            all.forget();
        }
        self.under_way.close();
    }

    /// Tells, and waits for the end: up to all pauses and timeouts.
    pub async fn tell(&self, event: &Event) -> Told {
        let told = self.attempts(event).await;
        counter!(telemetry::NOTIFICATIONS, "outcome" => told.label()).increment(1);
        match told {
            Told::Delivered => info!(event = "notification.delivered", kind = ?event.kind, "an app was notified"),
            Told::Refused | Told::GivenUp => {
                warn!(event = "notification.lost", kind = ?event.kind, outcome = told.label(), "an app was not notified");
            }
        }
        told
    }

    async fn attempts(&self, event: &Event) -> Told {
        for attempt in 0_u32.. {
            match self.attempt(event).await {
                Some(told) => return told,
                None => match usize::try_from(attempt).ok().and_then(|at| self.settings.pauses.get(at)) {
                    // Between three quarters and all of it, so that what failed together does not come back together.
                    Some(pause) => sleep(pause.mul_f64(1.0 - event.id.spread(attempt) / 4.0)).await,
                    None => break,
                },
            }
        }
        Told::GivenUp
    }

    /// One attempt; `None` if another one may succeed.
    async fn attempt(&self, event: &Event) -> Option<Told> {
        let _permit = self.at_once.acquire().await.ok()?;
        let body = Body { kind: event.kind, app: event.app, push_token: &event.push_token };
        let body = serde_json::to_vec(&body).ok()?;
        let (id, now) = (event.id.to_string(), (self.clock)());
        let request = self
            .client
            .post(self.address.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-timestamp", seconds(now).to_string())
            .header("webhook-signature", self.settings.key.sign(&id, now, &body))
            .header("webhook-id", id)
            .body(body);
        let answer = timeout(self.settings.timeout, request.send()).await.ok()?.ok()?;
        match answer.status() {
            status if status.is_success() => Some(Told::Delivered),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => None,
            status if status.is_client_error() => Some(Told::Refused),
            _ => None,
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("host", &self.address.host_str()).finish_non_exhaustive()
    }
}
